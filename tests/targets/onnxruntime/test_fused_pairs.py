"""What becomes of pairs of quantizing and dequantizing nodes: the ops that ONNX Runtime makes, and its bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

import qgraph
from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.runtimes import Worker
from qgraph.targets.onnxruntime.float_kernels import is_exact
from tests.targets.onnxruntime.foreign import LEVELS, PROVEN, differing, saved
from tests.targets.onnxruntime.random_pairs import random_model

Nodes = list[onnx.NodeProto]
node = onnx.helper.make_node
U8, I8 = np.uint8, np.int8


class Model:
    """Nodes and constants of a model of one float input x and one float result y."""

    def __init__(self) -> None:
        self.nodes: Nodes = []
        self.constants: dict[str, Array] = {}

    def grid(self, scale: float, zero: int, dtype: type = U8) -> list[str]:
        """The names of a scale and a zero point."""
        names = [f"{kind}{len(self.constants)}" for kind in "sz"]
        self.constants |= {names[0]: np.array(scale, np.float32), names[1]: np.array(zero, dtype)}
        return names

    def op(self, op: str, *inputs: str, **attrs: object) -> str:
        """Another node; gives its result."""
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(node(op, inputs, [name], name, **attrs))
        return name

    def pair(self, x: str, scale: float = 0.05, zero: int = 120, dtype: type = U8) -> str:
        """x through codes."""
        grid = self.grid(scale, zero, dtype)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *grid), *grid)

    def codes(self, data: Array, scale: float, zero: int = 0, **attrs: int) -> str:
        """Dequantized constant codes."""
        name = f"w{len(self.constants)}"
        self.constants[name] = data
        return self.op("DequantizeLinear", name, *self.grid(scale, zero, data.dtype.type), **attrs)

    def save(self, result: str, shape: Sequence[int | str], folder: Path) -> Path:
        self.op("Identity", result)
        self.nodes[-1].output[0] = "y"
        return saved(self.nodes, {"x": ("f32", [*shape])}, {"y": []}, folder, **self.constants)


def made(path: Path, level: str = "all") -> list[str]:
    """The ops that a file becomes."""
    return [each.op.partition(".")[2] for each in qgraph.load(path, optimization=level).nodes]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 3, shape).astype(np.float32)


def weight(*shape: int) -> Array:
    return np.random.default_rng(1).integers(-127, 128, shape).astype(I8)


@pytest.mark.parametrize(("factor", "fused"), [(1, True), (1.01, True), (1.013, False), (2, False)])
def test_a_convolution_takes_a_bias_whose_scale_is_nearly_that_of_its_products(
    ort: Worker, tmp_path: Path, factor: float, fused: bool
) -> None:
    model = Model()
    x, w = model.pair("x"), model.codes(weight(4, 4, 1, 1), 0.01)
    bias = model.codes(np.array([100, -200, 300, -50], np.int32), 0.05 * 0.01 * factor)
    path = model.save(model.pair(model.op("Conv", x, w, bias), 0.1, 100), (2, 4, 5, 5), tmp_path)
    assert ("QLinearConv" in made(path)) == fused
    assert not fused or not differing(path, [floats(2, 4, 5, 5)], ort)


def test_a_layer_takes_any_bias_of_int32(ort: Worker, tmp_path: Path) -> None:
    model = Model()
    x, w = model.pair("x"), model.codes(weight(4, 4), 0.01)
    bias = model.codes(np.array([100, -200, 300, -50], np.int32), 0.7, 3)
    path = model.save(model.pair(model.op("Gemm", x, w, bias), 0.1, 100), ("N", 4), tmp_path)
    assert "QGemm" in made(path)
    assert not differing(path, [floats(50, 4)], ort)


@pytest.mark.parametrize("op", ["Conv", "Gemm"])
@pytest.mark.parametrize("known", ["bias", "weight and bias"])
def test_parameters_in_float_are_quantized(ort: Worker, tmp_path: Path, op: str, known: str) -> None:
    """The runtime quantizes them itself; the bias lies on ties."""
    model, shape = Model(), (4, 4, 1, 1) if op == "Conv" else (4, 4)
    x = model.pair("x")
    model.constants["b"] = (np.array([2.5, -3.5, 400.5, 0], np.float32) * np.float32(0.05) * np.float32(0.01)).astype(
        np.float32
    )
    model.constants["w"] = floats(*shape) / 10
    w = "w" if known == "weight and bias" else model.codes(weight(*shape), 0.01)
    layer = model.op("Relu", model.op(op, x, w, "b"))
    path = model.save(model.pair(layer, 0.1, 0), (2, 4, 5, 5)[: len(shape)], tmp_path)
    assert made(path)[1] == ("QLinearConv" if op == "Conv" else "QGemm")
    assert not differing(path, [floats(2, 4, 5, 5)[(...,) if op == "Conv" else (..., 0, 0)]], ort)


@pytest.mark.parametrize(
    "op", ["Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Slice", "Flatten", "Gather"]
)
@pytest.mark.parametrize("behind", [True, False])
def test_pairs_go_through_what_moves_floats(ort: Worker, tmp_path: Path, op: str, behind: bool) -> None:
    """And not through the last two, though they move no less."""
    model = Model()
    integers = {
        "Reshape": [[4, 2, 6]],
        "Squeeze": [[0]],
        "Unsqueeze": [[1]],
        "Slice": [[1], [3], [1]],
        "Gather": [[1, 0]],
    }
    attrs = {"Transpose": {"perm": [0, 2, 1, 3]}, "MaxPool": {"kernel_shape": [2, 2]}, "Gather": {"axis": 1}}
    given = [f"i{k}" for k in range(len(integers.get(op, ())))]
    model.constants |= {n: np.array(i, np.int64) for n, i in zip(given, integers.get(op, ()), strict=True)}
    x = model.pair("x")
    x = (
        model.op("Sigmoid", model.op(op, x, *given, **attrs.get(op, {})))
        if behind
        else model.op(op, model.op("Sigmoid", x), *given, **attrs.get(op, {}))
    )
    path = model.save(model.pair(x, 1 / 255, 0), (1, 4, 4, 3), tmp_path)
    assert ("QLinearSigmoid" in made(path)) == (op not in ("Flatten", "Gather"))
    for level in LEVELS:
        assert not differing(path, [floats(1, 4, 4, 3)], ort, level)


@pytest.mark.parametrize("dtypes", [(U8, U8), (I8, I8), (U8, I8)])
def test_two_pairs_behind_each_other_become_one_of_the_range_that_both_have(
    ort: Worker, tmp_path: Path, dtypes: tuple[type, type]
) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        model, x = Model(), "x"
        for dtype in dtypes:
            low = np.iinfo(dtype).min
            x = model.pair(x, float(rng.uniform(0.01, 0.1)), low + int(rng.integers(0, 256)), dtype)
        path = model.save(x, ("N", 4), tmp_path)
        assert len(made(path)) == (2 if dtypes[0] == dtypes[1] else 4)
        for level in LEVELS:
            assert not differing(path, [floats(60, 4) * 3], ort, level)


@pytest.mark.parametrize(
    ("op", "inputs", "removed"),
    [
        ("Dropout", "x", True),
        ("Cast", "x", True),
        ("Expand", "x ones", True),
        *((op, f"x {n}", True) for op, n in (("Add", "zero"), ("Sub", "zero"), ("Mul", "one"), ("Div", "one"))),
        *((op, f"{n} x", removed) for op, n, removed in (("Add", "zero", True), ("Mul", "one", True))),
        *((op, f"{n} x", False) for op, n in (("Sub", "zero"), ("Div", "one"))),
        *((op, f"x {n}", False) for op, n in (("Add", "zeros"), ("Mul", "wide"), ("Add", "tiny"), ("Tile", "ones"))),
        *((op, "x", False) for op in ("Sum", "Max", "Mean", "Min")),
    ],
)
def test_pairs_are_joined_over_what_does_nothing_where_the_runtime_removes_it(
    ort: Worker, tmp_path: Path, op: str, inputs: str, removed: bool
) -> None:
    """It removes no op that broadcasts, none of one operand, and no copy by Tile."""
    known = {"zero": 0, "one": [1], "zeros": [[[0]]] * 4, "wide": [[[[[1]]]]], "tiny": 1e-7, "ones": [1, 1, 1, 1]}
    model = Model()
    given = inputs.split()
    dtype = np.int64 if "ones" in given else np.float32
    model.constants |= {name: np.array(known[name], dtype) for name in given if name in known}
    x = model.pair("x")
    y = model.op(op, *[x if name == "x" else name for name in given], **({"to": 1} if op == "Cast" else {}))
    path = model.save(model.pair(y, 0.043, 110), (2, 4, 5, 5), tmp_path)
    assert (len(made(path, "basic")) == 2) == removed
    for level in LEVELS:
        assert not differing(path, [floats(2, 4, 5, 5)], ort, level)


def test_what_does_nothing_keeps_no_layer_from_its_codes(ort: Worker, tmp_path: Path) -> None:
    model = Model()
    y = model.op("Conv", model.op("Dropout", model.pair("x")), model.codes(weight(4, 4, 1, 1), 0.01))
    path = model.save(model.pair(model.op("Dropout", y), 0.1, 100), (2, 4, 5, 5), tmp_path)
    assert made(path)[1] == "QLinearConv"
    assert not differing(path, [floats(2, 4, 5, 5)], ort)


def test_a_cast_through_doubles_is_kept(ort: Worker, tmp_path: Path) -> None:
    model = Model()
    y = model.op("Cast", model.op("Cast", model.pair("x"), to=11), to=1)
    path = model.save(model.pair(y, 0.043, 110), (2, 4, 5, 5), tmp_path)
    for level in LEVELS:
        assert not differing(path, [floats(2, 4, 5, 5)], ort, level)


@PROVEN
@pytest.mark.parametrize(
    ("op", "attrs", "folded"),
    [
        ("Conv", {}, True),
        ("Conv", {"pads": [1, 0, 0, 1]}, True),
        ("AveragePool", {}, True),
        ("AveragePool", {"count_include_pad": 1, "pads": [1, 1, 1, 1]}, True),
        ("AveragePool", {"count_include_pad": 0, "pads": [1, 1, 1, 1]}, False),
        ("AveragePool", {"count_include_pad": 1, "pads": [2, 3, 3, 3]}, False),
        ("AveragePool", {"count_include_pad": 1, "ceil_mode": 1}, False),
        ("Conv", {"auto_pad": "VALID"}, False),
    ],
)
@pytest.mark.parametrize("said", ["value", "nothing", "axes"])
def test_zeros_around_a_window_are_pads_of_the_op_on_codes(
    ort: Worker, tmp_path: Path, op: str, attrs: dict[str, object], folded: bool, said: str
) -> None:
    """Where the Pad says no axes."""
    model = Model()
    model.constants["p"] = np.array([0, 0, 1, 2, 0, 0, 2, 1] if said != "axes" else [1, 2, 2, 1], np.int64)
    if said != "nothing":
        model.constants["v"] = np.array(0, np.float32)
    if said == "axes":
        model.constants["a"] = np.array([2, 3], np.int64)
    x = model.op("Pad", model.pair("x"), *[name for name in ("p", "v", "a") if name in model.constants])
    w = [model.codes(weight(4, 4, 3, 3), 0.01)] if op == "Conv" else []
    window = attrs if op == "Conv" else {"kernel_shape": [5, 5], **attrs}
    path = model.save(model.pair(model.op(op, x, *w, **window), 0.1, 100), (2, 4, 9, 9), tmp_path)
    assert (f"QLinear{op}" in made(path)) == (folded and said != "axes")
    assert ("pad" in made(path, "basic")) != (folded and said != "axes")
    if folded and said != "axes":
        assert not differing(path, [floats(2, 4, 9, 9)], ort)


@pytest.mark.parametrize("bias", ["float", "codes", "int32"])
def test_a_product_and_the_sum_behind_it_are_a_layer(ort: Worker, tmp_path: Path, bias: str) -> None:
    """Of which codes are made where the bias is a float that can be quantized, or of int32."""
    model = Model()
    x, w = model.pair("x"), model.codes(weight(4, 5), 0.01)
    model.constants["b"] = floats(5)
    vector = np.arange(5).astype({"codes": U8, "int32": np.int32}.get(bias, U8))
    b = "b" if bias == "float" else model.codes(vector, 0.05 * 0.01)
    path = model.save(model.pair(model.op("Add", model.op("MatMul", x, w), b), 0.1, 90), ("N", 4), tmp_path)
    assert ("QGemm" in made(path)) == (bias != "codes")
    assert "MatMulIntegerToFloat" not in made(path)
    assert bias == "codes" or not differing(path, [floats(50, 4)], ort)


@pytest.mark.parametrize("clamp", [True, False])
def test_a_product_of_codes_whose_result_stays_in_float(ort: Worker, tmp_path: Path, clamp: bool) -> None:
    """It is one on floats where a relu is behind it, which no QuantizeLinear makes redundant."""
    model = Model()
    y = model.op("MatMul", model.pair("x"), model.codes(weight(4, 5), 0.01))
    path = model.save(model.op("Abs", model.op("Relu", y) if clamp else y), (3, 7, 4), tmp_path)
    assert ("MatMulIntegerToFloat" in made(path)) != clamp
    assert clamp or not differing(path, [floats(3, 7, 4)], ort)


def reads_exactly(path: Path) -> bool:
    """Whether a file is read, and has no op on floats whose bits are not known: products with a float are neither."""
    try:
        return all(is_exact(each) for each in qgraph.load(path).nodes if each.dialect == "nn")
    except UnsupportedOp:
        return False


@PROVEN
def test_random_models_have_the_bytes_of_the_runtime(ort: Worker, tmp_path: Path) -> None:
    """But for those with products on floats, and those whose transposes the runtime exchanges with pairs."""
    compared = 0
    for seed in range(250):
        path = tmp_path / "m.onnx"
        model = random_model(seed)
        path.write_bytes(model.SerializeToString())
        exact = reads_exactly(path)
        transposes = sum(each.op_type == "Transpose" for each in model.graph.node)
        if exact and transposes < 2:
            compared += 1
            assert not differing(path, [floats(2, 4, 8, 8, seed=seed)], ort), seed
    assert compared > 150


def test_a_weight_that_is_dequantized_along_an_axis_is_written_with_the_op_on_floats(tmp_path: Path) -> None:
    """`verify` returns every tensor of what was read literally; the ends of such a weight's range were asked for."""
    model = Model()
    scales, zeros = "s", "z"
    model.constants |= {"w": weight(4, 4, 1, 1), scales: np.full(4, 0.01, np.float32), zeros: np.zeros(4, I8)}
    w = model.op("DequantizeLinear", "w", scales, zeros, axis=0)
    path = model.save(model.op("Conv", model.pair("x"), w), (2, 4, 5, 5), tmp_path)
    assert qgraph.verify(path, samples=2, intermediate=True, optimization="basic").nodes
