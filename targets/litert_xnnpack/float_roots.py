"""SQRT and RSQRT of floats where XNNPACK does not get hold of them."""

from __future__ import annotations

from qgraph.ir import Value
from qgraph.targets.correspondence import Call, Correspondence
from qgraph.targets.litert.dialect.floats import DELEGATED


def root_of_floats(row: Correspondence, call: Call) -> Value:
    """A root of a value of 7 dimensions, which XNNPACK refuses, so that LiteRT computes it: as IEEE has it.

    XNNPACK refines the processor's estimate (f32-vrsqrt, f32-vsqrt by `rsqrt`), of which a third of all roots differ in
    the last place, from processor to processor. A value of several open sizes stays as it is.
    """
    shape = call.node.result.type.shape
    sizes = tuple(-1 if isinstance(size, str) else size for size in shape)
    if sizes.count(-1) > 1 or len(sizes) > DELEGATED:
        return row.lowered(call)
    ones = (1,) * (DELEGATED + 1 - len(sizes))
    call.xs[0] = call.build.litert.reshape(call.xs[0], shape=ones + sizes)
    made: Value = call.build.litert.reshape(row.lowered(call), shape=sizes)
    return made
