"""Kinds of values in a description: what each admits, in words, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qgraph.arith.narrow_accumulator import FORMS, AccumulatorRule
from qgraph.arith.stages import Program, StageError
from qgraph.arith.stages_rounding import ROUNDINGS as ROUNDING_WORDS
from qgraph.arith.stages_widths import Width
from qgraph.description.expressions import Expression
from qgraph.errors import QGraphError


class Wrong(ValueError):
    """A value that a kind does not admit: what is wrong; `allowed` where that is more than the kind's own words."""

    def __init__(self, what: str, allowed: str = "") -> None:
        super().__init__(what)
        self.what, self.allowed = what, allowed


@dataclass(frozen=True)
class Kind:
    """What values a key has: `allowed` in words, and `read`, which gives the value or raises Wrong."""

    allowed: str
    read: Callable[[Any], Any]


def _of_type(type_: type, allowed: str) -> Kind:
    def read(value: Any) -> Any:
        if type(value) is not type_:
            raise Wrong(f"{value!r} is no {type_.__name__}")
        return value

    return Kind(allowed, read)


TEXT = _of_type(str, "a text")
FLAG = _of_type(bool, "true or false")


def whole(least: int | None = None, most: int | None = None) -> Kind:
    """A whole number within bounds."""
    bounds = f" from {least}" * (least is not None) + f" to {most}" * (most is not None)

    def read(value: Any) -> Any:
        inside = type(value) is int and (least is None or value >= least) and (most is None or value <= most)
        if not inside:
            raise Wrong(f"{value!r} is no whole number{bounds}")
        return value

    return Kind(f"a whole number{bounds}", read)


def number(above: float = 0.0) -> Kind:
    """A real number above a bound."""

    def read(value: Any) -> Any:
        if type(value) not in (int, float) or not value > above:
            raise Wrong(f"{value!r} is no number above {above:g}")
        return float(value)

    return Kind(f"a number above {above:g}", read)


def word(*choices: str) -> Kind:
    """One of some words."""

    def read(value: Any) -> Any:
        if value not in choices:
            raise Wrong(f"{value!r} is not one of them")
        return value

    return Kind(" | ".join(f'"{choice}"' for choice in choices), read)


def list_of(kind: Kind, plural: str) -> Kind:
    """A list, as a tuple."""

    def read(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Wrong(f"{value!r} is no list")
        return tuple(kind.read(each) for each in value)

    return Kind(f"a list of {plural}", read)


TEXTS = list_of(TEXT, "texts")
SIZES = list_of(whole(1), "whole numbers from 1")
INTEGERS = list_of(whole(), "whole numbers")
ROUNDING = word(*ROUNDING_WORDS)


def _range(value: Any) -> Any:
    if not (isinstance(value, (list, tuple)) and len(value) == 2 and all(type(each) is int for each in value)):
        raise Wrong(f"{value!r} is no pair of whole numbers")
    if value[0] > value[1]:
        raise Wrong(f"{value[0]} is above {value[1]}")
    return tuple(value)


RANGE = Kind("[lowest, highest], whole numbers", _range)


def width(most: int) -> Kind:
    """An integer type of at most so many bits: the text, such as "s8"."""

    def read(value: Any) -> Any:
        found = Width.parse(value) if isinstance(value, str) else None
        if found is None or found.bits > most:
            raise Wrong(f"{value!r} is no integer type of 1 to {most} bits")
        return value

    return Kind(f'a signed or unsigned integer of 1 to {most} bits: "s8", "u4"', read)


def _stages(value: Any) -> Any:
    texts = TEXTS.read(value)
    try:
        Program.parse(texts)
    except StageError as error:
        raise Wrong(error.what, error.help.removeprefix("allowed: ")) from None
    return texts


STAGES = Kind('a list of stages: ["add bias", "shift right shift half_up", "saturate s8"]', _stages)


def _read_as(read: Callable[[str], object]) -> Callable[[Any], Any]:
    """Reads a text that `read` admits."""

    def checked(value: Any) -> Any:
        try:
            read(TEXT.read(value))
        except QGraphError as error:
            raise Wrong(error.what, error.help.removeprefix("allowed: ")) from None
        return value

    return checked


ACCUMULATOR = Kind(f"a text: {FORMS}", _read_as(AccumulatorRule.parse))
ORDER = Kind(
    'an order of the axes ky, kx, c: "ky kx c", "c/16 ky kx c"',
    _read_as(lambda text: AccumulatorRule.parse("s32", text)),
)


def _expression(value: Any) -> Any:
    if type(value) in (int, float):
        value = str(value)
    if not isinstance(value, str):
        raise Wrong(f"{value!r} is no expression")
    try:
        return Expression.parse(value)
    except QGraphError as error:
        raise Wrong(error.what, error.help) from None


EXPRESSION = Kind('an expression over the names of the op: "input_scale * weight_scale / output_scale"', _expression)
