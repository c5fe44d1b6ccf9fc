"""Where a stage acts: `negative`, `not positive`, `shift > 31`, `x < 0 and shift > 31`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.stages_widths import Interval
from qgraph.arith.stages_words import Operand, Scope, bounds, read

Array = NDArray[Any]

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}
NAMED = {
    "negative": "<",
    "positive": ">",
    "not negative": ">=",
    "not positive": "<=",
}  # comparisons of the value with 0
OPPOSITE = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}
VALUE = "value"


class Pieces(NamedTuple):
    """An interval in two: where a condition may hold, and where it may not; and whether each can be at all."""

    acting: Interval
    acts: Array
    resting: Interval
    rests: Array


@dataclass(frozen=True)
class Comparison:
    """One comparison of the value, or of an operand, with an operand."""

    name: str
    relation: str
    operand: Operand

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(n for n in (self.name, self.operand) if isinstance(n, str) and n != VALUE)

    def holds(self, value: Array, scope: Scope) -> Array:
        left = value if self.name == VALUE else np.asarray(scope[self.name])
        return np.asarray(COMPARISONS[self.relation](left, read(self.operand, scope, left)), bool)

    def possible(self, scope: Scope) -> tuple[Array, Array]:
        """Of an operand: whether the comparison may hold, and whether it may not, by the ranges."""
        left, right = bounds(self.name, scope), bounds(self.operand, scope)
        compare = COMPARISONS[self.relation]
        ends = [np.asarray(compare(a, b), bool) for a in left for b in right]
        some, every = reduce(np.logical_or, ends), reduce(np.logical_and, ends)
        if self.relation == "==":
            some = np.asarray((left.low <= right.high) & (right.low <= left.high), bool)
            every &= np.asarray((left.low == left.high) & (right.low == right.high), bool)
        return some, ~every

    def cut(self, value: Interval, scope: Scope, relation: str) -> Interval:
        """The part of an interval of values in which the relation with the operand may hold."""
        limit = bounds(self.operand, scope)
        step = 0 if value.low.dtype.kind == "f" else 1  # between floats there is no next one to name here
        low, high = value
        if relation in (">", ">=", "=="):
            low = np.maximum(low, limit.low + (step if relation == ">" else 0))
        if relation in ("<", "<=", "=="):
            high = np.minimum(high, limit.high - (step if relation == "<" else 0))
        return Interval(np.asarray(low), np.asarray(high))

    def formula(self, v: str) -> str:
        return f"{v if self.name == VALUE else self.name} {self.relation} {self.operand}"


@dataclass(frozen=True)
class Condition:
    """Comparisons that must all hold."""

    comparisons: tuple[Comparison, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for one in self.comparisons for name in one.names))

    def holds(self, value: Array, scope: Scope) -> Array:
        """Where a stage acts, which broadcasts against the value."""
        return reduce(np.logical_and, [one.holds(value, scope) for one in self.comparisons])

    def pieces(self, value: Interval, scope: Scope) -> Pieces:
        """The value's interval where the stage acts and where it rests; each has all values that may be there."""
        acting, (acts, rests) = value, (np.ones((), bool), np.zeros((), bool))
        cuts = [one for one in self.comparisons if one.name == VALUE]
        for one in cuts:
            acting = one.cut(acting, scope, one.relation)
        for one in self.comparisons:
            if one.name != VALUE:
                some, not_all = one.possible(scope)
                acts, rests = acts & some, rests | not_all
        resting = value
        if len(cuts) == 1 and not np.any(rests) and cuts[0].relation in OPPOSITE:
            resting = cuts[0].cut(value, scope, OPPOSITE[cuts[0].relation])
        rests = rests | (np.asarray(resting.low <= resting.high, bool) if cuts else np.zeros((), bool))
        return Pieces(acting, acts & np.asarray(acting.low <= acting.high, bool), resting, rests)

    def formula(self, v: str) -> str:
        """The condition in symbols, of a value v."""
        return " and ".join(one.formula(v) for one in self.comparisons)
