"""Histograms of tensors, small enough to embed in a page."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from qgraph.ir import Array

BINS = 32
SAMPLE = 1 << 16
"""A larger tensor is read at this many evenly spaced elements."""


class Histogram(TypedDict):
    """Counts in equal bins from `low` to `high`, and moments of the same elements; `size` counts all elements."""

    counts: list[int]
    low: float
    high: float
    mean: float
    std: float
    size: int
    sampled: bool
    nonfinite: int


def histogram_of(data: Array) -> Histogram | None:
    """The histogram of a tensor's finite elements; None for a tensor without any."""
    step = -(-data.size // SAMPLE) if data.size else 1
    sample = data.reshape(-1)[::step].astype(np.float64)
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return None
    low, high = float(finite.min()), float(finite.max())
    counts = np.histogram(finite, _bins(data, low, high), (low, high) if low < high else None)[0]
    return Histogram(
        counts=counts.tolist(),
        low=low,
        high=high,
        mean=float(finite.mean()),
        std=float(finite.std()),
        size=int(data.size),
        sampled=step > 1,
        nonfinite=int(sample.size - finite.size),
    )


def _bins(data: Array, low: float, high: float) -> int:
    """Bins of integers are whole numbers wide, so that no bin stays empty for its width alone."""
    if data.dtype.kind not in "iub" or low == high:
        return BINS
    return min(BINS, int(high - low) + 1)
