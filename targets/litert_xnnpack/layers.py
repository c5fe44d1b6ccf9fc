"""Layers by XNNPACK, which requantizes in float32 with ties to even, or by the optimized kernel where it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from qgraph.arith.exactness import Accumulator
from qgraph.arith.fixed_point import multiply_half_up
from qgraph.arith.requantize import Float32Even
from qgraph.errors import UnsupportedOp
from qgraph.ir import Array, kept_by_node
from qgraph.targets.litert.dialect.layers import Layer, refuse_uncovered
from qgraph.targets.litert.dialect.linear import BatchMatmul
from qgraph.targets.litert.dialect.parameters import scale, zero_point
from qgraph.targets.litert.dialect.transposed import TransposeConv
from qgraph.targets.litert_xnnpack import optimized_layers
from qgraph.targets.litert_xnnpack.delegation import refusal
from qgraph.targets.litert_xnnpack.optimized_layers import Rounding
from qgraph.targets.litert_xnnpack.parameters import activation_range
from qgraph.targets.target import Kernel

FACTOR_LIMIT = 256.0
"""x_scale * w_scale / result_scale has to be below it: XNNPACK cannot create the operator, and the file is refused."""

Delegated = Callable[[Any, Accumulator], Array]
"""(layer, its accumulators) -> result."""
Optimized = Callable[[Any, Accumulator, Rounding], Array]


class Roundings(NamedTuple):
    """What differs between processors."""

    delegated: Delegated  # by XNNPACK
    product: Rounding  # of the optimized kernels that multiply matrices
    loops: Rounding  # of the others


def fp32(op: Any, acc: Accumulator) -> Array:
    """`rint(float32(acc) * scale)`, scale = (x_scale * w_scale) / result_scale in float32.

    Where the product is below -2**31 the AVX512 kernels give the highest code and others the lowest: `check_layer` in
    the lowering refuses such layers. Source: src/qs8-requantization/fp32-scalar-fmagic.c.
    """
    return _float32_even(op)(acc)


def factor(op: Any) -> Array:
    """(x_scale * w_scale) / result_scale in float32, one or one per channel."""
    second = op.y if isinstance(op, BatchMatmul) else op.w
    return np.asarray((scale(op.x.type) * second.type.q.scales) / scale(op.result.type))


def bounds(op: Any) -> tuple[int, int]:
    """Lowest and highest code of the result."""
    return activation_range("NONE" if isinstance(op, BatchMatmul) else op.activation, op.result.type)


@kept_by_node
def _float32_even(op: Any) -> Float32Even:
    result = op.result.type
    return Float32Even(factor(op), zero_point(result), *bounds(op), result.numpy.type)


@kept_by_node
def check_delegated(op: Layer) -> None:
    """Raise UnsupportedOp for a layer with which XNNPACK cannot be created."""
    if isinstance(op, TransposeConv):
        refuse_uncovered(op)
    bias, w = op.bias, op.w.type
    if bias is not None and bias.type.q.scales.size != w.q.scales.size:
        raise UnsupportedOp(f"XNNPACK takes a bias with as many scales as the weight, not {bias.type} with {w}")
    largest = factor(op).max()
    if largest >= FACTOR_LIMIT:
        raise UnsupportedOp(f"x_scale * w_scale / result_scale is {largest}, XNNPACK takes factors below 256")


def batch_matmul(op: BatchMatmul, x: Array, y: Array) -> Array:
    """BATCH_MATMUL; where it is refused, the reference kernel runs."""
    if refusal(op):
        return op.evaluate(x, y)
    return fp32(op, op.accumulate(x, y))


def layer_kernels(roundings: Roundings) -> dict[str, Kernel]:
    """The kernels of layers on a processor."""
    delegated, product, loops = roundings
    return {
        "litert.conv_2d": _kernel(optimized_layers.convolution, delegated, product),
        "litert.depthwise_conv_2d": _kernel(optimized_layers.depthwise_convolution, delegated, loops),
        "litert.transpose_conv": _kernel(optimized_layers.transposed_convolution, delegated, loops),
        "litert.fully_connected": _kernel(optimized_layers.fully_connected, delegated, product),
    }


def _kernel(optimized: Optimized, delegated: Delegated, rounding: Rounding) -> Kernel:
    def kernel(op: Any, *operands: Array | None) -> Array:
        acc = op.accumulate(*operands)
        if refusal(op):
            return optimized(op, acc, rounding)
        check_delegated(op)
        return delegated(op, acc)

    return kernel


KERNELS: dict[str, Kernel] = {
    **layer_kernels(Roundings(fp32, multiply_half_up, multiply_half_up)),
    "litert.batch_matmul": batch_matmul,
}


def words(op: Any) -> str:
    """What is computed for a layer, for people."""
    reason = refusal(op)
    if reason is None:
        return "delegated to XNNPACK: the accumulator times a scale formed in float32, ties to even"
    return f"not delegated, because {reason}: the optimized kernel, a fixed-point multiplier"


EXPLAIN: dict[str, Kernel] = dict.fromkeys(KERNELS, words)
