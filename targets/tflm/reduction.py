"""SUM of TFLite Micro."""

from __future__ import annotations

from qgraph.ir import Array
from qgraph.targets.litert.dialect.reduction import Sum, sums
from qgraph.targets.target import Kernel


def summed(op: Sum, x: Array) -> Array:
    """SUM: the centred sum, double rounding. Source: reduce_common.cc."""
    return sums(x, op.places(), op.keep_dims, op.x.type, op.result.type)


KERNELS: dict[str, Kernel] = {"litert.sum": summed}
