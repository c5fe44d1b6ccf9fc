"""Ops that move integers by XNNPACK, which cannot be created where the parameters of operand and result differ."""

from __future__ import annotations

from typing import Any

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.targets.target import Kernel


def moved(op: Any, x: Array) -> Array:
    """The integers, as everywhere."""
    type, made = op.x.type, op.result.type
    if made.dtype in ("i8", "u8") and type.quant != made.quant:
        raise UnsupportedOp(f"XNNPACK refuses to move {type} to {made}: both must have the same parameters")
    result: Array = op.evaluate(x)
    return result


KERNELS: dict[str, Kernel] = dict.fromkeys(
    ("litert.pad", "litert.transpose", "litert.slice", "litert.strided_slice"), moved
)
