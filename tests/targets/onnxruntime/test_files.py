"""Files of `ort` graphs: read back equal, the same bytes each time, and one clear error for anything else."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch

from qgraph import quantize, trace
from qgraph.errors import ExportError, FileError
from qgraph.ir import Graph, QuantParams, TensorType
from qgraph.runtimes import Worker
from qgraph.targets.onnxruntime.onnx_reader import from_onnx
from qgraph.targets.onnxruntime.onnx_writer import to_onnx
from tests.targets.onnxruntime.models import images, lowered, plain, residual

FORMS = pytest.mark.parametrize("form", ["qoperator", "qdq"])


@FORMS
@pytest.mark.parametrize("options", [{}, {"activations": "i8", "io": "integer"}, {"weights": "u8"}], ids=str)
def test_read_back_equal(form: str, options: dict[str, str]) -> None:
    for body in (plain, residual):
        graph = lowered(body, **options)
        data = to_onnx(graph, form=form)
        back = from_onnx(data)
        assert back == graph
        assert [node.origins for node in back.nodes] == [node.origins for node in graph.nodes]
        assert back.metadata == graph.metadata
        assert to_onnx(back, form=form) == data == to_onnx(graph.clone(), form=form)


@FORMS
def test_constants_that_ops_read_without_their_parameters_are_read_back_with_them(form: str) -> None:
    """A table that Gather reads, a token that Expand repeats: their scales stand in no node of the file."""
    words = torch.nn.Embedding(9, 4)
    token = torch.nn.Parameter(torch.randn(1, 1, 4))

    class Tokens(torch.nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            embedded = words(ids)
            return torch.cat([token.expand(ids.shape[0], -1, -1), embedded], 1).mean(1) + embedded[:, 0]

    ids = torch.randint(0, 9, (6, 5))
    graph = quantize(trace(Tokens(), ids), "onnxruntime", calibration=[ids.numpy()])
    data = to_onnx(graph, form=form)
    back = from_onnx(data)
    assert back == graph
    assert to_onnx(back, form=form) == data


@FORMS
def test_content(form: str) -> None:
    model = onnx.load_model_from_string(to_onnx(lowered(plain), form=form, opset=21))
    onnx.checker.check_model(model, full_check=False)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 21, "com.microsoft": 1}
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["x", "output"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    words = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "qgraph"))
    assert words["metadata"]["target"] == "onnxruntime"
    assert words["form"] == form
    assert words["origins"]["output"] == "head net.py:7"
    operators = {node.op_type for node in model.graph.node}
    assert ("QLinearConv" in operators) == (form == "qoperator")
    assert ("Conv" in operators) == (form == "qdq")


@FORMS
@pytest.mark.parametrize("opset", [13, 15, 19, 22])
def test_opsets(ort: Worker, form: str, opset: int) -> None:
    graph = lowered(residual)
    x = images(graph)
    runs = [ort.run(to_onnx(graph, form=form, opset=version), [[x]]).runs[0] for version in (17, opset)]
    assert np.array_equal(runs[0].outputs[0].data, runs[1].outputs[0].data)


@FORMS
def test_names_that_clash(form: str) -> None:
    """Inputs, constants and results have their own names in a graph, and share one space in a file."""
    graph = lowered(plain)
    nodes = list(graph.nodes)
    nodes[0].result.name, nodes[1].result.name, nodes[2].result.name = "w", "x_scale", "3"
    back = from_onnx(to_onnx(graph, form=form))
    assert back == graph
    assert [node.result.name for node in back.nodes] == [node.result.name for node in graph.nodes]


@FORMS
def test_truncated(form: str) -> None:
    data = to_onnx(lowered(plain), form=form)
    for size in [*range(0, 40), *range(40, len(data), max(1, len(data) // 150)), len(data) - 1]:
        with pytest.raises(FileError):
            from_onnx(data[:size])


def test_foreign() -> None:
    model = onnx.load_model_from_string(to_onnx(lowered(plain)))
    del model.metadata_props[:]
    with pytest.raises(FileError, match="not exported by qgraph"):
        from_onnx(model.SerializeToString())
    with pytest.raises(FileError):
        from_onnx(b"TFL3 this is no protobuf")


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Sin"


def _missing_constant(model: onnx.ModelProto) -> None:
    del model.graph.initializer[0]


def _wrong_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = '{"version": 1}'


def _no_json(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "{"


def _other_version(model: onnx.ModelProto) -> None:
    words = json.loads(model.metadata_props[0].value)
    model.metadata_props[0].value = json.dumps({**words, "version": 99})


def _external_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="../secret")


def _lost_node(model: onnx.ModelProto) -> None:
    del model.graph.node[2]


@pytest.mark.parametrize(
    "damage",
    [_unknown_operator, _missing_constant, _wrong_metadata, _no_json, _other_version, _external_data, _lost_node],
)
@FORMS
def test_damaged(form: str, damage: object) -> None:
    model = onnx.load_model_from_string(to_onnx(lowered(plain), form=form))
    damage(model)  # type: ignore[operator]
    with pytest.raises(FileError):
        from_onnx(model.SerializeToString())


def test_arguments() -> None:
    graph = lowered(plain)
    with pytest.raises(ExportError, match="form='tflite' is not a choice"):
        to_onnx(graph, form="tflite")
    with pytest.raises(ExportError, match="opset 12 is not supported"):
        to_onnx(graph, opset=12)


def test_graphs_that_no_file_holds() -> None:
    graph = Graph("m", "integer", {"target": "onnxruntime"})
    x = graph.add_input("x", TensorType((2, 3), "u8", QuantParams.of(1.0, 0)))
    graph.set_outputs([x])
    with pytest.raises(ExportError, match="is an input or a constant"):
        to_onnx(graph)
    twice = lowered(plain)
    twice.set_outputs([*twice.outputs, *twice.outputs])
    with pytest.raises(ExportError, match="returned twice"):
        to_onnx(twice)
    foreign = Graph("m", "integer", {"target": "litert"})
    x = foreign.add_input("x", TensorType((2, 3), "i8", QuantParams.of(1.0, 0)))
    foreign.set_outputs([foreign.insert("litert.relu", [x], {}, [x.type]).result])
    with pytest.raises(ExportError, match=r"cannot hold litert\.relu"):
        to_onnx(foreign)
