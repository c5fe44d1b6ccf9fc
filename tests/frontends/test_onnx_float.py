"""Float graphs as ONNX models and back: ONNX Runtime computes what `qgraph.run` does, and what fits no row is refused.

Tolerance: both sides compute in float32; one result is a sum of at most `TERMS` products, so its rounding errors stay
below TERMS * 2**-24 times the sum of the products' magnitudes, which the largest magnitude of the results stands for.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper

import qgraph
from qgraph import passes
from qgraph.errors import ExportError, FileError, InputError, QGraphError, UnsupportedOp
from qgraph.frontends import from_onnx
from qgraph.ir import Array, Builder, Graph, Origin, TensorType, Value, op_names
from qgraph.ir.trained import declare_summands
from tests.models import seeded
from tests.passes.random_graphs import random_graphs, random_input

ort = pytest.importorskip("onnxruntime", reason="pip install 'qgraph-compiler[onnxruntime]'")

TERMS = 256
IMAGE = ("N", 4, 9, 8)


def randoms(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def close(got: Array, expected: Array) -> bool:
    if expected.dtype == bool:
        return np.array_equal(got, expected)
    return got.shape == expected.shape and bool(
        np.abs(got - expected).max(initial=0) <= TERMS * 2.0**-24 * max(1, np.abs(expected).max(initial=0))
    )


def outputs(graph: Graph, inputs: list[Array]) -> list[Array]:
    made = qgraph.run(graph, *inputs) if len(inputs) == 1 else qgraph.run(graph, tuple(inputs))
    return list(made.values()) if isinstance(made, dict) else [made]


def by_runtime(model: onnx.ModelProto, inputs: list[Array]) -> list[Array]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=True)})


Build = Callable[[Builder, Value], Value]


def const(build: Builder, *shape: int, seed: int = 1) -> Value:
    return build.constant(randoms(*shape, seed=seed) / 2, "w")


def batch_norm(b: Builder, x: Value, channels: int = 4) -> Value:
    parameters = [const(b, channels, seed=seed) for seed in range(3)]
    return b.batch_norm(x, *parameters, b.constant(np.abs(randoms(channels)) + 0.5, "var"), momentum=0.2)


CASES: dict[str, tuple[tuple[int | str, ...], Build]] = {
    "nn.add": (IMAGE, lambda b, x: b.add(x, const(b, 4, 1, 1), activation="relu")),
    "nn.avg_pool": (IMAGE, lambda b, x: b.avg_pool(x, kernel=3, stride=2, pads=1)),
    "nn.avg_pool, pads not counted": (
        IMAGE,
        lambda b, x: b.avg_pool(x, kernel=(3, 2), stride=1, pads=(1, 0, 1, 1), count_include_pad=False),
    ),
    "nn.batch_norm": (IMAGE, batch_norm),
    "nn.batch_norm of features": (("N", 4), batch_norm),
    "nn.clamp": (IMAGE, lambda b, x: b.clamp(x, min=-0.5, max=1.25)),
    "nn.clamp below": (IMAGE, lambda b, x: b.clamp(x, min=-0.5)),
    "nn.concat": (IMAGE, lambda b, x: b.concat(x, x, axis=1)),
    "nn.conv": (IMAGE, lambda b, x: b.conv(x, const(b, 6, 4, 3, 3), const(b, 6), stride=2, pads=1)),
    "nn.conv, clamped": (
        IMAGE,
        lambda b, x: b.conv(x, const(b, 6, 2, 3, 3), groups=2, dilation=2, activation="clamp", clamp=(-1.0, 0.5)),
    ),
    "nn.conv, 1-D": (("N", 4, 9), lambda b, x: b.conv(x, const(b, 6, 4, 3), pads=1, activation="relu6")),
    "nn.conv, 3-D": (("N", 2, 4, 5, 6), lambda b, x: b.conv(x, const(b, 3, 2, 2, 2, 2), activation="hard_swish")),
    "nn.conv_transpose": (
        IMAGE,
        lambda b, x: b.conv_transpose(x, const(b, 4, 3, 3, 3), const(b, 6), stride=2, groups=2, output_padding=1),
    ),
    "nn.dropout": (IMAGE, lambda b, x: b.dropout(x, p=0.2)),
    "nn.expand": (("N", 1, 8), lambda b, x: b.expand(x, shape=(-1, 3, 8))),
    "nn.expand, a constant": (IMAGE, lambda b, x: b.add(x, b.expand(const(b, 4, 1, 1), x, shape=(-2, 4, 9, 8)))),
    "nn.hard_sigmoid": (IMAGE, lambda b, x: b.hard_sigmoid(x)),
    "nn.hard_swish": (IMAGE, lambda b, x: b.hard_swish(x)),
    "nn.leaky_relu": (IMAGE, lambda b, x: b.leaky_relu(x, negative_slope=0.2)),
    "nn.linear": (("N", 8), lambda b, x: b.linear(x, const(b, 5, 8), const(b, 5), activation="relu")),
    "nn.linear without bias": (("N", 8), lambda b, x: b.linear(x, const(b, 5, 8))),
    "nn.linear of rank 3": (("N", 3, 8), lambda b, x: b.linear(x, const(b, 5, 8), const(b, 5))),
    "nn.max_pool": (IMAGE, lambda b, x: b.max_pool(x, kernel=3, stride=2, pads=1)),
    "nn.max_pool, ceil": (IMAGE, lambda b, x: b.max_pool(x, kernel=2, stride=2, dilation=2, ceil_mode=True)),
    "nn.mean": (IMAGE, lambda b, x: b.mean(x, axes=(2, 3))),
    "nn.mean, kept": (IMAGE, lambda b, x: b.mean(x, axes=(1, 3), keepdims=True)),
    "nn.mul": (IMAGE, lambda b, x: b.mul(x, const(b, 4, 1, 1))),
    "nn.pad": (IMAGE, lambda b, x: b.pad(x, pads=(0, 0, 1, 2, 0, 1, 0, 3), value=-1.5)),
    "nn.relu": (IMAGE, lambda b, x: b.relu(x)),
    "nn.relu6": (IMAGE, lambda b, x: b.relu6(x)),
    "nn.reshape": (IMAGE, lambda b, x: b.reshape(x, shape=(-1, 36, 8))),
    "nn.sigmoid": (IMAGE, lambda b, x: b.sigmoid(x)),
    "nn.slice": (IMAGE, lambda b, x: b.slice(x, axis=2, start=1, end=8, step=3)),
    "nn.softmax": (IMAGE, lambda b, x: b.softmax(x, axis=1)),
    "nn.sub": (IMAGE, lambda b, x: b.sub(const(b, 4, 1, 1), x)),
    "nn.tanh": (IMAGE, lambda b, x: b.tanh(x)),
    "nn.abs": (IMAGE, lambda b, x: b.abs(x)),
    "nn.argmax": (IMAGE, lambda b, x: b.argmax(x, axis=1, keepdims=True)),
    "nn.argmin": (IMAGE, lambda b, x: b.argmin(x, axis=2)),
    "nn.atan": (IMAGE, lambda b, x: b.atan(x)),
    "nn.cast": (IMAGE, lambda b, x: b.cast(x, dtype="i64")),
    "nn.ceil": (IMAGE, lambda b, x: b.ceil(x)),
    "nn.cos": (IMAGE, lambda b, x: b.cos(x)),
    "nn.cumsum": (IMAGE, lambda b, x: b.cumsum(x, axis=2)),
    "nn.div": (IMAGE, lambda b, x: b.div(x, const(b, 4, 1, 1))),
    "nn.elu": (IMAGE, lambda b, x: b.elu(x, alpha=0.5)),
    "nn.equal": (IMAGE, lambda b, x: b.equal(x, x)),
    "nn.erf": (IMAGE, lambda b, x: b.erf(x)),
    "nn.exp": (IMAGE, lambda b, x: b.exp(x)),
    "nn.floor": (IMAGE, lambda b, x: b.floor(x)),
    "nn.gather": (IMAGE, lambda b, x: b.gather(x, b.constant(np.array([[0, 3], [2, 2]]), "i"), axis=1)),
    "nn.gather_elements": (("N", 4), lambda b, x: b.gather_elements(x, b.argmax(x, axis=1, keepdims=True), axis=1)),
    "nn.scatter_elements": (
        ("N", 4),
        lambda b, x: b.scatter_elements(
            x, b.argmax(x, axis=1, keepdims=True), b.max(x, axes=(1,), keepdims=True), axis=1
        ),
    ),
    "nn.scatter_elements, added": (
        ("N", 4),
        lambda b, x: b.scatter_elements(x, b.cast(b.less(x, x), dtype="i64"), x, axis=1, reduce="add"),
    ),
    "nn.less": (IMAGE, lambda b, x: b.less(x, const(b, 4, 1, 1))),
    "nn.less_equal": (IMAGE, lambda b, x: b.less_equal(x, const(b, 4, 1, 1))),
    "nn.log": (IMAGE, lambda b, x: b.log(b.exp(x))),
    "nn.log_softmax": (IMAGE, lambda b, x: b.log_softmax(x, axis=1)),
    "nn.logical_and": (IMAGE, lambda b, x: b.logical_and(b.less(x, x), b.equal(x, x))),
    "nn.logical_not": (IMAGE, lambda b, x: b.logical_not(b.equal(x, x))),
    "nn.logical_or": (IMAGE, lambda b, x: b.logical_or(b.less(x, x), b.equal(x, x))),
    "nn.logical_xor": (IMAGE, lambda b, x: b.logical_xor(b.less(x, x), b.equal(x, x))),
    "nn.max": (IMAGE, lambda b, x: b.max(x, axes=(1, 3))),
    "nn.maximum": (IMAGE, lambda b, x: b.maximum(x, const(b, 4, 1, 1))),
    "nn.min": (IMAGE, lambda b, x: b.min(x, axes=(2,), keepdims=True)),
    "nn.minimum": (IMAGE, lambda b, x: b.minimum(x, const(b, 4, 1, 1))),
    "nn.mish": (IMAGE, lambda b, x: b.mish(x)),
    "nn.pow": (IMAGE, lambda b, x: b.pow(b.abs(x), const(b, 4, 1, 1))),
    "nn.prod": (IMAGE, lambda b, x: b.prod(x, axes=(3,))),
    "nn.round": (IMAGE, lambda b, x: b.round(x)),
    "nn.sign": (IMAGE, lambda b, x: b.sign(x)),
    "nn.sin": (IMAGE, lambda b, x: b.sin(x)),
    "nn.softsign": (IMAGE, lambda b, x: b.softsign(x)),
    "nn.sqrt": (IMAGE, lambda b, x: b.sqrt(b.abs(x))),
    "nn.sum": (IMAGE, lambda b, x: b.sum(x, axes=(1, 3))),
    "nn.where": (IMAGE, lambda b, x: b.where(b.less(x, const(b, 4, 1, 1)), x, const(b, 4, 1, 1))),
    "nn.transpose": (IMAGE, lambda b, x: b.transpose(x, perm=(0, 2, 3, 1))),
}


def attention(b: Builder, x: Value) -> Value:
    return b.attention(x, x, x, const(b, 9, 9), causal=True)


def chosen_attention(b: Builder, x: Value) -> Value:
    """Under a mask of booleans that is computed, beside a causal one: some rows see nothing."""
    return b.attention(x, x, x, b.less(b.matmul(x, b.transpose(x, perm=(0, 1, 3, 2))), const(b, 9, 9)), causal=True)


def grouped_attention(b: Builder, x: Value) -> Value:
    """Two heads of the query for each of the keys and the values, which are narrower."""
    keys = b.slice(x, axis=1, start=1, end=3)
    return b.attention(x, keys, b.slice(keys, axis=3, start=0, end=5), const(b, 9, 9, seed=3))


WRITTEN: dict[str, tuple[tuple[int | str, ...], Build]] = {
    "nn.attention": (IMAGE, attention),
    "nn.attention, chosen": (IMAGE, chosen_attention),
    "nn.attention, in groups": (IMAGE, grouped_attention),
    "nn.detach": (IMAGE, lambda b, x: b.detach(x)),
    "nn.elu, scaled": (IMAGE, lambda b, x: b.elu(x, alpha=1.5, scale=1.25)),
    "nn.elu of celu": (IMAGE, lambda b, x: b.elu(x, alpha=2.0, input_scale=0.5)),
    "nn.embedding": (("N", 4), lambda b, x: b.embedding(b.argmax(x, axis=1), const(b, 4, 3))),
    "nn.embedding_bag": (("N", 4, 3), lambda b, x: b.embedding_bag(b.argmax(x, axis=1), const(b, 4, 3), mode="max")),
    **{
        f"nn.embedding_bag, {mode} without padding": (
            ("N", 2, 3),  # whose first bag is padding alone
            lambda b, x, mode=mode: b.embedding_bag(b.argmax(x, axis=1), const(b, 2, 3), mode=mode, padding=0),
        )
        for mode in ("sum", "mean", "max")
    },
    "nn.floor_div": (IMAGE, lambda b, x: b.floor_div(x, const(b, 4, 1, 1))),
    "nn.gelu": (IMAGE, lambda b, x: b.gelu(x)),
    "nn.gelu by tanh": (IMAGE, lambda b, x: b.gelu(x, approximate="tanh")),
    "nn.group_norm": (IMAGE, lambda b, x: b.group_norm(x, const(b, 4), const(b, 4), groups=2)),
    "nn.hard_shrink": (IMAGE, lambda b, x: b.hard_shrink(x, bound=0.3)),
    "nn.arange": (
        IMAGE,
        lambda b, x: b.add(b.arange(x, axis=0, start=2, step=3), b.argmax(b.reshape(x, shape=(-1, 288)), axis=1)),
    ),
    "nn.grid_sample": (
        ("N", 4, 6, 2),
        lambda b, x: b.grid_sample(x, b.transpose(b.slice(x, axis=1, start=0, end=2), perm=(0, 2, 3, 1))),
    ),
    "nn.index": (IMAGE, lambda b, x: b.index(x, *(b.constant(np.array([[0, -1]]), "i") for _ in "ab"), axes=(2, 3))),
    "nn.index apart": (IMAGE, lambda b, x: b.index(x, *(b.constant(np.array([1, 2]), "i") for _ in "ab"), axes=(1, 3))),
    "nn.index of the batch": (
        IMAGE,
        lambda b, x: b.index(x, b.arange(x, axis=0), b.argmax(b.mean(x, axes=(2, 3)), axis=1), axes=(0, 1)),
    ),
    "nn.layer_norm": (IMAGE, lambda b, x: b.layer_norm(x, const(b, 8), const(b, 8))),
    "nn.layer_norm, plain": (IMAGE, lambda b, x: b.layer_norm(x, axes=2)),
    "nn.log_sigmoid": (IMAGE, lambda b, x: b.log_sigmoid(x)),
    "nn.matmul": (IMAGE, lambda b, x: b.matmul(x, b.transpose(x, perm=(0, 1, 3, 2)))),
    "nn.not_equal": (IMAGE, lambda b, x: b.not_equal(x, x)),
    "nn.prelu": (IMAGE, lambda b, x: b.prelu(x, const(b, 4))),
    "nn.remainder": (IMAGE, lambda b, x: b.remainder(x, const(b, 4, 1, 1))),
    "nn.rms_norm": (IMAGE, lambda b, x: b.rms_norm(x, const(b, 8))),
    "nn.rsqrt": (IMAGE, lambda b, x: b.rsqrt(b.exp(x))),
    "nn.soft_shrink": (IMAGE, lambda b, x: b.soft_shrink(x, bound=0.3)),
    "nn.softplus": (IMAGE, lambda b, x: b.softplus(x, beta=2.0)),
}
"""Ops that ONNX has by other names or as several ops, which are not read back to the same graph."""


def case_graph(name: str) -> Graph:
    shape, build = {**CASES, **WRITTEN}[name]
    graph = Graph("case")
    x = graph.add_input("x", TensorType(shape))
    graph.set_outputs([build(Builder(graph, origins=(Origin("stem.op", "net.py", 7),)), x)])
    return graph


SEVERAL = {"nn.gru", "nn.lstm", "nn.rnn", "nn.sequence_lstm", "nn.topk"}
"""Ops of several results: `test_onnx_several_results.py`."""
WITHOUT_CASE = {"nn.resize", "nn.adaptive_avg_pool", "nn.adaptive_max_pool"}
"""Adaptive pools have no row; resizing is tested by itself."""


def test_every_op_of_nn_has_a_case() -> None:
    assert {name.split(" ")[0].rstrip(",") for name in {**CASES, **WRITTEN}} == {
        *op_names("nn")
    } - SEVERAL - WITHOUT_CASE


@pytest.mark.parametrize("name", WRITTEN)
def test_the_runtime_computes_what_is_written_by_other_ops(name: str) -> None:
    graph = case_graph(name)
    x = randoms(3, *graph.inputs[0].type.shape[1:])
    (got,), (expected,) = by_runtime(graph.to_onnx(), [x]), outputs(graph, [x])
    assert got.dtype == expected.dtype
    assert close(got.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("name", CASES)
def test_the_runtime_and_the_graph_read_back_compute_the_same(name: str) -> None:
    graph = case_graph(name)
    declare_summands(graph)
    model = graph.to_onnx()
    x = randoms(3, *graph.inputs[0].type.shape[1:])
    (expected,) = outputs(graph, [x])
    (by_onnx,) = by_runtime(model, [x])
    assert close(by_onnx, expected)
    back = from_onnx(model)
    assert close(outputs(back, [x])[0], expected)
    assert back.inputs[0].type == graph.inputs[0].type
    assert back.outputs[0].type == graph.outputs[0].type
    assert {origin for node in back.nodes for origin in node.origins} == {Origin("stem.op", "net.py", 7)}
    assert passes.fuse_conv_relu(back, activations=("relu", "relu6", "clamp", "hard_swish")) == graph


def test_outputs_may_be_inputs_constants_or_returned_twice() -> None:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", 2)))
    y = Builder(graph).relu(x, name="y")
    graph.set_outputs([y, x, y, graph.add_constant(randoms(2), "c")])
    made = by_runtime(graph.to_onnx(), [randoms(3, 2)])
    for got, expected in zip(made, [np.maximum(randoms(3, 2), 0), randoms(3, 2)], strict=False):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(made[3], randoms(2))


@pytest.mark.parametrize("pads", [0, 1])
def test_an_output_padding_beyond_the_stride_is_a_smaller_pad_or_refused(pads: int) -> None:
    graph = Graph("g")
    x, build = graph.add_input("x", TensorType(IMAGE)), Builder(graph)
    graph.set_outputs([build.conv_transpose(x, const(build, 4, 3, 3, 3), dilation=2, output_padding=1, pads=pads)])
    if pads == 0:
        with pytest.raises(ExportError, match="no output_padding beyond pads and stride"):
            graph.to_onnx()
        return
    data = randoms(2, 4, 9, 8)
    assert close(by_runtime(graph.to_onnx(), [data])[0], outputs(graph, [data])[0])


@settings(max_examples=60)
@given(random_graphs())
def test_random_graphs_compute_the_same_in_the_runtime_and_read_back(graph: Graph) -> None:
    x = random_input(graph)
    expected = outputs(graph, [x])
    try:
        model = graph.to_onnx()
    except ExportError:
        return  # an output_padding that ONNX Runtime does not take
    back = from_onnx(model)
    assert [value.type for value in back.outputs] == [value.type for value in graph.outputs]
    for got, again, wanted in zip(by_runtime(model, [x]), outputs(back, [x]), expected, strict=True):
        assert np.allclose(got, wanted, rtol=1e-3, atol=1e-3, equal_nan=True)  # a dozen ops, each as `close` says
        assert np.allclose(again, wanted, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_files_are_saved_and_loaded(tmp_path: Path) -> None:
    graph = case_graph("nn.conv")
    qgraph.export(graph, tmp_path / "m.onnx")
    assert qgraph.load(tmp_path / "m.onnx") == graph
    assert from_onnx(tmp_path / "m.onnx") == graph
    external = onnx.load(tmp_path / "m.onnx")
    onnx.save(external, tmp_path / "e.onnx", save_as_external_data=True, location="e.data", size_threshold=0)
    assert qgraph.load(tmp_path / "e.onnx") == graph
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "m.onnx").read_bytes()[:-40])
    with pytest.raises(FileError, match=r"cut\.onnx"):
        qgraph.load(tmp_path / "cut.onnx")


def test_a_graphsurgeon_graph_is_read() -> None:
    graph = case_graph("nn.conv")
    surgeon = gs.import_onnx(graph.to_onnx())
    x = randoms(2, 4, 9, 8)
    np.testing.assert_array_equal(outputs(from_onnx(surgeon), [x])[0], outputs(graph, [x])[0])


# ---- models of other tools


def model_of(
    nodes: list[onnx.NodeProto],
    shape: tuple[int | str | None, ...] = IMAGE,
    opset: int = 18,
    tensors: dict[str, Array] | None = None,
    rank: int = 4,
) -> onnx.ModelProto:
    """A model from x to y."""
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(data, name) for name, data in (tensors or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


W = {"w": randoms(6, 4, 3, 3)}
FOREIGN: dict[str, onnx.ModelProto] = {
    "auto_pad": model_of(
        [helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_LOWER", strides=[2, 2])], tensors=W
    ),
    "auto_pad upper": model_of(
        [helper.make_node("MaxPool", ["x"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[2, 3])]
    ),
    "old clip": model_of([helper.make_node("Clip", ["x"], ["y"], min=0.5, max=2.0)], opset=10),
    "old mean": model_of([helper.make_node("ReduceMean", ["x"], ["y"], axes=[-1, 2], keepdims=0)], opset=13, rank=2),
    "global pool and flatten": model_of(
        [helper.make_node("GlobalAveragePool", ["x"], ["a"]), helper.make_node("Flatten", ["a"], ["y"])], rank=2
    ),
    "gemm, not transposed": model_of(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        ("N", 4),
        tensors={"w": randoms(4, 3), "b": randoms(1, 3)},
        rank=2,
    ),
    "product and bias": model_of(
        [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["b", "a"], ["y"])],
        ("N", 5, 4),
        tensors={"w": randoms(4, 3), "b": randoms(3)},
        rank=3,
    ),
    "flatten by shape": model_of(
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Gather", ["s", "zero"], ["n"]),
            helper.make_node("Unsqueeze", ["n", "axis"], ["batch"]),
            helper.make_node("Concat", ["batch", "rest"], ["to"], axis=0),
            helper.make_node("Reshape", ["x", "to"], ["y"]),
        ],
        tensors={
            "zero": np.array(0, np.int64),
            "axis": np.array([0], np.int64),
            "rest": np.array([-1], np.int64),
        },
        rank=2,
    ),
    "squeeze and unsqueeze": model_of(
        [helper.make_node("Unsqueeze", ["x", "a"], ["u"]), helper.make_node("Squeeze", ["u", "b"], ["y"])],
        ("N", 1, 3),
        tensors={"a": np.array([-1], np.int64), "b": np.array([1], np.int64)},
        rank=3,
    ),
    "constants are computed": model_of(
        [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(randoms(4))),
            helper.make_node("Reshape", ["c", "to"], ["d"]),
            helper.make_node("Identity", ["x"], ["i"]),
            helper.make_node("Sub", ["i", "d"], ["y"]),
        ],
        tensors={"to": np.array([4, 1, 1], np.int64)},
    ),
    "slices": model_of(
        [helper.make_node("Slice", ["x", "s", "e", "a"], ["y"])],
        tensors={
            "s": np.array([-3, 1], np.int64),
            "e": np.array([2**31, -1], np.int64),
            "a": np.array([1, -1], np.int64),
        },
    ),
    "pixels": model_of([helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2, mode="CRD")]),
    "pixels, depth first": model_of([helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2)]),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_models_of_other_tools_compute_what_the_runtime_does(name: str) -> None:
    model = FOREIGN[name]
    graph = from_onnx(model)
    x = randoms(2, *graph.inputs[0].type.shape[1:])
    assert close(outputs(graph, [x])[0], by_runtime(model, [x])[0])
    assert graph.outputs[0].type.shape[0] == "N"


class Network(torch.nn.Module):
    """What torch's exporter makes of usual code: batch normalization, slices, and a flatten that asks for the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.BatchNorm2d(8), torch.nn.Hardswish())
        self.head = torch.nn.Linear(128, 10)
        self.plain = torch.nn.Linear(10, 4, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        x = torch.cat([x + torch.nn.functional.relu6(x), x], 1)[:, 4:-4] * torch.sigmoid(x)
        x = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
        x = self.plain(self.head(x.view(x.size(0), -1)))
        return torch.softmax(x, -1).unsqueeze(1), x.permute(1, 0)


def test_a_model_of_torchs_exporter_computes_what_torch_does() -> None:
    network, x = seeded(Network()), randoms(2, 3, 8, 8)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        torch.onnx.export(
            network, (torch.from_numpy(x),), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "batch"}}
        )
    graph = from_onnx(onnx.load_model_from_string(file.getvalue()))
    assert graph.inputs[0].type.shape == ("batch", 3, 8, 8)
    expected = network(torch.from_numpy(x))
    for got, wanted in zip(outputs(graph, [x]), expected, strict=True):
        assert close(got, wanted.detach().numpy())


