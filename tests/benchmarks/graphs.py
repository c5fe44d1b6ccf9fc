"""Graphs of up to 100,000 nodes: what reading, writing and changing them costs, beside torch.fx and onnx-ir.

The graph is a chain of residual blocks of 7 nodes: conv, batch_norm, relu, conv, batch_norm, add, relu. "walk" counts
the nodes of each op, "rewrite" replaces every relu of an add by relu6 (and back, half of both is shown), each in the
library's own manner; qgraph's infers and checks the new node's type, the others' do not.
"""

from __future__ import annotations

import gc
import importlib.util
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import qgraph
from qgraph import passes
from qgraph.ir import Builder, Graph, Origin, TensorType, Value, storage, verify_graph
from tests.benchmarks import peer_graphs
from tests.benchmarks.measure import Clock, Result, Size, in_turns

GOALS = {
    "parse": 4.0,
    "clone": 0.6,
    "canonicalize": 2.0,
    "fold-batchnorm": 2.0,
    "fuse-conv-relu": 2.0,
    "diff of two clones": 10.0,
    "bytes a node": 1200.0,
}
"""Seconds, or bytes, at 100,000 nodes; smaller graphs may take their share of it, as all of these are linear."""
GOAL_NODES = 100_000

BATCH_NORM = {"gamma": 1.0, "beta": 0.1, "mean": 0.2, "var": 1.0}
CHANNELS = 4


def residual_graph(count: int) -> Graph:
    """A float graph of `count` nodes, rounded down to whole blocks; all its small constants share their arrays."""
    graph = Graph("residual")
    value = graph.add_input("x", TensorType(("N", CHANNELS, 8, 8)))
    weight = np.eye(CHANNELS, dtype=np.float32).reshape(CHANNELS, CHANNELS, 1, 1)
    shared = [graph.add_constant(np.full(CHANNELS, v, np.float32), name) for name, v in BATCH_NORM.items()]
    build = Builder(graph)
    for block in range(count // 7):
        before = value
        for half in range(2):
            path = f"blocks.{block}.{half}"
            build.origins = (Origin(path, "net.py", 10 + half),)
            value = build.nn.conv(value, graph.add_constant(weight, f"{path}.weight"), **UNIT)
            value = build.nn.batch_norm(value, *shared)
            value = build.nn.relu(build.nn.add(value, before) if half else value)
    graph.set_outputs([value])
    return graph


UNIT = {"stride": (1, 1), "pads": (0, 0, 0, 0), "dilation": (1, 1)}


def walk(graph: Graph) -> dict[str, int]:
    """How many nodes there are of each op."""
    count: dict[str, int] = {}
    for node in graph.nodes:
        count[node.op] = count.get(node.op, 0) + 1
    return count


def rewrite(graph: Graph) -> None:
    """Replace the activation of every add by relu6, then by relu again."""
    for old, new in (("nn.relu", "nn.relu6"), ("nn.relu6", "nn.relu")):
        for node in graph.nodes:
            if node.op == old and _is_sum(node.operands[0]):
                node.replace_with(graph.insert_before(node).node(new, node.operands, {}).result)


def _is_sum(value: Value | None) -> bool:
    return value is not None and value.producer is not None and value.producer.op == "nn.add"


def _jobs(graph: Graph) -> dict[str, Callable[[], object]]:
    text, data, copy = str(graph), storage.to_bytes(graph), graph.clone()
    return {
        "parse": lambda: qgraph.parse(text, graph),
        "print": lambda: str(graph),
        "verify": lambda: verify_graph(graph),
        "clone": graph.clone,
        "equal": lambda: graph == copy,
        "to .qg": lambda: storage.to_bytes(graph),
        "from .qg": lambda: storage.from_bytes(data),
        "canonicalize": lambda: passes.canonicalize(graph),
        "fold-batchnorm": lambda: passes.fold_batchnorm(graph),
        "fuse-conv-relu": lambda: passes.fuse_conv_relu(graph),
        "diff of two clones": lambda: qgraph.diff(graph, copy),
        "walk": lambda: walk(graph),
        "rewrite": lambda: rewrite(copy),
    }


@dataclass(frozen=True)
class Table(Result):
    """The figure with its details as a table: a row for each job, a column for each size and library."""

    def __str__(self) -> str:
        cells = {tuple(key.split(", ")): value for key, value in self.details.items()}
        columns = list(dict.fromkeys(key[:2] for key in cells))
        rows = list(dict.fromkeys(key[2] for key in cells))
        head = ["", *(f"{library} {int(count) // 1000}k" for library, count in columns)]
        lines = [head, *([row, *(_cell(cells.get((*column, row))) for column in columns)] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        verdict = f"{self.value:.3g} {self.unit}, goal {self.relation} {self.goal:g}"
        return "\n".join([f"{self.name}: {self.what}", f"  {verdict}", *table])


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.4f}"


def scale(size: Size) -> Result:
    """Processor seconds of every job at every size; the figure is the largest share that a job takes of its goal."""
    details: dict[str, float] = {}
    for count in size.nodes:
        details.update(_measured("qgraph", count, _jobs(residual_graph(count)), size.repeats))
        for library in ("torch.fx", "onnx-ir"):
            if importlib.util.find_spec(library.replace("-", "_")) is None:
                print(f"{library} is not installed: its columns are left out (pip install {library})")
                continue
            details.update(_measured(library, count, peer_graphs.jobs(library, count), size.repeats))
    largest = max(size.nodes)
    shares = {job: details[f"qgraph, {largest}, {job}"] / goal for job, goal in GOALS.items()}
    worst = max(shares, key=lambda job: shares[job])
    what = f"the largest share of a goal that a job takes at {largest:,} nodes: {worst}; seconds, medians"
    return Table("graphs", what, shares[worst] * _share(worst, largest), "of its goal", "<=", 1.0, details)


def _share(job: str, nodes: int) -> float:
    return 1.0 if job == "bytes a node" else GOAL_NODES / nodes


def _clock(work: Callable[[], object]) -> Clock:
    """Seconds of this process's time, one thread, so that other load on the machine matters little; garbage of the work
    before is cleared away first."""

    def seconds() -> float:
        gc.collect()
        start = time.process_time()
        work()
        return time.process_time() - start

    return seconds


def _measured(library: str, count: int, jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each job, and the bytes of a clone by node; what is there already is out of the collector's
    sight, so that its full rounds hit no job by chance."""
    gc.collect()
    gc.freeze()
    try:
        seconds = dict(zip(jobs, in_turns([_clock(job) for job in jobs.values()], repeats), strict=True))
        seconds["rewrite"] /= 2
        tracemalloc.start()
        kept = jobs["clone"]()
        seconds["bytes a node"] = tracemalloc.get_traced_memory()[0] / count
        del kept
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    return {f"{library}, {count}, {job}": value for job, value in seconds.items()}
