"""Float and mixed .tflite files: read as `nn`, or as float ops within integers, and compared with LiteRT.

Tolerance: a float32 sum of n products in any order is within n * 2**-24 of the sum of the products' magnitudes. Here
every op is compared with its own inputs random of about 1, so the bound is `n * 2**-24 * sum(|x * w|)`, n the number
of products of one result, plus 2**-20 of the value for functions such as exp.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph.errors import FileError, RuntimeFailure
from qgraph.exporters import tflite
from qgraph.exporters.tflite import Operator, Quantization, SubGraph, Tensor
from qgraph.interpreter import execute
from qgraph.ir import Array, TensorType, Value, op_def
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from qgraph.targets.litert.rows import BY_OPERATOR, FLOAT_BY_OPERATOR
from tests.targets.litert.families import Families, record_float

HERE = Path(__file__).parent / "models"
Rng = np.random.Generator
OTHER_NAMES = {"stride_w": 1, "stride_h": 2, "dilation_w_factor": 1, "dilation_h_factor": 1}


@dataclass
class Case:
    """One operator on floats: constants by place, options, shapes of x and the result, products in one result."""

    operator: str
    x: tuple[int, ...]
    result: tuple[int, ...]
    constants: tuple[Array, ...] = ()
    options: dict[str, object] | None = None
    products: int = 1
    first: int = 0  # place of x among the operands
    positive: bool = False

    def model(self) -> bytes:
        """The file."""
        tensors = [Tensor("x", "f32", self.x), Tensor("y", "f32", self.result)]
        operands = []
        for place, data in enumerate(self.constants):
            operands.append(len(tensors))
            tensors.append(Tensor(f"c{place}", "i32" if data.dtype == np.int32 else "f32", data.shape, data))
        operands.insert(self.first, 0)
        node = Operator(self.operator, tuple(operands), (1,), dict(self.options or {}), version=1)
        return tflite.write(tflite.Model([SubGraph(tensors, [node], [0], [1], "one")]))


def floats(*shape: int) -> Array:
    return np.random.default_rng(list(shape)).normal(size=shape).astype(np.float32)


def ints(*values: object) -> Array:
    return np.array(values[0] if len(values) == 1 else values, np.int32)


def window(padding: str, activation: str = "NONE", **more: object) -> dict[str, object]:
    return {"padding": padding, "fused_activation_function": activation, **OTHER_NAMES, **more}


def pool(padding: str, activation: str = "NONE") -> dict[str, object]:
    return {
        **{"padding": padding, "fused_activation_function": activation, "stride_w": 1, "stride_h": 2},
        **{"filter_width": 3, "filter_height": 2},
    }


NONE = {"fused_activation_function": "NONE"}
CASES = {
    "conv_same": Case("CONV_2D", (1, 9, 7, 4), (1, 5, 7, 6), (floats(6, 3, 2, 4), floats(6)), window("SAME"), 25),
    "conv_valid_relu6": Case(
        "CONV_2D", (1, 9, 7, 4), (1, 4, 6, 6), (floats(6, 3, 2, 4), floats(6)), window("VALID", "RELU6"), 25
    ),
    "depthwise": Case(
        *("DEPTHWISE_CONV_2D", (1, 9, 7, 4), (1, 5, 7, 8), (floats(1, 3, 2, 8), floats(8))),
        window("SAME", "RELU_N1_TO_1", depth_multiplier=2),
        7,
    ),
    "transpose_conv": Case(
        *("TRANSPOSE_CONV", (1, 4, 6, 3), (1, 9, 7, 5), (ints(1, 9, 7, 5), floats(5, 3, 2, 3))),
        {"padding": "VALID", "stride_w": 1, "stride_h": 2, "fused_activation_function": "NONE"},
        19,
        2,
    ),
    "transpose_conv_same": Case(
        *("TRANSPOSE_CONV", (1, 4, 6, 3), (1, 8, 6, 5), (ints(1, 8, 6, 5), floats(5, 3, 2, 3))),
        {"padding": "SAME", "stride_w": 1, "stride_h": 2, "fused_activation_function": "NONE"},
        19,
        2,
    ),
    "fully_connected": Case(
        *("FULLY_CONNECTED", (2, 3, 4), (3, 5), (floats(5, 8), floats(5))), {"fused_activation_function": "RELU"}, 9
    ),
    "fully_connected_kept": Case(
        *("FULLY_CONNECTED", (2, 3, 8), (2, 3, 5), (floats(5, 8), floats(5))), {**NONE, "keep_num_dims": True}, 9
    ),
    "batch_matmul": Case("BATCH_MATMUL", (2, 3, 8), (2, 3, 5), (floats(2, 8, 5),), {"adj_x": False}, 8),
    "add": Case("ADD", (2, 3, 8), (2, 3, 8), (floats(3, 1),), NONE),
    "sub": Case("SUB", (2, 3, 8), (2, 3, 8), (floats(8),), {"fused_activation_function": "RELU"}),
    "mul": Case("MUL", (2, 3, 8), (2, 3, 8), (floats(8),), NONE),
    "div": Case("DIV", (2, 3, 8), (2, 3, 8), (floats(8),), NONE),
    "maximum": Case("MAXIMUM", (2, 3, 8), (2, 3, 8), (floats(8),)),
    "minimum": Case("MINIMUM", (2, 3, 8), (2, 3, 8), (floats(8),)),
    "squared_difference": Case("SQUARED_DIFFERENCE", (2, 3, 8), (2, 3, 8), (floats(8),)),
    "max_pool": Case("MAX_POOL_2D", (1, 9, 7, 4), (1, 5, 7, 4), (), pool("SAME")),
    "average_pool": Case("AVERAGE_POOL_2D", (1, 9, 7, 4), (1, 5, 7, 4), (), pool("SAME", "RELU"), 6),
    "mean": Case("MEAN", (2, 5, 4, 3), (2, 3), (ints([1, 2]),), {"keep_dims": False}, 20),
    "sum": Case("SUM", (2, 5, 4, 3), (2, 1, 1, 3), (ints([1, 2]),), {"keep_dims": True}, 20),
    "reduce_max": Case("REDUCE_MAX", (2, 5, 4, 3), (2, 3), (ints([1, 2]),), {"keep_dims": False}),
    "softmax": Case("SOFTMAX", (3, 9), (3, 9), (), {"beta": 1.0}, 9),
    "softmax_beta": Case("SOFTMAX", (3, 9), (3, 9), (), {"beta": 0.5}, 9),
    "log_softmax": Case("LOG_SOFTMAX", (3, 9), (3, 9), (), None, 9),
    "logistic": Case("LOGISTIC", (3, 9), (3, 9), (), None, 4),
    "tanh": Case("TANH", (3, 9), (3, 9), (), None, 4),
    "relu": Case("RELU", (3, 9), (3, 9)),
    "relu6": Case("RELU6", (3, 9), (3, 9)),
    "relu_n1_to_1": Case("RELU_N1_TO_1", (3, 9), (3, 9)),
    "leaky_relu": Case("LEAKY_RELU", (3, 9), (3, 9), (), {"alpha": 0.1}),
    "prelu": Case("PRELU", (3, 9), (3, 9), (floats(9),)),
    "hard_swish": Case("HARD_SWISH", (3, 9), (3, 9), (), None, 3),
    "gelu": Case("GELU", (3, 9), (3, 9), (), {"approximate": False}, 8),
    "gelu_tanh": Case("GELU", (3, 9), (3, 9), (), {"approximate": True}, 8),
    "elu": Case("ELU", (3, 9), (3, 9), (), None, 4),
    "exp": Case("EXP", (3, 9), (3, 9), (), None, 4),
    "log": Case("LOG", (3, 9), (3, 9), positive=True, products=4),
    "sqrt": Case("SQRT", (3, 9), (3, 9), positive=True),
    "rsqrt": Case("RSQRT", (3, 9), (3, 9), positive=True, products=4),
    "abs": Case("ABS", (3, 9), (3, 9)),
    "neg": Case("NEG", (3, 9), (3, 9)),
    "square": Case("SQUARE", (3, 9), (3, 9)),
    "l2_normalization": Case("L2_NORMALIZATION", (3, 9), (3, 9), (), NONE, 9),
    **{
        f"resize_{kind.lower()}_{corners}_{half}": Case(
            *(f"RESIZE_{kind}", (1, 5, 4, 3), (1, 7, 9, 3), (ints(7, 9),)),
            {"align_corners": corners, "half_pixel_centers": half},
            6 if kind == "BILINEAR" else 1,
        )
        for kind in ("BILINEAR", "NEAREST_NEIGHBOR")
        for corners, half in ((False, False), (True, False), (False, True))
    },
    "pad": Case("PAD", (1, 3, 4, 2), (1, 5, 5, 2), (ints([[0, 0], [1, 1], [1, 0], [0, 0]]),)),
    "reshape": Case("RESHAPE", (2, 6), (3, 4), (ints([3, 4]),)),
    "transpose": Case("TRANSPOSE", (2, 3, 4), (4, 2, 3), (ints([2, 0, 1]),)),
    "concatenation": Case("CONCATENATION", (2, 3), (2, 5), (floats(2, 2),), {"axis": 1, **NONE}),
    "slice": Case("SLICE", (4, 6), (2, 3), (ints([1, 2]), ints([2, 3]))),
}


def sample(case: Case) -> Array:
    x = np.random.default_rng(7).normal(size=case.x).astype(np.float32)
    return np.abs(x) if case.positive else x


@pytest.mark.parametrize("name", CASES)
def test_an_op_is_that_of_the_runtimes(litert: Families, name: str) -> None:
    case = CASES[name]
    graph, x = from_tflite(case.model()), sample(case)
    (ours,) = execute(graph, {"x": x})
    op = FLOAT_BY_OPERATOR.get(case.operator, BY_OPERATOR.get(case.operator))
    assert op is not None
    compared = 0
    for target in litert.names:
        try:
            theirs = litert.outputs(target, case.model(), [x])[0]
        except RuntimeFailure:  # LiteRT's reference kernels have no ELU; TFLite Micro has fewer
            continue
        magnitude = np.abs(ours).max() + (8 if case.products > 4 else 0)  # sums of products of about 1
        assert (ours.shape, ours.dtype) == (theirs.shape, np.float32)
        assert np.abs(ours - theirs).max() <= case.products * 2.0**-22 * magnitude, target
        record_float(op.op, target, ours, theirs)
        compared += 1
    assert compared >= 2


def test_a_float_file_is_read_as_nn() -> None:
    graph = from_tflite(CASES["conv_same"].model())
    assert graph.level == "float"
    assert [node.op for node in graph.nodes] == ["nn.transpose", "nn.conv", "nn.transpose"]
    assert str(graph.inputs[0].type) == "f32[1,9,7,4]"
    assert str(graph.outputs[0].type) == "f32[1,5,7,6]"


def test_what_nn_has_not_stays_an_operator() -> None:
    graph = from_tflite(CASES["log_softmax"].model())
    assert [node.op for node in graph.nodes] == ["litert.log_softmax"]
    assert from_tflite(to_tflite(graph)) == graph


def mixed() -> bytes:
    """FULLY_CONNECTED on integers, then SOFTMAX on floats."""
    quant = Quantization(np.full(1, 0.05, np.float32), np.zeros(1, np.int64))
    w = np.random.default_rng(0).integers(-127, 128, (5, 8)).astype(np.int8)
    tensors = [
        Tensor("x", "f32", (2, 8)),
        Tensor("x_q", "i8", (2, 8), None, quant),
        Tensor("w", "i8", (5, 8), w, quant),
        Tensor("y_q", "i8", (2, 5), None, quant),
        Tensor("y", "f32", (2, 5)),
        Tensor("p", "f32", (2, 5)),
    ]
    operators = [
        Operator("QUANTIZE", (0,), (1,)),
        Operator("FULLY_CONNECTED", (1, 2, -1), (3,), NONE, version=4),
        Operator("DEQUANTIZE", (3,), (4,)),
        Operator("SOFTMAX", (4,), (5,), {"beta": 1.0}),
    ]
    return tflite.write(tflite.Model([SubGraph(tensors, operators, [0], [5], "mixed")]))


def test_a_mixed_file_keeps_its_float_ops(litert: Families) -> None:
    graph = from_tflite(mixed())
    assert graph.level == "integer"
    assert [node.op for node in graph.nodes] == [
        *("litert.quantize", "litert.fully_connected", "litert.dequantize", "litert.float_softmax"),
    ]
    assert from_tflite(to_tflite(graph)) == graph


@pytest.mark.parametrize("target", ["litert", "tflm"])
def test_a_mixed_file_is_exact_on_the_reference_kernels(litert: Families, target: str) -> None:
    report = qgraph.verify(from_tflite(mixed()), target, intermediate=True)
    assert report.bit_exact
    assert report.notes == ()


def test_verify_says_which_float_ops_are_not_exact(litert: Families) -> None:
    report = qgraph.verify(from_tflite(mixed()), "litert-xnnpack", intermediate=True)
    assert report.notes == ("floats of litert.float_softmax: their last digits may differ from the runtime's",)
    assert [node.mismatches for node in report.nodes[:3]] == [0, 0, 0]
    assert report.outputs[0].largest < 1e-6


EXACT_FUNCTIONS = ("EXP", "HARD_SWISH", "LOG", "LOGISTIC", "LOG_SOFTMAX", "RSQRT", "SOFTMAX", "SQRT", "TANH")


@pytest.mark.parametrize("operator", EXACT_FUNCTIONS)
def test_functions_are_those_of_the_reference_kernels(litert: Families, operator: str) -> None:
    """No bit differs over 20,000 numbers of all sizes, on LiteRT's reference kernels and on TFLite Micro."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2000, 10)) * rng.choice([0.1, 1, 5, 20], (2000, 1))).astype(np.float32)
    case = Case(operator, x.shape, x.shape, (), {"beta": 1.0} if operator == "SOFTMAX" else None)
    x = np.abs(x) + np.float32(1e-3) if operator in ("LOG", "RSQRT", "SQRT") else x
    row = FLOAT_BY_OPERATOR[operator]
    definition, value = op_def(row.op), Value(TensorType(case.x))
    view = definition.bind([value], definition.complete(case.options or {}), [value])
    ours = np.asarray(view.evaluate(x))
    for target in ("litert", "tflm"):
        theirs = litert.outputs(target, case.model(), [x])[0]
        assert np.array_equal(ours.view(np.int32), theirs.view(np.int32)), target
        record_float(row.op, target, ours, theirs)


