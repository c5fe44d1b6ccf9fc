"""What the words of a stage do: one class a kind of word, with its arithmetic, its formula and its exact range.

`apply` takes the value, int64 or float32 or float64 [..., C], and the scope: operands and kept values by name.  The
same code computes ranges, on Python integers in object arrays, at the ends of all intervals: every word is monotone in
the value and in each operand, or says in `interval` what it does else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.stages_rounding import divide, round_floats, shift_right
from qgraph.arith.stages_widths import Interval, Overflow

Array = NDArray[Any]
Scope: TypeAlias = "dict[str, Any]"  # of arrays, or of arrays and intervals where ranges are computed
Operand: TypeAlias = "str | int | float"

FARTHEST = 63  # the longest shift of an int64


class Misfit(ValueError):
    """What a word cannot do with the value or the operands that it meets; the program adds which stage it is."""


def read(operand: Operand, scope: Mapping[str, Any], value: Array) -> Any:
    """An operand as a word computes with it: in the value's float type, or as integers."""
    found = np.asarray(scope[operand]) if isinstance(operand, str) else operand
    if value.dtype.kind == "f":
        return np.asarray(found).astype(value.dtype)
    if isinstance(found, np.ndarray) and found.dtype != object and value.dtype != object:
        return found.astype(np.int64, copy=False)
    return found


def bounds(operand: Operand, scope: Mapping[str, Any]) -> Interval:
    """Between which values an operand lies."""
    found = scope[operand] if isinstance(operand, str) else operand
    return found if isinstance(found, Interval) else interval_of(found)


def interval_of(known: Any) -> Interval:
    """A known array, or the (least, greatest) of one, as an interval of Python integers or of floats."""
    ends = known if isinstance(known, tuple) else (known, known)
    low, high = (np.atleast_1d(end) for end in ends)  # NumPy makes other integers of 0-d objects
    return Interval(*(end if end.dtype.kind == "f" else end.astype(object) for end in (low, high)))


def hull(candidates: list[Array]) -> Interval:
    """The smallest interval, of each channel, that has all the candidates."""
    return Interval(reduce(np.minimum, candidates), reduce(np.maximum, candidates))


