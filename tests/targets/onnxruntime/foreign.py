"""Quantized .onnx files that qgraph did not write: by onnxruntime's own quantizer, or node by node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qgraph
from qgraph import targets
from qgraph.ir import Array, Graph
from qgraph.ir.types import NUMPY_DTYPE
from qgraph.runtimes import Worker

PROVEN = pytest.mark.skipif(
    find_spec("onnxruntime") is not None and version("onnxruntime") != targets.get("onnxruntime").proven,
    reason="other releases refuse it, or compute or optimize otherwise",
)
LEVELS = ("all", "extended", "basic", "disabled")
TYPES = {"u8u8": ("QUInt8", "QUInt8"), "u8s8": ("QUInt8", "QInt8"), "s8s8": ("QInt8", "QInt8")}


class Batches:
    """What quantize_static calibrates on."""

    def __init__(self, batches: Sequence[dict[str, Array]]) -> None:
        self.left: Iterator[dict[str, Array]] = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        return next(self.left, None)


def quantized_statically(
    model: onnx.ModelProto, batches: Sequence[dict[str, Array]], folder: Path, form: str, types: str, per_channel: bool
) -> Path:
    """The file that onnxruntime's quantize_static makes: `form` "QDQ" or "QOperator", `types` a key of TYPES."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    activation, weight = (QuantType[name] for name in TYPES[types])
    path = folder / f"{form}-{types}-{per_channel}.onnx"
    options: dict[str, Any] = {"activation_type": activation, "weight_type": weight, "per_channel": per_channel}
    quantize_static(model, path, Batches(batches), quant_format=QuantFormat[form], **options)
    return path


def saved(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[str, list[int | str]]],
    results: dict[str, list[int | str]],
    folder: Path,
    **constants: Array,
) -> Path:
    """A file of nodes: inputs by name with dtype and shape, float results by name with shapes."""
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(NUMPY_DTYPE[dtype]), shape)
        for name, (dtype, shape) in inputs.items()
    ]
    made = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in results.items()]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    body = onnx.helper.make_graph(nodes, "g", infos, made, tensors)
    domains = {"": 21, **{node.domain: 1 for node in nodes if node.domain}}
    opsets = [onnx.helper.make_opsetid(*each) for each in domains.items()]
    path = folder / "model.onnx"
    path.write_bytes(onnx.helper.make_model(body, opset_imports=opsets, ir_version=10).SerializeToString())
    return path


def outputs(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """What `run` gives, in order."""
    made = qgraph.run(graph, *inputs)
    return [*made.values()] if isinstance(made, dict) else [made]


def differing(
    path: Path, inputs: Sequence[Array], ort: Worker, level: str = "all", sizes: dict[str, int] | None = None
) -> int:
    """How many elements of `run(load(path))` have other bits than the runtime's at a level of optimization."""
    made = outputs(qgraph.load(path, optimization=level, sizes=sizes), inputs)
    (run,) = ort.run(path.read_bytes(), [list(inputs)], options={"level": level}).runs
    found = 0
    for ours, theirs in zip(made, (output.data for output in run.outputs), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        bits = [np.ascontiguousarray(each).view(f"u{each.itemsize}") for each in (ours, theirs)]
        found += int((bits[0] != bits[1]).sum())
    return found
