"""Ranges of activations for quantization after training, which needs no torch where floats can be run without."""

from __future__ import annotations

from collections.abc import Iterable

from qgraph.calibration import calibrated, calibrates
from qgraph.calibration.batches import Batch
from qgraph.ir import Graph


def with_ranges(graph: Graph, batches: Iterable[Batch]) -> Graph:
    """A prepared graph with ranges from data, of the floats of the target's runtime or of torch."""
    if calibrates(graph):
        return calibrated(graph, batches)
    from qgraph.training import calibrate

    return calibrate(graph, batches)
