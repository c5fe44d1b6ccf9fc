"""Element by element: relu, relu6, add, dropout."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import Shape
from qgraph.ops.nn.activation import BOUNDS, activate


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


@op("nn.relu")
class Relu:
    """max(x, 0)."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return activate(x, "relu")


@op("nn.relu6")
class Relu6:
    """min(max(x, 0), 6)."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return activate(x, "relu6")


@op("nn.add")
class Add:
    """activation(a + b), with broadcasting."""

    a: Operand = operand("f[...]")
    b: Operand = operand("f[...]")
    result: Result = result("f[...]")
    activation: str = attr("none", choices=tuple(BOUNDS))

    def infer(self) -> TensorType:
        return self.a.type.with_shape(broadcast_shape(self.a.type.shape, self.b.type.shape))

    def evaluate(self, a: Array, b: Array) -> Array:
        return activate(a + b, self.activation)


@op("nn.dropout")
class Dropout:
    """x: dropout with probability `p` acts in training only (`qgraph.to_torch`)."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")
    p: float = attr(0.5)

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x)
