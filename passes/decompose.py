"""Write ops by simpler ones, until only those of a given set are left.

    decompose{ops=nn.conv|nn.add|nn.mul|nn.clamp}

    %1 = nn.batch_norm(%x, ...) {activation="relu6"}   ->   %1 = nn.mul(%x, @gain)
                                                            %2 = nn.add(%1, @shift)
                                                            %3 = nn.clamp(%2) {min=0, max=6}

    nn.relu, nn.relu6     nn.clamp                        nn.sub          nn.add, nn.mul
    nn.relu6, nn.clamp    nn.relu, nn.add, nn.mul         nn.batch_norm   nn.mul, nn.add
    nn.leaky_relu         nn.relu, nn.add, nn.mul         nn.sigmoid      nn.tanh, nn.add, nn.mul
    nn.hard_swish         nn.hard_sigmoid, nn.mul         nn.tanh         nn.sigmoid, nn.add, nn.mul
    nn.hard_sigmoid       nn.relu6, nn.add, nn.mul        nn.linear       nn.conv, nn.reshape
    nn.dropout            nothing                         nn.mean         nn.avg_pool, nn.reshape
    nn.avg_pool           nn.mean

`ops`: names joined by "|". `activations`: words, joined by ",", that an op may carry as its activation; the others
become nodes of their own. Each op takes the way with the fewest steps; ops that no way leads from are an error that
names them all.

Exact in real arithmetic; constants such as 1/6 are rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from qgraph.errors import PassError
from qgraph.ir import Attr, Builder, Graph, Node, Value
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.passes.batchnorm_to_scale_shift import scale_and_shift
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.rewriter import Declined, Match, Replacement, Rewrite, pattern, rewrite, rule
from qgraph.passes.rules.clamps import CARRIERS, activation_value, check_words, node_bounds


@dataclass(frozen=True)
class Way:
    """An op, the ops that it is written by, and how."""

    op: str
    made: tuple[str, ...]
    rewrite: Rewrite


WAYS: list[Way] = []


def way(op: str, *made: str) -> Callable[[Rewrite], Rewrite]:
    """Register a way to write an op, which carries no activation, by others."""

    def register(rewrite: Rewrite) -> Rewrite:
        WAYS.append(Way(op, made, rewrite))
        return rewrite

    return register


def _number(build: Builder, like: Value, number: float) -> Value:
    """A number as a constant of the dtype of `like`; each number is one constant."""
    name = f"number_{number:g}"
    data = np.array(number, like.type.numpy)
    known = build.graph.constants.get(name)
    if known is not None and known.type.dtype == like.type.dtype and known.type.rank == 0 and known.data == data:
        return known
    return build.constant(data, name)


def _times(build: Builder, x: Value, number: float) -> Value:
    return build.nn.mul(x, _number(build, x, number))


def _plus(build: Builder, x: Value, number: float) -> Value:
    return build.nn.add(x, _number(build, x, number))


@way("nn.relu", "nn.clamp")
@way("nn.relu6", "nn.clamp")
def as_clamp(match: Match, build: Builder) -> Replacement:
    """A clamp to [0, 6], or to [0, inf]."""
    low, high = node_bounds(match.root)
    return build.nn.clamp(match.root.operand(0), min=low, max=high)


@way("nn.relu6", "nn.relu", "nn.add", "nn.mul")
@way("nn.clamp", "nn.relu", "nn.add", "nn.mul")
def as_relus(match: Match, build: Builder) -> Replacement:
    """max(x, low) = relu(x - low) + low; min(x, high) = high - relu(high - x)."""
    low, high = node_bounds(match.root)
    x = match.root.operand(0)
    if low == 0:
        x = build.nn.relu(x)
    elif low > -math.inf:
        x = _plus(build, build.nn.relu(_plus(build, x, -low)), low)
    if high < math.inf:
        x = _plus(build, _times(build, build.nn.relu(_plus(build, _times(build, x, -1), high)), -1), high)
    return x


@way("nn.hard_sigmoid", "nn.relu6", "nn.add", "nn.mul")
def hard_sigmoid(match: Match, build: Builder) -> Replacement:
    """relu6(x + 3) / 6."""
    return _times(build, build.nn.relu6(_plus(build, match.root.operand(0), 3)), 1 / 6)


@way("nn.hard_swish", "nn.hard_sigmoid", "nn.mul")
def hard_swish(match: Match, build: Builder) -> Replacement:
    """x * hard_sigmoid(x)."""
    x = match.root.operand(0)
    return build.nn.mul(x, build.nn.hard_sigmoid(x))


@way("nn.leaky_relu", "nn.relu", "nn.add", "nn.mul")
def leaky_relu(match: Match, build: Builder) -> Replacement:
    """relu(x) - slope * relu(-x)."""
    x, slope = match.root.operand(0), match.root.attrs["negative_slope"]
    below = _times(build, build.nn.relu(_times(build, x, -1)), -slope)
    return build.nn.add(build.nn.relu(x), below)


@way("nn.sigmoid", "nn.tanh", "nn.add", "nn.mul")
def sigmoid(match: Match, build: Builder) -> Replacement:
    """tanh(x / 2) / 2 + 1 / 2."""
    return _plus(build, _times(build, build.nn.tanh(_times(build, match.root.operand(0), 0.5)), 0.5), 0.5)


@way("nn.tanh", "nn.sigmoid", "nn.add", "nn.mul")
def tanh(match: Match, build: Builder) -> Replacement:
    """2 * sigmoid(2 * x) - 1."""
    return _plus(build, _times(build, build.nn.sigmoid(_times(build, match.root.operand(0), 2)), 2), -1)


@way("nn.sub", "nn.add", "nn.mul")
def sub(match: Match, build: Builder) -> Replacement:
    """a + b * -1; a constant b is negated itself."""
    a, b = match.root.operand(0), match.root.operand(1)
    negated = build.constant(-b.data, f"{b.name}.negated") if b.is_constant else _times(build, b, -1)
    return build.nn.add(a, negated)


@way("nn.batch_norm", "nn.mul", "nn.add")
def batch_norm(match: Match, build: Builder) -> Replacement:
    """x * gain + shift, where the parameters are constants."""
    return _by_rule(match, build)


def _by_rule(match: Match, build: Builder) -> Replacement:
    parameters = match.root.inputs[1:]
    if not all(value.is_constant for value in parameters):
        return Declined("a parameter is not a constant")
    match.nodes["bn"], match.values["x"] = match.root, match.root.operand(0)
    return scale_and_shift.rewrite(match, build)


@way("nn.linear", "nn.conv", "nn.reshape")
def linear(match: Match, build: Builder) -> Replacement:
    """A 1x1 convolution of [N, I, 1, 1]."""
    node = match.root
    x, w = node.operand(0), node.operand(1)
    if x.type.rank != 2 or not w.is_constant:
        return Declined("x is no matrix, or the weight not a constant")
    columns = build.nn.reshape(x, shape=(-1, int(x.type.shape[1]), 1, 1))
    weight = build.constant(w.data[:, :, None, None], w.name)
    window: dict[str, Attr] = {"stride": (1, 1), "pads": (0,) * 4, "dilation": (1, 1)}
    made = build.node("nn.conv", [columns, weight, *node.operands[2:]], window).result
    return build.nn.reshape(made, shape=(-1, int(w.type.shape[0])))


@way("nn.mean", "nn.avg_pool", "nn.reshape")
def mean(match: Match, build: Builder) -> Replacement:
    """One window over all of the spatial dimensions."""
    x, axes = match.root.operand(0), match.root.attrs["axes"]
    spatial = x.type.shape[2:]
    known = all(isinstance(size, int) for size in x.type.shape[1:])
    if not spatial or axes != tuple(range(2, x.type.rank)) or not known:
        return Declined("the mean is not over the spatial dimensions, of known size")
    sizes = tuple(int(size) for size in spatial)
    pooled = build.nn.avg_pool(x, kernel=sizes, stride=sizes, pads=(0, 0) * len(sizes))
    return pooled if match.root.attrs["keepdims"] else build.nn.reshape(pooled, shape=(-1, int(x.type.shape[1])))


@way("nn.avg_pool", "nn.mean")
def global_average(match: Match, build: Builder) -> Replacement:
    """The mean over all spatial dimensions, where the window is all of them."""
    node = match.root
    if tuple(node.attrs["kernel"]) != node.operand(0).type.shape[2:] or any(node.attrs["pads"]):
        return Declined("the window is not all that there is")
    return build.nn.mean(node.operand(0), axes=tuple(range(2, node.result.type.rank)), keepdims=True)


@way("nn.dropout")
def dropout(match: Match, build: Builder) -> Replacement:
    """x: outside of training dropout does nothing."""
    return match.root.operand(0)


def chosen_ways(ops: Collection[str]) -> Mapping[str, Way]:
    """For each op outside of `ops` that can be written by them, the way with the fewest steps."""
    steps = dict.fromkeys(ops, 0)
    chosen: dict[str, Way] = {}
    while True:
        ready = [each for each in WAYS if each.op not in steps and all(made in steps for made in each.made)]
        if not ready:
            return chosen
        best = min(ready, key=lambda each: max((steps[made] for made in each.made), default=0))
        steps[best.op] = 1 + max((steps[made] for made in best.made), default=0)
        chosen[best.op] = best


def _split_rule(allowed: Collection[str]) -> Rewrite:
    def split_activation(match: Match, build: Builder) -> Replacement:
        node = match.root
        if node.attrs["activation"] in allowed:
            return Declined(f"activations={','.join(allowed)} admits {node.attrs['activation']}")
        plain = build.node(node.op, node.operands, {**node.attrs, **NO_ACTIVATION}).result
        return activation_value(build, plain, node.attrs)

    return split_activation


@graph_pass(exact="real")
def decompose(graph: Graph, ops: str, activations: tuple[str, ...] = ()) -> None:
    check_words(activations)
    wanted = [word.strip() for word in ops.split("|")]
    rules = [rule(pattern(CARRIERS, bind="node"))(_split_rule(("none", *activations)))]
    rules += [rule(pattern(op))(each.rewrite) for op, each in chosen_ways(wanted).items()]
    rewrite(graph, rules)
    graph.drop_unused_constants()
    _check(graph, wanted)


def _check(graph: Graph, ops: Collection[str]) -> None:
    left: list[Node] = [node for node in graph.nodes if node.op not in ops and node.dialect == "nn"]
    if left:
        names = ", ".join(sorted({node.op for node in left}))
        raise PassError(
            f"{names} cannot be written by {', '.join(ops)}",
            where=tuple(line for node in left for line in node.where),
            help="add ops to the set; `qgraph passes decompose` lists the ways that there are",
        )
