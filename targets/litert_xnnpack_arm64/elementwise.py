"""MUL by XNNPACK on 64-bit ARM: one rounding in integers."""

from __future__ import annotations

from qgraph.arith.fixed_point import multiply_rndnu
from qgraph.ir import Array, TensorType
from qgraph.targets.litert.dialect.elementwise import Mul
from qgraph.targets.litert.dialect.parameters import centred, saturated
from qgraph.targets.litert.dialect.tables import tabulated_pairs
from qgraph.targets.litert_xnnpack.elementwise import product_factor
from qgraph.targets.litert_xnnpack.parameters import activation_range
from qgraph.targets.target import Kernel


def multiply(op: Mul, a: Array, b: Array) -> Array:
    """MUL; of int16 as the reference."""
    return op.evaluate(a, b) if op.result.type.dtype == "i16" else product_rndnu(a, b, *op.types, op.activation)


@tabulated_pairs
def product_rndnu(a: Array, b: Array, ta: TensorType, tb: TensorType, result: TensorType, activation: str) -> Array:
    """`rndnu` of the product times (a_scale * b_scale) / result_scale in float32. Source: qs8-vmul (rndnu)."""
    value = multiply_rndnu(centred(a, ta) * centred(b, tb), product_factor(ta, tb, result))
    return saturated(value, result, *activation_range(activation, result))


KERNELS: dict[str, Kernel] = {"litert.mul": multiply}
