"""PAD by XNNPACK, which cannot be created where the parameters of operand and result differ."""

from __future__ import annotations

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.targets.litert.dialect.shape import Pad
from qgraph.targets.target import Kernel


def pad(op: Pad, x: Array) -> Array:
    """PAD: the integers, and the constant around them."""
    if op.result.type.dtype != "i16" and op.x.type.quant != op.result.type.quant:
        raise UnsupportedOp(f"XNNPACK refuses a PAD of {op.x.type} to {op.result.type}: both must have one scale")
    return op.evaluate(x)


KERNELS: dict[str, Kernel] = {"litert.pad": pad}
