"""QONNX models: the graph of fake-quant computes what QONNX's documentation says, written out here in NumPy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import qgraph
from qgraph.errors import UnsupportedOp
from qgraph.ir import Array

DOMAIN = "onnx.brevitas"


class Quant(OpRun):
    op_domain = DOMAIN

    def _run(self, x: Array, scale: Array, zero: Array, bits: Array, **attrs: Any) -> tuple[Array]:
        width, narrow = int(bits), attrs["narrow"]
        low, high = (narrow - 2 ** (width - 1), 2 ** (width - 1) - 1) if attrs["signed"] else (0, 2**width - 1 - narrow)
        codes = np.rint(np.clip(x / scale + zero, low, high))
        return (((codes - zero) * scale).astype(np.float32),)


class BipolarQuant(OpRun):
    op_domain = DOMAIN

    def _run(self, x: Array, scale: Array) -> tuple[Array]:
        return (np.where(x >= 0, scale, -scale).astype(np.float32),)


class BatchNormalization(OpRun):
    """As in inference, which onnx's reference is not in before opset 14."""

    op_domain = ""

    def _run(self, x: Array, gain: Array, bias: Array, mean: Array, var: Array, **attrs: Any) -> tuple[Array]:
        gain, bias, mean, var = (each.reshape(-1, *[1] * (x.ndim - 2)) for each in (gain, bias, mean, var))
        return (((x - mean) / np.sqrt(var + np.float32(attrs["epsilon"])) * gain + bias).astype(np.float32),)


def with_domain(model: onnx.ModelProto) -> onnx.ModelProto:
    if DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return model


def saved(folder: Path, op: str, constants: dict[str, Array], **attrs: Any) -> Path:
    """A model of one node on x [2, 3, 4]."""
    node = onnx.helper.make_node(op, ["x", *constants], ["y"], "quantizer", domain=DOMAIN, **attrs)
    infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3, 4]) for name in "xy"]
    tensors = [onnx.numpy_helper.from_array(data, name) for name, data in constants.items()]
    body = onnx.helper.make_graph([node], "g", infos[:1], infos[1:], tensors)
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 13)])
    path = folder / "q.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def numbers(scale: Any, zero: float = 0, bits: float = 4) -> dict[str, Array]:
    return {n: np.asarray(v, np.float32) for n, v in (("scale", scale), ("zero", zero), ("bits", bits))}


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("bits", [1, 3, 8, 12])
def test_quant_rounds_to_even_within_the_range_of_its_bits(tmp_path: Path, signed: int, narrow: int, bits: int) -> None:
    """Per tensor, and with a scale for each channel; the values are on half steps."""
    x = (np.arange(-12, 12).reshape(2, 3, 4) / 4).astype(np.float32)
    for scale in (0.5, np.array([0.5, 0.25, 1]).reshape(3, 1)):
        attrs = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
        path = saved(tmp_path, "Quant", numbers(scale, bits=bits), **attrs)
        graph = qgraph.load(path)
        assert graph.level == "fake_quant"
        (right,) = ReferenceEvaluator(with_domain(onnx.load(path)), new_ops=[Quant]).run(None, {"x": x})
        np.testing.assert_array_equal(qgraph.run(graph, x), right)


def test_bipolar_quant_has_two_values(tmp_path: Path) -> None:
    path = saved(tmp_path, "BipolarQuant", {"scale": np.array(0.25, np.float32)})
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    x[0, 0, :2] = 0, -0.0
    np.testing.assert_array_equal(
        qgraph.run(qgraph.load(path), x), np.where(x >= 0, np.float32(0.25), -np.float32(0.25))
    )


@pytest.mark.parametrize(
    ("op", "constants", "attrs", "reason"),
    [
        ("Quant", numbers(0.5, zero=3), {}, "rounds behind a zero point that is not 0"),
        ("Quant", numbers(0.5, bits=2.5), {}, r"bit width of \[2.5\]"),
        ("Quant", numbers(0.5), {"rounding_mode": "FLOOR"}, "rounding_mode='FLOOR' is not supported, only 'ROUND'"),
        ("Trunc", {**numbers(0.5), "out": np.float32(2)}, {}, "there is no counterpart"),
    ],
)
def test_what_is_ambiguous_is_refused_by_name(
    tmp_path: Path, op: str, constants: dict[str, Array], attrs: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnsupportedOp, match=f"'quantizer': onnx.brevitas.{op}: .*{reason}"):
        qgraph.load(saved(tmp_path, op, constants, **attrs))


@pytest.mark.skipif("QGRAPH_ASSETS" not in os.environ, reason="QGRAPH_ASSETS names no folder of third-party models")
@pytest.mark.parametrize("name", ["espcn_subpixel_quant", "kwsmlp_w3a3", "tfc_2w2a"])
def test_third_party_models_compute_what_qonnx_says(name: str) -> None:
    """But for results next to a tie, where sums in another order go to the other side."""
    path = Path(os.environ["QGRAPH_ASSETS"], "models", "qonnx", f"{name}.onnx")
    graph = qgraph.load(path)
    x = np.random.default_rng(0).uniform(0, 1, graph.inputs[0].type.shape).astype(np.float32)
    reference = ReferenceEvaluator(with_domain(onnx.load(path)), new_ops=[Quant, BatchNormalization])
    (right,) = reference.run(None, {graph.inputs[0].name: x})
    made = qgraph.run(graph, x)
    assert graph.find("quant.fake_quant")
    assert np.mean(np.abs(made - right) > 1e-4 * np.abs(right).max()) < 0.01
