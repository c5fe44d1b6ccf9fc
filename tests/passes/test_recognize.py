"""Functions that a model writes by exponentials, choices and clamps are the ops that targets have, for every target."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor
from torch.nn import functional as F

import qgraph
from qgraph import passes
from qgraph.frontends.onnx_float import from_onnx
from qgraph.ir import Graph
from qgraph.passes.engine.manager import PassManager

Function = Callable[[Tensor], Tensor]


class Of(torch.nn.Module):
    """A function of a layer's result."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.function = torch.nn.Linear(8, 8), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def traced(function: Function) -> Graph:
    return qgraph.trace(Of(function), torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(1)))


def recognized(graph: Graph) -> list[str]:
    """The ops behind the layer, after the pass, which has been held against the graph before."""
    made = PassManager(["canonicalize", "recognize"], check=True).run(graph)
    return [node.op.removeprefix("nn.") for node in made.nodes][1:]


def less_max(x: Tensor, dim: int = -1) -> Tensor:
    return x - x.amax(dim, keepdim=True)


def share(e: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    return e / e.sum(dim, keepdim=True)


def guarded(e: Tensor) -> Tensor:
    return e / (e.sum(-1, keepdim=True) + 1e-6)


HIDDEN = torch.arange(8) > torch.arange(3)[:, None] + 4

SOFTMAX: dict[str, Function] = {
    "exponentials by their sum": lambda x: torch.exp(x) / torch.exp(x).sum(-1, keepdim=True),
    "less the maximum": lambda x: share(less_max(x).exp()),
    "a sum without its dimension": lambda x: x.exp() / x.exp().sum(-1).unsqueeze(-1),
    "a sum that is repeated": lambda x: x.exp() / x.exp().sum(-1, keepdim=True).expand_as(x),
    "times the inverse": lambda x: x.exp() * (1 / x.exp().sum(-1, keepdim=True)),
    "along another axis": lambda x: share(less_max(x, 1).exp(), 1),
    "less the largest of all": lambda x: share((x - x.max()).exp()),
    "of a logarithm": lambda x: torch.exp(x - torch.logsumexp(x, -1, keepdim=True)),
    "of log_softmax": lambda x: F.log_softmax(x, -1).exp(),
}
LOG_SOFTMAX: dict[str, Function] = {
    "logarithm of softmax": lambda x: torch.log(F.softmax(x, -1)),
    "less logsumexp": lambda x: x - torch.logsumexp(x, -1, keepdim=True),
    "less a logarithm": lambda x: x - x.exp().sum(-1, keepdim=True).log(),
    "less the maximum": lambda x: less_max(x) - less_max(x).exp().sum(-1, keepdim=True).log(),
    "logarithm of shares": lambda x: share(x.exp()).log(),
}
SIGMOID: dict[str, Function] = {
    "one by one and more": lambda x: 1 / (1 + torch.exp(-x)),
    "an exponential by itself and one": lambda x: x.exp() / (1 + x.exp()),
    "an inverse": lambda x: torch.reciprocal(1 + torch.exp(-x)),
    "a power": lambda x: (1 + torch.exp(-x)) ** -1,
}
TANH: dict[str, Function] = {
    "a difference by a sum": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "hyperbolic functions": lambda x: torch.sinh(x) / torch.cosh(x),
}
SOFTPLUS: dict[str, Function] = {
    "a logarithm": lambda x: torch.log(1 + x.exp()),
    "log1p": lambda x: torch.log1p(x.exp()),
}
ELU: dict[str, Function] = {
    "a choice": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "a choice of what is below": lambda x: torch.where(x <= 0, torch.expm1(x), x),
    "clamps": lambda x: F.relu(x) + torch.clamp(x.exp() - 1, max=0),
    "two relus": lambda x: F.relu(x) - F.relu(1 - x.exp()),
}
LEAKY: dict[str, Function] = {
    "a choice": lambda x: torch.where(x > 0, x, 0.1 * x),
    "the larger one": lambda x: torch.maximum(x, 0.1 * x),
}
RELU: dict[str, Function] = {
    "the larger one": lambda x: torch.max(x, torch.tensor(0.0)),
    "what is filled": lambda x: x.masked_fill(x < 0, 0),
}
WHOLE: dict[str, dict[str, Function]] = {
    "softmax": SOFTMAX,
    "log_softmax": LOG_SOFTMAX,
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "softplus": SOFTPLUS,
    "log_sigmoid": {"a logarithm": lambda x: torch.log(torch.sigmoid(x))},
    "mish": {"a product": lambda x: x * torch.tanh(torch.log(1 + x.exp()))},
    "elu": ELU,
    "leaky_relu": LEAKY,
    "relu": RELU,
}
CASES = [(op, words, form) for op, forms in WHOLE.items() for words, form in forms.items()]


@pytest.mark.parametrize(("op", "form"), [(op, form) for op, _, form in CASES], ids=[f"{a}: {b}" for a, b, _ in CASES])
def test_a_function_by_parts_is_the_whole_one(op: str, form: Function) -> None:
    assert recognized(traced(form)) == [op]


@pytest.mark.parametrize(
    ("form", "ops"),
    [
        (lambda x: x / (1 + torch.exp(-x)), ["sigmoid", "mul"]),
        (lambda x: x / (1 + torch.exp(-1.5 * x)), ["mul", "sigmoid", "mul"]),
        (lambda x: 3 / (1 + 2 * torch.exp(-x)), ["add", "sigmoid", "mul"]),
        (lambda x: 1 / (1 + x.exp()), ["mul", "sigmoid"]),
        (lambda x: share(x.exp(), (1, 2)), ["reshape", "softmax", "reshape"]),
        (lambda x: share(2 ** less_max(3 * x)), ["mul", "softmax"]),
        (lambda x: share(torch.exp2(less_max(x * math.log2(math.e) + 1))), ["mul", "softmax"]),
        (lambda x: torch.log(x.exp().sum(-1)), ["max", "sub", "exp", "sum", "max", "log", "add"]),
    ],
)
def test_other_sums_and_quotients_are_written_by_whole_functions(form: Function, ops: list[str]) -> None:
    assert sorted(recognized(traced(form))) == sorted(ops)


def test_a_guarded_quotient_subtracts_the_maximum_and_stays_guarded() -> None:
    graph = traced(lambda x: guarded((x - 1000).exp()))  # which are nothing beside the guard
    made = PassManager(["recognize"], check=True).run(graph)
    x = np.zeros((2, 3, 8), np.float32)
    assert "nn.max" in [node.op for node in made.nodes]
    assert np.array_equal(qgraph.run(graph, x), qgraph.run(made, x))


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.exp() / (2 * x).exp().sum(-1, keepdim=True),
        lambda x: x.exp() / x.exp().mean(-1, keepdim=True),
        lambda x: 2**x / (3**x).sum(-1, keepdim=True),
        lambda x: 2**x / x.exp().sum(-1, keepdim=True),
        lambda x: x - torch.log((2**x).sum(-1, keepdim=True)),
        lambda x: guarded(2**x),
        lambda x: 1 / (1 - x.exp()),
        lambda x: (x + 1) / (x.exp() + (-x).exp()),
        lambda x: torch.where(x > 1, x, 0.1 * x),
        lambda x: torch.where(x > 0, x, x.exp() - 0.5),
        lambda x: torch.maximum(x, 2 * x),
        lambda x: x - (2 * x).exp().sum(-1, keepdim=True).clamp(max=1e30),
        lambda x: (x.exp() * ~HIDDEN) / (2 * (x.exp() * ~HIDDEN).sum(-1, keepdim=True)),
        lambda x: x.exp() / (2 * x.exp().sum(-1, keepdim=True) + 1e-3),
    ],
)
def test_other_functions_stay_as_they_are(form: Function) -> None:
    graph = passes.canonicalize(traced(form))
    assert passes.recognize(graph) == graph


