"""The real runtimes of the LiteRT family's targets, and the record of what was compared with them."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from qgraph import targets
from qgraph.ir import Array, Node
from qgraph.runtimes import RunResult, Worker
from qgraph.targets.releases import kind

HERE = ("litert", "litert-xnnpack", "tflm")
"""Targets whose runtimes run on this processor."""

RELEASE = os.environ.get("QGRAPH_RELEASE")
"""A command that starts a Python with another release of a runtime: what differs there is recorded, and fails no test
(`tests.targets.releases`)."""

ROOM: dict[str, dict[str, object]] = {"tflm": {"arena": 64 << 20}}
"""Options with which a runtime has room for many cases in one file."""


class Families:
    """A child process for each runtime, here or wherever the command `on` starts a Python."""

    def __init__(self, names: Sequence[str] = HERE, on: str | None = None) -> None:
        self.names = tuple(names)
        self._stack = ExitStack()
        programs = {targets.get(name).runtime for name in names}
        self._workers = {program: self._stack.enter_context(Worker(program, on=on)) for program in programs}

    def close(self) -> None:
        """End the child processes."""
        self._stack.close()

    def outputs(self, target: str, model: bytes, feed: Sequence[Array]) -> list[Array]:
        """What the target's runtime gives for one input set; raises RuntimeFailure where it refuses or dies."""
        chosen = targets.get(target)
        options = {**chosen.runtime_options, **ROOM.get(chosen.runtime, {})}
        result = self._workers[chosen.runtime].run(model, [feed], options=options)
        return [output.data for output in result.runs[0].outputs]

    def run(self, model: bytes, feeds: Sequence[Mapping[str, Array]], **words: object) -> RunResult:
        """The LiteRT worker's own `run`."""
        return self._workers["litert"].run(model, feeds, **words)  # type: ignore[arg-type]


COMPARED: Counter[tuple[str, str, str]] = Counter()
"""(op with its storage types, target, "cases" | "elements" | "not offered: REASON" | WORST) -> how many."""

WORST = "worst, units in the last place of the largest result"
"""Of an op on floats, which is not exact: how far a result was from the runtime's at most."""


def record(node: Node, target: str, elements: int) -> None:
    """A node whose result was equal to the runtime's, element by element."""
    COMPARED[kind(node), target, "cases"] += 1
    COMPARED[kind(node), target, "elements"] += elements


def record_release(node: Node, target: str, ours: Array | None, theirs: Array | None) -> None:
    """What another release gave for a node: equal to the newest one, different, or refused."""
    COMPARED[kind(node), target, "cases"] += 1
    if theirs is None:
        COMPARED[kind(node), target, "refused"] += 1
    elif ours is not None:
        COMPARED[kind(node), target, "elements"] += ours.size
        COMPARED[kind(node), target, "differ"] += int(np.count_nonzero(ours != theirs))


def record_float(op: str, target: str, ours: Array, theirs: Array) -> None:
    """The results of an op on floats, which may differ by rounding."""
    last_place = np.spacing(np.abs(theirs).max())
    worst = int(np.ceil(np.abs(ours.astype(np.float64) - theirs).max() / last_place))
    key = f"{op} f32->f32", target
    COMPARED[(*key, "cases")] += 1
    COMPARED[(*key, "elements")] += ours.size
    COMPARED[(*key, WORST)] = max(COMPARED[(*key, WORST)], worst)


def _write() -> None:
    folder = os.environ.get("QGRAPH_EVIDENCE")
    if folder and COMPARED:
        path = Path(folder) / f"{os.getpid()}.json"
        path.write_text(json.dumps([[*key, count] for key, count in COMPARED.items()]))


atexit.register(_write)
