"""Normalizations of each example by means, products and roots."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Builder, Value
from qgraph.ops.nn.shape import REST, size_of
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.ways.registry import by_channel, plus, way

ROOT = ("nn.mean", "nn.mul", "nn.add", "nn.rsqrt")


@way("nn.layer_norm", "nn.sub", *ROOT)
def layer_norm(match: Match, build: Builder) -> Replacement:
    """(x - mean) * rsqrt(mean of its square + eps) * gamma + beta."""
    x, *parameters = match.root.operands
    assert x is not None  # it is not optional
    rank, attrs = x.type.rank, match.root.attrs
    y = _centred(build, x, tuple(range(rank - attrs["axes"], rank)), attrs["eps"])
    return _scaled_and_shifted(build, y, *parameters)


@way("nn.rms_norm", *ROOT)
def rms_norm(match: Match, build: Builder) -> Replacement:
    """x * rsqrt(mean of x^2 + eps) * gamma."""
    x, *parameters = match.root.operands
    assert x is not None  # it is not optional
    rank, attrs = x.type.rank, match.root.attrs
    y = _unit(build, x, tuple(range(rank - attrs["axes"], rank)), attrs["eps"])
    return _scaled_and_shifted(build, y, *parameters)


@way("nn.group_norm", "nn.sub", "nn.reshape", *ROOT)
def group_norm(match: Match, build: Builder) -> Replacement:
    """The same over the groups as rows; gamma and beta belong to channels."""
    x, *parameters = match.root.operands
    assert x is not None  # it is not optional
    batch, channels, *spatial = x.type.shape
    if not all(isinstance(size, int) for size in (channels, *spatial)):
        return Declined(f"the sizes of {x.type} are not known")
    if any(value is not None and not value.is_constant for value in parameters):
        return Declined("a parameter is computed")
    groups, first = match.root.attrs["groups"], batch if isinstance(batch, int) else size_of(0)
    rows = build.nn.reshape(x, shape=(first, groups, REST))
    y = _centred(build, rows, (2,), match.root.attrs["eps"])
    y = build.nn.reshape(y, shape=(first, *(int(size) for size in (channels, *spatial))))
    columns = [None if value is None else by_channel(build, value, x.type.rank) for value in parameters]
    return _scaled_and_shifted(build, y, *columns)


def _centred(build: Builder, x: Value, axes: tuple[int, ...], eps: float) -> Value:
    return _unit(build, build.nn.sub(x, build.nn.mean(x, axes=axes, keepdims=True)), axes, eps)


def _unit(build: Builder, x: Value, axes: tuple[int, ...], eps: float) -> Value:
    square = build.nn.mean(build.nn.mul(x, x), axes=axes, keepdims=True)
    made: Value = build.nn.mul(x, build.nn.rsqrt(plus(build, square, eps)))
    return made


def _scaled_and_shifted(build: Builder, x: Value, gamma: Value | None = None, beta: Value | None = None) -> Value:
    x = x if gamma is None else build.nn.mul(x, gamma)
    return x if beta is None else build.nn.add(x, beta)


@way("nn.rsqrt", "nn.sqrt", "nn.div")
def rsqrt(match: Match, build: Builder) -> Replacement:
    """1 / sqrt(x)."""
    x = match.root.operand(0)
    return build.nn.div(build.constant(np.array(1, x.type.numpy), "one"), build.nn.sqrt(x))
