"""The integer interpreter against LiteRT's kernels on models that others published (in the folder QGRAPH_ASSETS)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

import qgraph
from qgraph import passes
from qgraph.errors import QGraphError
from qgraph.interpreter import execute
from qgraph.ir import Array, Graph, states_of
from qgraph.runtimes import Worker
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.benchmarks.measure import Result, Size, clock, in_turns
from tests.benchmarks.models import lowered

SMALL = 10_000
"""Bytes of a file below which a run costs microseconds and nothing is measured but calls."""


def one_example(size: Size) -> Result:
    """As `against_kernels`, of one example: what a call costs beside its arithmetic."""
    return replace(against_kernels(replace(size, batch=1)), name="latency")


def against_kernels(size: Size) -> Result:
    """Time of LiteRT's reference kernels over the interpreter's, all models together and each; XNNPACK beside it."""
    models = dict(published()) or {"ours": to_tflite(lowered("litert", size.channels))}
    totals = np.zeros(3)
    details: dict[str, float] = {}
    slowest = float("inf")
    with Worker("litert") as worker:
        for name, model in models.items():
            try:
                graph = on_batch(model, size.batch)
            except QGraphError:  # not one that qgraph runs: the tests say why
                continue
            if graph.level != "integer" or graph.find("litert.float_*") or states_of(graph):
                continue
            seconds = np.array(_seconds(graph, model, worker, size))
            totals += seconds
            slowest = min(slowest, seconds[1] / seconds[0])
            details[f"{name}: reference kernels / interpreter"] = float(seconds[1] / seconds[0])
            details[f"{name}: XNNPACK / interpreter"] = float(seconds[2] / seconds[0])
    details["the slowest model"] = slowest
    details["all: XNNPACK / interpreter"] = float(totals[2] / totals[0])
    return Result(
        "models",
        f"time of LiteRT's reference kernels over the interpreter's, published models, batch {size.batch}",
        float(totals[1] / totals[0]),
        "times",
        ">",
        1,
        details,
    )


def published() -> list[tuple[str, bytes]]:
    """Names and contents of the quantized files that are there, but for tiny ones; none without QGRAPH_ASSETS."""
    folder = os.environ.get("QGRAPH_ASSETS")
    if not folder:
        return []
    files = [path for path in sorted(Path(folder, "models").glob("*/*.tflite")) if path.stat().st_size > SMALL]
    return [(path.stem, path.read_bytes()) for path in files]


def on_batch(model: bytes, batch: int) -> Graph:
    """The graph of a file, for a batch where the file states one example and its operators do not need that."""
    graph = from_tflite(model)
    try:
        return passes.set_batch(graph, size=str(batch))
    except QGraphError:
        return graph


def _seconds(graph: Graph, model: bytes, worker: Worker, size: Size) -> list[float]:
    """Seconds of one run by the interpreter, the reference kernels and XNNPACK."""
    inputs = feed(graph, size.batch)

    def kernels(family: str) -> float:
        answer = worker.run(model, [list(inputs.values())], options={"kernels": family}, repeats=3)
        return min(answer.runs[0].seconds[1:])

    clocks = [clock(lambda: execute(graph, inputs)), lambda: kernels("reference"), lambda: kernels("default")]
    return in_turns(clocks, size.repeats)


def feed(graph: Graph, batch: int) -> dict[str, Array]:
    """A random input set, of so many examples where the file leaves the batch open, and of one where it does not."""
    rng = np.random.default_rng(0)
    made: dict[str, Array] = {}
    for value in graph.inputs:
        shape = [batch if isinstance(size, str) else size for size in value.type.shape]
        floats = rng.normal(size=shape).astype(np.float32)
        made[value.name] = floats if value.type.is_float else rng.integers(0, 100, shape).astype(value.type.numpy)
    return qgraph.quantize_inputs(graph, made)
