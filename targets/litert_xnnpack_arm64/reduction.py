"""MEAN, SUM by XNNPACK on 64-bit ARM: its multiply-adds are fused."""

from __future__ import annotations

from qgraph.arith.fused import fused_multiply_add
from qgraph.ir import Array
from qgraph.targets.litert.dialect.reduction import Mean, Sum
from qgraph.targets.litert_xnnpack.reduction import reduced
from qgraph.targets.target import Kernel


def fused(op: Mean | Sum, x: Array) -> Array:
    """MEAN, SUM as on x86, with each multiply-add rounded once."""
    return reduced(op, x, fused_multiply_add)


KERNELS: dict[str, Kernel] = {"litert.mean": fused, "litert.sum": fused}
