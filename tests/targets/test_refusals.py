"""What no target lowers is an error that names the op, and never a wrong graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import qgraph
from qgraph import passes, targets
from qgraph.errors import LoweringError
from qgraph.ir import Array, Builder, Graph, Operand, Origin, Result, TensorType, Value, op, operand, result
from qgraph.runtimes import is_installed
from qgraph.targets.target import not_offered

SHAPE = (2, 4, 4)


def images() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (4, *SHAPE)).astype(np.float32)


def graph_of(make: Callable[[Builder, Value], Value]) -> Graph:
    graph = Graph("one")
    graph.set_outputs([make(Builder(graph), graph.add_input("x", TensorType(("N", *SHAPE))))])
    return graph


@op("refused.cube", elementwise=True)
class Cube:
    """x^3, which no target has."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x**3)


@pytest.mark.parametrize("target", targets.coded_names())
def test_all_nodes_that_the_target_does_not_have_are_named(target: str) -> None:
    def make(build: Builder, x: Value) -> Value:
        cubes = [build.node("refused.cube", [each], {}).result for each in (x, build.nn.relu(x))]
        return build.nn.add(*cubes)

    with pytest.raises(LoweringError, match="cannot lower 2 nodes") as caught:
        qgraph.quantize(graph_of(make), target=target, calibration=[images()])
    assert str(caught.value).count("= refused.cube(") == 2


@pytest.mark.parametrize(
    "target", [name for name in targets.coded_names() if "nn.topk" not in targets.get(name).offered]
)
def test_an_op_of_several_results_is_named_as_any(target: str) -> None:
    graph = Graph("one")
    x = graph.add_input("x", TensorType(("N", 300)))
    graph.set_outputs(Builder(graph).node("nn.topk", [x], {"k": 2, "axis": 1}).results)
    with pytest.raises(LoweringError, match=rf"{target} cannot lower nn\.topk|has no TOPK_V2") as caught:
        qgraph.prepare(graph, target)
    assert "= nn.topk(%x)" in str(caught.value)


class Fields(torch.nn.Module):
    """One table for several fields of ids: each has an offset, and counts modulo."""

    def __init__(self, wrapped: bool = False) -> None:
        super().__init__()
        self.table, self.wrapped = torch.nn.Embedding(60, 4), wrapped

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = torch.remainder(ids, 20) if self.wrapped else ids
        made: torch.Tensor = self.table(places + torch.tensor([0, 20, 40]))
        return made


@pytest.mark.parametrize("target", [name for name in targets.coded_names() if "arm64" not in name])
def test_arithmetic_on_indices_is_exact(target: str) -> None:
    if not is_installed(targets.get(target).runtime):
        pytest.skip(f"the runtime of {target} is not installed: pip install 'qgraph-compiler[{target}]'")
    ids = torch.randint(0, 20, (4, 3))
    lowered = qgraph.quantize(qgraph.trace(Fields(), ids), target, calibration=[ids.numpy()])
    assert qgraph.verify(lowered, inputs=ids.numpy()).bit_exact


def test_arithmetic_on_indices_that_a_runtime_does_not_have_is_refused_at_prepare() -> None:
    graph = qgraph.trace(Fields(wrapped=True), torch.randint(0, 60, (4, 3)))
    with pytest.raises(LoweringError, match="TFLite Micro has no FLOOR_MOD of integers") as caught:
        qgraph.prepare(graph, "tflm")
    assert "= nn.remainder(%ids" in str(caught.value)
    qgraph.prepare(graph, "litert")


@pytest.mark.parametrize("op", ["max", "min"])
def test_the_largest_of_an_open_batch_is_refused_at_prepare(op: str) -> None:
    graph = Graph("open")
    x = graph.add_input("x", TensorType(("N", 3)))
    graph.set_outputs(Builder(graph).node(f"nn.{op}", [x], {"axes": (0,)}).results)
    with pytest.raises(LoweringError, match=rf"nn\.{op} over the size N, which is not known"):
        qgraph.prepare(graph, "litert")


@pytest.mark.parametrize("target", ["litert", "tflm"])
def test_a_constant_that_the_storage_of_indices_has_not_is_refused_by_name(target: str) -> None:
    graph = Graph("far")
    x, build = graph.add_input("x", TensorType(("N", 3), "i64")), Builder(graph)
    far = build.constant(np.array(2**40), "far")
    graph.set_outputs([build.nn.cast(build.nn.less(x, far), dtype="f32")])
    with pytest.raises(LoweringError, match=rf"int32, in which the constant far has no {2**40}"):
        qgraph.quantize(graph, target, calibration=[np.zeros((2, 3), np.int64)])


def test_a_node_that_has_another_form_is_named_as_it_was() -> None:
    model = torch.nn.MaxPool1d(2, dilation=2)
    with pytest.raises(LoweringError) as caught:
        qgraph.prepare(qgraph.trace(model, torch.randn(2, 3, 8)), "litert")
    assert "= nn.max_pool(%input) {kernel=[2]" in str(caught.value)


