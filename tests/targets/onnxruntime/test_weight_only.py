"""Weights in codes, also of less than a byte and with scales of blocks, of which nothing else is quantized."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import qgraph
from qgraph.errors import UnsupportedOp
from qgraph.interpreter import execute
from qgraph.ir import Array, Graph, Value
from qgraph.runtimes import Worker
from tests.targets.onnxruntime.foreign import PROVEN, differing
from tests.targets.onnxruntime.test_fused_pairs import Model, floats, made, weight

KINDS = ("int4", "uint4", "int8", "uint8")
SCALES = {"one": ((), {}), "columns": ((8,), {"axis": 1}), "blocks": ((4, 8), {"axis": 0, "block_size": 16})}


def codes(kind: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Random codes of a storage type by its ONNX name."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(getattr(onnx.TensorProto, kind.upper()))
    bits = int(kind[-1])
    low = 0 if kind.startswith("u") else -(2 ** (bits - 1))
    return np.random.default_rng(seed).integers(low, low + 2**bits, shape).astype(dtype)


def dequantized(model: Model, kind: str, shape: tuple[int, ...], scales: str = "one") -> str:
    """A dequantized constant."""
    sizes, attrs = SCALES[scales]
    scale = np.random.default_rng(1).uniform(0.01, 0.1, sizes).astype(np.float32)
    model.constants |= {"w": codes(kind, shape), "s": scale, "z": codes(kind, sizes, 2)}
    return model.op("DequantizeLinear", "w", "s", "z", **attrs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_a_product_that_the_runtime_computes_by_blocks_is_refused_but_at_basic(
    tmp_path: Path, kind: str, scales: str, op: str
) -> None:
    model = Model()
    path = model.save(model.op(op, "x", dequantized(model, kind, (64, 8), scales)), (6, 64), tmp_path)
    for level in ("all", "extended"):
        with pytest.raises(UnsupportedOp, match=r'MatMulNBits in onnxruntime[^$]*give optimization="basic"'):
            qgraph.load(path, optimization=level)
    assert qgraph.load(path, optimization="basic").nodes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scales", SCALES)
def test_weights_of_any_storage_are_dequantized_exactly(ort: Worker, tmp_path: Path, kind: str, scales: str) -> None:
    model = Model()
    path = model.save(model.op("Mul", "x", dequantized(model, kind, (64, 8), scales)), (64, 8), tmp_path)
    for level in ("all", "extended", "basic", "disabled"):
        assert not differing(path, [floats(64, 8)], ort, level)


@PROVEN
def test_products_that_stay_in_float_are_read_at_every_level(ort: Worker, tmp_path: Path) -> None:
    """Of a weight that is the first operand, that is read twice, whose result is quantized, or with scales of rows."""

    def of(kind: str) -> list[tuple[Model, str, tuple[int, ...]]]:
        first, quantized, twice = Model(), Model(), Model()
        y = first.op("MatMul", dequantized(first, kind, (8, 6)), "x")
        z = quantized.pair(quantized.op("MatMul", "x", dequantized(quantized, kind, (6, 8))))
        w = dequantized(twice, kind, (6, 6))
        return [
            (first, y, (6, 8)),
            (quantized, z, (8, 6)),
            (twice, twice.op("MatMul", twice.op("MatMul", "x", w), w), (6, 6)),
        ]

    for kind in KINDS:
        for model, result, shape in of(kind):
            path = model.save(result, shape, tmp_path)
            assert "matmul" in made(path)
            (run,) = ort.run(path.read_bytes(), [[floats(*shape)]], options={"level": "all"}).runs
            graph = qgraph.load(path)
            off = np.abs(qgraph.run(graph, floats(*shape)) - run.outputs[0].data).max()
            assert off <= rounding_of_sums(graph, floats(*shape))


def rounding_of_sums(graph: Graph, x: Array) -> float:
    """How far apart two orders of adding up the products of a graph can lead: a sum of K rounded products in float32 is
    off by at most K * 2**-24 times the sum of their magnitudes; what a product behind reads carries that on."""
    arrays: dict[Value, Array] = {graph.inputs[0]: x}
    execute(graph, {graph.inputs[0].name: x}, arrays.__setitem__)
    off = 0.0
    for node in graph.find("nn.matmul"):
        a, b = (np.abs(v.data if v.is_constant else arrays[v]).astype(np.float64) for v in node.inputs)
        off = off * float(b.sum(0).max()) + 2 * a.shape[-1] * 2.0**-24 * float((a @ b).max())
    return off


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Conv"])
def test_weights_of_four_bits_make_no_op_on_codes(tmp_path: Path, op: str) -> None:
    """The runtime has none for them."""
    model, shape = Model(), (4, 4, 1, 1) if op == "Conv" else (4, 4)
    x, w = model.pair("x"), dequantized(model, "int4", shape)
    path = model.save(model.pair(model.op(op, x, w), 0.1, 100), (2, 4, 5, 5)[: len(shape)], tmp_path)
    assert not {"QLinearConv", "QGemm", "QLinearMatMul"} & {*made(path)}
    other = Model()
    x, w = other.pair("x"), other.codes(weight(*shape), 0.01)
    path = other.save(other.pair(other.op(op, x, w), 0.1, 100), (2, 4, 5, 5)[: len(shape)], tmp_path)
    assert {"QLinearConv", "QGemm", "QLinearMatMul"} & {*made(path)}
