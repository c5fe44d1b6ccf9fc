"""Recurrent layers: lstm, gru and rnn, one layer in one direction over [N, T, I]."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Dim, Operand, Result, TensorType, attr, op, operand, result

Step = Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]
"""The next states of W x + b of one step, and the states before it; the first state is the step's result."""


def _types(
    x: TensorType, w: TensorType, r: TensorType, gates: int, states: int, name: str, cells: Dim | None = None
) -> tuple[TensorType, ...]:
    """The types of the results: all steps, then each last state, of which those behind h have `cells` elements where h
    is a projection of them; raises TypeMismatch."""
    rows, hidden = r.shape
    wide = hidden if cells is None else cells
    if isinstance(rows, str) or isinstance(wide, str) or rows != gates * wide or w.shape[0] != rows:
        raise TypeMismatch(f"{name}: {w} and {r} are no weights of {gates} gates")
    batch, steps, _ = x.shape
    others = [x.with_shape((batch, wide))] * (states - 1)
    return (x.with_shape((batch, steps, hidden)), x.with_shape((batch, hidden)), *others)


def _run(x: Array, w: Array, bias: Array | None, states: list[Array], reverse: bool, step: Step) -> tuple[Array, ...]:
    """All steps [N, T, H], and the states behind the last of them."""
    inputs = x @ w.T if bias is None else x @ w.T + bias
    now, made = tuple(states), np.empty((*x.shape[:2], states[0].shape[1]), x.dtype)
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        now = step(inputs[:, t], now)
        made[:, t] = now[0]
    return (made, *now)


def _started(x: Array, r: Array, *given: Array | None) -> list[Array]:
    """The states before the first step; one that is not given is 0."""
    return [np.zeros((len(x), r.shape[1]), x.dtype) if state is None else state for state in given]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the 0 that is right
        return np.asarray(1 / (1 + np.exp(-x)))


def _recurrent(h: Array, r: Array, bias: Array | None) -> Array:
    return np.asarray(h @ r.T if bias is None else h @ r.T + bias)


@op("nn.lstm")
class Lstm:
    """Long short-term memory, torch's `nn.LSTM` of one layer in one direction, gates in torch's order i, f, g, o:

        i, f, g, o = x_t W^T + bias + h R^T + recurrent_bias
        c = sigmoid(f) c + sigmoid(i) tanh(g),  h = sigmoid(o) tanh(c)

    h times the transposed projection, where there is one, is what is given on.
    Results: h of every step [N, T, P], the last h and the last c. `reverse`: from the last step to the first.
    """

    x: Operand = operand("f[N, T, I]")
    w: Operand = operand("f[G, I]", role="weight")
    r: Operand = operand("f[G, P]", role="weight")
    bias: Operand | None = operand("f[G]", optional=True, role="bias")
    recurrent_bias: Operand | None = operand("f[G]", optional=True, role="bias")
    h: Operand | None = operand("f[N, P]", optional=True, role="state")
    c: Operand | None = operand("f[N, H]", optional=True, role="state")
    projection: Operand | None = operand("f[P, H]", optional=True, role="weight")
    steps: Result = result("f[N, T, P]")
    last_h: Result = result("f[N, P]")
    last_c: Result = result("f[N, H]")
    reverse: bool = attr(False)

    def infer(self) -> tuple[TensorType, ...]:
        cells = None if self.projection is None else self.projection.type.shape[1]
        return _types(self.x.type, self.w.type, self.r.type, 4, 2, "nn.lstm", cells)

    def evaluate(
        self,
        x: Array,
        w: Array,
        r: Array,
        bias: Array | None,
        more: Array | None,
        h: Array | None,
        c: Array | None,
        projection: Array | None,
    ) -> tuple[Array, ...]:
        def step(inputs: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            i, f, g, o = np.split(inputs + _recurrent(states[0], r, more), 4, axis=1)
            cell = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            return (hidden if projection is None else hidden @ projection.T), cell

        (first,), (cells,) = _started(x, r, h), _started(x, r if projection is None else projection, c)
        return _run(x, w, bias, [first, cells], self.reverse, step)


@op("nn.gru")
class Gru:
    """Gated recurrent unit, torch's `nn.GRU` of one layer in one direction, gates in torch's order r, z, n:

        r, z, n = x_t W^T + bias;  r', z', n' = h R^T + recurrent_bias
        n = tanh(n + sigmoid(r + r') n'),  h = (1 - sigmoid(z + z')) n + sigmoid(z + z') h

    Results: h of every step [N, T, H], and the last. `reverse`: from the last step to the first.
    """

    x: Operand = operand("f[N, T, I]")
    w: Operand = operand("f[G, I]", role="weight")
    r: Operand = operand("f[G, H]", role="weight")
    bias: Operand | None = operand("f[G]", optional=True, role="bias")
    recurrent_bias: Operand | None = operand("f[G]", optional=True, role="bias")
    h: Operand | None = operand("f[N, H]", optional=True, role="state")
    steps: Result = result("f[N, T, H]")
    last_h: Result = result("f[N, H]")
    reverse: bool = attr(False)

    def infer(self) -> tuple[TensorType, ...]:
        return _types(self.x.type, self.w.type, self.r.type, 3, 1, "nn.gru")

    def evaluate(
        self, x: Array, w: Array, r: Array, bias: Array | None, more: Array | None, h: Array | None
    ) -> tuple[Array, ...]:
        def step(inputs: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            (a, b, c), (d, e, f) = (np.split(each, 3, axis=1) for each in (inputs, _recurrent(states[0], r, more)))
            update, new = sigmoid(b + e), np.tanh(c + sigmoid(a + d) * f)
            return ((1 - update) * new + update * states[0],)

        return _run(x, w, bias, _started(x, r, h), self.reverse, step)


@op("nn.rnn")
class Rnn:
    """Elman's recurrent layer, torch's `nn.RNN` of one layer in one direction:

        h = activation(x_t W^T + bias + h R^T + recurrent_bias)

    Results: h of every step [N, T, H], and the last. `reverse`: from the last step to the first.
    """

    x: Operand = operand("f[N, T, I]")
    w: Operand = operand("f[G, I]", role="weight")
    r: Operand = operand("f[G, H]", role="weight")
    bias: Operand | None = operand("f[G]", optional=True, role="bias")
    recurrent_bias: Operand | None = operand("f[G]", optional=True, role="bias")
    h: Operand | None = operand("f[N, H]", optional=True, role="state")
    steps: Result = result("f[N, T, H]")
    last_h: Result = result("f[N, H]")
    nonlinearity: str = attr("tanh", choices=("tanh", "relu"))
    reverse: bool = attr(False)

    def infer(self) -> tuple[TensorType, ...]:
        return _types(self.x.type, self.w.type, self.r.type, 1, 1, "nn.rnn")

    def evaluate(
        self, x: Array, w: Array, r: Array, bias: Array | None, more: Array | None, h: Array | None
    ) -> tuple[Array, ...]:
        def step(inputs: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            total = inputs + _recurrent(states[0], r, more)
            return (np.tanh(total) if self.nonlinearity == "tanh" else np.maximum(total, 0),)

        return _run(x, w, bias, _started(x, r, h), self.reverse, step)
