"""Single nodes of quantized models as other tools write them, with attributes and shapes that qgraph does not write:
the runtime's bits, on ties too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qgraph
from qgraph.ir import Array
from qgraph.runtimes import Worker
from tests.targets.onnxruntime.foreign import LEVELS, PROVEN, outputs

MICROSOFT = "com.microsoft"
U8, I8 = np.uint8, np.int8
f32 = np.float32


class Case:
    """One node: inputs that are given in order, constants where a name is not among the inputs of the model."""

    def __init__(self, op: str, domain: str = "", **attrs: Any) -> None:
        self.op, self.domain, self.attrs = op, domain, attrs
        self.names: list[str] = []
        self.inputs: dict[str, Array] = {}
        self.constants: dict[str, Array] = {}

    def given(self, data: Any) -> Case:
        self.names.append(f"x{len(self.names)}")
        self.inputs[self.names[-1]] = np.asarray(data)
        return self

    def known(self, *arrays: Any) -> Case:
        """More constants; None: an input that is left out."""
        for data in arrays:
            self.names.append("" if data is None else f"c{len(self.names)}")
            if data is not None:
                self.constants[self.names[-1]] = np.asarray(data)
        return self

    def check(self, ort: Worker, folder: Path, results: int = 1) -> None:
        """Compare with the runtime at all levels."""
        made = [f"y{i}" for i in range(results)]
        node = onnx.helper.make_node(self.op, self.names, made, domain=self.domain, **self.attrs)
        kinds = onnx.helper.np_dtype_to_tensor_dtype
        infos = [onnx.helper.make_tensor_value_info(n, kinds(a.dtype), a.shape) for n, a in self.inputs.items()]
        ends = [onnx.helper.make_empty_tensor_value_info(name) for name in made]
        tensors = [onnx.numpy_helper.from_array(data, name) for name, data in self.constants.items()]
        body = onnx.helper.make_graph([node], "g", infos, ends, tensors)
        opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid(MICROSOFT, 1)]
        data = onnx.helper.make_model(body, opset_imports=opsets, ir_version=10).SerializeToString()
        path = folder / "node.onnx"
        path.write_bytes(data)
        given = [*self.inputs.values()]
        for level in LEVELS:
            ours = outputs(qgraph.load(path, optimization=level), given)
            (run,) = ort.run(data, [given], options={"level": level}).runs
            for mine, theirs in zip(ours, run.outputs, strict=True):
                np.testing.assert_array_equal(mine, theirs.data, strict=True)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def codes(shape: tuple[int, ...], dtype: Any = U8, seed: int = 0) -> Array:
    info = np.iinfo(dtype)
    return rng(seed).integers(info.min, int(info.max) + 1, shape).astype(dtype)


def grid(scale: float, zero: int, dtype: Any = U8) -> tuple[Array, Array]:
    return np.array(scale, f32), np.array(zero, dtype)


@pytest.mark.parametrize("dtype", [U8, I8, np.uint16, np.int16])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_quantize_linear_rounds_ties_to_even_along_any_axis(
    ort: Worker, tmp_path: Path, dtype: Any, axis: int | None
) -> None:
    """Values on half steps, one step beyond each end, infinite ones."""
    low, high = np.iinfo(dtype).min, int(np.iinfo(dtype).max)
    shape = (3, 4, 600)
    count = 1 if axis is None else shape[axis]
    scale = (2.0 ** rng().integers(-4, 3, count)).astype(f32)
    zero = rng(1).integers(low, high + 1, count).astype(dtype)
    sizes = [count if axis is not None and i == axis % 3 else 1 for i in range(3)]
    steps = np.arange(-300, 300) / 2
    centre = rng(2).integers(low - 5, high + 5, (3, 4, 1)) - zero.reshape(sizes).astype(np.int64)
    x = ((centre + steps) * scale.reshape(sizes)).astype(f32)
    x[0, 0, :2] = np.inf, -np.inf
    parameters = (scale[0], zero[0]) if axis is None else (scale, zero)
    Case("QuantizeLinear", **({} if axis is None else {"axis": axis})).given(x).known(*parameters).check(ort, tmp_path)
    Case("DequantizeLinear", **({} if axis is None else {"axis": axis})).given(codes(shape, dtype)).known(
        *parameters
    ).check(ort, tmp_path)


def test_int32_is_dequantized_by_a_scale_for_each_channel(ort: Worker, tmp_path: Path) -> None:
    x = rng().integers(-(2**31), 2**31, (6, 50)).astype(np.int32)
    Case("DequantizeLinear", axis=0).given(x).known(rng(1).uniform(1e-4, 1, 6).astype(f32)).check(ort, tmp_path)


@pytest.mark.parametrize("axis", [0, 1])
def test_scales_of_blocks(ort: Worker, tmp_path: Path, axis: int) -> None:
    x, blocks = (6, 8), (3, 8) if axis == 0 else (6, 4)
    scale, zero = rng().uniform(0.01, 1, blocks).astype(f32), codes(blocks, I8)
    Case("DequantizeLinear", axis=axis, block_size=2).given(codes(x, I8)).known(scale, zero).check(ort, tmp_path)
    values = rng(3).normal(0, 20, x).astype(f32)
    Case("QuantizeLinear", axis=axis, block_size=2).given(values).known(scale, zero).check(ort, tmp_path)


def test_scales_that_are_computed(ort: Worker, tmp_path: Path) -> None:
    x = rng().normal(0, 3, (5, 7)).astype(f32)
    Case("QuantizeLinear").given(x).given(f32(0.05)).given(U8(7)).check(ort, tmp_path)
    Case("DequantizeLinear").given(codes((5, 7))).given(f32(0.05)).given(U8(7)).check(ort, tmp_path)


def test_dynamic_quantization(ort: Worker, tmp_path: Path) -> None:
    """Of nothing but zeros, of one sign, on ties."""
    for seed in range(30):
        x = rng(seed).normal(rng(seed).uniform(-3, 3), 1, 40).astype(f32)
        Case("DynamicQuantizeLinear").given(x).check(ort, tmp_path, 3)
    for values in ([0, 0, 0], [1, 2, 255], [-1, -2, -255], [-127.5, 127.5, 0.5, 1.5, 2.5], [1e-30, 2e-30, 0]):
        Case("DynamicQuantizeLinear").given(np.array(values, f32)).check(ort, tmp_path, 3)


@pytest.mark.parametrize("types", [(U8, U8), (U8, I8), (I8, I8)])
@pytest.mark.parametrize("shapes", [((5, 6), (6, 4)), ((6,), (6, 4)), ((2, 3, 5, 6), (3, 6, 4)), ((5, 6), (6,))])
def test_products_with_a_scale_for_each_column(
    ort: Worker, tmp_path: Path, types: tuple[Any, Any], shapes: tuple[tuple[int, ...], ...]
) -> None:
    """Results on both sides of every step: the scales are powers of two."""
    a, b = (codes(shape, dtype, seed) for seed, (shape, dtype) in enumerate(zip(shapes, types, strict=True)))
    for columns in (1, 4) if shapes[1] == (6, 4) else (1,):
        scale = (2.0 ** -rng(2).integers(3, 9, columns)).astype(f32)
        zero = codes((columns,), types[1], 5)
        scales = (scale[0], zero[0]) if columns == 1 else (scale, zero)
        case = Case("QLinearMatMul").given(a).known(*grid(0.25, 3, types[0]), b, *scales, *grid(4, 9, types[0]))
        case.check(ort, tmp_path)
        Case("MatMulInteger").given(a).given(b).known(types[0](3), scales[1]).check(ort, tmp_path)


@pytest.mark.parametrize("bias", [None, (4,), (1, 4), (1,)])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("turned", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_layers_with_any_attributes(
    ort: Worker, tmp_path: Path, bias: tuple[int, ...] | None, alpha: float, turned: tuple[int, int]
) -> None:
    x, w = codes((6, 40)), codes((6, 4), I8, 1)
    x = x if turned[0] else np.ascontiguousarray(x.T)
    w = np.ascontiguousarray(w.T) if turned[1] else w
    c = None if bias is None else rng(3).integers(-900, 900, bias).astype(np.int32)
    scale = (2.0 ** -rng(2).integers(3, 9, 4)).astype(f32)
    attrs = {"alpha": alpha, "transA": turned[0], "transB": turned[1]}
    case = Case("QGemm", MICROSOFT, **attrs).given(x).known(*grid(0.25, 100), w, scale, np.zeros(4, I8), c)
    case.check(ort, tmp_path)  # which ends in floats
    case.known(*grid(2, 120)).check(ort, tmp_path)


def test_products_that_end_in_floats(ort: Worker, tmp_path: Path) -> None:
    b, scale, zero = codes((6, 4), I8, 1), rng(2).uniform(0.01, 1, 4).astype(f32), codes((4,), I8, 3)
    bias = rng(4).normal(0, 1, 4).astype(f32)
    for more in ((), (bias,)):
        case = Case("MatMulIntegerToFloat", MICROSOFT).given(codes((3, 5, 6))).known(b, f32(0.1), scale, U8(7), zero)
        case.known(*more).check(ort, tmp_path)
        case = Case("DynamicQuantizeMatMul", MICROSOFT).given(rng(5).normal(0, 2, (3, 5, 6)).astype(f32))
        case.known(b, scale, zero, *more).check(ort, tmp_path)


@PROVEN
@pytest.mark.parametrize("padding", [{"pads": [1, 0, 2, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}])
def test_windows_as_others_write_them(ort: Worker, tmp_path: Path, padding: dict[str, Any]) -> None:
    x, w = codes((2, 4, 9, 8)), codes((6, 2, 3, 2), I8, 1)
    attrs = {"strides": [2, 1], "group": 2, **padding}
    scales = np.full(6, 0.0625, f32), codes((6,), I8, 2)
    bias = rng(3).integers(-999, 999, 6).astype(np.int32)
    Case("QLinearConv", **attrs).given(x).known(*grid(0.5, 9), w, *scales, *grid(4, 128), bias).check(ort, tmp_path)
    Case("ConvInteger", **attrs).given(x).given(w).known(U8(9), None).check(ort, tmp_path)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_pools_as_others_write_them(ort: Worker, tmp_path: Path, counted: int, ceil_mode: int) -> None:
    attrs = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": ceil_mode}
    for scale in (0.25, 0.037):
        case = Case("QLinearAveragePool", MICROSOFT, **attrs, count_include_pad=counted).given(codes((2, 3, 8, 9)))
        case.known(*grid(scale, 100), *grid(0.25, 90)).check(ort, tmp_path)


@pytest.mark.parametrize("opset", [12, 13])
@pytest.mark.parametrize("axis", [1, 2, -1])
def test_softmax_of_both_meanings_of_its_axis(ort: Worker, tmp_path: Path, opset: int, axis: int) -> None:
    case = Case("QLinearSoftmax", MICROSOFT, axis=axis, opset=opset).given(codes((2, 3, 4, 5)))
    case.known(*grid(0.1, 100), *grid(1 / 256, 0)).check(ort, tmp_path)


def test_a_dynamically_quantized_lstm(ort: Worker, tmp_path: Path) -> None:
    """With a bias and a first state, and without."""
    size, w, r = 5, codes((1, 3, 20), I8, 1), codes((1, 5, 20), I8, 2)
    bias, state = rng(3).normal(0, 1, (1, 40)).astype(f32), rng(4).normal(0, 1, (1, 2, 5)).astype(f32)
    scales = (np.full((1,), 0.01, f32), np.zeros((1,), I8), np.full((1,), 0.02, f32), np.zeros((1,), I8))
    x = rng(5).normal(0, 2, (7, 2, 3)).astype(f32)
    for more in ((None, None, None, None), (bias, None, state, state[:, ::-1].copy())):
        case = Case("DynamicQuantizeLSTM", MICROSOFT, hidden_size=size).given(x).known(w, r, *more, None, *scales)
        case.check(ort, tmp_path, 3)
