"""Widths of integers, and what happens to values that leave them: `s34 saturate`, `u16 wrap`, `s8 saturate to zero`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Interval(NamedTuple):
    """The least and the greatest value, inclusive, [1] or [C], one of each channel: Python integers or floats."""

    low: Array
    high: Array


@dataclass(frozen=True)
class Width:
    """An integer type: `s8`, `u4`, `s34`.  1 to 64 bits signed, 1 to 63 unsigned, so that int64 holds every value."""

    signed: bool
    bits: int

    @classmethod
    def parse(cls, text: str) -> Width | None:
        """The width that a word names, or None where it names none."""
        match = re.fullmatch(r"([su])([1-9]\d?)", text)
        if match is None or not 1 <= int(match[2]) <= (64 if match[1] == "s" else 63):
            return None
        return cls(match[1] == "s", int(match[2]))

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.bits}"


def _saturate(value: Array, width: Width) -> Array:
    return np.asarray(np.minimum(np.maximum(value, width.low), width.high))


def _saturate_symmetric(value: Array, width: Width) -> Array:
    return np.asarray(np.minimum(np.maximum(value, -width.high if width.signed else 0), width.high))


def _saturate_to_zero(value: Array, width: Width) -> Array:
    return np.where((value < width.low) | (value > width.high), value * 0, value)


def _wrap(value: Array, width: Width) -> Array:
    """The low bits.  int64 keeps them of a sum or a product that left it, so that this is right there too."""
    if value.dtype == object:
        return np.asarray((value - width.low) % (1 << width.bits) + width.low)
    if width.bits == 64:
        return value
    if not width.signed:
        return np.asarray(value & width.high)
    unused = 64 - width.bits
    return np.asarray((value << unused) >> unused)


MODES: dict[str, Callable[[Array, Width], Array]] = {
    "saturate": _saturate,
    "saturate symmetric": _saturate_symmetric,
    "saturate to zero": _saturate_to_zero,
    "wrap": _wrap,
}


@dataclass(frozen=True)
class Overflow:
    """A width and the mode, one of `MODES`, by which a value is brought into it."""

    width: Width
    mode: str

    def apply(self, value: Array) -> Array:
        """Values of int64, or Python integers in an object array, brought into the width."""
        return MODES[self.mode](value, self.width)

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest value that comes out."""
        symmetric = self.mode == "saturate symmetric" and self.width.signed
        return (-self.width.high if symmetric else self.width.low), self.width.high

    def interval(self, value: Interval) -> Interval:
        """What an interval of Python integers becomes, exactly, but for what lies between its ends."""
        low, high = (np.asarray(self.apply(end)) for end in value)
        least, greatest = self.range
        leaves = (value.low < self.width.low) | (value.high > self.width.high)
        if self.mode == "wrap":
            period = 1 << self.width.bits
            torn = (value.low - self.width.low) // period != (value.high - self.width.low) // period
            low, high = np.where(torn, least, low), np.where(torn, greatest, high)
        elif self.mode == "saturate to zero":
            inside = [np.minimum(np.maximum(end, least), greatest) for end in value]
            none = (value.low > greatest) | (value.high < least)
            low = np.where(none, 0, np.where(leaves, np.minimum(inside[0], 0), low))
            high = np.where(none, 0, np.where(leaves, np.maximum(inside[1], 0), high))
        return Interval(low, high)

    def holds(self, value: Interval) -> Array:
        """Where an interval is within what comes out, so that nothing happens to any value."""
        least, greatest = self.range
        inside: Array = (value.low >= least) & (value.high <= greatest)
        return inside

    def __str__(self) -> str:
        return f"{self.width} {self.mode}"