@pytest.mark.parametrize("target", targets.coded_names())
def test_an_activation_that_the_target_does_not_carry_becomes_a_node(target: str) -> None:
    def make(build: Builder, x: Value) -> Value:
        y = build.nn.add(x, x)
        return build.nn.clamp(build.nn.hard_swish(y), min=-0.25, max=1.5)

    fused = passes.fuse_conv_relu(graph_of(make), activations=("clamp", "hard_swish"))
    assert fused.find("nn.add")[0].attrs["activation"] == "hard_swish"
    if "nn.hard_swish" not in targets.get(target).lowerings:
        with pytest.raises(LoweringError, match=f"{target} cannot lower nn.hard_swish"):
            qgraph.prepare(fused, target=target)
        return
    prepared = qgraph.prepare(fused, target=target, check=True)
    assert [node.op for node in prepared.nodes if node.dialect == "nn"] == ["nn.add", "nn.hard_swish", "nn.clamp"]
    qgraph.lower(qgraph.calibrate(prepared, [images()]), target=target, check=True)


@pytest.mark.parametrize("target", targets.coded_names())
def test_prepare_refuses_every_node_that_cannot_be_lowered(target: str) -> None:
    def make(build: Builder, x: Value) -> Value:
        for path in ("up", "gate", "more"):
            build.origins = (Origin(path, "net.py", 3),)
            made = build.node("refused.cube", [x], {}).result
            parameters = [build.constant(np.ones(2, np.float32), name) for name in ("gamma", "beta", "mean", "var")]
            x = build.nn.relu(build.nn.batch_norm(made, *parameters))
        return x

    with pytest.raises(LoweringError) as caught:
        qgraph.prepare(graph_of(make), target=target)
    message = str(caught.value)
    assert f"{target} cannot lower 3 nodes" in message
    assert message.count("= refused.cube(") == 3
    assert all(f"origin  {path}" in message for path in ("up", "gate", "more"))


def test_an_op_that_the_runtime_of_a_variant_lacks_is_refused_at_prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_of(lambda build, x: build.nn.softmax(x, axis=1))
    qgraph.prepare(graph, target="tflm")
    tflm = targets.get("tflm")
    lacking = replace(tflm, kernels={**tflm.kernels, "litert.softmax": not_offered("TFLite Micro has no SOFTMAX")})
    monkeypatch.setattr(targets, "get", lambda name: lacking)
    with pytest.raises(LoweringError, match="TFLite Micro has no SOFTMAX"):
        qgraph.prepare(graph, target="tflm")


def test_an_op_that_the_runtime_lacks_goes_its_way_through_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tflm = targets.get("tflm")
    lacking = replace(tflm, kernels={**tflm.kernels, "litert.tanh": not_offered("TFLite Micro has no TANH")})
    monkeypatch.setattr(targets, "get", lambda name: lacking)
    assert qgraph.prepare(graph_of(lambda build, x: build.nn.tanh(x)), target="tflm").find("nn.sigmoid")


@pytest.mark.parametrize(("target", "ops"), [("litert", ["relu_n1_to_1"]), ("tflm", ["quantize", "minimum"])])
def test_a_clamp_that_a_runtime_has_no_op_for_is_a_minimum(target: str, ops: list[str]) -> None:
    lowered = qgraph.quantize(
        graph_of(lambda build, x: build.nn.clamp(x, min=-1.0, max=1.0)), target=target, calibration=[images()]
    )
    assert [node.op for node in lowered.nodes][-len(ops) :] == [f"litert.{op}" for op in ops]
    assert qgraph.verify(lowered, target, inputs=images()).bit_exact


@pytest.mark.parametrize("op", ["tanh", "sigmoid"])
def test_a_scale_at_which_tflm_gives_the_lowest_code_for_zero_is_refused_there_alone(op: str) -> None:
    graph = graph_of(lambda build, x: getattr(build.nn, op)(build.nn.mul(x, build.constant(np.float32(500)))))
    with pytest.raises(LoweringError, match="from 8 on TFLite Micro gives the lowest code for an operand of 0"):
        qgraph.quantize(graph, target="tflm", calibration=[images()])
    qgraph.quantize(graph, target="litert", calibration=[images()])


class Masked(torch.nn.Module):
    """Attention under a mask of booleans that is an input."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, None, None])


def test_a_refusal_says_why_an_op_is_not_written_by_others_and_what_would_do() -> None:
    graph = qgraph.trace(Masked(), (torch.randn(4, 2, 5, 8), torch.ones(4, 5, dtype=torch.bool)))
    with pytest.raises(LoweringError) as caught:
        qgraph.prepare(graph, "onnxruntime")
    assert caught.value.what.endswith("onnxruntime cannot lower nn.attention: the mask of booleans is computed")
    assert caught.value.help == "keep it in float: prepare(..., fallback='float')"
    qgraph.prepare(graph, "onnxruntime", fallback="float")


class Last(torch.nn.Module):
    """The last states of layers in both directions."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body = getattr(torch.nn, kind)(3, 4, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = self.body(x)[1]
        return tuple(each.transpose(0, 1) * 2 for each in (states if isinstance(states, tuple) else [states]))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "onnxruntime", "tflm", "tosa"])
def test_an_open_number_of_steps_is_refused_with_its_reason_or_stays_in_float(kind: str, target: str) -> None:
    graph = qgraph.trace(Last(kind).eval(), torch.randn(4, 5, 3), dynamic_dims=[1])
    with pytest.raises(
        LoweringError, match=r"the number of steps, T, is open(?s:.)*trace it for known sizes"
    ) as caught:
        qgraph.prepare(graph, target)
    if "fallback='float'" in caught.value.help:
        seen = [np.random.default_rng(length).normal(size=(8, length, 3)).astype(np.float32) for length in (4, 9)]
        low = qgraph.quantize(graph, target, calibration=seen, fallback="float")
        assert all(qgraph.verify(low, inputs=each).bit_exact for each in seen)
    else:
        assert target != "onnxruntime"
