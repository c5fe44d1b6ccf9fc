"""How a stage is written: a form of words, then `to WIDTH MODE` and `where CONDITION` where it has them.

`FORMS` is the whole language.  In it a word in capitals stands for what `PLACES` admits there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from qgraph.arith.stages_conditions import COMPARISONS, NAMED, VALUE, Comparison, Condition
from qgraph.arith.stages_rounding import ROUNDINGS
from qgraph.arith.stages_widths import MODES, Overflow, Width
from qgraph.arith.stages_words import (
    Arithmetic,
    Clamp,
    Convert,
    Divide,
    Fit,
    Keep,
    Round,
    ShiftLeft,
    ShiftRight,
    Sign,
    Table,
    Take,
    Threshold,
    Word,
)


class Refused(ValueError):
    """A stage that is none of the language: what is wrong, and what is allowed in its place."""

    def __init__(self, what: str, allowed: str) -> None:
        super().__init__(what, allowed)
        self.what, self.allowed = what, allowed


def _fit(mode: str) -> Callable[[Width], Word]:
    return lambda width: Fit(Overflow(width, mode))


FORMS: dict[str, Callable[..., Word]] = {
    **{f"{word} OPERAND": partial(Arithmetic, word) for word in ("add", "subtract", "multiply", "maximum", "minimum")},
    "negate": partial(Sign, "negate"),
    "absolute": partial(Sign, "absolute"),
    "clamp OPERAND OPERAND": Clamp,
    "shift left OPERAND": ShiftLeft,
    "shift right OPERAND ROUNDING": ShiftRight,
    "shift right OPERAND ROUNDING negative left": partial(ShiftRight, negative_left=True),
    "divide OPERAND ROUNDING": Divide,
    "divide OPERAND": partial(Divide, rounding=None),
    "saturate WIDTH": _fit("saturate"),
    "saturate WIDTH symmetric": _fit("saturate symmetric"),
    "saturate WIDTH to zero": _fit("saturate to zero"),
    "wrap WIDTH": _fit("wrap"),
    "convert FLOAT": Convert,
    "round ROUNDING": Round,
    "threshold NAME": Threshold,
    "table NAME": Table,
    "interpolate NAME BITS": Table,
    "keep NAME": Keep,
    "take NAME": Take,
}
RESERVED = {"to", "where", "and", "not", VALUE}


def _name(token: str) -> str | None:
    return token if re.fullmatch(r"[a-z][a-z0-9_]*", token) and token not in RESERVED else None


def _number(token: str) -> int | float | None:
    if re.fullmatch(r"-?\d+", token) and abs(int(token)) < 1 << 63:
        return int(token)
    return float(token) if re.fullmatch(r"-?\d+\.\d*(e-?\d+)?", token) else None


def _operand(token: str) -> str | int | float | None:
    number = _number(token)
    return _name(token) if number is None else number


class Place(NamedTuple):
    """What may stand where a form has a word in capitals."""

    read: Callable[[str], Any]  # None where the token does not fit
    allowed: str


PLACES = {
    "OPERAND": Place(_operand, "an operand's name, an integer below 2^63, or for floats a decimal number"),
    "NAME": Place(_name, "a name in small letters, digits and _ that is no word of the language"),
    "ROUNDING": Place(lambda token: token if token in ROUNDINGS else None, ", ".join(ROUNDINGS)),
    "WIDTH": Place(Width.parse, "s1 to s64 or u1 to u63"),
    "FLOAT": Place(lambda token: token if token in ("float32", "float64") else None, "float32, float64"),
    "BITS": Place(lambda token: int(token) if re.fullmatch(r"[1-9]|[1-3]\d", token) else None, "1 to 39"),
}


def parse(text: str) -> tuple[Word, Overflow | None, Condition | None]:
    """What a stage does, the width of its result, and where it acts.  Raises `Refused`."""
    body, _, condition = text.partition(" where ")
    tokens = body.split()
    overflow = None
    cut = next((i for i in range(1, len(tokens)) if tokens[i] == "to" and tokens[i + 1 : i + 2] != ["zero"]), None)
    if cut is not None:
        overflow, tokens = _overflow(tokens[cut + 1 :]), tokens[:cut]
    return _word(tokens), overflow, _condition(condition) if condition else None


def _overflow(tokens: Sequence[str]) -> Overflow:
    width = Width.parse(tokens[0]) if tokens else None
    mode = " ".join(tokens[1:])
    if width is None or mode not in MODES:
        allowed = f"to WIDTH MODE, with WIDTH {PLACES['WIDTH'].allowed} and MODE one of {', '.join(MODES)}"
        raise Refused(f'"to {" ".join(tokens)}" is not a width and a mode', allowed)
    return Overflow(width, mode)


def _word(tokens: Sequence[str]) -> Word:
    forms = [form for form in FORMS if tokens and form.split()[0] == tokens[0]]
    if not forms:
        known = dict.fromkeys(form.split()[0] for form in FORMS)
        raise Refused(f'"{tokens[0] if tokens else ""}" is not the first word of a stage', ", ".join(known))
    matched = {form: _arguments(form.split(), tokens) for form in forms}
    for form, (length, arguments) in matched.items():
        if length == len(tokens) == len(form.split()):
            return FORMS[form](*arguments)
    length = max(length for length, _ in matched.values())
    expected = [form.split()[length] for form in forms if matched[form][0] == length and len(form.split()) > length]
    places = [f"{word}: {PLACES[word].allowed}" for word in dict.fromkeys(expected) if word in PLACES]
    what = f'"{tokens[length]}" does not fit there' if length < len(tokens) else "more is expected"
    raise Refused(what, "; ".join([" | ".join(forms), *places]))


def _arguments(form: Sequence[str], tokens: Sequence[str]) -> tuple[int, list[Any]]:
    """How many tokens follow the form, and what they say."""
    arguments: list[Any] = []
    for length, (word, token) in enumerate(zip(form, tokens, strict=False)):
        if word.islower():
            if word != token:
                return length, arguments
            continue
        read = PLACES[word].read(token)
        if read is None:
            return length, arguments
        arguments.append(read)
    return min(len(form), len(tokens)), arguments


def _condition(text: str) -> Condition:
    return Condition(tuple(_comparison(part) for part in text.split(" and ")))


def _comparison(text: str) -> Comparison:
    words = text.split()
    if " ".join(words) in NAMED:
        return Comparison(VALUE, NAMED[" ".join(words)], 0)
    if len(words) == 3:
        name = words[0] if words[0] == VALUE else _name(words[0])
        operand = _operand(words[2])
        if name is not None and words[1] in COMPARISONS and operand is not None:
            return Comparison(name, words[1], operand)
    allowed = f"{' | '.join(NAMED)} | NAME COMPARISON OPERAND, with NAME an operand or {VALUE} and COMPARISON one of "
    raise Refused(f'"{text}" is not a condition', allowed + " ".join(COMPARISONS) + "; several joined by `and`")
