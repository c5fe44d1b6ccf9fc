"""Integers and conditions as they are: comparisons, logic, CAST, SELECT_V2, CUMSUM, FLOOR_DIV, GATHER_ND ...

What stands for itself is computed alike everywhere; int32 wraps around. ADD, SUB, MUL, MAXIMUM and other ops that have
a form on floats take plain integers in that form (`elementwise.py`, `reduction.py`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qgraph.errors import InputError, TypeMismatch
from qgraph.ir import Array, Node, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn import comparison
from qgraph.ops.nn.elementwise import broadcast_shape, broadcast_type
from qgraph.targets.litert.dialect.elements import refuse_other_parameters
from qgraph.targets.litert.dialect.gathering import check_indices
from qgraph.targets.litert.dialect.reduction import Reduction
from qgraph.targets.litert.dialect.slicing import ANY
from qgraph.targets.litert.rows import row


class Comparison:
    """A comparison with broadcasting."""

    a: Operand = operand("i32|i64|f32[...]")
    b: Operand = operand("i32|i64|f32[...]")
    result: Result = result("bool[...]")

    def infer(self) -> TensorType:
        return replace(broadcast_type(self.a.type, self.b.type), dtype="bool")


@op("litert.equal", commutative=True, elementwise=True)
class Equal(Comparison):
    """EQUAL, of conditions too."""

    a: Operand = operand("i32|i64|f32|bool[...]")
    b: Operand = operand("i32|i64|f32|bool[...]")
    result: Result = result("bool[...]")

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a == b)


@op("litert.not_equal", commutative=True, elementwise=True)
class NotEqual(Comparison):
    """NOT_EQUAL, of conditions too."""

    a: Operand = operand("i32|i64|f32|bool[...]")
    b: Operand = operand("i32|i64|f32|bool[...]")
    result: Result = result("bool[...]")

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a != b)


@op("litert.less", elementwise=True)
class Less(Comparison):
    """LESS."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a < b)


@op("litert.less_equal", elementwise=True)
class LessEqual(Comparison):
    """LESS_EQUAL."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a <= b)


@op("litert.greater", elementwise=True)
class Greater(Comparison):
    """GREATER."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a > b)


@op("litert.greater_equal", elementwise=True)
class GreaterEqual(Comparison):
    """GREATER_EQUAL."""

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(a >= b)


@op("litert.logical_and", commutative=True, elementwise=True)
class LogicalAnd(comparison.LogicalAnd):
    """LOGICAL_AND."""


@op("litert.logical_or", commutative=True, elementwise=True)
class LogicalOr(comparison.LogicalOr):
    """LOGICAL_OR."""


