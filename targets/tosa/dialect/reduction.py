"""ARGMAX and REDUCE_*, along one axis. Source: TOSA specification 1.0."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.tosa.dialect.elements import check_axis, within
from qgraph.targets.tosa.rows import row


@op("tosa.argmax", whole=True)
class Argmax:
    """ARGMAX: the first place of the largest element along the axis, which goes away."""

    x: Operand = operand("i8|i16[...]")
    result: Result = result("i32[...]", free=True)
    axis: int = attr()
    nan_mode: str = attr("PROPAGATE")

    def infer(self) -> TensorType:
        check_axis("tosa.argmax", self.axis, self.x.type)
        return TensorType(tuple(size for i, size in enumerate(self.x.type.shape) if i != self.axis), "i32")

    def evaluate(self, x: Array) -> Array:
        return np.asarray(np.argmax(x, axis=self.axis), np.int32)


class _Reduction:
    """The axis has size 1 in the result."""

    name = ""
    x: Operand
    result: Result
    axis: int = attr()

    def infer(self) -> TensorType:
        check_axis(self.name, self.axis, self.x.type)
        return self.x.type.with_shape([1 if i == self.axis else size for i, size in enumerate(self.x.type.shape)])

    def check(self) -> None:
        if self.result.type.dtype != self.x.type.dtype:
            raise TypeMismatch(f"{self.name} of {self.x.type} makes no {self.result.type}")


@op("tosa.reduce_all")
class ReduceAll(_Reduction):
    """REDUCE_ALL."""

    name = "tosa.reduce_all"
    x: Operand = operand("bool[...]")
    result: Result = result("bool[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.all(axis=self.axis, keepdims=True))


@op("tosa.reduce_any")
class ReduceAny(_Reduction):
    """REDUCE_ANY."""

    name = "tosa.reduce_any"
    x: Operand = operand("bool[...]")
    result: Result = result("bool[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.any(axis=self.axis, keepdims=True))


@op("tosa.reduce_max")
class ReduceMax(_Reduction):
    """REDUCE_MAX."""

    name = "tosa.reduce_max"
    x: Operand = operand("i8|i16|i32[...]")
    result: Result = result("i8|i16|i32[...]", free=True)
    nan_mode: str = attr("PROPAGATE")

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.max(axis=self.axis, keepdims=True))


@op("tosa.reduce_min")
class ReduceMin(_Reduction):
    """REDUCE_MIN."""

    name = "tosa.reduce_min"
    x: Operand = operand("i8|i16|i32[...]")
    result: Result = result("i8|i16|i32[...]", free=True)
    nan_mode: str = attr("PROPAGATE")

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.min(axis=self.axis, keepdims=True))


@op("tosa.reduce_sum")
class ReduceSum(_Reduction):
    """REDUCE_SUM within int32."""

    name = "tosa.reduce_sum"
    x: Operand = operand("i32[...]")
    result: Result = result("i32[...]", free=True)

    def evaluate(self, x: Array) -> Array:
        return within(self.name, x.sum(axis=self.axis, keepdims=True, dtype=np.int64), "i32")


for _name in ("argmax", "reduce_all", "reduce_any", "reduce_max", "reduce_min", "reduce_sum"):
    row(f"tosa.{_name}", _name.upper())
