"""Remove ops that do nothing, and make one of two that follow each other.

    nn.reshape to the same shape, nn.transpose {perm=[0,1]}, nn.pad by 0       ->  %x
    nn.concat of one value, nn.slice of everything, nn.clamp to [-inf, inf]    ->  %x
    nn.add(%x, 0), nn.sub(%x, 0), nn.mul(%x, 1), nn.minimum(%x, inf)           ->  %x
    nn.clamp {min=0, max=6}, {min=0, max=inf}                                  ->  nn.relu6, nn.relu
    nn.relu6(nn.relu(%x)), nn.clamp(nn.clamp(%x))                              ->  one clamp
    nn.relu of an op that carries the activation relu                          ->  that op
    nn.expand of integers to known sizes, nn.arange of a known size            ->  a constant
    nn.add(%x, nn.expand(%y)), nn.attention(..., mask=nn.expand(%y))           ->  nn.add(%x, %y) where that broadcasts
    nn.gather_elements of what differs along the axis alone                    ->  nn.gather of one dimension
    nn.transpose(nn.transpose(%x)), nn.reshape(nn.reshape(%x))                 ->  one
    nn.pad(nn.pad(%x)) with one value; nn.conv(nn.pad(%x)) with zeros          ->  one; nn.conv with more pads
    nn.concat(nn.concat(%x, %y), %z) along one axis                            ->  nn.concat(%x, %y, %z)

Exact bit for bit, but for the sign of a zero: -0.0 + 0.0 is 0.0, where %x is -0.0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Builder, Graph, Node, Value
from qgraph.ir.origin import union
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.ops.nn.shape import REST, target_shape
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.rewriter import Declined, Match, Replacement, pattern, rewrite, rule
from qgraph.passes.rules.clamps import (
    CARRIERS,
    CLAMPS,
    carried_bounds,
    clamp_value,
    clamped_bounds,
    node_bounds,
)
from qgraph.passes.rules.expanded import gather_of_one_dimension, read_before_expand

NEUTRAL = {"nn.add": 0, "nn.sub": 0, "nn.mul": 1, "nn.minimum": math.inf, "nn.maximum": -math.inf}
"""The second operand with which an op does nothing; but for sub also the first."""


@rule(pattern("nn.reshape|nn.expand|nn.pad|nn.slice", "x", bind="node"))
def drop_identity(match: Match, build: Builder) -> Replacement:
    """Replace an op that changes the shape or nothing, where the shape stays."""
    x = match.values["x"]
    return x if x.type == match.root.result.type else Declined("the shape changes")


@rule(pattern("nn.expand", bind="node"))
def expand_known(match: Match, build: Builder) -> Replacement:
    """Integers and conditions that are repeated a known number of times are a constant; floats may be trained."""
    x, shape = match.root.operand(0), match.root.result.type.shape
    if not x.is_constant or x.type.is_float or any(isinstance(size, str) for size in shape):
        return Declined("x is computed or holds floats, or a size is symbolic")
    return build.constant(np.broadcast_to(x.data, [int(size) for size in shape]).copy(), f"{x.name}.expanded")


@rule(pattern("nn.arange", bind="node"))
def count_known(match: Match, build: Builder) -> Replacement:
    """Indices along a dimension of known size are a constant."""
    a, (size,) = match.root.attrs, match.root.result.type.shape
    if isinstance(size, str):
        return Declined("the size is symbolic")
    return build.constant(a["start"] + a["step"] * np.arange(size, dtype=np.int64), "arange")


@rule(pattern("nn.transpose", "x", bind="node"))
def drop_identity_transpose(match: Match, build: Builder) -> Replacement:
    """Replace a transpose that keeps the order."""
    x = match.values["x"]
    return x if match.root.attrs["perm"] == tuple(range(x.type.rank)) else Declined("the order of dimensions changes")


@rule(pattern("nn.concat", "*xs"))
def drop_single_concat(match: Match, build: Builder) -> Replacement:
    """Replace the concat of one value."""
    x, *others = match.groups["xs"]
    return Declined("several values are joined") if others else x


ARITHMETIC = pattern("nn.add|nn.sub|nn.mul", "a", "b", attrs=NO_ACTIVATION)


@rule(ARITHMETIC)
def drop_neutral_number(match: Match, build: Builder) -> Replacement:
    """Replace a sum with the number 0 and a product with the number 1."""
    return _without_neutral(match, lambda constant: constant.type.rank == 0)


@rule(ARITHMETIC)
def drop_neutral_array(match: Match, build: Builder) -> Replacement:
    """Replace a sum with zeros and a product with ones."""
    return _without_neutral(match, lambda constant: True)


@rule(pattern("nn.minimum|nn.maximum", "a", "b"))
def drop_endless_bound(match: Match, build: Builder) -> Replacement:
    """Replace the smaller one of a value and infinity, and the like."""
    return _without_neutral(match, lambda constant: True)


def _without_neutral(match: Match, admits: Callable[[Value], bool]) -> Replacement:
    node, (a, b) = match.root, (match.values["a"], match.values["b"])
    for x, constant in ((a, b), (b, a))[: 1 if node.op == "nn.sub" else 2]:
        neutral = constant.is_constant and admits(constant) and bool((constant.data == NEUTRAL[node.op]).all())
        if neutral and x.type == node.result.type:
            return x
    return Declined(f"no operand is {NEUTRAL[node.op]}")


@rule(pattern("nn.clamp", "x"))
def name_clamp(match: Match, build: Builder) -> Replacement:
    """Write relu and relu6 for the clamps that they are."""
    made = clamp_value(build, match.values["x"], node_bounds(match.root))
    is_clamp = made.producer in build.made and made.producer is not None and made.producer.op == "nn.clamp"
    return Declined("it is neither relu nor relu6") if is_clamp else made


@rule(pattern(CLAMPS, pattern(CLAMPS, "x", bind="inner"), bind="outer"))
def merge_clamps(match: Match, build: Builder) -> Replacement:
    """One clamp for two."""
    inner = match.nodes["inner"]
    bounds = clamped_bounds(node_bounds(inner), node_bounds(match.root))
    if bounds == node_bounds(inner):
        return inner.result
    if not inner.result.has_one_use:
        return Declined("the result between the two clamps is used elsewhere too")
    return clamp_value(build, match.values["x"], bounds)


@rule(pattern(CLAMPS, pattern(CARRIERS, bind="inner"), bind="outer"))
def drop_covered_clamp(match: Match, build: Builder) -> Replacement:
    """Replace a clamp of results that lie within its bounds already."""
    inner = match.nodes["inner"]
    bounds = carried_bounds(inner.attrs)
    if bounds is None or clamped_bounds(bounds, node_bounds(match.root)) != bounds:
        return Declined(f"{inner.op} gives results outside the bounds")
    return inner.result


@rule(pattern("nn.transpose", pattern("nn.transpose", "x", bind="inner"), bind="outer"))
def merge_transposes(match: Match, build: Builder) -> Replacement:
    """One transpose for two."""
    inner, outer = match.nodes["inner"].attrs["perm"], match.nodes["outer"].attrs["perm"]
    return build.nn.transpose(match.values["x"], perm=tuple(inner[i] for i in outer))


@rule(pattern("nn.reshape", pattern("nn.reshape", "x"), bind="outer"))
def merge_reshapes(match: Match, build: Builder) -> Replacement:
    """One reshape for two."""
    outer, x = match.nodes["outer"], match.values["x"]
    try:
        wanted = outer.attrs["shape"]
        if any(size < REST for size in wanted) and len(outer.operands) == 1:  # of the value between the two
            wanted = target_shape(x.type.shape, outer.result.type.shape)
        made = build.nn.reshape(x, *outer.operands[1:], shape=wanted)
    except TypeMismatch as error:
        return Declined(error.what)
    return made if made.type == outer.result.type else Declined(f"the shape would be {made.type}")


@rule(pattern("nn.pad", pattern("nn.pad", "x", bind="inner"), bind="outer"))
def merge_pads(match: Match, build: Builder) -> Replacement:
    """One pad for two of the same value."""
    inner, outer = match.nodes["inner"].attrs, match.nodes["outer"].attrs
    if inner["value"] != outer["value"]:
        return Declined(f"they pad with {inner['value']} and {outer['value']}")
    return build.nn.pad(match.values["x"], pads=_sum(inner["pads"], outer["pads"]), value=inner["value"])


@rule(pattern("nn.conv", pattern("nn.pad", "x", attrs={"value": 0.0}, bind="pad"), "w", "b?", bind="conv"))
def merge_pad_into_conv(match: Match, build: Builder) -> Replacement:
    """Let the convolution pad with the zeros."""
    pads, conv = match.nodes["pad"].attrs["pads"], match.nodes["conv"]
    rank = len(pads) // 2
    if any((*pads[:2], *pads[rank : rank + 2])):
        return Declined("the batch or the channels are padded")
    spatial = (*pads[2:rank], *pads[rank + 2 :])
    attrs = {**conv.attrs, "pads": _sum(conv.attrs["pads"], spatial)}
    return build.node("nn.conv", [match.values["x"], *conv.operands[1:]], attrs).result


@rule(pattern("nn.concat", "*xs"))
def merge_concats(match: Match, build: Builder) -> Replacement:
    """One concat for those that are operands of another along the same axis."""
    xs, axis = match.groups["xs"], match.root.attrs["axis"]
    inner = [x.producer for x in xs if x.producer is not None and _is_inner_concat(x.producer, axis)]
    if not inner:
        return Declined("no operand is a concat along the same axis that nothing else reads")
    match.matched[:0] = inner
    build.origins = union(node.origins for node in match.matched)
    parts = [x.producer.inputs if x.producer is not None and x.producer in inner else [x] for x in xs]
    return build.nn.concat(*itertools.chain.from_iterable(parts), axis=axis)


def _is_inner_concat(node: Node, axis: int) -> bool:
    return node.op == "nn.concat" and node.attrs["axis"] == axis and node.result.has_one_use


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(np.add(a, b).tolist())


KEEPING_PARAMETERS = [
    drop_identity,
    expand_known,
    count_known,
    read_before_expand,
    gather_of_one_dimension,
    drop_identity_transpose,
    drop_single_concat,
    drop_neutral_number,
    drop_endless_bound,
    name_clamp,
    merge_clamps,
    drop_covered_clamp,
    merge_transposes,
    merge_reshapes,
    merge_pads,
    merge_pad_into_conv,
    merge_concats,
]
"""Rules that take no parameter away: zeros and ones with dimensions may be what training starts with."""


@graph_pass(exact="bits")
def simplify(graph: Graph) -> None:
    rewrite(graph, [*KEEPING_PARAMETERS, drop_neutral_array])
    graph.drop_unused_constants()
