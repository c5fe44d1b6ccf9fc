"""Comparisons, logic, choices and masks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qgraph.errors import TypeMismatch
from qgraph.frontends.composed import one_side
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("eq.Tensor", "eq.Scalar")
def equal(at: Importer, a: Arguments) -> Value:
    """a = b."""
    return at.build.nn.equal(*at.pair(a["self"], a["other"]))


@aten("ne.Tensor", "ne.Scalar")
def not_equal(at: Importer, a: Arguments) -> Value:
    """a != b."""
    return at.build.nn.not_equal(*at.pair(a["self"], a["other"]))


@aten("lt.Tensor", "lt.Scalar")
def less(at: Importer, a: Arguments) -> Value:
    """a < b."""
    return at.build.nn.less(*at.pair(a["self"], a["other"]))


@aten("le.Tensor", "le.Scalar")
def less_equal(at: Importer, a: Arguments) -> Value:
    """a <= b."""
    return at.build.nn.less_equal(*at.pair(a["self"], a["other"]))


@aten("gt.Tensor", "gt.Scalar")
def greater(at: Importer, a: Arguments) -> Value:
    """a > b."""
    return at.build.nn.less(*reversed(at.pair(a["self"], a["other"])))


@aten("ge.Tensor", "ge.Scalar")
def greater_equal(at: Importer, a: Arguments) -> Value:
    """a >= b."""
    return at.build.nn.less_equal(*reversed(at.pair(a["self"], a["other"])))


@aten("logical_and.default", "bitwise_and.Tensor", "__and__.Tensor")
def logical_and(at: Importer, a: Arguments) -> Value:
    """Both."""
    return at.build.nn.logical_and(*_booleans(at, a))


@aten("logical_or.default", "bitwise_or.Tensor", "__or__.Tensor")
def logical_or(at: Importer, a: Arguments) -> Value:
    """Either, or both."""
    return at.build.nn.logical_or(*_booleans(at, a))


@aten("logical_xor.default", "bitwise_xor.Tensor", "__xor__.Tensor")
def logical_xor(at: Importer, a: Arguments) -> Value:
    """Exactly one."""
    return at.build.nn.logical_xor(*_booleans(at, a))


@aten("logical_not.default", "bitwise_not.default")
def logical_not(at: Importer, a: Arguments) -> Value:
    """The other."""
    x = at.value(a["self"])
    if "bitwise" in at.op and x.type.dtype != "bool":
        raise TypeMismatch(f"the bits of {x.type} are not supported")
    return at.build.nn.logical_not(at.cast(x, "bool"))


def _booleans(at: Importer, a: Arguments) -> list[Value]:
    values = [at.value(a["self"]), at.value(a["other"])]
    if "logical" not in at.op and any(x.type.dtype != "bool" for x in values):
        raise TypeMismatch("the bits of integers are not supported")
    return [at.cast(x, "bool") for x in values]


@aten("isnan.default")
def is_nan(at: Importer, a: Arguments) -> Value:
    """What differs from itself."""
    x = at.value(a["self"])
    return at.build.nn.not_equal(x, x)


@aten("isinf.default")
def is_infinite(at: Importer, a: Arguments) -> Value:
    """What is infinite."""
    return at.build.nn.equal(at.build.nn.abs(at.value(a["self"])), at.value(math.inf))


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(at: Importer, a: Arguments) -> Value:
    """One of two by a condition."""
    return at.build.nn.where(at.value(a["condition"]), *at.pair(a["self"], a["other"]))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(at: Importer, a: Arguments) -> Value:
    """A number where the mask holds."""
    x = at.value(a["self"])
    number = at.number(a["value"])
    filled = at.value(a["value"]) if number is None else at.value(number, x.type.dtype)
    return at.build.nn.where(at.value(a["mask"]), at.cast(filled, x.type.dtype), x)


@aten("tril.default", "triu.default")
def triangle(at: Importer, a: Arguments) -> Value:
    """x on one side of a diagonal of the last two dimensions, 0 on the other."""
    return one_side(at.build, at.value(a["self"]), a["diagonal"], lower="tril" in at.op)


@aten("any.default", "any.dim", "any.dims", "all.default", "all.dim", "all.dims")
def any_or_all(at: Importer, a: Arguments) -> Value:
    """Whether any, or all elements are not 0."""
    x = at.cast(at.value(a["self"]), "bool")
    reduce = at.build.nn.max if ".any." in at.op else at.build.nn.min
    made: Value = reduce(x, axes=at.axes(a.get("dim"), x), keepdims=a.get("keepdim", False))
    return made
