"""Patterns of storage in the dialect, and which storage holds an accumulator or a range of integers."""

from __future__ import annotations

from qgraph.ir.types import integer_range

CODES = "i8|u8|i16|u16"
"""What activations are stored as; fewer bits use a part of the storage."""
WEIGHTS = "i4|i8|u8|i16"
ACCUMULATORS = "i32|i48|i64"
INTEGERS = f"{CODES}|{ACCUMULATORS}"

WIDER = ("i8", "u8", "i16", "u16", "i32", "i48", "i64")
"""Storage types, the narrowest first."""


def storage_of(low: int, high: int, among: tuple[str, ...] = WIDER) -> str | None:
    """The first storage type that holds all integers from low to high; None where none does.

    >>> storage_of(0, 255), storage_of(-1, 255), storage_of(-(2**40), 0)
    ('u8', 'i16', 'i48')
    """
    ranges = ((dtype, integer_range(dtype)) for dtype in among)
    return next((dtype for dtype, (least, most) in ranges if least <= low and high <= most), None)