class Word:
    """One thing that a stage does."""

    takes: ClassVar[str] = "integer"  # or "float" or "number", which is either
    modular: ClassVar[bool] = (
        False  # whether the low bits of the result follow from those of the value and the operands
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The operands that it reads."""
        return ()

    def gives(self, kind: str) -> str:
        """ "integer", "float32" or "float64", of such a value."""
        return kind

    def apply(self, value: Array, scope: Scope) -> Array:
        raise NotImplementedError

    def formula(self, v: str) -> str:
        """What it makes of v, in symbols."""
        raise NotImplementedError

    def check(self, value: Interval, scope: Scope, acts: Array) -> None:
        """Raise `Misfit` where, in channels in which it acts, operands are not what it can compute with."""

    def interval(self, value: Interval, scope: Scope) -> Interval:
        """The exact range of the result: from the ends of the value's and of the operands' ranges."""
        between = [bounds(name, scope) for name in self.names]
        chosen = product(*between)
        return hull([self.apply(v, dict(zip(self.names, ends, strict=True))) for ends in chosen for v in value])


ARITHMETIC: dict[str, tuple[Callable[..., Array], str, bool]] = {  # function, formula, whether it is modular
    "add": (np.add, "({v} + {o})", True),
    "subtract": (np.subtract, "({v} - {o})", True),
    "multiply": (np.multiply, "{v} * {o}", True),
    "maximum": (np.maximum, "max({v}, {o})", False),
    "minimum": (np.minimum, "min({v}, {o})", False),
}


@dataclass(frozen=True)
class Arithmetic(Word):
    """`add`, `subtract`, `multiply`, `maximum`, `minimum`: of integers exact, of floats as IEEE says."""

    word: str
    operand: Operand
    takes = "number"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.operand,) if isinstance(self.operand, str) else ()

    @property
    def modular(self) -> bool:  # type: ignore[override]  # a constant of the class elsewhere
        return ARITHMETIC[self.word][2]

    def apply(self, value: Array, scope: Scope) -> Array:
        return ARITHMETIC[self.word][0](value, read(self.operand, scope, value))

    def formula(self, v: str) -> str:
        return ARITHMETIC[self.word][1].format(v=v, o=self.operand)

    def check(self, value: Interval, scope: Scope, acts: Array) -> None:
        operand = bounds(self.operand, scope)
        if value.low.dtype.kind != "f" and operand.low.dtype.kind == "f":
            raise Misfit(f"{self.operand} is a float and the value an integer: convert the value first")


@dataclass(frozen=True)
class Clamp(Word):
    """`clamp LOW HIGH`: min(max(value, LOW), HIGH)."""

    low: Operand
    high: Operand
    takes = "number"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(end for end in (self.low, self.high) if isinstance(end, str)))

    def apply(self, value: Array, scope: Scope) -> Array:
        raised = np.maximum(value, read(self.low, scope, value))
        return np.asarray(np.minimum(raised, read(self.high, scope, value)))

    def formula(self, v: str) -> str:
        return f"clamp({v}, {self.low}, {self.high})"


@dataclass(frozen=True)
class Sign(Word):
    """`negate` and `absolute`."""

    word: str
    takes = "number"
    modular = True

    def apply(self, value: Array, scope: Scope) -> Array:
        return -value if self.word == "negate" else np.abs(value)

    def formula(self, v: str) -> str:
        return f"-{v}" if self.word == "negate" else f"|{v}|"

    def interval(self, value: Interval, scope: Scope) -> Interval:
        ends = super().interval(value, scope)
        if self.word == "negate":
            return ends
        return Interval(np.where((value.low <= 0) & (value.high >= 0), ends.low * 0, ends.low), ends.high)


def check_amount(operand: Operand, scope: Scope, least: int, acts: Array) -> None:
    """Raise `Misfit` where a shift of a channel is not from least to 63."""
    amount = bounds(operand, scope)
    if amount.low.dtype.kind == "f":
        raise Misfit(f"{operand} is a float, and shifts go by integers")
    if np.any(acts & ((amount.low < least) | (amount.high > FARTHEST))):
        seen = f"{np.min(amount.low)} to {np.max(amount.high)}"
        hint = "; end the stage with `negative left` where those shift left" if least == 0 else ""
        raise Misfit(f"shifts are from {least} to {FARTHEST}, and {operand} is {seen}{hint}")


@dataclass(frozen=True)
class ShiftLeft(Word):
    """`shift left AMOUNT`: value * 2**AMOUNT."""

    amount: Operand
    modular = True

    @property
    def names(self) -> tuple[str, ...]:
        return (self.amount,) if isinstance(self.amount, str) else ()

    def apply(self, value: Array, scope: Scope) -> Array:
        return np.asarray(value << np.clip(read(self.amount, scope, value), 0, FARTHEST))

    def formula(self, v: str) -> str:
        return f"{v} * 2^{self.amount}"

    def check(self, value: Interval, scope: Scope, acts: Array) -> None:
        check_amount(self.amount, scope, 0, acts)


@dataclass(frozen=True)
class ShiftRight(Word):
    """`shift right AMOUNT ROUNDING`: value / 2**AMOUNT, rounded; `negative left`: a negative amount shifts left."""

    amount: Operand
    rounding: str
    negative_left: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.amount,) if isinstance(self.amount, str) else ()

    def apply(self, value: Array, scope: Scope) -> Array:
        amount = read(self.amount, scope, value)
        if self.negative_left:
            value = value << np.clip(-amount, 0, FARTHEST)
        return shift_right(value, np.clip(amount, 0, FARTHEST), self.rounding)

    def formula(self, v: str) -> str:
        return f"{self.rounding}({v} / 2^{self.amount})"

    def check(self, value: Interval, scope: Scope, acts: Array) -> None:
        check_amount(self.amount, scope, -FARTHEST if self.negative_left else 0, acts)


@dataclass(frozen=True)
class Divide(Word):
    """`divide DIVISOR ROUNDING`: of integers by positive ones, rounded; `divide DIVISOR`: of floats, as IEEE says."""

    divisor: Operand
    rounding: str | None
    takes = "number"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.divisor,) if isinstance(self.divisor, str) else ()

    def apply(self, value: Array, scope: Scope) -> Array:
        divisor = read(self.divisor, scope, value)
        if self.rounding is None:
            return np.asarray(value / divisor)
        return divide(value, np.maximum(divisor, 1), self.rounding)

    def formula(self, v: str) -> str:
        return f"{v} / {self.divisor}" if self.rounding is None else f"{self.rounding}({v} / {self.divisor})"

    def check(self, value: Interval, scope: Scope, acts: Array) -> None:
        if np.any(acts & (bounds(self.divisor, scope).low <= 0)):
            raise Misfit(f"divisors are positive, and {self.divisor} goes down to {bounds(self.divisor, scope).low}")


@dataclass(frozen=True)
class Fit(Word):
    """`saturate WIDTH ...` and `wrap WIDTH`."""

    overflow: Overflow
    modular = True

    def apply(self, value: Array, scope: Scope) -> Array:
        return self.overflow.apply(value)

    def formula(self, v: str) -> str:
        return f"{self.overflow.mode.replace(' ', '_')}_{self.overflow.width}({v})"

    def interval(self, value: Interval, scope: Scope) -> Interval:
        return self.overflow.interval(value)


@dataclass(frozen=True)
class Convert(Word):
    """`convert float32`, `convert float64`: the nearest float, ties to the even one, in one step."""

    kind: str
    takes = "number"

    def gives(self, kind: str) -> str:
        return self.kind

    def apply(self, value: Array, scope: Scope) -> Array:
        whole = value.astype(np.int64) if value.dtype == object else value  # Python would go through float64
        with np.errstate(over="ignore"):
            return np.asarray(whole.astype(self.kind))

    def formula(self, v: str) -> str:
        return f"{self.kind}({v})"


@dataclass(frozen=True)
class Round(Word):
    """`round ROUNDING`: the integer of a float."""

    rounding: str
    takes = "float"

    def gives(self, kind: str) -> str:
        return "integer"

    def apply(self, value: Array, scope: Scope) -> Array:
        """int64; what lies beyond becomes its end, which a width that saturates then brings to its own."""
        whole = round_floats(value, self.rounding)
        highest = np.nextafter(value.dtype.type(2.0**63), value.dtype.type(0))
        return np.clip(whole, value.dtype.type(-(2.0**63)), highest).astype(np.int64)

    def formula(self, v: str) -> str:
        return f"{self.rounding}({v})"

    def interval(self, value: Interval, scope: Scope) -> Interval:
        whole = [np.clip(round_floats(end, self.rounding).astype(np.float64), -1e300, 1e300) for end in value]
        return Interval(*(np.vectorize(int, otypes=[object])(end) for end in whole))


@dataclass(frozen=True)
class Threshold(Word):
    """`threshold NAME`: how many of the ascending thresholds, [T] or [C, T], are <= value."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def apply(self, value: Array, scope: Scope) -> Array:
        thresholds = np.asarray(scope[self.name])
        if thresholds.ndim == 1:
            return np.asarray(np.searchsorted(thresholds, value, side="right"), np.int64)
        counts = np.empty(np.broadcast_shapes(value.shape, thresholds.shape[:1]), np.int64)
        value = np.broadcast_to(value, counts.shape)
        for channel, row in enumerate(thresholds):
            counts[..., channel] = np.searchsorted(row, value[..., channel], side="right")
        return counts

    def formula(self, v: str) -> str:
        return f"count({self.name} <= {v})"

    def check(self, value: Interval, scope: Scope, acts: Array) -> None:
        thresholds = known(scope[self.name], self.name)
        if thresholds.ndim not in (1, 2) or np.any(thresholds[..., 1:] < thresholds[..., :-1]):
            raise Misfit(f"thresholds are [T] or [C, T] and ascend, and {self.name} does not")

    def interval(self, value: Interval, scope: Scope) -> Interval:
        ends = [np.clip(end, -(2**63), 2**63 - 1).astype(np.int64) for end in value]
        return Interval(*(np.asarray(self.apply(end, scope), object) for end in ends))


@dataclass(frozen=True)
class Table(Word):
    """`table NAME`: the entry [value] of a table [T]; `interpolate NAME BITS`: between entries, times 2**BITS.

    The low BITS of the value say how far it is from one entry to the next, so that the result is
    NAME[i] * 2**BITS + (NAME[i + 1] - NAME[i]) * fraction; a shift may round it.
    `check` refuses values that may lie beside the table; what is read where a condition keeps it off does not matter.
    """

    name: str
    fraction_bits: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def apply(self, value: Array, scope: Scope) -> Array:
        table = np.asarray(scope[self.name]).astype(np.int64)
        index = value >> self.fraction_bits
        if not self.fraction_bits:
            return np.asarray(table.take(index, mode="clip"))
        fraction = value - (index << self.fraction_bits)
        index = np.clip(index, 0, table.size - 2)
        return np.asarray((table[index] << self.fraction_bits) + (table[index + 1] - table[index]) * fraction)

    def _last(self, entries: int) -> int:
        """The greatest value that a table of so many entries has a place for."""
        return ((entries - bool(self.fraction_bits)) << self.fraction_bits) - 1

    def formula(self, v: str) -> str:
        return f"{self.name}[{v}{f' / 2^{self.fraction_bits}' if self.fraction_bits else ''}]"

    def check(self, value: Interval, scope: Scope, acts: Array) -> None:
        entries = known(scope[self.name], self.name).size
        last = self._last(entries)
        if np.any(acts & ((value.low < 0) | (value.high > last))):
            seen = f"{np.min(value.low)} to {np.max(value.high)}"
            raise Misfit(f"{self.name} has {entries} entries, for values from 0 to {last}; the value is {seen}")

    def interval(self, value: Interval, scope: Scope) -> Interval:
        """The greatest and the least entry on the way, and the two ends."""
        table = np.asarray(scope[self.name]).astype(np.int64)
        last = max(self._last(table.size), 0)
        low, high = (np.clip(np.asarray(end), 0, last).astype(np.int64) for end in value)
        ends = [self.apply(end, scope) for end in (low, high)]
        least, greatest = np.empty(low.shape, object), np.empty(low.shape, object)
        for place in np.ndindex(low.shape):
            first = -(-int(low[place]) >> self.fraction_bits)
            entries = table[first : (int(high[place]) >> self.fraction_bits) + 1] << self.fraction_bits
            seen = [int(end[place]) for end in ends] + [int(v) for v in entries]
            least[place], greatest[place] = min(seen), max(seen)
        return Interval(least, greatest)


def known(operand: Any, name: str) -> Array:
    """An operand's values, which a table and thresholds need."""
    if isinstance(operand, Interval | tuple):
        raise Misfit(f"the values of {name} must be known, not only their range")
    return np.asarray(operand)


@dataclass(frozen=True)
class Keep(Word):
    """`keep NAME`: the value goes on, and later stages find it under the name too."""

    name: str
    takes = "number"

    def apply(self, value: Array, scope: Scope) -> Array:
        scope[self.name] = value
        return value

    def formula(self, v: str) -> str:
        return v

    def interval(self, value: Interval, scope: Scope) -> Interval:
        scope[self.name] = value
        return value


@dataclass(frozen=True)
class Take(Word):
    """`take NAME`: the value is that operand, or what was kept, from here on."""

    name: str
    takes = "number"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def apply(self, value: Array, scope: Scope) -> Array:
        found = np.asarray(scope[self.name])
        taken = found if found.dtype.kind in "fO" else found.astype(np.int64, copy=False)
        return np.broadcast_to(taken, np.broadcast_shapes(taken.shape, value.shape))

    def formula(self, v: str) -> str:
        return self.name

    def interval(self, value: Interval, scope: Scope) -> Interval:
        return bounds(self.name, scope)
