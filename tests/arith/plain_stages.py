"""The stage language once more, by itself: one value at a time, in Python's integers and fractions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

Number = int | Fraction
PRECISION = {"float32": 24, "float64": 53}


def rounded(value: Fraction, rounding: str) -> int:
    """By the definitions: the nearest integer, or, at a tie, the one of two neighbours that the name says."""
    down, up = math.floor(value), math.ceil(value)
    if rounding == "floor" or down == up:
        return down
    if rounding == "ceil":
        return up
    toward_zero = up if value < 0 else down
    if rounding == "toward_zero":
        return toward_zero
    if value - down != Fraction(1, 2):
        return down if value - down < Fraction(1, 2) else up
    away = down + up - toward_zero
    even = down if down % 2 == 0 else up
    ties = {"half_up": up, "half_down": down, "half_away": away, "half_to_zero": toward_zero, "half_even": even}
    return ties[rounding]


def nearest_float(value: Number, kind: str) -> Fraction:
    """The nearest float, ties to even; no subnormal and no overflow."""
    if value == 0:
        return Fraction(0)
    exponent = math.floor(math.log2(abs(value)))
    while Fraction(2) ** exponent > abs(value):
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= abs(value):
        exponent += 1
    step = Fraction(2) ** (exponent - PRECISION[kind] + 1)
    return rounded(Fraction(value) / step, "half_even") * step


def fitted(value: int, width: str, mode: str) -> int:
    bits = int(width[1:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if width[0] == "s" else (0, 2**bits - 1)
    if mode == "wrap":
        while value > high or value < low:
            value += -(2**bits) * ((value - low) // 2**bits)
        return value
    if mode == "saturate symmetric":
        return max(-high if low else 0, min(value, high))
    if low <= value <= high:
        return value
    return 0 if mode == "saturate to zero" else min(max(value, low), high)


class Machine:
    """One value, its kind, and what has a name."""

    def __init__(self, x: Number, operands: Mapping[str, Number]) -> None:
        self.value, self.kind, self.names = x, "integer", {"x": x, **operands}

    def operand(self, token: str) -> Number:
        found = Fraction(token) if re.fullmatch(r"-?[\d.]+", token) else self.names[token]
        return int(found) if self.kind == "integer" else nearest_float(found, self.kind)

    def ieee(self, value: Number) -> Number:
        return value if self.kind == "integer" else nearest_float(value, self.kind)

    def run(self, stages: Sequence[str]) -> Number:
        for stage in stages:
            body, _, condition = stage.partition(" where ")
            if not condition or all(self.holds(part) for part in condition.split(" and ")):
                self.stage(body.split())
        return self.value

    def holds(self, condition: str) -> bool:
        named = {"negative": "< 0", "positive": "> 0", "not negative": ">= 0", "not positive": "<= 0"}
        name, relation, other = (f"value {named[condition]}" if condition in named else condition).split()
        left, right = self.value if name == "value" else self.names[name], self.operand(other)
        return {"<": left < right, ">": left > right, "<=": left <= right, ">=": left >= right, "==": left == right}[
            relation
        ]

    def stage(self, tokens: list[str]) -> None:
        suffix = re.search(r" to ([su]\d+) (.*)$", " ".join(tokens))
        if suffix:
            tokens = " ".join(tokens)[: suffix.start()].split()
        self.word(*tokens)
        if suffix:
            assert isinstance(self.value, int)
            self.value = fitted(self.value, suffix[1], suffix[2])

    def arithmetic(self, word: str, o: Number = 0, high: Number = 0) -> Number:
        value = self.value
        results = {"add": value + o, "subtract": value - o, "multiply": value * o, "negate": -value}
        results |= {"absolute": abs(value), "clamp": min(max(value, o), high)}
        return (results | {"maximum": max(value, o), "minimum": min(value, o)})[word]

    def word(self, word: str, *rest: str) -> None:
        value = self.value
        if word in ("negate", "absolute", "clamp", "add", "subtract", "multiply", "maximum", "minimum"):
            self.value = self.ieee(self.arithmetic(word, *map(self.operand, rest)))
        elif word == "shift":
            power = Fraction(2) ** int(self.operand(rest[1]))
            self.value = int(value * power) if rest[0] == "left" else rounded(value / power, rest[2])
        elif word == "divide":
            quotient = Fraction(value) / self.operand(rest[0])
            self.value = rounded(quotient, rest[1]) if rest[1:] else self.ieee(quotient)
        elif word in ("saturate", "wrap"):
            assert isinstance(value, int)
            self.value = fitted(value, rest[0], " ".join([word, *rest[1:]]))
        elif word == "convert":
            self.kind = rest[0]
            self.value = self.ieee(value)
        elif word == "round":
            self.value, self.kind = rounded(Fraction(value), rest[0]), "integer"
        elif word == "keep":
            self.names[rest[0]] = value
        elif word == "take":
            self.value = self.names[rest[0]]
        else:
            raise ValueError(word)
