"""Random models in QDQ form, with all that a runtime's optimizer looks at: codes of u8 and i8, zero points at the ends
of their range and within, floats between, several readers, biases of all kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from qgraph.ir import Array

SHAPE = (2, 4, 8, 8)
node = onnx.helper.make_node


class RandomModel:
    """A chain of ops from x on; each result is quantized and dequantized, or stays in float."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.scales: dict[str, Array] = {}  # of what a DequantizeLinear makes
        self.dtypes = [["u8"], ["i8"], ["u8", "i8"]][self.rng.integers(3)]
        self.shape = [*SHAPE]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def constant(self, data: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(data)
        return name

    def op(self, op: str, *inputs: str, **attrs: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(node(op, inputs, [name], f"{op}{len(self.nodes)}", **attrs))
        return name

    def dequantized(self, codes: str, scale: Array, zero: Array, **attrs: int) -> str:
        made = self.op("DequantizeLinear", codes, self.constant(scale), self.constant(zero), **attrs)
        self.scales[made] = scale
        return made

    def grid(self) -> tuple[Array, Array]:
        dtype = str(self.rng.choice(self.dtypes))
        low = 0 if dtype == "u8" else -128
        zero = low if self.chance(0.3) else low + int(self.rng.integers(100, 156))
        scale = self.rng.choice([6 / 255, 0.05, 0.02, 0.11, 3 / 255, 0.5, 0.25, 1 / 16])
        return np.array(scale, np.float32), np.array(zero, np.uint8 if dtype == "u8" else np.int8)

    def pair(self, x: str, p: float = 1.0) -> str:
        """x through codes, with a probability."""
        if not self.chance(p):
            return x
        scale, zero = self.grid()
        return self.dequantized(self.op("QuantizeLinear", x, self.constant(scale), self.constant(zero)), scale, zero)

    def weight(self, shape: tuple[int, ...], axis: int) -> tuple[str, Array]:
        """Dequantized codes of a weight, and their scales."""
        codes, outputs = self.rng.integers(-100, 101, shape), shape[axis]
        scale = np.array(0.01, np.float32)
        if self.chance(0.5):
            scale = (0.01 + 0.001 * np.arange(outputs)).astype(np.float32)
        unsigned = self.chance(0.5)
        data = (codes + 128).astype(np.uint8) if unsigned else codes.astype(np.int8)
        zero = np.full(scale.shape, 128 if unsigned else 0, data.dtype)
        return self.dequantized(self.constant(data), scale, zero, axis=axis), scale

    def layer(self, op: str, x: str, w: str, scale: Array, **attrs: Any) -> str:
        """With a bias of int32, in float, or none; maybe a relu or clip behind it."""
        kind = self.rng.choice(["int32", "float", "none"], p=[0.5, 0.2, 0.3])
        inputs = [x, w]
        if kind == "int32" and x in self.scales and op != "MatMul":
            wanted = np.atleast_1d(self.scales[x] * scale * np.float32(1 if self.chance(0.8) else 1.005))
            codes = self.constant(self.rng.integers(-500, 500, 4).astype(np.int32))
            inputs.append(self.dequantized(codes, wanted, np.zeros(wanted.shape, np.int32), axis=0))
        elif kind == "float" and op == "Conv":
            inputs.append(self.constant(self.rng.normal(0, 0.1, 4).astype(np.float32)))
        y = self.op(op, *inputs, **attrs)
        return self.clamped(y) if self.chance(0.35) else y

    def clamped(self, x: str) -> str:
        if self.chance(0.6):
            return self.op("Relu", x)
        return self.op("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))

    def step(self, x: str) -> str:
        """Another op on images, or on vectors."""
        images = len(self.shape) == 4
        choices = IMAGES if images else VECTORS
        return choices[int(self.rng.integers(len(choices)))](self, x)


def conv(m: RandomModel, x: str) -> str:
    kernel = int(m.rng.choice([1, 3]))
    w, scale = m.weight((4, m.shape[1], kernel, kernel), 0)
    m.shape[1] = 4
    return m.pair(m.layer("Conv", x, w, scale, pads=[kernel // 2] * 4), 0.9)


def gemm(m: RandomModel, x: str) -> str:
    op, turned = ("Gemm", m.chance(0.5)) if m.chance(0.6) else ("MatMul", False)
    inputs = m.shape[1]
    w, scale = m.weight((4, inputs) if turned else (inputs, 4), 0 if turned else 1)
    m.shape = [2, 4]
    return m.pair(m.layer(op, x, w, scale, **({"transB": int(turned)} if op == "Gemm" else {})), 0.7)


def with_another(m: RandomModel, x: str) -> str:
    """A sum or product with codes, or with what is made of x."""
    if m.chance(0.5):
        scale, zero = m.grid()
        codes = m.rng.integers(0, 127, [1] * (len(m.shape) - 1) + m.shape[-1:]).astype(zero.dtype)
        other = m.dequantized(m.constant(codes), scale, zero)
    else:
        other = m.pair(m.clamped(x) if m.chance(0.5) else m.op("Sigmoid", x), 0.9)
    return m.pair(m.op(str(m.rng.choice(["Add", "Mul"])), x, other), 0.9)


def function(m: RandomModel, x: str) -> str:
    op, attrs = [("Sigmoid", {}), ("LeakyRelu", {"alpha": 0.1}), ("Softmax", {"axis": -1})][m.rng.integers(3)]
    return m.pair(m.op(str(op), x, **attrs), 0.9)


def clamp(m: RandomModel, x: str) -> str:
    return m.pair(m.clamped(x), 0.9)


def pool(m: RandomModel, x: str) -> str:
    window: dict[str, Any] = {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}
    if m.chance(0.5):
        return m.pair(m.op("MaxPool", x, **window), 0.6)
    return m.pair(m.op("AveragePool", x, **window, count_include_pad=int(m.chance(0.5))), 0.9)


def concat(m: RandomModel, x: str) -> str:
    m.shape[1] *= 2
    return m.pair(m.op("Concat", x, m.pair(m.op("Sigmoid", x)), axis=1), 0.9)


def moved(m: RandomModel, x: str) -> str:
    if m.chance(0.3):
        return m.pair(m.op("Transpose", x, perm=[0, 1, 3, 2]), 0.5)
    return m.pair(m.op("Reshape", x, m.constant(np.array(m.shape, np.int64))), 0.5)


def head(m: RandomModel, x: str) -> str:
    y = m.op("GlobalAveragePool", x) if m.chance(0.5) else m.op("ReduceMean", x, axes=[2, 3], keepdims=1)
    m.shape = [2, m.shape[1]]
    return m.pair(m.op("Flatten", m.pair(y, 0.8)), 0.5)


IMAGES = (conv, conv, conv, with_another, with_another, function, clamp, pool, concat, moved, head, head)
VECTORS = (gemm, gemm, gemm, with_another, function, clamp)


def random_model(seed: int) -> onnx.ModelProto:
    """A model of one float input [2, 4, 8, 8]; the same for a seed."""
    m = RandomModel(seed)
    y = m.pair("x")
    for _ in range(int(m.rng.integers(2, 6))):
        y = m.step(y)
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", SHAPE), (y, None))
    ]
    tensors = [onnx.numpy_helper.from_array(data, name) for name, data in m.constants.items()]
    body = onnx.helper.make_graph(m.nodes, "g", infos[:1], infos[1:], tensors)
    return onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
