"""The node tests that the onnx package carries: what `from_onnx` takes computes what they say."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest

import qgraph
from qgraph.errors import UnsupportedOp
from qgraph.ir import Array

LEAST = 300
"""So many of them are taken."""


@cache
def node_tests() -> dict[str, Any]:
    """The cases of the installed onnx."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some compute with infinities
        return {case.name: case for case in load_model_tests(kind="node")}


def numpy(given: object) -> Array:
    """An array of a data set; those of some dtypes are stored as protobufs."""
    return onnx.numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)


def difference(case: Any) -> str | None:
    """How the graph of a case departs from what is expected; None where it holds. Raises UnsupportedOp."""
    graph = qgraph.from_onnx(case.model)
    for given, expected in case.data_sets if graph.inputs else ():
        inputs = dict(zip((value.name for value in graph.inputs), map(numpy, given), strict=True))
        if any(array.dtype.kind == "f" and np.isnan(array).any() for array in inputs.values()):
            continue  # `run` refuses NaN
        made = qgraph.run(graph, inputs)
        results = [*made.values()] if isinstance(made, Mapping) else made if isinstance(made, tuple) else [made]
        for result, right in zip(results, map(numpy, expected), strict=True):
            if result.dtype != right.dtype:
                return f"{result.dtype} instead of {right.dtype}"
            if not np.allclose(result, right, rtol=case.rtol, atol=case.atol, equal_nan=True):
                return f"{result} instead of {right}"
    return None


def test_what_is_taken_computes_what_onnx_says() -> None:
    wrong, taken = {}, 0
    for name, case in node_tests().items():
        try:
            found = difference(case)
        except UnsupportedOp:
            continue
        taken += 1
        if found:
            wrong[name] = found
    assert not wrong
    assert taken >= LEAST


@pytest.mark.parametrize("op", ["Max", "Min", "Sum"])
def test_all_operands_count(op: str) -> None:
    """The first two of three were read."""
    names = ("a", "b", "c")
    infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3]) for name in (*names, "y")]
    node = onnx.helper.make_node(op, names, ["y"])
    graph = qgraph.from_onnx(onnx.helper.make_model(onnx.helper.make_graph([node], "g", infos[:3], infos[3:])))
    xs = np.array([[1, -2, 3], [2, -3, -1], [5, -9, 4]], np.float32)
    reduced = {"Max": np.max, "Min": np.min, "Sum": np.sum}[op]
    np.testing.assert_array_equal(qgraph.run(graph, dict(zip(names, xs, strict=True))), reduced(xs, axis=0))


def test_an_input_that_a_row_does_not_read_is_refused() -> None:
    infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3]) for name in "xy"]
    limits = [onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [0])]
    limits += [onnx.helper.make_tensor("pads", onnx.TensorProto.INT64, [2], [1, 1])]
    node = onnx.helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", infos[:1], infos[1:], limits))
    with pytest.raises(UnsupportedOp, match="its input axes is not supported"):
        qgraph.from_onnx(model)
