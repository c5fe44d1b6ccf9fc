"""Programs of typed stages: the elementwise integer arithmetic of any accelerator, written down in words.

A program is an ordered list of stages.  The value starts as the operand `x`; each stage makes a new value of it:

    add bias to s32 wrap                          an exact sum, whose low 32 bits are kept
    multiply multiplier                           exact
    add 1073741824 where shift > 31 and not negative
    shift right shift half_up                     one of the eight roundings
    add output_zero_point
    saturate s8

Integers are exact: int64 holds them, and `ranges` proves that it does, for every value and each channel, or names the
stage after which it may not.  Floats, between `convert` and `round`, compute as IEEE says.  Operands are scalars, one
of each channel (along the last axis), tables, or of the value's own shape.  `stages_grammar.FORMS` is the language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from qgraph.arith.stages_conditions import Condition, Pieces
from qgraph.arith.stages_grammar import Refused, parse
from qgraph.arith.stages_rows import Rows
from qgraph.arith.stages_widths import Interval, Overflow
from qgraph.arith.stages_words import Keep, Misfit, Scope, Table, Take, Threshold, Word, interval_of
from qgraph.errors import QGraphError

Array = NDArray[Any]
WORTH_ROWS = 2**12
"""Elements from which on to make a program ready for its constants takes less than what rows save."""


class StageError(QGraphError):
    """A stage that is none of the language, or that its operands or its range do not admit."""


@dataclass(frozen=True)
class Stage:
    """One stage: its number from 1, its text, what it does, the width it ends in, where it acts."""

    number: int
    text: str
    word: Word
    overflow: Overflow | None
    condition: Condition | None

    def error(self, what: str, where: tuple[str, ...], allowed: str = "") -> StageError:
        return StageError(
            f'stage {self.number} "{self.text}": {what}', where=where, help=allowed and f"allowed: {allowed}"
        )

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.word.names, *(self.condition.names if self.condition else ()))

    def apply(self, value: Array, scope: Scope) -> Array:
        made = self.word.apply(value, scope)
        if self.overflow:
            made = self.overflow.apply(made)
        return made if self.condition is None else np.where(self.condition.holds(value, scope), made, value)

    def formula(self, v: str) -> str:
        made = self.word.formula(v)
        if self.overflow:
            made = f"{self.overflow.mode.replace(' ', '_')}_{self.overflow.width}({made})"
        return made


class StageRange(NamedTuple):
    """The least and greatest value after a stage, [C] or [1], and `exact`, those before its width was applied."""

    stage: Stage
    low: Array
    high: Array
    exact: Interval

    @property
    def overflow(self) -> Overflow | None:
        """The width and mode of the stage, be it a suffix or the stage itself."""
        return self.stage.overflow or getattr(self.stage.word, "overflow", None)


@dataclass(frozen=True)
class Program:
    """Stages in order.  `where` says in errors where they stand."""

    stages: tuple[Stage, ...]
    where: tuple[str, ...] = ()
    kind: str = "integer"  # of the result; "float32" or "float64" otherwise

    @classmethod
    def parse(cls, stages: Sequence[str], *, where: tuple[str, ...] = (), x: str = "integer") -> Program:
        """The program that the texts say, of an x that is "integer", "float32" or "float64".

        Raises `StageError`.

        >>> Program.parse(["add bias to s32 wrap", "shift right 3 half_up", "saturate s8"]).names
        ('bias',)
        """
        made, kinds = [], {"x": x}
        kind = x
        for number, text in enumerate(stages, 1):
            try:
                word, overflow, condition = parse(text)
            except Refused as refused:
                broken = Stage(number, text, Word(), None, None)
                raise broken.error(refused.what, where, refused.allowed) from None
            stage = Stage(number, text, word, overflow, condition)
            kind = _kind_after(stage, kind, kinds, where)
            made.append(stage)
        return cls(tuple(made), where, kind)

    @property
    def names(self) -> tuple[str, ...]:
        """The operands besides x that it reads, in the order of their first use."""
        found: dict[str, None] = {}
        kept = {"x"}
        for stage in self.stages:
            found.update(dict.fromkeys(name for name in stage.names if name not in kept))
            if isinstance(stage.word, Keep):
                kept.add(stage.word.name)
        return tuple(found)

    def apply(self, x: Array, operands: Mapping[str, ArrayLike], dtype: DTypeLike = np.int64) -> Array:
        """The value after the last stage, in dtype; x [..., C].

        Exact where `ranges` of these operands does not raise.  What the dtype cannot hold wraps.

        >>> program = Program.parse(["multiply m", "shift right 2 half_even", "saturate s8 symmetric"])
        >>> program.apply(np.array([3, 2, -500]), {"m": [2, 3, 1]}, np.int8)
        array([   2,    2, -125], dtype=int8)
        """
        rows = self._rows(x, operands)
        if rows is not None:
            return rows.apply(x, {name: np.asarray(operands[name]) for name in self.names}, dtype)
        value: Array = x if x.dtype.kind == "f" else x.astype(np.int64)
        scope: Scope = {**operands, "x": value}
        for stage in self.stages:
            value = stage.apply(value, scope)
        return value.astype(dtype)

    def _rows(self, x: Array, operands: Mapping[str, ArrayLike]) -> Rows | None:
        """The program made ready for these constants, where it can run on rows and x is worth it."""
        if x.size < WORTH_ROWS or x.dtype.kind == "f" or any(isinstance(s.word, Threshold) for s in self.stages):
            return None
        constants, others = [], []
        tables = {stage.word.name for stage in self.stages if isinstance(stage.word, Table)}
        for name in self.names:
            array = np.asarray(operands[name])
            if name in tables or array.size == 1 or (array.shape == x.shape[-1:] and x.ndim > 1):
                constants.append((name, array.dtype.str, array.shape, array.tobytes()))
            elif array.shape == x.shape and array.dtype.kind in "iu":
                others.append((name, array.dtype.str))
            else:
                return None
        low, high = int(x.min()), int(x.max())
        bits = max((-low - 1).bit_length(), high.bit_length())  # of few ranges, so that few programs are made ready
        return _prepared(
            self, x.shape[-1], (-(1 << bits) if low < 0 else 0, (1 << bits) - 1), tuple(constants), tuple(others)
        )

    def ranges(self, x: Any, operands: Mapping[str, Any]) -> list[StageRange]:
        """The exact range after every stage, for any x within (low, high), numbers or arrays [C].

        An operand is an array of what is known, or a tuple (low, high).  A bound is met by some value and operand of
        each single stage; where a program uses one value twice, the true range may be smaller.  Raises `StageError`
        where a value may leave int64 without a width that says what happens, and where an operand is not admitted.
        """
        value = interval_of(x)
        scope: Scope = {**operands, "x": value}
        found = []
        for stage in self.stages:
            try:
                exact, value = _after(stage, value, scope)
            except Misfit as misfit:
                raise stage.error(str(misfit), self.where) from None
            found.append(StageRange(stage, value.low, value.high, exact))
        return found

    def words(self) -> str:
        """The program as formulas, for people: a line for every value that has a name or a condition.

        >>> print(Program.parse(["add bias to s32 wrap", "shift right 3 floor", "maximum 0 where n > 1"]).words())
        v1 = floor(wrap_s32(x + bias) / 2^3)
        y = max(v1, 0) where n > 1, else v1
        """
        lines, v, count = [], "x", 0
        for stage in self.stages:
            if isinstance(stage.word, Keep):
                lines.append(f"{stage.word.name} = {v}")
                v = stage.word.name
            elif stage.condition is None:
                v = stage.formula(v)
            else:
                if not v.isidentifier():
                    count += 1
                    lines.append(f"v{count} = {v}")
                    v = f"v{count}"
                count += 1
                lines.append(f"v{count} = {stage.formula(v)} where {stage.condition.formula(v)}, else {v}")
                v = f"v{count}"
        if lines and lines[-1].startswith(f"{v} = "):
            lines[-1] = "y" + lines[-1].removeprefix(v)
        else:
            lines.append(f"y = {v}")
        return "\n".join(map(_without_double_parentheses, lines))


def _without_double_parentheses(line: str) -> str:
    """A formula "v = ..." without parentheses around what is the whole of it, or of an argument."""
    opened: list[int] = []
    dropped: set[int] = set()
    for place, sign in enumerate(line):
        if sign == "(":
            opened.append(place)
        elif sign == ")":
            first = opened.pop()
            before, after = line[:first].rstrip()[-1:], line[place + 1 : place + 2]
            if before in "=(,[" and after in "),]":  # an empty text, the end of the line, is in both
                dropped |= {first, place}
    return "".join(sign for place, sign in enumerate(line) if place not in dropped)


@lru_cache(maxsize=256)
def _prepared(
    program: Program,
    channels: int,
    x: tuple[int, int],
    constants: tuple[tuple[str, str, tuple[int, ...], bytes], ...],
    others: tuple[tuple[str, str], ...],
) -> Rows | None:
    """The rows of a program; None where its ranges cannot be proved for operands of these dtypes."""
    known: dict[str, Any] = {name: np.frombuffer(data, dtype).reshape(shape) for name, dtype, shape, data in constants}
    ends = {name: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) for name, dtype in others}
    try:
        ranges = program.ranges(x, {**known, **ends})
    except StageError:
        return None
    return Rows(program, channels, known, ranges, interval_of(x))


def _kind_after(stage: Stage, kind: str, kinds: dict[str, str], where: tuple[str, ...]) -> str:
    """The kind of the value after a stage; raises where the stage does not take what it meets."""
    word = stage.word
    met = "integer" if kind == "integer" else "float"
    if word.takes not in (met, "number"):
        help = (
            "`convert float32` makes a float of it" if met == "integer" else "`round ROUNDING` makes an integer of it"
        )
        raise stage.error(
            f"it takes {'an integer' if met == 'float' else 'a float'} and the value is of {kind}; {help}", where
        )
    rounding = getattr(word, "rounding", "")
    if met == "integer" and rounding is None:
        raise stage.error("a quotient of integers needs a rounding", where, "divide OPERAND ROUNDING")
    if met == "float" and rounding and word.takes == "number":
        raise stage.error("a quotient of floats is rounded as IEEE says, half to even", where, "divide OPERAND")
    if isinstance(word, Keep):
        if word.name in kinds:
            raise stage.error(f"{word.name} has a value already", where, "keep NAME, a name that is new")
        if stage.overflow or stage.condition:
            raise stage.error("it keeps the value as it is, everywhere", where, "keep NAME")
        kinds[word.name] = kind
    after = kinds.get(word.name, kind) if isinstance(word, Take) else word.gives(kind)
    if stage.overflow and after != "integer":
        raise stage.error(f"a {after} has no width to saturate or wrap at", where)
    if stage.condition and after != kind:
        raise stage.error("a stage that changes the kind of the value acts everywhere or nowhere", where)
    return after


def _after(stage: Stage, value: Interval, scope: Scope) -> tuple[Interval, Interval]:
    """What a stage computes of an interval before its width applies, and the interval of values after it."""
    everywhere = Pieces(value, np.ones((), bool), value, np.zeros((), bool))
    pieces = stage.condition.pieces(value, scope) if stage.condition else everywhere
    if not np.any(pieces.acts):
        return pieces.resting, pieces.resting
    stage.word.check(pieces.acting, scope, pieces.acts)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = stage.word.interval(pieces.acting, scope)
    _check_fits(stage, exact, pieces.acts)
    made = stage.overflow.interval(exact) if stage.overflow else exact
    return exact, _either(made, pieces)


def _either(made: Interval, pieces: Pieces) -> Interval:
    """The hull of what was made, where the stage acts, and of what was left, where it rests."""
    if not np.any(pieces.rests):
        return made
    low, high = np.minimum(made.low, pieces.resting.low), np.maximum(made.high, pieces.resting.high)
    low, high = np.where(pieces.rests, low, made.low), np.where(pieces.rests, high, made.high)
    left = ~pieces.acts & pieces.rests
    return Interval(np.where(left, pieces.resting.low, low), np.where(left, pieces.resting.high, high))


def _check_fits(stage: Stage, exact: Interval, acts: Array) -> None:
    """Raise where int64 does not hold what a stage computes, and its low bits alone do not say the result."""
    if exact.low.dtype.kind == "f":
        if not np.all(np.isfinite(exact.low) & np.isfinite(exact.high)):
            raise Misfit("the value may be too large for a float")
        return
    leaves = acts & ((exact.low < -(1 << 63)) | (exact.high > (1 << 63) - 1))
    wraps = stage.overflow is not None and stage.overflow.mode == "wrap" and stage.word.modular
    saturates_floats = stage.word.takes == "float" and stage.overflow is not None and stage.overflow.mode == "saturate"
    if np.any(leaves) and not wraps and not saturates_floats:
        low, high = np.min(exact.low), np.max(exact.high)
        bits = max(int(-low - 1).bit_length(), int(high).bit_length()) + 1
        raise Misfit(
            f"the value may need {bits} bits ({low} to {high}) and 64 are kept; end an earlier stage in a width"
        )