def test_a_bias_that_is_added_to_a_product_becomes_the_layers() -> None:
    (node,) = from_onnx(FOREIGN["product and bias"]).nodes
    assert node.op == "nn.linear"
    assert len(node.inputs) == 3


REFUSED = {
    "an op": ([helper.make_node("Det", ["x"], ["y"], name="e")], "ONNX node 'e': Det: there is no counterpart"),
    "a domain": (
        [helper.make_node("Gelu", ["x"], ["y"], name="g", domain="com.microsoft")],
        "ONNX node 'g': com.microsoft.Gelu: there is no counterpart",
    ),
    "an attribute": (
        [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], storage_order=1)],
        "ONNX node 'y': MaxPool: storage_order=1 is not supported, only 0",
    ),
    "an output": (
        [
            helper.make_node("MaxPool", ["x"], ["a", "b"], kernel_shape=[2, 2], name="m"),
            helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
        ],
        "ONNX node 'm': MaxPool: only its first output is supported",
    ),
    "random numbers": (
        [helper.make_node("RandomNormal", [], ["r"], shape=[1]), helper.make_node("Mul", ["x", "r"], ["y"])],
        "RandomNormal: there is no counterpart",
    ),
    "a computed shape": (
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Add", ["s", "s"], ["t"], name="t"),
            helper.make_node("Reshape", ["x", "t"], ["y"]),
        ],
        "ONNX node 't': Add: it computes with a symbolic size",
    ),
    "training": (
        [helper.make_node("Dropout", ["x", "", "t"], ["y"]), helper.make_node("Cast", ["x"], ["t"], to=9)][::-1],
        "training_mode is not supported",
    ),
    "types": (
        [helper.make_node("Concat", ["x", "p"], ["y"], axis=0)],
        "ONNX node 'y': Concat: ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_by_the_nodes_name(name: str) -> None:
    nodes, message = REFUSED[name]
    with pytest.raises(UnsupportedOp) as error:
        from_onnx(model_of(nodes, tensors={"p": np.array([0, 0, 1, 1] * 2, np.int64)}))
    assert message in str(error.value)
    assert "\n  node    " in str(error.value)


def test_origins_of_torchs_exporter_are_module_path_and_source_line() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="node_relu")
    trace = 'File "/home/user/net.py", line 12, in forward\n  File "/lib/torch/nn/relu.py", line 3, in forward'
    words = {"pkg.torch.onnx.name_scopes": "['', 'stem.act', 'relu']", "pkg.torch.onnx.stack_trace": trace}
    node.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in words.items())
    assert from_onnx(model_of([node])).nodes[0].origins == (Origin("stem.act", "user/net.py", 12),)
    del node.metadata_props[:]
    assert from_onnx(model_of([node])).nodes[0].origins == (Origin("node_relu"),)


