"""An LSTM over a sequence whose gates have weights of their own, so that each has a scale of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count
from qgraph.ops.nn.recurrent import sigmoid

GATES = ("input", "forget", "cell", "output")
"""The order of the gates, torch's i, f, g, o."""


@op("nn.sequence_lstm", kind="lstm")
class SequenceLstm:
    """`nn.lstm` from zeros on, forward, without a projection, one weight a gate:

        i, f, o = sigmoid(x_t w^T + b + h r^T),  g = tanh(x_t w^T + b + h r^T)
        c = f c + i g,  h = o tanh(c)

    `cell_clip`: the largest magnitude of c, 0 for none.
    Results: h and c of every step, [N, T, U] each.
    """

    x: Operand = operand("f[N, T, I]")
    w_input: Operand = operand("f[U, I]", role="weight")
    w_forget: Operand = operand("f[U, I]", role="weight")
    w_cell: Operand = operand("f[U, I]", role="weight")
    w_output: Operand = operand("f[U, I]", role="weight")
    r_input: Operand = operand("f[U, V]", role="weight")
    r_forget: Operand = operand("f[U, V]", role="weight")
    r_cell: Operand = operand("f[U, V]", role="weight")
    r_output: Operand = operand("f[U, V]", role="weight")
    b_input: Operand | None = operand("f[U]", optional=True, role="bias")
    b_forget: Operand | None = operand("f[U]", optional=True, role="bias")
    b_cell: Operand | None = operand("f[U]", optional=True, role="bias")
    b_output: Operand | None = operand("f[U]", optional=True, role="bias")
    steps: Result = result("f[N, T, U]")
    cells: Result = result("f[N, T, U]")
    cell_clip: float = attr(0.0)

    def infer(self) -> tuple[TensorType, ...]:
        units, read = self.r_input.type.shape
        if units != read:
            raise TypeMismatch(f"nn.sequence_lstm: {self.r_input.type} is no weight of a state of {units}")
        made = self.x.type.with_shape((*self.x.type.shape[:2], units))
        return made, made

    def macs(self) -> int:
        units = self.w_input.type.shape[0]
        return 4 * element_count((*self.x.type.shape, units)) + 4 * element_count((*self.steps.type.shape, units))

    def evaluate(self, x: Array, *arrays: Array | None) -> tuple[Array, Array]:
        return self.run(x, arrays)

    def run(self, x: Array, arrays: Sequence[Array | None]) -> tuple[Array, Array]:
        """h and c of every step; `arrays`: weights of x, weights of h, biases, of each gate."""
        w, r = (np.concatenate([a for a in arrays[at : at + 4] if a is not None]) for at in (0, 4))
        biases = [np.zeros(len(r) // 4, x.dtype) if bias is None else bias for bias in arrays[8:12]]
        given = x @ w.T + np.concatenate(biases)
        h = cell = np.zeros((len(x), len(r) // 4), x.dtype)
        steps = np.empty((*x.shape[:2], h.shape[1]), x.dtype)
        cells = np.empty_like(steps)
        for t in range(x.shape[1]):
            i, f, g, o = np.split(given[:, t] + h @ r.T, 4, axis=1)
            new = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            cells[:, t] = np.clip(new, -self.cell_clip, self.cell_clip) if self.cell_clip else new
            cell = self.rounded_cell(cells[:, t], arrays)
            steps[:, t] = sigmoid(o) * np.tanh(cell)
            h = self.rounded_state(steps[:, t], arrays)
        return steps, cells

    def rounded_state(self, h: Array, arrays: Sequence[Array | None]) -> Array:
        """h as the next step reads it."""
        return h

    def rounded_cell(self, c: Array, arrays: Sequence[Array | None]) -> Array:
        """c as the next step reads it, and h of this one."""
        return c