def test_a_number_that_the_model_trains_is_kept() -> None:
    class Slope(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Parameter(torch.tensor(0.1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x > 0, x, self.slope * x)

    graph = passes.recognize(qgraph.trace(Slope(), torch.randn(4, 8)))
    assert "nn.where" in [node.op for node in graph.nodes]
    assert [name for name, _ in qgraph.to_torch(graph).named_parameters()] == ["slope"]


@pytest.mark.parametrize("form", [form for _, _, form in CASES], ids=[f"{a}: {b}" for a, b, _ in CASES])
def test_origins_of_all_parts_go_to_the_whole(form: Function) -> None:
    graph = traced(form)
    before = {origin for node in graph.nodes[1:] for origin in node.origins}
    assert set(passes.recognize(graph).nodes[1].origins) == before


@pytest.mark.parametrize("guard", [share, guarded])
def test_exponentials_times_a_mask_are_at_most_one(guard: Function) -> None:
    ops = recognized(traced(lambda x: guard(x.exp() * ~HIDDEN)))
    assert ops[0] == "max"
    assert ops.count("mul") == 1
    assert "max" not in recognized(traced(lambda x: guard(less_max(x).exp() * ~HIDDEN)))[1:]


@pytest.mark.parametrize("target", ["litert", "tflm", "litert-xnnpack", "onnxruntime"])
def test_attention_by_hand_is_as_good_as_with_softmax(target: str) -> None:
    by_hand = traced(lambda x: share((3 * x).masked_fill(HIDDEN, -math.inf).exp()))
    whole = traced(lambda x: F.softmax((3 * x).masked_fill(HIDDEN, -math.inf), -1))
    x = 3 * torch.randn(64, 3, 8, generator=torch.Generator().manual_seed(2)).numpy()
    made = [qgraph.quantize(graph, target, calibration=[x], check=True, fallback="float") for graph in (by_hand, whole)]
    first, second = (qgraph.run(graph, x, dequantize=True) for graph in made)
    assert np.array_equal(first, second)


def test_onnx_nodes_by_hand_are_recognized_alike() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("ReduceSum", ["e", "axes"], ["s"], keepdims=1),
        helper.make_node("Div", ["e", "s"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8]) for name in "xy"]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [-1])
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], [axes]), opset_imports=[helper.make_opsetid("", 17)]
    )
    onnx.checker.check_model(model)
    assert [node.op for node in passes.recognize(from_onnx(model)).nodes] == ["nn.softmax"]


