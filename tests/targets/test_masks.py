"""Masks that are floats: what is added to scores must leave them as fine as they are, on every runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.ir import Array, Builder, Graph, TensorType
from qgraph.targets.masks import _keeps_rows, _Place, held_scores, masks_of

TARGETS = ("litert", "litert-xnnpack", "tflm", "onnxruntime")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype(np.float32)
KEPT = (RNG.random((48, 6)) > 0.4).astype(np.float32)
KEPT[:, 0] = 1
LOWEST = float(np.finfo(np.float32).min)


class Scores(nn.Module):
    """What `head` makes of a linear layer's results and of a mask."""

    def __init__(self, head: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.head = nn.Linear(6, 6), head

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.linear(x), mask)


class Attention(nn.Module):
    """Attention over [N, 20, 8] in which a float mask [N, 20] is added, twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(8, 24), nn.Linear(8, 24)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            q, k, v = layer(x).chunk(3, -1)
            x = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, :])
        return x


def quantized(model: nn.Module, x: Array, mask: Array, target: str, seen: Array | None = None, **words: str) -> Graph:
    graph = qgraph.trace(model.eval(), (torch.from_numpy(x), torch.from_numpy(mask)))
    batch = {"x": x, "mask": mask if seen is None else seen}
    low = qgraph.quantize(graph, target, calibration=[batch], **words)
    assert qgraph.verify(low, inputs={"x": x, "mask": mask}).bit_exact
    return low


def decibels(model: nn.Module, low: Graph, x: Array, mask: Array) -> float:
    with torch.no_grad():
        wanted = model(torch.from_numpy(x), torch.from_numpy(mask)).numpy().astype(np.float64)
    given = np.asarray(qgraph.run(low, {"x": x, "mask": mask}, dequantize=True, layout="NCHW"), np.float64)
    return float(10 * np.log10((wanted**2).sum() / ((wanted - given) ** 2).sum()))


HEADS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "-10,000": lambda v, m: torch.softmax(v + (1 - m) * -1e4, -1),
    "-30": lambda v, m: torch.softmax(v + (1 - m) * -30, -1),
    "the lowest float": lambda v, m: torch.softmax(v + (1 - m) * LOWEST, -1),
    "subtracted": lambda v, m: torch.softmax(v - 1e30 * (1 - m), -1),
    "of a difference": lambda v, m: torch.softmax(v + (m - 1) * 1e9, -1),
    "of two large numbers": lambda v, m: torch.softmax(v + (m * 1e9 - 1e9), -1),
    "a logarithm": lambda v, m: torch.softmax(v + torch.log(m + 1e-45), -1),
    "before a factor": lambda v, m: torch.softmax((v + (1 - m) * -1e9) / 2.0, -1),
    "before another sum": lambda v, m: torch.softmax((v + (1 - m) * -1e4) + v * 0.1, -1),
    "of products": lambda v, m: torch.softmax(v * m - (1 - m) * 1e4, -1),
    "before it is reshaped": lambda v, m: torch.softmax((v + (1 - m) * -1e4).reshape(-1, 1, 6), -1).reshape(-1, 6),
    "over another axis": lambda v, m: torch.softmax((v + (1 - m) * -1e4)[:, None].transpose(1, 2), 1)[..., 0],
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("target", TARGETS)
def test_scores_stay_as_fine_as_they_are_under_a_float_mask(target: str, head: str) -> None:
    model = Scores(HEADS[head])
    assert decibels(model, quantized(model, X, KEPT, target), X, KEPT) > 32


@pytest.mark.parametrize("head", HEADS)
def test_scores_stay_as_fine_as_they_are_under_a_mask_of_conditions(head: str) -> None:
    model, kept = Scores(lambda v, m: HEADS[head](v, m.float())), KEPT > 0.5
    assert decibels(model, quantized(model, X, kept, "litert"), X, kept) > 32


@pytest.mark.parametrize("lowest", [-1e4, LOWEST])
@pytest.mark.parametrize("target", TARGETS)
def test_an_input_that_the_examples_show_to_be_a_mask_costs_scores_nothing(target: str, lowest: float) -> None:
    mask = (1 - KEPT) * np.float32(lowest)
    for sign, head in ((1, lambda v, m: torch.softmax(v + m, -1)), (-1, lambda v, m: torch.softmax(v - m, -1))):
        model = Scores(head)
        assert decibels(model, quantized(model, X, sign * mask, target), X, sign * mask) > 34


def test_an_input_that_is_added_to_scores_and_is_no_mask_keeps_its_range() -> None:
    model, bias = Scores(lambda v, m: torch.softmax(v + m, -1)), 3 * KEPT
    low = quantized(model, X, bias, "litert")
    (grid,) = [value.type.q.scales[0] for value in low.inputs if value.name == "mask"]
    assert grid == np.float32(3 / 255)
    assert decibels(model, low, X, bias) > 34


@pytest.mark.parametrize("target", TARGETS)
def test_a_mask_that_attentions_of_16_bits_read_is_held_there_too(target: str) -> None:
    x, mask = RNG.normal(size=(16, 20, 8)).astype(np.float32), (RNG.random((16, 20)) < 0.4) * np.float32(-1e9)
    mask[:, 0] = 0
    model = Attention()
    assert decibels(model, quantized(model, x, mask, target), x, mask) > 34


@pytest.mark.parametrize("head", ["-10,000", "subtracted"])
@pytest.mark.parametrize("target", TARGETS[:3])
def test_a_float_mask_leaves_out_what_no_example_had(target: str, head: str) -> None:
    model = Scores(HEADS[head])
    low = quantized(model, X, KEPT, target, seen=np.ones_like(KEPT))
    assert decibels(model, low, X, KEPT) > 34


SCALED: dict[str, Callable[[Tensor], Tensor]] = {
    "ten thousand": lambda v: v * 1e4,
    "a variance": lambda v: v.var(1, keepdim=True) * 1e8,
    "a quotient": lambda v: v / 1e4,
    "up again": lambda v: torch.sin(v * 1e-10 / 1e-10),
}


@pytest.mark.parametrize("head", SCALED)
def test_a_large_factor_of_what_is_computed_is_no_mask(head: str) -> None:
    model = Scores(lambda v, m: SCALED[head](v) + m)
    assert decibels(model, quantized(model, X, KEPT, "onnxruntime"), X, KEPT) > 34


def test_a_causal_attention_of_an_open_length_runs_at_any_length() -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            q = self.linear(x)[:, None]
            return torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)

    model, x = Causal().eval(), RNG.normal(size=(8, 6, 4)).astype(np.float32)
    graph = qgraph.trace(model, torch.from_numpy(x), dynamic_dims=[1])
    low = qgraph.quantize(graph, "onnxruntime", calibration=[x], fallback="float")
    for length in (2, 6, 9):
        longer = (RNG.normal(size=(8, length, 4)) / 2).astype(np.float32)
        assert qgraph.verify(low, inputs=longer).bit_exact
        with torch.no_grad():
            wanted = model(torch.from_numpy(longer)).numpy()
        off = np.asarray(qgraph.run(low, longer)) - wanted
        assert 10 * np.log10((wanted**2).sum() / (off**2).sum()) > 25


def test_scores_of_sums_that_read_one_value_twice_are_met_once() -> None:
    graph = Graph("doubled")
    x, mask = (graph.add_input(name, TensorType(("N", 4))) for name in ("x", "mask"))
    build = Builder(graph)
    scores = build.nn.add(build.nn.softmax(x, axis=1), mask)
    for _ in range(200):
        scores = build.nn.add(scores, build.nn.transpose(scores, perm=(0, 1)))
    graph.set_outputs([build.nn.softmax(scores, axis=1)])
    held = held_scores(graph, ())
    assert held.observers[mask] == "addend"
    assert held.observers[scores] == "scores:-1:16:0"


def test_masks_are_made_of_conditions_and_numbers_next_to_an_infinity() -> None:
    graph = qgraph.parse("""graph @g level=float (%c: bool[N,4], %x: f32[N,4]) {
      const @far: f32[1] = -1e9, @one: f32[1] = 1.0
      %1: f32[N,4] = nn.where(%c, @one, @far)
      %2: f32[N,4] = nn.where(%c, @one, @one)
      %3: f32[N,4] = nn.where(%c, %x, @far)
      %4: f32[N,1,4] = nn.reshape(%1) {shape=[-1,1,4]}
      %5: f32[N,1] = nn.sum(%1) {axes=[1], keepdims=true}
      return %2, %3, %4, %5
    }""")
    of = dict(enumerate((node.result for node in graph.nodes), 1))
    assert set(masks_of(graph)) == {graph.constants["far"], of[1], of[4]}


def test_a_reshape_keeps_the_rows_of_its_last_dimension_and_no_others() -> None:
    for shape, axis, kept in (("N*2,6", -1, True), ("N,4,3", -1, False), ("N*2,6", -2, False)):
        sizes = shape.replace("N*2", "-1").replace("N", "-1")
        graph = qgraph.parse(f"""graph @g level=float (%x: f32[N,2,6]) {{
          %1: f32[{shape}] = nn.reshape(%x) {{shape=[{sizes}]}}
          return %1
        }}""")
        (node,) = graph.nodes
        assert _keeps_rows(_Place(node.result, axis), node) == kept


def _scaled_forms() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Softmaxes of scores of which a mask [N, 8] leaves some out, before they are multiplied by 1 / 8."""
    causal = torch.zeros(8, 8).masked_fill(torch.ones(8, 8).triu(1) > 0, -torch.inf)
    bias = torch.arange(8.0) * 0.1
    return {
        "added": lambda v, m: (v + (1 - m) * -1e4) * 0.125,
        "added, of conditions": lambda v, m: (v + (m == 0).float() * -1e9) / 8,
        "added, the lowest": lambda v, m: (v + (1 - m) * LOWEST) * 0.125,
        "subtracted": lambda v, m: (v - 1e4 * (1 - m)) * 0.125,
        "filled": lambda v, m: v.masked_fill(m == 0, -1e9) * 0.125,
        "filled with -inf": lambda v, m: v.masked_fill(m < 0.5, -torch.inf) * 0.125,
        "chosen": lambda v, m: torch.where(m > 0, v, torch.tensor(-1e9)) * 0.125,
        "distances": lambda v, m: (v + (1 - m) * 1e4) * -0.125,
        "by twice": lambda v, m: (v + (1 - m) * -1e4) * 0.5 * 0.25,
        "with a bias": lambda v, m: (v + (1 - m) * -1e4 + bias) * 0.125,
        "bounded": lambda v, m: (v + (1 - m) * -1e4).clamp(min=-1e4) * 0.125,
        "at least the lowest": lambda v, m: torch.max(v + (1 - m) * LOWEST, torch.tensor(LOWEST)) * 0.125,
        "causal": lambda v, m: (v + causal) * 0.125 + 0 * m,
        "causal and a bias": lambda v, m: (v + (causal + bias)) * 0.125 + 0 * m,
    }