def hybrid() -> bytes:
    """FULLY_CONNECTED of floats with a weight of integers."""
    quant = Quantization(np.full(1, 0.05, np.float32), np.zeros(1, np.int64))
    w = np.random.default_rng(0).integers(-127, 128, (5, 8)).astype(np.int8)
    tensors = [Tensor("x", "f32", (2, 8)), Tensor("w", "i8", (5, 8), w, quant), Tensor("y", "f32", (2, 5))]
    operator = Operator("FULLY_CONNECTED", (0, 1, -1), (2,), NONE, version=4)
    return tflite.write(tflite.Model([SubGraph(tensors, [operator], [0], [2], "hybrid")]))


def test_a_hybrid_file_is_read_with_the_floats_that_its_weights_stand_for(litert: Families) -> None:
    """The runtime quantizes x too, to a step of max(abs(x)) / 127, half of which each product may be off."""
    graph, x = from_tflite(hybrid()), floats(2, 8)
    assert graph.metadata["hybrid"] == "1 layers have integer weights: runtimes quantize their activations too"
    theirs = litert.outputs("litert", hybrid(), [x])[0]
    w = np.abs(next(iter(graph.constants.values())).data)
    bound = np.abs(x).max(axis=1, keepdims=True) / 127 * 0.51 * w.sum(axis=-1)
    assert (np.abs(execute(graph, {"x": x})[0] - theirs) <= bound).all()


