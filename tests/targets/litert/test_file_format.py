"""`.tflite` files both ways: equal graphs, names, and files that are not ours."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from qgraph.errors import ExportError, FileError
from qgraph.exporters import tflite
from qgraph.interpreter import execute
from qgraph.ir import Builder, Graph, Origin, QuantParams, TensorType
from qgraph.targets.litert.file_format import METADATA, from_tflite, to_tflite
from tests.targets.litert.families import Families

Q = QuantParams.of(0.5, 3)


def awkward() -> Graph:
    """Names that clash, an unnamed result, a constant output, one channel per channel, an input that is an output."""
    graph = Graph("awkward", "integer", {"target": "litert", "io_layout": "NHWC", "note": 'with "quotes", commas'})
    build = Builder(graph, origins=(Origin("block.conv", "my net.py", 12), Origin("bn, 1", "net.py", 13)))
    x = graph.add_input("x", TensorType(("N", 4, 4, 2), "i8", Q))
    constant = build.constant(np.ones((1, 4, 4, 2), np.int8), "x", Q)
    w = build.constant(np.ones((1, 1, 1, 2), np.int8), "2", QuantParams.of([0.25], 0, 0))
    bias = build.constant(np.ones(1, np.int32), "x.bias", QuantParams.of([0.125], 0, 0))
    build.constant(np.zeros(3, np.int8), "unused", Q)
    total = build.litert.add(x, constant, element=("i8", Q))
    made = build.litert.conv_2d(total, w, bias, stride=(1, 1), padding="SAME", element=("i8", Q), name="1")
    flat = Builder(graph).litert.reshape(made, shape=(-1, 4))
    graph.set_outputs([made, flat, x, constant])
    return graph


def test_the_file_holds_an_equal_graph() -> None:
    graph = awkward()
    back = from_tflite(to_tflite(graph))
    assert str(back) == str(graph)
    assert back == graph
    assert [node.result.name for node in back.nodes] == [node.result.name for node in graph.nodes]
    assert [node.origins for node in back.nodes] == [node.origins for node in graph.nodes]
    assert back.metadata == graph.metadata
    assert list(back.constants) == list(graph.constants)


def test_equal_graphs_give_the_same_bytes() -> None:
    assert to_tflite(awkward()) == to_tflite(awkward().clone()) == to_tflite(from_tflite(to_tflite(awkward())))


def test_names_in_the_file_are_unique() -> None:
    names = [tensor.name for tensor in tflite.read(to_tflite(awkward())).subgraphs[0].tensors]
    assert len(set(names)) == len(names)
    assert names[0] == "x"


def test_results_keep_their_names_in_the_file() -> None:
    """A runtime is asked for results by name: constants give way."""
    graph = Graph("g", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType((1, 4), "i8", Q))
    constant = Builder(graph).constant(np.ones((1, 4), np.int8), "1", Q)
    first = Builder(graph).litert.add(x, constant, element=("i8", Q))
    graph.set_outputs([Builder(graph).litert.add(first, first, element=("i8", Q), name="y")])
    subgraph = tflite.read(to_tflite(graph)).subgraphs[0]
    assert [subgraph.tensors[operator.outputs[0]].name for operator in subgraph.operators] == ["1", "y"]
    assert from_tflite(to_tflite(graph)) == graph


def test_litert_runs_it(litert: Families) -> None:
    graph = awkward()
    feed = {"x": np.arange(96, dtype=np.int8).reshape(3, 4, 4, 2)}
    outputs = litert.run(to_tflite(graph), [feed], options={"kernels": "reference"}).runs[0].outputs
    for ours, theirs in zip(execute(graph, feed), outputs, strict=True):
        assert np.array_equal(ours, theirs.data)


def test_another_dialect_is_refused() -> None:
    graph = Graph("g", "float")
    x = graph.add_input("x", TensorType((1, 2)))
    graph.set_outputs([Builder(graph).nn.relu(x)])
    with pytest.raises(ExportError, match=r"a \.tflite file cannot hold nn\.relu"):
        to_tflite(graph)


def rewritten(**changes: object) -> bytes:
    """The file of `awkward` with other words in qgraph's entry; None takes a word away."""
    model = tflite.read(to_tflite(awkward()))
    words = {**json.loads(bytes(model.metadata[METADATA])), **changes}
    words = {key: value for key, value in words.items() if value is not None}
    return tflite.write(replace(model, metadata={METADATA: json.dumps(words).encode()}))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 99},
        {"name": None},
        {"constants": None},
        {"constants": [10**6]},
        {"constants": [0]},
        {"constants": "abc"},
        {"metadata": 7},
        {"shapes": {"x": ["N", 4, 4, 3]}},
        {"shapes": {"x": 5}},
        {"axes": {"2": 17}},
        {"origins": {"1": 5}},
        {"names": 3},
    ],
)
def test_a_damaged_entry_is_one_clear_error(changes: dict[str, object]) -> None:
    from qgraph.errors import QGraphError

    with pytest.raises(QGraphError):
        from_tflite(rewritten(**changes))


def test_constants_that_the_entry_leaves_out_are_those_that_are_used() -> None:
    back = from_tflite(rewritten(constants=[]))
    assert back.constants.keys() == awkward().constants.keys() - {"unused"}


def test_an_entry_that_is_no_json_is_refused() -> None:
    model = tflite.read(to_tflite(awkward()))
    with pytest.raises(FileError, match="does not fit"):
        from_tflite(tflite.write(replace(model, metadata={METADATA: b"\xff{"})))


@pytest.mark.parametrize(
    ("scale", "zero_point", "message"),
    [(1.0, 3 * 10**9, "has zero points outside"), (np.inf, 0, "has a scale that is not positive and finite")],
)
def test_parameters_that_no_runtime_computes_with_are_refused_in_files_of_our_own_too(
    scale: float, zero_point: int, message: str
) -> None:
    model = tflite.read(to_tflite(awkward()))
    tensors = model.subgraphs[0].tensors
    index = next(i for i, tensor in enumerate(tensors) if tensor.quantization is not None and tensor.data is None)
    spoilt = tflite.Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))
    tensors[index] = replace(tensors[index], quantization=spoilt)
    with pytest.raises(FileError, match=message):
        from_tflite(tflite.write(model))
