"""Recurrent layers and cells: each layer and direction is a node of its own; time comes second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qgraph.errors import TypeMismatch
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Attr, Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer

Nodes = list[Value]


@aten("lstm.input", "qgraph::lstm.default")
def lstm(at: Importer, a: Arguments) -> Nodes:
    """Layers of long short-term memory: all steps, the last h and the last c of each layer and direction."""
    return _layers(at, "nn.lstm", a, a["hx"])


@aten("gru.input", "qgraph::gru.default")
def gru(at: Importer, a: Arguments) -> Nodes:
    """Layers of gated recurrent units."""
    return _layers(at, "nn.gru", a, [a["hx"]])


@aten("rnn_tanh.input", "qgraph::rnn_tanh.default")
def rnn_tanh(at: Importer, a: Arguments) -> Nodes:
    """Elman's layers with tanh."""
    return _layers(at, "nn.rnn", a, [a["hx"]])


@aten("rnn_relu.input", "qgraph::rnn_relu.default")
def rnn_relu(at: Importer, a: Arguments) -> Nodes:
    """Elman's layers with relu."""
    return _layers(at, "nn.rnn", a, [a["hx"]], nonlinearity="relu")


def _layers(at: Importer, op: str, a: Arguments, states: Sequence[Any], **attrs: Attr) -> Nodes:
    x = at.value(a["input"])
    if x.type.rank != 3:
        raise TypeMismatch(f"{op} takes [batch, time, features], not {x.type}")
    x = x if a["batch_first"] else at.build.nn.transpose(x, perm=(1, 0, 2))
    directions = 2 if a["bidirectional"] else 1
    each = len(a["params"]) // (directions * a["num_layers"])
    projected = each - (4 if a["has_biases"] else 2)
    starts = [_parts(at, state, directions * a["num_layers"]) for state in states]
    lasts: list[list[Value]] = [[] for _ in states]
    for layer in range(a["num_layers"]):
        steps = []
        for direction in range(directions):
            place = layer * directions + direction
            weights = [at.value(value) for value in a["params"][place * each : (place + 1) * each]]
            projection = [weights.pop()] if projected else []
            biases: list[Value | None] = [*weights[2:]] or [None, None]
            given = [*(start[place] for start in starts), *projection]
            made = at.build.node(op, [x, *weights[:2], *biases, *given], {"reverse": direction == 1, **attrs}).results
            steps.append(made[0])
            for last, state in zip(lasts, made[1:], strict=True):
                last.append(state)
        x = steps[0] if len(steps) == 1 else at.build.nn.concat(*steps, axis=2)
    x = x if a["batch_first"] else at.build.nn.transpose(x, perm=(1, 0, 2))
    return [x, *(_stacked(at, last) for last in lasts)]


def _parts(at: Importer, state: Any, count: int) -> list[Value | None]:
    """The state [layers, N, H] of each layer and direction; None for zeros, which all start from."""
    if at.is_zeros(state):
        return [None] * count
    whole = at.value(state)
    hidden = int(whole.type.shape[2])
    rows = [at.build.nn.slice(whole, axis=0, start=i, end=i + 1) for i in range(count)] if count > 1 else [whole]
    return [at.build.nn.reshape(row, shape=(-1, hidden)) for row in rows]


def _stacked(at: Importer, states: list[Value]) -> Value:
    rows = [at.build.nn.reshape(state, shape=(1, -1, int(state.type.shape[1]))) for state in states]
    return rows[0] if len(rows) == 1 else at.build.nn.concat(*rows, axis=0)


@aten("lstm_cell.default")
def lstm_cell(at: Importer, a: Arguments) -> Nodes:
    """One step: the next h and the next c."""
    return _cell(at, "nn.lstm", a, a["hx"])


@aten("gru_cell.default")
def gru_cell(at: Importer, a: Arguments) -> Value:
    """One step: the next h."""
    return _cell(at, "nn.gru", a, [a["hx"]])[0]


@aten("rnn_tanh_cell.default")
def rnn_tanh_cell(at: Importer, a: Arguments) -> Value:
    """One step: the next h."""
    return _cell(at, "nn.rnn", a, [a["hx"]])[0]


@aten("rnn_relu_cell.default")
def rnn_relu_cell(at: Importer, a: Arguments) -> Value:
    """One step: the next h."""
    return _cell(at, "nn.rnn", a, [a["hx"]], nonlinearity="relu")[0]


def _cell(at: Importer, op: str, a: Arguments, states: Sequence[Any], **attrs: Attr) -> Nodes:
    """A layer over a single step."""
    x = at.value(a["input"])
    step = at.build.nn.reshape(x, shape=(-1, 1, int(x.type.shape[1])))
    operands = [at.value(a["w_ih"]), at.value(a["w_hh"]), at.optional(a["b_ih"]), at.optional(a["b_hh"])]
    given = [None if at.is_zeros(state) else at.value(state) for state in states]
    return list(at.build.node(op, [step, *operands, *given], attrs).results[1:])
