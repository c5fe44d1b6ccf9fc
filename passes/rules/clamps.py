"""Ops that clamp to fixed bounds: relu, relu6 and clamp, as nodes and as activations that an op carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qgraph.errors import InputError
from qgraph.ir import Attr, Builder, Node, Value
from qgraph.ops.nn.activation import ACTIVATIONS, BOUNDS, NO_ACTIVATION
from qgraph.passes.rewriter import OpsThat

Interval = tuple[float, float]
"""Lowest and highest result."""

CLAMPS = "nn.relu|nn.relu6|nn.clamp"
CARRIERS = OpsThat("can carry an activation", lambda op: op.carries_activation)


def check_words(activations: Sequence[str]) -> None:
    """Raise InputError for a word that no op can carry as its activation."""
    unknown = [word for word in activations if word not in ACTIVATIONS]
    if unknown:
        raise InputError(f"activations: {unknown[0]!r} is not a choice", help=f"choose from {', '.join(ACTIVATIONS)}")


def node_bounds(node: Node) -> Interval:
    """The bounds of one of the `CLAMPS`."""
    if node.op == "nn.clamp":
        return node.attrs["min"], node.attrs["max"]
    return BOUNDS[node.op.removeprefix("nn.")]


def carried_bounds(attrs: Mapping[str, Attr]) -> Interval | None:
    """The bounds of the activation that an op carries; None where it is no clamp (hard_swish)."""
    clamp = attrs["clamp"]
    if isinstance(clamp, tuple):
        return float(clamp[0] or 0), float(clamp[1] or 0)
    return BOUNDS.get(str(attrs["activation"]))


def clamped_bounds(inner: Interval, outer: Interval) -> Interval:
    """The bounds of a clamp to `inner` and then to `outer`, which are one clamp: min and max are monotone."""
    low, high = outer
    return min(max(inner[0], low), high), min(max(inner[1], low), high)


def clamp_attrs(bounds: Interval) -> dict[str, Attr]:
    """The attributes of an op that carries a clamp to these bounds; relu and relu6 by their names."""
    word = next((word for word, known in BOUNDS.items() if known == bounds), None)
    if word is not None:
        return {**NO_ACTIVATION, "activation": word}
    return {"activation": "clamp", "clamp": bounds}


def clamp_value(build: Builder, x: Value, bounds: Interval) -> Value:
    """x clamped to the bounds: x itself where they are infinite, else relu, relu6 or clamp."""
    return activation_value(build, x, clamp_attrs(bounds))


def activation_value(build: Builder, x: Value, attrs: Mapping[str, Attr]) -> Value:
    """x with the activation of `attrs` (those of an op that carries one) as a node of its own; x itself for none."""
    word = str(attrs["activation"])
    if word == "none":
        return x
    if word != "clamp":
        return build.node(f"nn.{word}", [x], {}).result
    low, high = carried_bounds(attrs) or BOUNDS["none"]
    return build.nn.clamp(x, min=low, max=high)