def test_damaged_models_are_one_clear_error() -> None:
    random = np.random.default_rng(0)
    data = [model.SerializeToString() for model in FOREIGN.values()]
    for number in range(2000):
        damaged = bytearray(data[number % len(data)])
        damaged[random.integers(len(damaged))] = random.integers(256)
        try:
            from_onnx(onnx.load_model_from_string(bytes(damaged)))
        except (DecodeError, FileError, InputError, UnsupportedOp):
            continue


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="a int is no ONNX model"):
        from_onnx(3)  # type: ignore[arg-type]
    with pytest.raises(FileError, match="this is no valid ONNX model"):
        from_onnx(onnx.ModelProto())
    with pytest.raises(FileError, match="this is no valid ONNX model"):
        from_onnx("no-such-file.onnx")


def test_quantized_models_of_other_tools_are_read_as_integers_not_as_floats(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = model_of(nodes, tensors={"s": np.array(0.5, np.float32), "z": np.array(3, np.int8)})
    (tmp_path / "q.onnx").write_bytes(model.SerializeToString())
    assert qgraph.load(tmp_path / "q.onnx").level == "integer"
    with pytest.raises(UnsupportedOp, match=r"'q': QuantizeLinear: there is no counterpart in the dialect nn"):
        from_onnx(model)


def test_only_float_graphs_become_float_models() -> None:
    graph = Graph("g", "fake_quant")
    graph.set_outputs([Builder(graph).relu(graph.add_input("x", TensorType(("N", 2))))])
    with pytest.raises(ExportError, match="a graph of level fake_quant is no float ONNX model"):
        graph.to_onnx()


@pytest.mark.skipif("QGRAPH_ASSETS" not in os.environ, reason="QGRAPH_ASSETS names no folder of third-party models")
@pytest.mark.parametrize("name", ["mnist_conv_float", "espcn_subpixel_float"])
def test_third_party_models_compute_what_the_runtime_does(name: str) -> None:
    path = Path(os.environ["QGRAPH_ASSETS"], "models", "qonnx", f"{name}.onnx")
    graph, model = qgraph.load(path), onnx.load(path)
    x = randoms(*(size if isinstance(size, int) else 2 for size in graph.inputs[0].type.shape)) / 4
    assert close(outputs(graph, [x])[0], by_runtime(model, [x])[0])


@pytest.mark.parametrize("name", ["origins", "stem"])
def test_words_that_are_no_text_are_a_damaged_file(name: str, tmp_path: Path) -> None:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", 2)))
    graph.set_outputs([Builder(graph, origins=(Origin("stem.op", "net.py", 7),)).nn.relu(x)])
    path = tmp_path / "g.onnx"
    data = graph.to_onnx().SerializeToString()
    assert name.encode() in data
    path.write_bytes(data.replace(name.encode(), b"\xff" + name.encode()[1:]))
    with pytest.raises(FileError, match="is not text"):
        qgraph.load(path)
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :])
        with suppress(QGraphError):
            str(qgraph.load(path))