@op("litert.logical_not", elementwise=True)
class LogicalNot:
    """LOGICAL_NOT."""

    x: Operand = operand("bool[...]")
    result: Result = result("bool[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.asarray(~x)


@op("litert.cast", elementwise=True)
class Cast:
    """CAST: the numbers in the storage of the result, whose parameters it does not look at; floats lose what is behind
    the point, and conditions are 0 and 1.

    Floats that no integer of the result is are refused: what they become depends on the processor.
    """

    x: Operand = operand(ANY)
    result: Result = result(ANY, free=True)

    def infer(self) -> TensorType:
        return TensorType(self.x.type.shape, self.x.type.dtype)

    def evaluate(self, x: Array) -> Array:
        made = self.result.type.numpy
        if x.dtype.kind == "f" and made.kind in "iu" and x.size:
            info = np.iinfo(made)
            with np.errstate(invalid="ignore"):
                whole = np.trunc(x.astype(np.float64))
                outside = ~((whole >= info.min) & (whole <= info.max))
            if outside.any():
                raise InputError(f"CAST of {x[outside].flat[0]} to {made}: runtimes give different integers")
        return x.astype(made)


@op("litert.select", kind="where", elementwise=True)
class Select:
    """SELECT_V2: a where the condition holds, else b, with broadcasting; the raw integers, of one grid."""

    condition: Operand = operand("bool[...]", role="indices")
    a: Operand = operand(ANY)
    b: Operand = operand(ANY)
    result: Result = result(ANY, free=True)

    def infer(self) -> TensorType:
        if self.a.type.dtype != self.b.type.dtype:
            raise TypeMismatch(f"litert.select: operands of {self.a.type} and {self.b.type}")
        chosen = broadcast_shape(self.a.type.shape, self.b.type.shape)
        return self.a.type.with_shape(broadcast_shape(self.condition.type.shape, chosen))

    def check(self) -> None:
        refuse_other_parameters("SELECT_V2", self.result.type, self.a.type, self.b.type)

    def evaluate(self, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition, a, b)


@op("litert.cumsum")
class Cumsum:
    """CUMSUM: the sums along `axis` up to each element, or to the one before it (`exclusive`), or from the end on
    (`reverse`)."""

    x: Operand = operand("i32|i64[...]")
    result: Result = result("i32|i64[...]")
    axis: int = attr()
    exclusive: bool = attr(False)
    reverse: bool = attr(False)

    def infer(self) -> TensorType:
        if not -self.x.type.rank <= self.axis < self.x.type.rank:
            raise TypeMismatch(f"axis {self.axis} is not a dimension of {self.x.type}")
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        turned = np.flip(x, self.axis) if self.reverse else x
        sums = np.cumsum(turned, self.axis, dtype=x.dtype) - (turned if self.exclusive else np.zeros((), x.dtype))
        return np.ascontiguousarray(np.flip(sums, self.axis) if self.reverse else sums)


class Division:
    """What FLOOR_DIV and FLOOR_MOD share: the runtimes refuse a divisor of 0."""

    a: Operand = operand("i32[...]")
    b: Operand = operand("i32[...]")
    result: Result = result("i32[...]")

    def infer(self) -> TensorType:
        return broadcast_type(self.a.type, self.b.type)

    def refuse_zero(self, b: Array) -> None:
        """Raise InputError for a divisor of 0."""
        if not np.all(b):
            raise InputError("an integer is divided by 0: the runtimes refuse it")


@op("litert.floor_div", elementwise=True)
class FloorDiv(Division):
    """FLOOR_DIV: the largest integer that is not above a / b."""

    def evaluate(self, a: Array, b: Array) -> Array:
        self.refuse_zero(b)
        return np.asarray(a // b)


@op("litert.floor_mod", elementwise=True)
class FloorMod(Division):
    """FLOOR_MOD: a - b * floor(a / b)."""

    def evaluate(self, a: Array, b: Array) -> Array:
        self.refuse_zero(b)
        return np.asarray(np.mod(a, b))


def _types(node: Node) -> dict[str, object]:
    return {"in_data_type": node.operand(0).type.dtype, "out_data_type": node.result.type.dtype}


for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    row(f"litert.{_name}", _name.upper())
for _name in ("logical_and", "logical_or", "logical_not", "floor_div", "floor_mod"):
    row(f"litert.{_name}", _name.upper())
row("litert.cast", "CAST", write=_types)
row("litert.select", "SELECT_V2")
row(
    "litert.cumsum",
    "CUMSUM",
    constants={"axis": 1},
    options={"exclusive": "exclusive", "reverse": "reverse"},
)


class Whether(Reduction):
    """What REDUCE_ANY and REDUCE_ALL share."""

    x: Operand = operand("bool[...]")
    result: Result = result("bool[...]")
    axes: tuple[int, ...] = attr()
    keep_dims: bool = attr(False)


@op("litert.reduce_any", family="pool")
class ReduceAny(Whether):
    """REDUCE_ANY over `axes`."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.any(axis=self.places(), keepdims=self.keep_dims))


@op("litert.reduce_all", family="pool")
class ReduceAll(Whether):
    """REDUCE_ALL over `axes`."""

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.all(axis=self.places(), keepdims=self.keep_dims))


@op("litert.reduce_prod", family="pool")
class ReduceProd(Whether):
    """REDUCE_PROD of integers over `axes`."""

    x: Operand = operand("i32[...]")
    result: Result = result("i32[...]")

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.prod(axis=self.places(), keepdims=self.keep_dims, dtype=x.dtype))


for _name in ("reduce_any", "reduce_all", "reduce_prod"):
    row(f"litert.{_name}", _name.upper(), constants={"axes": 1}, options={"keep_dims": "keep_dims"})


@op("litert.topk_v2", kind="topk")
class TopkV2:
    """TOPK_V2: the `k` largest along the last dimension, the largest first (of equal ones the first), and where they
    are; the raw integers, on the grid of x."""

    x: Operand = operand("i8q|i16q|i32|f32[...]")
    values: Result = result("i8q|i16q|i32|f32[...]")
    places: Result = result("i32[...]")
    k: int = attr()

    def infer(self) -> tuple[TensorType, TensorType]:
        shape = self.x.type.shape
        if not shape or not isinstance(shape[-1], int) or not 0 < self.k <= shape[-1]:
            raise TypeMismatch(
                f"litert.topk_v2: there are no {self.k} elements along the last dimension of {self.x.type}"
            )
        made = self.x.type.with_shape((*shape[:-1], self.k))
        return made, TensorType(made.shape, "i32")

    def evaluate(self, x: Array) -> tuple[Array, Array]:
        wide = x.astype(np.int64) if x.dtype.kind == "i" else x
        places = np.argsort(-wide, axis=-1, kind="stable")[..., : self.k]
        return np.take_along_axis(x, places, axis=-1), places.astype(np.int32)


row("litert.topk_v2", "TOPK_V2", constants={"k": 1})


@op("litert.broadcast_to", kind="expand", moves_data=True)
class BroadcastTo:
    """BROADCAST_TO: x repeated to `shape`."""

    x: Operand = operand(ANY)
    result: Result = result(ANY)
    shape: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        if broadcast_shape(self.x.type.shape, self.shape) != self.shape:
            raise TypeMismatch(f"litert.broadcast_to: {self.x.type} cannot be repeated to {list(self.shape)}")
        return self.x.type.with_shape(self.shape)

    def evaluate(self, x: Array) -> Array:
        return np.broadcast_to(x, self.shape)


row("litert.broadcast_to", "BROADCAST_TO", constants={"shape": 1})


@op("litert.gather_nd", moves_data=True)
class GatherNd:
    """GATHER_ND: the parts of x at `places` [..., K] along its first K dimensions."""

    x: Operand = operand(ANY)
    places: Operand = operand("i32[...]", role="indices")
    result: Result = result(ANY)

    def infer(self) -> TensorType:
        *shape, count = self.places.type.shape or ("",)
        if not isinstance(count, int) or not 0 < count <= self.x.type.rank:
            raise TypeMismatch(f"litert.gather_nd: {self.places.type} are no places in {self.x.type}")
        return self.x.type.with_shape((*shape, *self.x.type.shape[count:]))

    def evaluate(self, x: Array, places: Array) -> Array:
        for axis in range(places.shape[-1]):
            check_indices(places[..., axis], x.shape[axis])
        return np.asarray(x[tuple(np.moveaxis(places, -1, 0))])


row("litert.gather_nd", "GATHER_ND")
