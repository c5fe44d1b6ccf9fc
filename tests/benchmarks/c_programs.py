"""Exported C99 against TFLite Micro, one example: time, and bytes of memory."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import qgraph
from qgraph.errors import QGraphError
from qgraph.interpreter import execute
from qgraph.ir import Array, Graph, states_of
from qgraph.runtimes import Worker
from qgraph.targets.litert.c_array import arena_size
from qgraph.targets.litert.file_format import to_tflite
from tests.benchmarks.measure import Result, Size, clock, in_turns
from tests.benchmarks.models import lowered
from tests.benchmarks.published_models import feed, on_batch, published

REPEATS = 20
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-shared", "-fPIC")


def against_tflm(size: Size) -> Result:
    """Time of TFLite Micro over that of the C program, the geometric mean over models, and each; memory likewise."""
    models = dict(published()) or {"ours": to_tflite(lowered("tflm", size.channels))}
    details: dict[str, float] = {}
    faster, larger = [], []
    with tempfile.TemporaryDirectory() as folder, Worker("tflm") as worker:
        for name, model in models.items():
            graph = on_batch(model, 1)
            graph.metadata["target"] = "tflm"
            try:
                qgraph.export(graph, Path(folder) / name)
            except QGraphError:  # not integers, or with ops that have no form in C
                continue
            if states_of(graph):
                continue
            own, other = _seconds(graph, model, Path(folder) / name, worker, size)
            faster.append(other / own)
            larger.append((arena_size(model) or 0) / _memory(Path(folder) / name))
            details[f"{name}: TFLite Micro / C, time"] = faster[-1]
            details[f"{name}: TFLite Micro / C, memory"] = larger[-1]
    details["memory, geometric mean"] = float(np.exp(np.mean(np.log(larger))))
    return Result(
        "c99",
        "time of TFLite Micro over that of exported C99, built with gcc -O3, one example",
        float(np.exp(np.mean(np.log(faster)))),
        "times",
        ">=",
        3,
        details,
    )


def _seconds(graph: Graph, model: bytes, folder: Path, worker: Worker, size: Size) -> list[float]:
    """Seconds of one run of the program and of TFLite Micro, whose results are equal."""
    subprocess.run(["gcc", *FLAGS, "-o", "model.so", "model.c", "-lm"], cwd=folder, check=True)
    run = ctypes.CDLL(str(folder / "model.so")).model_run
    inputs = feed(graph, 1)
    made = [np.empty_like(array) for array in execute(graph, inputs)]
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*map(np.ascontiguousarray, inputs.values()), *made)]
    once = clock(lambda: run(*pointers))

    def program() -> float:
        return min(once() for _ in range(REPEATS))

    def micro() -> float:
        answer = worker.run(model, [[*inputs.values()]], repeats=REPEATS + 1)
        _check(made, [output.data for output in answer.runs[0].outputs])
        return min(answer.runs[0].seconds[1:])

    return in_turns([program, micro], size.repeats)


def _check(made: list[Array], wanted: list[Array]) -> None:
    if not all(np.array_equal(ours, theirs) for ours, theirs in zip(made, wanted, strict=True)):
        raise ValueError("the C program and TFLite Micro disagree")


def _memory(folder: Path) -> int:
    """Bytes of memory that the program writes."""
    return int((folder / "model.h").read_text().partition("MODEL_ARENA_BYTES ")[2].split()[0])
