"""Run a graph in the interpreter and its file on the real runtime, and compare every bit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from qgraph import targets
from qgraph.errors import InputError
from qgraph.frontends import load, to_file_bytes
from qgraph.frontends.onnx_integer import OPTIMIZATION
from qgraph.interpreter.inputs import Inputs, Layout
from qgraph.ir import Array, Graph, Node
from qgraph.ir.files import read_bytes
from qgraph.ir.printer import print_node
from qgraph.ir.types import Dim, dim_factors
from qgraph.runtimes import RunResult, Worker
from qgraph.targets import releases
from qgraph.verification.report import NodeReport, OutputReport, Verification
from qgraph.verification.steps import Steps, returning_all, shown

SAMPLES = 64


def verify(
    graph: Graph | str | os.PathLike[str],
    runtime: str | None = None,
    *,
    inputs: Inputs | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    on: str | None = None,
    layout: Layout | None = None,
    intermediate: bool = False,
    optimization: str | None = None,
    options: Mapping[str, object] | None = None,
) -> Verification:
    """Compare the interpreter with the real runtime on given inputs, or on `samples` random and a few extreme ones.

    `graph`: a lowered graph, or a file that holds one; a file is run as it is. `runtime`: the name of a target of the
    same family (default: the graph's own). `on`: a command that starts a Python with that runtime elsewhere ("ssh pi
    python3"). `layout`: that of float inputs whose shape fits both NCHW and NHWC. `intermediate`: compare the result of
    every node too, from a file that returns them all. `optimization`: the level at which a quantized ONNX model is read
    and run, "all" by default. `options` go to the runtime's program (`threads=2` for ONNX Runtime). Raises InputError
    for a graph that was not lowered, that has no runtime, or where there is nothing to compare on, RuntimeFailure where
    the runtime is missing or ends.
    """
    graph, model = _model(graph, runtime, optimization)
    target = targets.of(graph)
    steps = Steps(graph)
    given, layout = (steps.samples(samples, seed), "NHWC") if inputs is None else (inputs, layout)
    runs = steps.feeds(given, layout)
    if not any(array.size for run in runs for array in run.values()):
        raise InputError(
            "there is no sample to compare on", help="give at least one example (a whole batch, where it is fixed)"
        )
    level = {"level": graph.metadata[OPTIMIZATION]} if OPTIMIZATION in graph.metadata else {}
    program_options = {**target.runtime_options, **level, **steps.options, **(options or {})}
    with Worker(target.runtime, on=on) as worker:
        parts = _parts(graph, runs)
        expected = steps.expected(parts)  # first: it says what the runtime does not offer
        result = worker.run(model, steps.by_position(parts), options=program_options)
        release = result.runtime.version
        if target.kernels_at(release) != target.kernels:  # rules that changed are keyed by release
            graph = graph.clone()
            graph.metadata["release"] = release
            steps = Steps(graph)
            expected = steps.expected(parts)
        outputs = _compare_outputs(steps.output_names, expected, result)
        nodes: tuple[NodeReport, ...] = ()
        if intermediate or any(output.mismatches for output in outputs):
            nodes = _compare_nodes(graph, runs, worker, program_options)
    return Verification(
        runtime=graph.target,
        version=f"{result.runtime.name} {result.runtime.version}",
        processor=_processor(result),
        samples=sum(len(next(iter(run.values()))) for run in runs),
        outputs=outputs,
        nodes=nodes,
        notes=(*target.notes(graph, result.processor), *releases.notes(graph, target, release)),
    )


def _model(graph: Graph | str | os.PathLike[str], runtime: str | None, optimization: str | None) -> tuple[Graph, bytes]:
    """The graph, set to the variant `runtime`, and the bytes of its file."""
    if not isinstance(graph, Graph):
        path = os.fspath(graph)
        loaded = load(path, target=runtime, optimization=optimization)
        _require_lowered(loaded)
        suffix = os.path.splitext(path)[1]
        is_model = suffix in targets.of(loaded).exporters
        return loaded, read_bytes(path) if is_model else _exported(loaded)
    _require_lowered(graph)
    if runtime is not None and runtime != graph.target:
        if targets.get(runtime).dialect != targets.of(graph).dialect:
            raise InputError(
                f"a graph lowered to {graph.target} does not run on {runtime}", help=f"lower it to {runtime}"
            )
        graph = graph.clone()
        graph.metadata["target"] = runtime
    return graph, _exported(graph)


def _require_lowered(graph: Graph) -> None:
    if graph.level != "integer":
        raise InputError(f"a graph of level {graph.level} has no runtime", help="lower it first: qgraph.lower")
    target = targets.of(graph)
    if not target.runtime:
        raise InputError(
            f"{target.name} has no runtime that could be asked: {target.claim}",
            help="run it, or export it as C99 and run that: qgraph export FILE -o model_c/",
        )


def _exported(graph: Graph) -> bytes:
    return to_file_bytes(graph, next(iter(targets.of(graph).exporters)))


def _parts(graph: Graph, runs: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """The runs, one for each example where the runtime takes them one by one and a result does not have them first:
    what it gives for one is not a part of what the interpreter gives for all."""
    batches = {value.type.shape[0] if value.type.shape else None for value in graph.inputs}
    if not targets.of(graph).one_by_one or not all(isinstance(batch, str) for batch in batches):
        return runs
    if all(_is_first(batch, value.type.shape) for value in graph.outputs for batch in batches):
        return runs
    return [
        {name: array[i : i + 1] for name, array in run.items()}
        for run in runs
        for i in range(len(next(iter(run.values()))))
    ]


def _is_first(batch: Dim | None, shape: Sequence[Dim]) -> bool:
    """Whether a result has the examples along its first dimension, and nowhere else."""
    return shape[:1] == (batch,) and not any(set(dim_factors(dim)[1]) & {batch} for dim in shape[1:])


def _compare_outputs(
    names: Sequence[str], expected: Sequence[list[Array]], result: RunResult
) -> tuple[OutputReport, ...]:
    reports = []
    for index, name in enumerate(names):
        pairs = [(arrays[index], run.outputs[index].data) for arrays, run in zip(expected, result.runs, strict=True)]
        compared, mismatches, largest = _difference(pairs)
        reports.append(OutputReport(name, compared, mismatches, largest))
    return tuple(reports)


def _difference(pairs: Sequence[tuple[Array, Array]]) -> tuple[int, int, float]:
    """Elements compared, elements that differ in a bit, largest difference; other shapes or dtypes differ
    everywhere."""
    compared, mismatches, largest = 0, 0, 0.0
    for ours, theirs in pairs:
        compared += ours.size
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            mismatches, largest = mismatches + ours.size, float("inf")
            continue
        different = _bits(ours) != _bits(theirs)
        mismatches += int(different.sum())
        if different.any():
            largest = max(largest, float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()))
    return compared, mismatches, largest


def _bits(array: Array) -> Array:
    array = np.ascontiguousarray(array)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "f" else array


def _compare_nodes(
    graph: Graph, runs: list[dict[str, Array]], worker: Worker, options: Mapping[str, object]
) -> tuple[NodeReport, ...]:
    """The results of all nodes, from a file that returns them all: no runtime needs to keep what it computes."""
    steps = Steps(returning_all(graph))
    graph = steps.graph
    runs = _parts(graph, runs)
    expected = steps.expected(runs)
    result = worker.run(_exported(graph), steps.by_position(runs), options=options)
    outputs = iter(_compare_outputs(steps.output_names, expected, result))
    return tuple(
        NodeReport(_text(node), tuple(origin.readable for origin in node.origins), *_counts(next(outputs)))
        for node in graph.nodes
        for _ in shown(node)
    )


def _counts(report: OutputReport) -> tuple[int, int, float]:
    return report.compared, report.mismatches, report.largest


def _text(node: Node) -> str:
    text = print_node(node)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _processor(result: RunResult) -> str:
    processor = result.processor
    features = f" ({', '.join(processor.features)})" if processor.features else ""
    return f"{processor.machine} {processor.name}{features}"
