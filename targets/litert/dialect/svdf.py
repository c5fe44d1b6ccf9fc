"""SVDF: a layer of low rank over the last steps of a stream, which it remembers itself.

Source: kernels/internal/reference/svdf.h, EvalIntegerSVDF; all families round its two factors twice. LiteRT's kernel
has a state of 16 bits, TFLite Micro also one of 8. In a file the state is one variable tensor that the operator
changes; here it is read, and `after` is what it becomes.
"""

from __future__ import annotations

import numpy as np

from qgraph.arith.fixed_point import multiply_double_rounding, quantize_multiplier
from qgraph.errors import TypeMismatch, UnsupportedOp
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count, integer_range
from qgraph.targets.litert.dialect.parameters import centred, saturated, scale, zero_point
from qgraph.targets.litert.rows import FUSED, row

STATE = "i8q|i16q[B, S]"
Results = tuple[Array, Array]


@op("litert.svdf", keeps_state=True)
class Svdf:
    """SVDF with `rank` filters a unit, F = rank * U, each over the M last steps; S = F * M.

    after[b, f] = state[b, f] without its oldest step, and behind it the sum over i of w_feature[f, i] * x[b, i]
    y[b, u] = bias[u] + the sum over the filters f of u, and m, of w_time[f, m] * after[b, f, m]

    Kernels on integers do not compute `activation`; LiteRT's wants it to be RELU.
    """

    x: Operand = operand("i8q[B, I]")
    w_feature: Operand = operand("i8q[F, I]", role="weight")
    w_time: Operand = operand("i8q|i16q[F, M]", role="weight")
    state: Operand = operand(STATE, role="state")
    bias: Operand | None = operand("i32[U]", optional=True, role="bias")
    y: Result = result("i8q[B, U]", free=True)
    after: Result = result(STATE)
    rank: int = attr()
    activation: str = attr("NONE")

    def infer(self) -> tuple[TensorType, TensorType]:
        filters = self.w_feature.type.shape[0]
        if not isinstance(filters, int) or self.rank < 1 or filters % self.rank:
            raise TypeMismatch(f"{filters} filters are no whole number of units of rank {self.rank}")
        return self.x.type.with_shape((self.x.type.shape[0], filters // self.rank)), self.state.type

    def check(self) -> None:
        filters, memory = self.w_time.type.shape
        if self.state.type.shape[1] != element_count((filters, memory)):
            raise TypeMismatch(f"the state {self.state.type} does not hold {filters} filters of {memory} steps")
        if self.bias is not None and self.bias.type.shape != self.y.type.shape[1:]:
            raise TypeMismatch(f"the bias {self.bias.type} is not one for each unit of {self.y.type}")
        if self.state.type.dtype != self.w_time.type.dtype:
            raise TypeMismatch(f"a state {self.state.type} under weights {self.w_time.type}: both have one storage")
        for w in (self.w_feature, self.w_time):
            if w.type.q.axis is not None or any(w.type.q.zero_point):
                raise TypeMismatch(f"a weight {w.type} must have one scale and a zero point of 0")
        if self.state.type.dtype == "i16" and zero_point(self.state.type):
            raise TypeMismatch(f"a state of 16 bits has a zero point of 0, not {zero_point(self.state.type)}")

    def macs(self) -> int:
        features = element_count((*self.x.type.shape[:1], *self.w_feature.type.shape))
        return features + element_count(self.state.type.shape)

    def evaluate(self, *arrays: Array) -> Results:
        if self.state.type.dtype == "i8":
            raise UnsupportedOp("LiteRT's SVDF takes its state for integers of 16 bits", help="TFLite Micro has 8 bits")
        if self.activation != "RELU":
            raise UnsupportedOp(f"LiteRT's SVDF on integers refuses the activation {self.activation}")
        return step(self, np.float32, *arrays)


def step(op: Svdf, real: type[np.floating], x: Array, w_feature: Array, w_time: Array, *more: Array | None) -> Results:
    """Result and next state; `more`: state and bias. `real`: in which the factors of scales are formed.

    Sums are of int32, which wrap, as in the kernels. So does the zero point of a state of 8 bits, which TFLite Micro
    adds behind the saturation.
    """
    state, bias = (*more, None)[:2]
    assert state is not None  # it is no optional operand
    filters, memory = w_time.shape
    to_state, to_y = factors(op, real)
    acc = centred(x, op.x.type).astype(np.int64) @ w_feature.T.astype(np.int64)
    low, high = integer_range(op.state.type.dtype)
    new = np.clip(_requantized(acc, to_state), low, high) + zero_point(op.state.type)
    steps = state.reshape(-1, filters, memory)
    after = np.concatenate([steps[..., 1:], new[..., None].astype(state.dtype)], axis=-1)
    products = centred(after, op.state.type).astype(np.int64) * w_time
    total = products.reshape(len(x), filters // op.rank, -1).sum(-1) + (0 if bias is None else bias)
    made = _requantized(total, to_y)
    return saturated(made, op.y.type), after.reshape(state.shape)


def factors(op: Svdf, real: type[np.floating]) -> tuple[np.floating, np.floating]:
    """What scales sums of features to the state, and sums over steps to the result."""
    x_scale, feature_scale, time_scale, state_scale, y_scale = (
        real(scale(each.type)) for each in (op.x, op.w_feature, op.w_time, op.state, op.y)
    )
    return x_scale * feature_scale / state_scale, state_scale * time_scale / y_scale


def _requantized(acc: Array, factor: np.floating) -> Array:
    return multiply_double_rounding(acc.astype(np.int32), *quantize_multiplier(factor)).astype(np.int64)


row(
    "litert.svdf",
    "SVDF",
    options={"rank": "rank", "activation": FUSED},
    places=(0, 1, 2, 4, 3),
    length=5,
)
