"""Forms of ONNX's ops that torch's layers do not have: other places of a resize, flattened softmaxes, cuts backwards, a
reset before the product. ONNX Runtime computes the same; tolerance as in `test_onnx_float`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import qgraph
from qgraph.errors import UnsupportedOp
from qgraph.frontends import from_onnx
from qgraph.ir import Array
from tests.frontends.test_onnx_float import by_runtime, close, outputs, randoms

X = randoms(2, 3, 4, 5)
HIDDEN = 4
GRU = {"W": randoms(1, 3 * HIDDEN, 5), "R": randoms(1, 3 * HIDDEN, HIDDEN), "B": randoms(1, 6 * HIDDEN)}


def model(op: str, opset: int = 17, x: Array = X, constants: Mapping[str, Array] = {}, **attrs: Any) -> onnx.ModelProto:
    """One node of x [N, ...] and constants, of which names that begin with _ leave an input out."""
    names = ["x", *("" if name.startswith("_") else name for name in constants)]
    made = [numpy_helper.from_array(np.asarray(data), name) for name, data in constants.items() if name in names]
    outs = ["y", "last"] if op == "GRU" else ["y"]
    graph = helper.make_graph(
        [helper.make_node(op, names, outs, **attrs)],
        "g",
        [helper.make_tensor_value_info("x", 1, [x.shape[0] if op == "GRU" else "N", *x.shape[1:]])],
        [helper.make_tensor_value_info(name, 1, None) for name in outs],
        made,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def resized(
    mode: str, places: str, rounding: str = "floor", scales: tuple[float, ...] = (1, 1, 1.7, 0.6)
) -> onnx.ModelProto:
    words = {"mode": mode, "coordinate_transformation_mode": places, "nearest_mode": rounding}
    return model("Resize", constants={"_": X, "scales": np.float32(scales)}, **words)


SEQUENCE = randoms(6, 2, 5)
MODELS: dict[str, onnx.ModelProto] = {
    "linear, asymmetric": resized("linear", "asymmetric"),
    "cubic, asymmetric": resized("cubic", "asymmetric"),
    "linear, half a pixel of one row": resized("linear", "pytorch_half_pixel", scales=(1, 1, 0.25, 3)),
    "nearest, centres cut": resized("nearest", "half_pixel", "floor", (1, 1, 3, 2.5)),
    "nearest, centres up": resized("nearest", "half_pixel", "ceil", (1, 1, 1.7, 2)),
    "nearest, corners": resized("nearest", "align_corners", "round_prefer_ceil", (1, 1, 2, 3)),
    "softmax of all behind the batch": model("Softmax", 11, axis=1),
    "logarithm of one of the last two": model("LogSoftmax", 11, axis=2),
    "the largest of all": model("Hardmax", 11, axis=1),
    "layer norm of all": model("LayerNormalization", constants={"s": randoms(3, 4, 5), "b": randoms(3, 4, 5)}, axis=1),
    "cut off and padded": model("Pad", constants={"p": np.array([0, 0, -1, 1, 0, 0, 2, -2])}),
    "backwards": model("Slice", constants={"s": np.array([-1, 3]), "e": np.array([-9, 0]), "a": np.array([3, 2]), "t": np.array([-1, -2])}),  # noqa: E501
    "reset first": model("GRU", x=SEQUENCE, constants=GRU, hidden_size=HIDDEN),
    "reset first, backwards": model("GRU", x=SEQUENCE, constants=GRU, hidden_size=HIDDEN, direction="reverse"),
    "reset first, both ways": model("GRU", x=SEQUENCE, constants={k: np.repeat(v, 2, 0) for k, v in GRU.items()}, hidden_size=HIDDEN, direction="bidirectional"),  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_form_that_torch_has_not_is_computed_as_onnx_runtime_does(name: str) -> None:
    inputs = [SEQUENCE if name.startswith("reset") else X]
    graph = from_onnx(MODELS[name])
    for got, wanted in zip(outputs(graph, inputs), by_runtime(MODELS[name], inputs), strict=True):
        assert close(got, wanted)


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@pytest.mark.parametrize("name", ["linear, asymmetric", "nearest, centres cut", "backwards", "reset first"])
def test_such_a_form_is_quantized(name: str, target: str) -> None:
    x = SEQUENCE if name.startswith("reset") else X
    low = qgraph.quantize(from_onnx(MODELS[name]), target, calibration=[x], fallback="float")
    assert qgraph.verify(low, inputs=x, layout="NCHW" if x.ndim == 4 else None).bit_exact


def test_a_place_next_to_where_another_element_is_chosen_is_refused() -> None:
    """At 2 / float32(4 / 7), which is 3.5 but for rounding, float32 decides."""
    words = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "round_prefer_ceil"}
    sizes = {"_": X, "_2": X, "sizes": np.array([2, 3, 4, 4])}
    with pytest.raises(UnsupportedOp, match="read next to where 'round_prefer_ceil' chooses another element"):
        from_onnx(model("Resize", x=randoms(2, 3, 4, 7), constants=sizes, **words))
