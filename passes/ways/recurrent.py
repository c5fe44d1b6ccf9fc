"""Recurrent layers step by step: a linear layer of all inputs, and for each step one of the state, and its gates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from qgraph.ir import Builder, Node, Value, op_def
from qgraph.ir.derived import derived
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.ways.registry import way

States = list["Value | None"]
"""None for zeros."""
Step = Callable[[Builder, Value, States], list[Value]]
"""The next states of one step's W x + b and the states before it."""
MOVES = ("nn.slice", "nn.reshape", "nn.concat")


LSTM = ("nn.linear", "nn.sigmoid", "nn.tanh", "nn.add", "nn.mul", *MOVES)


@way("nn.lstm", *LSTM)
def lstm(match: Match, build: Builder) -> Replacement:
    """The gates of every step; both biases are one."""
    layer = op_def("nn.lstm").view(match.root)
    return _unrolled(match.root, layer, build, [layer.h, layer.c], _lstm_step(layer), one_bias=True)


@way("nn.sequence_lstm", *LSTM, "nn.clamp")
def sequence_lstm(match: Match, build: Builder) -> Replacement:
    """The layer whose weights are those of its gates together."""
    node = match.root
    if node.results[1].users or node.results[1].is_output:
        return Declined("c of every step is read")
    x, *parts = node.operands
    given = [part for part in parts if part is not None]
    if not all(part.is_constant for part in given):
        return Declined("a weight is not a constant")
    w, r, *bias = (_together(build, *given[at : at + 4]) for at in range(0, len(given), 4))
    layer = SimpleNamespace(x=x, w=w, r=r, bias=next(iter(bias), None), projection=None, reverse=False)
    step = _lstm_step(layer, float(node.attrs["cell_clip"]))
    made = _unrolled(node, layer, build, [None, None], step)
    return made if isinstance(made, Declined) else [made[0], made[0]]  # type: ignore[index]  # nobody reads the other


def _lstm_step(layer: Any, clip: float = 0.0) -> Step:
    """A step of a layer; `clip` bounds c, 0 does not."""

    def step(build: Builder, inputs: Value, states: States) -> list[Value]:
        h, c = states
        total = inputs if h is None else build.nn.add(inputs, build.nn.linear(h, layer.r))
        i, f, g, o = _gates(build, total, 4)
        new = build.nn.mul(build.nn.sigmoid(i), build.nn.tanh(g))
        cell = new if c is None else build.nn.add(build.nn.mul(build.nn.sigmoid(f), c), new)
        cell = build.nn.clamp(cell, min=-clip, max=clip) if clip else cell
        hidden = build.nn.mul(build.nn.sigmoid(o), build.nn.tanh(cell))
        return [hidden if layer.projection is None else build.nn.linear(hidden, layer.projection), cell]

    return step


def _together(build: Builder, *parts: Value) -> Value:
    """A constant of those of the gates."""
    stem = parts[0].name.removesuffix(".input")
    return derived(build, f"{stem}.gates", lambda build, *parts: build.nn.concat(*parts, axis=0), *parts)


@way("nn.gru", "nn.linear", "nn.sigmoid", "nn.tanh", "nn.add", "nn.sub", "nn.mul", *MOVES)
def gru(match: Match, build: Builder) -> Replacement:
    """The gates of every step; the new state is n + z (h - n)."""
    layer = op_def("nn.gru").view(match.root)

    def step(build: Builder, inputs: Value, states: States) -> list[Value]:
        (h,) = states
        a, b, c = _gates(build, inputs, 3)
        d, e, f = _recurrent_gates(build, layer, h)
        reset, update = (build.nn.sigmoid(x if y is None else build.nn.add(x, y)) for x, y in ((a, d), (b, e)))
        new = build.nn.tanh(c if f is None else build.nn.add(c, build.nn.mul(reset, f)))
        if h is None:
            return [build.nn.sub(new, build.nn.mul(update, new))]
        return [build.nn.add(new, build.nn.mul(update, build.nn.sub(h, new)))]

    return _unrolled(match.root, layer, build, [layer.h], step)


@way("nn.rnn", "nn.linear", "nn.tanh", "nn.relu", "nn.add", *MOVES)
def rnn(match: Match, build: Builder) -> Replacement:
    """One sum and one function a step; both biases are one."""
    layer = op_def("nn.rnn").view(match.root)

    def step(build: Builder, inputs: Value, states: States) -> list[Value]:
        (h,) = states
        total = inputs if h is None else build.nn.add(inputs, build.nn.linear(h, layer.r))
        return [build.nn.tanh(total) if layer.nonlinearity == "tanh" else build.nn.relu(total)]

    return _unrolled(match.root, layer, build, [layer.h], step, one_bias=True)


def _unrolled(
    node: Node, layer: Any, build: Builder, states: States, step: Step, *, one_bias: bool = False
) -> Replacement:
    """All steps, and the last states. `one_bias`: the recurrent bias is added to the other one."""
    length = layer.x.type.shape[1]
    if not isinstance(length, int):
        return Declined(f"the number of steps, {length}, is open")
    biases = [layer.bias, layer.recurrent_bias] if one_bias else [layer.bias]
    known = [bias for bias in biases if bias is not None]
    if not all(bias.is_constant for bias in known):
        return Declined("a bias is not a constant")
    bias = known[0] if known else None
    if len(known) == 2:
        bias = derived(build, f"{known[0].name}.sum", lambda build, *pair: build.nn.add(*pair), *known)
    inputs = build.nn.linear(layer.x, layer.w, bias)
    width, hidden = int(layer.w.type.shape[0]), int(layer.r.type.shape[1])
    made: list[Value] = []
    now = states
    for t in reversed(range(length)) if layer.reverse else range(length):
        at = build.nn.reshape(_part(build, inputs, 1, t, t + 1), shape=(-1, width))
        now = [*step(build, at, now)]
        made.append(build.nn.reshape(now[0], shape=(-1, 1, hidden)))
    ordered = made[::-1] if layer.reverse else made
    return [build.nn.concat(*ordered, axis=1), *(state for state in now if state is not None)]


def _gates(build: Builder, x: Value, count: int) -> list[Value]:
    size = int(x.type.shape[1]) // count
    return [_part(build, x, 1, i * size, (i + 1) * size) for i in range(count)]


def _recurrent_gates(build: Builder, layer: Any, h: Value | None) -> list[Any]:
    """h R^T + recurrent_bias, gate by gate; of no state the bias, or nothing."""
    if h is not None:
        return _gates(build, build.nn.linear(h, layer.r, layer.recurrent_bias), 3)
    if layer.recurrent_bias is None:
        return [None] * 3
    bias, size = layer.recurrent_bias, layer.recurrent_bias.data.size // 3
    return [
        derived(build, f"{bias.name}.gate", partial(_part, axis=0, start=i * size, end=(i + 1) * size), bias)
        for i in range(3)
    ]


def _part(build: Builder, x: Value, axis: int, start: int, end: int) -> Value:
    if (start, end) == (0, x.type.shape[axis]):
        return x
    made: Value = build.nn.slice(x, axis=axis, start=start, end=end)
    return made
