"""Scales that LiteRT takes for powers of two."""

from __future__ import annotations

import math

import numpy as np

NEAR = np.float32(1e-3)


def exponent_of_two(scale: np.float32) -> int | None:
    """The exponent of a scale that is a power of two up to a factor of 2**0.001 either way; None for all others.

    In float32: log(scale) / log(2), and its distance to the nearest integer. Source: CheckedLog2, kernel_util.cc.
    """
    reciprocal = np.float32(1) / np.float32(math.log(2))
    exponent = np.float32(math.log(scale)) * reciprocal
    nearest = round(float(exponent))
    return nearest if abs(exponent - np.float32(nearest)) < NEAR else None