class Heads(nn.Module):
    """Attention over [N, 8, 16] whose scores reach some hundreds before they are scaled."""

    def __init__(self, scores: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v, self.scores = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16), scores
        with torch.no_grad():
            self.q.weight.mul_(4)
            self.k.weight.mul_(4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = self.scores(self.q(x) @ self.k(x).mT, mask[:, None, :])
        return scores.softmax(-1) @ self.v(x)


def _reached(scores: Callable[[Tensor, Tensor], Tensor], target: str) -> float:
    x = np.random.default_rng(1).normal(size=(48, 8, 16)).astype(np.float32)
    mask = np.float32(np.random.default_rng(2).random((48, 8)) > 0.3)
    mask[:, 0] = 1
    model, words = Heads(scores), {"fallback": "float"} if target == "onnxruntime" else {}
    return decibels(model, quantized(model, x, mask, target, **words), x, mask)


@functools.cache
def _scaled_before(target: str) -> float:
    return _reached(lambda v, m: v * 0.125 + (1 - m) * -1e4, target)


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@pytest.mark.parametrize("form", _scaled_forms())
def test_scores_that_are_scaled_behind_a_mask_are_as_fine_as_scaled_before_it(form: str, target: str) -> None:
    assert _reached(_scaled_forms()[form], target) > _scaled_before(target) - 2


def test_bounds_of_integers_are_none_of_masks() -> None:
    class Lengths(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x.sum(1) / torch.maximum(mask.sum(1), torch.tensor(1)).float()

    quantized(Lengths(), X, KEPT > 0.5, "onnxruntime", fallback="float")
    quantized(Lengths(), X, KEPT > 0.5, "litert", fallback="float")


def test_what_is_made_of_ids_alone_is_a_mask_only_where_it_reaches_down() -> None:
    graph = Graph("g")
    ids, build = graph.add_input("ids", TensorType(("N", 4), "i64")), Builder(graph)
    numbers = build.cast(ids, dtype="f32")
    far = build.mul(numbers, build.constant(np.float32(LOWEST), "far"))
    graph.set_outputs([build.mul(numbers, build.constant(np.float32(-0.5), "near")), far])
    assert set(masks_of(graph)) == {graph.constants["far"], far}


class Chosen(nn.Module):
    """A softmax of the largest, the first of two results of one node."""

    def forward(self, x: Tensor) -> Tensor:
        return x.topk(3, -1)[0].softmax(-1)


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "onnxruntime"])
def test_a_softmax_may_read_a_node_of_several_results(target: str) -> None:
    low = qgraph.quantize(qgraph.trace(Chosen(), torch.from_numpy(X)), target, calibration=[X])
    assert qgraph.verify(low, inputs=X).bit_exact