def test_hello_world(litert: Families) -> None:
    path = HERE / "hello_world_float.tflite"
    graph = qgraph.load(path)
    for value in (0.0, 1.0, 3.0, 6.0):
        x = np.full((1, 1), value, np.float32)
        theirs = litert.outputs("litert", path.read_bytes(), [x])[0]
        assert np.abs(np.asarray(qgraph.run(graph, x)) - theirs).max() <= 16 * 2.0**-21


@pytest.mark.parametrize(
    "model", ["mlperf_tiny/ad01_fp32", "tflite_support/mobilenet_v1_0.25_224_1_default_1", "tflm/mnist_lstm_float"]
)
def test_whole_float_models(litert: Families, model: str) -> None:
    """Relative to the largest output; layers add up their bounds, of which random rounding uses a small part."""
    if "QGRAPH_ASSETS" not in os.environ:
        pytest.skip("needs the environment variable QGRAPH_ASSETS: a folder with data/ and models/")
    path = Path(os.environ["QGRAPH_ASSETS"]) / "models" / f"{model}.tflite"
    graph = qgraph.load(path)
    shape = [1 if isinstance(size, str) else size for size in graph.inputs[0].type.shape]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (ours,) = execute(graph, {graph.inputs[0].name: x})
    theirs = litert.outputs("litert", path.read_bytes(), [x])[0]
    assert np.abs(ours - theirs).max() <= 2.0**-16 * np.abs(theirs).max()


