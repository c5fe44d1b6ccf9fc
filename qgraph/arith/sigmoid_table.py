"""Logistic and tanh on 16 bits by interpolation in a table of 256 entries, as LiteRT and TFLite Micro compute them.

Arguments are three times the input on Q3.12, results are on Q0.15.
Source: tflite/kernels/internal/reference/integer_ops/logistic.h and tanh.h, `sigmoid_table_uint16` in common.cc.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.int64]

ONE_MORE = (
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46),
    *(49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135),
)
"""Places where the table is one above the rounded value."""


def _table() -> Integers:
    """65536 * logistic(i / 24), rounded, with the source's deviations; the last entry is the largest uint16."""
    table = np.rint(65536 / (1 + np.exp(-np.arange(256) / 24))).astype(np.int64)
    table[list(ONE_MORE)] += 1
    table[255] = 65535
    return table


TABLE = _table()


def logistic(value: ArrayLike) -> Integers:
    """logistic(value / 3) of Q3.12 in Q0.15; value of any shape, |value| < 2**31."""
    value = np.asarray(value, np.int64)
    beyond, between = _interpolated(value, 9)
    positive = np.where(beyond, 0x7FFF << 10, between)
    return np.where(value >= 0, positive + 512, (1 << 25) - positive + 511) >> 10


def tanh(value: ArrayLike) -> Integers:
    """tanh(value / 3) of Q3.12 in Q0.15, as 2 * logistic(2 x) - 1; value of any shape, |value| < 2**31."""
    value = np.asarray(value, np.int64)
    beyond, between = _interpolated(value, 8)
    positive = np.where(beyond, 0xFFFF << 8, between)
    return np.where(value >= 0, positive - (1 << 23) + 128, (1 << 23) - positive + 127) >> 8


def _interpolated(value: Integers, bits: int) -> tuple[NDArray[np.bool_], Integers]:
    """Whether |value| lies beyond the table, and between two of its entries, which are `1 << bits` apart."""
    magnitude = np.abs(value)
    place = np.minimum(magnitude >> bits, 254)
    part = magnitude & ((1 << bits) - 1)
    return (magnitude >> bits) >= 255, (TABLE[place] << bits) + part * (TABLE[place + 1] - TABLE[place])