@pytest.mark.parametrize(
    ("axes", "keepdims", "whole"),
    [([2], "true", True), ([2], "false", False), ([1], "false", False), ([0], "false", True)],
)
@pytest.mark.parametrize("guard", [False, True])
def test_a_sum_that_lost_its_dimensions_is_aligned_as_broadcasting_says(
    axes: list[int], keepdims: str, whole: bool, guard: bool
) -> None:
    kept = "[" + ",".join("1" if i in axes else "4" for i in range(3)) + "]" if keepdims == "true" else "[4,4]"
    lines = [
        "graph @g level=float (%x: f32[4,4,4]) {",
        "  const @one: f32[1] = [1.0]" if guard else "",
        "  %1: f32[4,4,4] = nn.exp(%x)",
        f"  %2: f32{kept} = nn.sum(%1) {{axes={axes}, keepdims={keepdims}}}",
        f"  %3: f32{kept} = nn.add(%2, @one)" if guard else "",
        f"  %4: f32[4,4,4] = nn.div(%1, {'%3' if guard else '%2'})",
        "  return %4",
        "}",
    ]
    graph = qgraph.parse("\n".join(filter(None, lines)))
    made = PassManager(["recognize"], check=True).run(graph)
    x = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(qgraph.run(made, x), qgraph.run(graph, x), rtol=1e-5)
    changed = "nn.softmax" in str(made) or "nn.max" in str(made)
    assert changed is whole