def test_an_op_that_no_kernel_computes_is_refused() -> None:
    model = Case("COS", (2, 3), (2, 3)).model()
    with pytest.raises(FileError, match="operator COS is not one that qgraph runs"):
        from_tflite(model)


def test_a_float_file_is_quantized(litert: Families) -> None:
    """Inputs of other tools have names that no parameter of a function could have."""
    graph = qgraph.load(HERE / "hello_world_float.tflite")
    angles = np.linspace(0, 6, 50, dtype=np.float32).reshape(50, 1)
    lowered = qgraph.quantize(graph, target="litert", calibration=[angles])
    assert qgraph.verify(lowered, "litert", inputs=angles).bit_exact
    assert np.abs(np.asarray(qgraph.run(lowered, angles, dequantize=True)) - np.sin(angles)).max() < 0.2


@pytest.mark.parametrize("target", ["litert", "tflm", "litert-xnnpack"])
def test_a_float_lstm_of_another_tool_is_quantized(target: str) -> None:
    if "QGRAPH_ASSETS" not in os.environ:
        pytest.skip("needs the environment variable QGRAPH_ASSETS: a folder with data/ and models/")
    graph = qgraph.load(Path(os.environ["QGRAPH_ASSETS"]) / "models/tflm/mnist_lstm_float.tflite")
    assert graph.level == "float"
    graph = qgraph.passes.set_batch(graph, size="N")
    x = np.random.default_rng(0).uniform(0, 1, (20, 28, 28)).astype(np.float32)
    lowered = qgraph.quantize(graph, target=target, calibration=[x])
    assert len(lowered.find("litert.unidirectional_sequence_lstm")) == (target != "litert-xnnpack")
    assert qgraph.verify(lowered, inputs=x).bit_exact


def test_inputs_can_be_moved_to_the_front_to_be_quantized() -> None:
    graph = from_tflite(CASES["conv_same"].model())
    moved = qgraph.passes.convert_layout(graph, to="NCHW", io="convert")
    assert [node.op for node in moved.nodes] == ["nn.conv"]
    assert str(moved.inputs[0].type) == "f32[1,4,9,7]"
