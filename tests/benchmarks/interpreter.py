"""The integer interpreter against other interpreters of the same files, on a ResNet-8 of int8."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import qgraph
from qgraph.runtimes import Worker
from tests.benchmarks.measure import Result, Size, clock, in_turns
from tests.benchmarks.models import images, lowered

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.generic]


def against_onnx(size: Size) -> Result:
    """Images a second over those of ONNX's ReferenceEvaluator, and how often each differs from ONNX Runtime."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    from tests.benchmarks.contrib_ops import CONTRIB_OPS

    graph = lowered("onnxruntime", size.channels)
    feed = qgraph.quantize_inputs(graph, images(size.batch))
    model = onnx.load_model_from_string(exported(graph, ".onnx"))
    reference = ReferenceEvaluator(model, new_ops=CONTRIB_OPS)
    ours, theirs = in_turns(
        [clock(lambda: qgraph.run(graph, feed)), clock(lambda: reference.run(None, feed))], size.repeats
    )
    return Result(
        "onnx",
        f"images/s of the integer interpreter over ONNX's ReferenceEvaluator, batch {size.batch}",
        theirs / ours,
        "times",
        ">=",
        40,
        {
            "interpreter, images/s": size.batch / ours,
            "ReferenceEvaluator, images/s": size.batch / theirs,
            "ReferenceEvaluator, % of QLinearConv bytes that differ": differing(model, feed),
            "interpreter, output elements that differ": qgraph.verify(graph, inputs=feed).mismatches,
        },
    )


def differing(model: onnx.ModelProto, feed: Mapping[str, Array]) -> float:
    """Percent of all QLinearConv bytes in which ReferenceEvaluator, given ONNX Runtime's inputs, has other results."""
    from onnx.numpy_helper import to_array
    from onnx.reference import ReferenceEvaluator

    convs = [node for node in model.graph.node if node.op_type == "QLinearConv"]
    values = {**feed, **{tensor.name: to_array(tensor) for tensor in model.graph.initializer}}
    names = dict.fromkeys(name for node in convs for name in [*node.input, *node.output] if name not in values)
    with Worker("onnxruntime") as worker:
        (run,) = worker.run(model.SerializeToString(), [feed], tensors=list(names)).runs
    values |= {value.name: value.data for value in run.tensors}
    different = total = 0
    for node in convs:
        operands = {name: values[name] for name in map(str, node.input)}
        result = np.asarray(ReferenceEvaluator(node).run(None, operands)[0])
        different += int(np.count_nonzero(result != values[str(node.output[0])]))
        total += result.size
    return 100 * different / total


def against_litert(size: Size) -> Result:
    """Images a second over those of LiteRT's reference kernels."""
    graph = lowered("litert", size.channels)
    x = qgraph.quantize_inputs(graph, images(size.batch))
    file = exported(graph, ".tflite")
    with Worker("litert") as worker:

        def kernels() -> float:
            """Seconds of the second of two invocations, without copying inputs and outputs."""
            answer = worker.run(file, [list(x.values())], options={"kernels": "reference"}, repeats=2)
            return answer.runs[0].seconds[1]

        ours, theirs = in_turns([clock(lambda: qgraph.run(graph, x)), kernels], size.repeats)
    return Result(
        "litert",
        f"images/s of the integer interpreter over LiteRT's reference kernels, batch {size.batch}",
        theirs / ours,
        "times",
        ">=",
        3,
        {
            "interpreter, images/s": size.batch / ours,
            "LiteRT's reference kernels, images/s": size.batch / theirs,
            "interpreter, output elements that differ": qgraph.verify(graph, inputs=x).mismatches,
        },
    )


def exported(graph: qgraph.Graph, suffix: str) -> bytes:
    """The target's file of a lowered graph."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"model{suffix}")
        qgraph.export(graph, file)
        return file.read_bytes()
