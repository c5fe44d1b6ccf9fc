"""Element by element over two operands: add, sub, mul; and dropout and detach."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import Shape
from qgraph.ops.nn.activation import ACTIVATIONS, Bounds, activate, check_activation


def broadcast_shape(a: Shape, b: Shape) -> Shape:
    """The shape of `a + b` under NumPy's rules; raises TypeMismatch."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    shape = []
    for x, y in pairs:
        if x != y and 1 not in (x, y):
            raise TypeMismatch(f"shapes {list(a)} and {list(b)} do not broadcast")
        shape.append(y if x == 1 else x)
    return tuple(shape)


def broadcast_type(a: TensorType, b: TensorType) -> TensorType:
    """The type of `a + b`; raises TypeMismatch for operands of two dtypes, or shapes that do not broadcast."""
    if a.dtype != b.dtype:
        raise TypeMismatch(f"operands of {a.dtype} and {b.dtype}: both must be of one dtype")
    return a.with_shape(broadcast_shape(a.shape, b.shape))


@op("nn.add", commutative=True, elementwise=True)
class Add:
    """activation(a + b), with broadcasting."""

    a: Operand = operand("f|i64|i32[...]", trained=True)
    b: Operand = operand("f|i64|i32[...]", trained=True)
    result: Result = result("f|i64|i32[...]")
    activation: str = attr("none", choices=ACTIVATIONS)
    clamp: Bounds = attr(None)

    def infer(self) -> TensorType:
        check_activation(self.activation, self.clamp)
        return broadcast_type(self.a.type, self.b.type)

    def evaluate(self, a: Array, b: Array) -> Array:
        return activate(a + b, self.activation, self.clamp)


@op("nn.sub", elementwise=True)
class Sub:
    """activation(a - b), with broadcasting."""

    a: Operand = operand("f|i64|i32[...]", trained=True)
    b: Operand = operand("f|i64|i32[...]", trained=True)
    result: Result = result("f|i64|i32[...]")
    activation: str = attr("none", choices=ACTIVATIONS)
    clamp: Bounds = attr(None)

    def infer(self) -> TensorType:
        check_activation(self.activation, self.clamp)
        return broadcast_type(self.a.type, self.b.type)

    def evaluate(self, a: Array, b: Array) -> Array:
        return activate(a - b, self.activation, self.clamp)


@op("nn.mul", commutative=True, elementwise=True)
class Mul:
    """activation(a * b), with broadcasting."""

    a: Operand = operand("f|i64|i32[...]", trained=True)
    b: Operand = operand("f|i64|i32[...]", trained=True)
    result: Result = result("f|i64|i32[...]")
    activation: str = attr("none", choices=ACTIVATIONS)
    clamp: Bounds = attr(None)

    def infer(self) -> TensorType:
        check_activation(self.activation, self.clamp)
        return broadcast_type(self.a.type, self.b.type)

    def evaluate(self, a: Array, b: Array) -> Array:
        return activate(a * b, self.activation, self.clamp)


@op("nn.dropout", kind="identity", family="shape", elementwise=True, acts_in_training=True, idle=True, draws=True)
class Dropout:
    """x: dropout with probability `p` acts in training only (`qgraph.to_torch`)."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")
    p: float = attr(0.5)

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x)


@op("nn.detach", kind="identity", family="shape", elementwise=True, acts_in_training=True, idle=True)
class Detach:
    """x, through which no gradient goes in training: torch's `detach`, as in a straight-through estimator."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x)
