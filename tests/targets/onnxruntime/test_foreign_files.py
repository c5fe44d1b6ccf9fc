"""Quantized .onnx files of other tools: what `run(load(file))` gives is what the runtime gives, byte for byte."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import qgraph
from qgraph import passes
from qgraph.errors import InputError, LoweringError, QGraphError, UnsupportedOp
from qgraph.runtimes import Worker
from tests.targets.onnxruntime.foreign import LEVELS, PROVEN, TYPES, differing, quantized_statically, saved
from tests.targets.onnxruntime.models import float_graph, images, plain, residual

SCALE, ZERO = np.array(0.1, np.float32), np.array(3, np.uint8)


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("body", [plain, residual])
def test_files_in_qoperator_form_are_exact_at_every_level(
    ort: Worker, tmp_path: Path, types: str, per_channel: bool, body: object
) -> None:
    graph = float_graph(body)  # type: ignore[arg-type]
    x = images(graph)
    path = quantized_statically(graph.to_onnx(), [{"x": x}], tmp_path, "QOperator", types, per_channel)
    read = qgraph.load(path)
    assert read.level == "integer"
    assert read.find("ort.QLinearConv")
    assert read.find("ort.QGemm")
    for level in LEVELS:
        assert not differing(path, [x], ort, level)
    assert qgraph.verify(path, samples=4, intermediate=True).bit_exact


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("body", [plain, residual])
def test_files_in_qdq_form_are_exact_as_the_runtime_fuses_them(
    ort: Worker, tmp_path: Path, types: str, per_channel: bool, body: object
) -> None:
    """Below "extended" the runtime computes in float: there `verify` names the ops whose bits are not known."""
    graph = float_graph(body)  # type: ignore[arg-type]
    x = images(graph)
    path = quantized_statically(graph.to_onnx(), [{"x": x}], tmp_path, "QDQ", types, per_channel)
    read = qgraph.load(path)
    products = [node for node in read.nodes if node.op in ("nn.conv", "nn.linear")]
    assert types == "s8s8" or not products
    for level in ("all", "extended"):
        assert not products or qgraph.verify(path, optimization=level, samples=2).notes
        assert products or not differing(path, [x], ort, level)
    literal = qgraph.load(path, optimization="basic")
    assert literal.find("nn.conv")
    assert not literal.find("ort.QLinearConv")
    assert any("floats of nn.conv" in note for note in qgraph.verify(path, optimization="basic", samples=2).notes)


@PROVEN
def test_files_of_dynamic_quantization_are_exact_at_every_level(ort: Worker, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = float_graph(plain)
    for weight in (QuantType.QInt8, QuantType.QUInt8):
        path = tmp_path / f"{weight}.onnx"
        quantize_dynamic(graph.to_onnx(), path, weight_type=weight)
        assert qgraph.load(path).find("ort.ConvInteger")
        for level in LEVELS:
            assert not differing(path, [images(graph)], ort, level)
        assert qgraph.verify(path, samples=4, intermediate=True).bit_exact


@pytest.mark.parametrize("form", ["QOperator", "QDQ", "dynamic"])
def test_what_was_read_of_others_is_written_and_read_back_equal(tmp_path: Path, form: str) -> None:
    from onnxruntime.quantization import quantize_dynamic

    graph = float_graph(residual)
    path = tmp_path / "theirs.onnx"
    if form == "dynamic":
        quantize_dynamic(graph.to_onnx(), path)
    else:
        path = quantized_statically(graph.to_onnx(), [{"x": images(graph)}], tmp_path, form, "s8s8", True)
    read = qgraph.load(path)
    qgraph.export(read, tmp_path / "ours.onnx")
    assert qgraph.load(tmp_path / "ours.onnx") == read


@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
def test_files_are_raised_and_give_the_same_integers_again(tmp_path: Path, form: str) -> None:
    graph = float_graph(plain)
    x = images(graph)
    path = quantized_statically(graph.to_onnx(), [{"x": x}], tmp_path, form, "u8s8", True)
    read = qgraph.load(path)
    again = qgraph.lower(passes.raise_to_fake_quant(read), target="onnxruntime")
    assert np.array_equal(qgraph.run(again, x), qgraph.run(read, x))


def test_what_mixes_codes_of_two_types_is_refused_when_it_is_raised(tmp_path: Path) -> None:
    graph = float_graph(residual)
    path = quantized_statically(graph.to_onnx(), [{"x": images(graph)}], tmp_path, "QDQ", "s8s8", False)
    with pytest.raises(LoweringError):
        passes.raise_to_fake_quant(qgraph.load(path))


def test_a_level_that_is_none_is_refused(tmp_path: Path) -> None:
    graph = float_graph(plain)
    path = quantized_statically(graph.to_onnx(), [{"x": images(graph)}], tmp_path, "QOperator", "u8s8", True)
    with pytest.raises(InputError, match="optimization='O3' is not a choice"):
        qgraph.load(path, optimization="O3")


def test_every_node_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """One with an attribute that no release has, one with a scale that is an input, one of another domain."""
    make, q = onnx.helper.make_node, ["x", "s", "z"]
    nodes = [
        make("QLinearSigmoid", [*q, "s", "z"], ["a"], "fast", domain="com.microsoft", speed=3),
        make("QLinearSigmoid", ["x", "t", "z", "s", "z"], ["b"], "scaled", domain="com.microsoft"),
        make("QLinearSigmoid", [*q, "s", "z"], ["c"], "other", domain="com.nobody"),
        make("DequantizeLinear", ["a", "s", "z"], ["y"]),
    ]
    path = saved(nodes, {"x": ("u8", [2, 4]), "t": ("f32", [])}, {"y": [2, 4]}, tmp_path, s=SCALE, z=ZERO)
    with pytest.raises(UnsupportedOp, match="3 nodes of this ONNX model cannot be read") as caught:
        qgraph.load(path)
    for reason in ("'fast': .*speed", "'scaled': .*computed while", "'other': com.nobody.QLinearSigmoid"):
        assert re.search(reason, str(caught.value))


def test_a_tensor_may_be_read_by_other_scales_than_it_was_made_with(ort: Worker, tmp_path: Path) -> None:
    make = onnx.helper.make_node
    nodes = [make("QuantizeLinear", ["x", "s", "z"], ["q"]), make("DequantizeLinear", ["q", "b", "w"], ["y"])]
    other = {"b": np.array(0.25, np.float32), "w": np.array(200, np.uint8)}
    path = saved(nodes, {"x": ("f32", ["N", 4])}, {"y": ["N", 4]}, tmp_path, s=SCALE, z=ZERO, **other)
    x = np.random.default_rng(0).normal(0, 5, (6, 4)).astype(np.float32)
    assert not differing(path, [x], ort, "disabled")


@pytest.mark.parametrize("factor", [2.0, 1.5, 0.75])
def test_codes_are_resized_to_the_nearest_and_not_computed_with(ort: Worker, tmp_path: Path, factor: float) -> None:
    make = onnx.helper.make_node
    scales = np.array([1, 1, factor, 2], np.float32)
    words = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["q"]),
        make("Resize", ["q", "", "scales"], ["r"], mode="nearest", **words),
        make("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    shapes = {"x": ("f32", ["N", 3, 8, 5])}, {"y": ["N", 3, int(8 * factor), 10]}
    path = saved(nodes, *shapes, tmp_path, s=SCALE, z=ZERO, scales=scales)
    x = np.random.default_rng(0).normal(0, 5, (2, 3, 8, 5)).astype(np.float32)
    assert not differing(path, [x], ort, "disabled")
    nodes[1] = make("Resize", ["q", "", "scales"], ["r"], mode="linear")
    path = saved(nodes, *shapes, tmp_path, s=SCALE, z=ZERO, scales=scales)
    with pytest.raises(UnsupportedOp, match="linear resize of codes"):
        qgraph.load(path, optimization="disabled")


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    ("pads", "axes", "mode"),
    [
        ([0, 0, 1, 2, 0, 0, 3, 4], None, "constant"),
        ([1, 2, 3, 4], [2, -1], "constant"),
        ([1, 2, 3, 4], [-1, 1], ""),
        ([1, 2, 3, 4], [2, 3], "edge"),
    ],
)
def test_codes_are_padded_by_whatever_a_file_says_of_mode_and_axes(
    ort: Worker, tmp_path: Path, pads: list[int], axes: list[int] | None, mode: str, value: bool
) -> None:
    make = onnx.helper.make_node
    given = ["q", "pads", "z" if value else "", *(["axes"] if axes else [])]
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["q"]),
        make("Pad", given, ["p"], **({"mode": mode} if mode else {})),
        make("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    integers = {"pads": np.array(pads, np.int64), **({"axes": np.array(axes, np.int64)} if axes else {})}
    path = saved(
        nodes, {"x": ("f32", [2, 3, 8, 5])}, {"y": ["a", "b", "c", "d"]}, tmp_path, s=SCALE, z=ZERO, **integers
    )
    x = np.random.default_rng(0).normal(0, 5, (2, 3, 8, 5)).astype(np.float32)
    for level in LEVELS:
        assert not differing(path, [x], ort, level)


@pytest.mark.skipif("QGRAPH_ASSETS" not in os.environ, reason="QGRAPH_ASSETS names no folder of third-party models")
@pytest.mark.parametrize("name", ["qrelu_1", "qsigmoid_1", "qtdnn_10x5_101_i32_biases"])
def test_third_party_models_are_exact_at_every_level(ort: Worker, name: str) -> None:
    """The last has windows along its first dimension, whose size has to be said; what was published is another's."""
    folder = Path(os.environ["QGRAPH_ASSETS"], "models", "tract", name)
    with np.load(folder / "io.npz") as file:
        x = file["input"]
    if name.startswith("qtdnn"):
        with pytest.raises(UnsupportedOp, match=r"'tdnn.tdnn': QLinearConv: the spatial sizes \['N'\] must be known"):
            qgraph.load(folder / "model.onnx")
    for level in LEVELS:
        assert not differing(folder / "model.onnx", [x], ort, level, {"N": len(x)})


@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path, form: str) -> None:
    graph = float_graph(residual)
    path = quantized_statically(graph.to_onnx(), [{"x": images(graph)}], tmp_path, form, "u8s8", True)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(400):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), int(rng.integers(1, 6))):
            data[place] = int(rng.integers(0, 256))
        path.write_bytes(bytes(data))
        with contextlib.suppress(QGraphError):
            qgraph.load(path)
