"""What is learned of a block, from what, by which steps; and which blocks there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.ir import Array, Graph
from qgraph.ops.quant import unquantized
from qgraph.passes import strip_fake_quant
from qgraph.passes.extract import between
from qgraph.ptq import adaround, brecq, qdrop
from qgraph.ptq.blocks import Block, blocks
from qgraph.ptq.weight_rounding import fits
from qgraph.training import soft_rounding
from qgraph.training.soft_rounding import Dropping, SoftBlock, SoftRounding, mixed
from tests.ptq.test_ptq import correlated
from tests.ptq.test_side_by_side import values


class Residuals(nn.Module):
    """Two residual blocks, the second of which reads a mask too, or none; and a layer by itself."""

    def __init__(self, shared: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))
        self.d = self.c if shared else self.d
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = x + self.b(self.a(x).relu())
        z = self.d(self.c(y).relu())
        return self.head(y + (z if mask is None else z * mask))


X, MASK = correlated(20, 4), correlated(20, 4, seed=1)


def residuals(masked: bool = False, shared: bool = False, target: str = "litert") -> Graph:
    examples = (X, MASK) if masked else (X,)
    graph = qgraph.trace(Residuals(shared), tuple(map(torch.from_numpy, examples)))
    overrides = {"*": {"bits": 3}} if target == "litert" else None
    return qgraph.calibrate(qgraph.prepare(graph, target, overrides=overrides), [examples])


def weights(graph: Graph) -> dict[str, Array]:
    """By the names of layers."""
    return {name.removesuffix(".weight"): v.data for name, v in graph.constants.items() if name.endswith(".weight")}


LAYER = ["fake_quant", "fake_quant_bias", "linear"]
RESIDUAL = [*LAYER, "fake_quant", *LAYER, "fake_quant", "add"]
"""The ops of a residual block, parameters' included, in their order."""


class Told:
    """In the learner's place: it keeps what it is given, and gives what it is told to."""

    made: ClassVar[list[Told]] = []
    better, code = True, 1.0

    def __init__(self, part: Graph, grids: Mapping[str, Any], dropped: float, seed: int) -> None:
        self.part, self.grids, self.dropped, self.seed = part, grids, dropped, seed
        self.made.append(self)

    def learn(self, given: Sequence[Tensor], exact: Sequence[Tensor], wanted: Tensor, steps: int) -> None:
        self.given, self.exact, self.wanted, self.steps = given, exact, wanted, steps

    def is_better(self, given: Sequence[Tensor], wanted: Tensor) -> bool:
        assert (given, wanted) == (self.given, self.wanted)
        return self.better

    def rounded(self) -> dict[str, Array]:
        return {name: scale * np.float32(self.code) for name, (scale, _, _) in self.grids.items()}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[Told]:
    monkeypatch.setattr(soft_rounding, "SoftBlock", Told)
    monkeypatch.setattr(Told, "made", [])
    return Told


def test_each_block_learns_from_what_the_blocks_before_it_have_become(told: type[Told]) -> None:
    graph = residuals()
    made = brecq(graph, X, steps=7)
    floats, rounded = strip_fake_quant(graph), values(made, X)
    real, adds = values(floats, X), [each.find("nn.add") for each in (made, floats)]
    for learner, layers, add, wanted in zip(told.made, ("ab", "cd"), *adds, strict=True):
        (given,), (exact,) = learner.given, learner.exact
        source = add.operand(0)
        assert np.array_equal(given.numpy(), rounded[source])
        np.testing.assert_allclose(exact.numpy(), real[wanted.operand(0)], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(learner.wanted.numpy(), real[wanted.result], rtol=1e-6, atol=1e-6)
        assert (learner.steps, learner.dropped, learner.seed) == (7, 0.0, 0)
        assert [*learner.grids] == [f"{name}.weight" for name in layers]
        assert [node.op.partition(".")[2] for node in learner.part.nodes] == RESIDUAL
        assert (len(learner.part.inputs), len(learner.part.outputs)) == (1, 1)
        for name in layers:
            scale, low, high = learner.grids[f"{name}.weight"]
            (mark,) = (n for n in graph.find("quant.fake_quant") if n.operand(0).name == f"{name}.weight")
            assert np.array_equal(scale, np.broadcast_to(mark.operand(1).data[:, None], (4, 4)))
            assert (low, high) == (-3, 3)
            assert np.array_equal(weights(made)[name], scale)
    assert not np.array_equal(weights(made)["head"], weights(graph)["head"])


def test_a_layer_that_is_a_block_by_itself_is_rounded_by_adaround(told: type[Told]) -> None:
    torch.manual_seed(0)
    graph = qgraph.trace(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)), torch.from_numpy(X))
    graph = qgraph.calibrate(qgraph.prepare(graph, "litert", overrides={"*": {"bits": 3}}), [X])
    assert brecq(graph, X) == adaround(graph, X)
    assert not told.made


def test_weights_of_a_block_stay_where_what_was_learned_is_no_better(
    told: type[Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(told, "better", False)
    graph = residuals()
    made = weights(brecq(graph, X))
    assert all(np.array_equal(made[name], weights(graph)[name]) for name in "abcd")
    assert not np.array_equal(made["head"], weights(graph)["head"])


def test_qdrop_drops_half_of_the_activations(told: type[Told]) -> None:
    qdrop(residuals(), X, steps=3)
    assert [(each.dropped, each.steps) for each in told.made] == [(0.5, 3)] * 2


def test_layers_of_a_block_that_share_their_weight_stay(told: type[Told]) -> None:
    graph = residuals(shared=True)
    made = brecq(graph, X)
    assert len(told.made) == 1
    assert np.array_equal(weights(made)["c"], weights(graph)["c"])
    assert not np.array_equal(weights(made)["a"], weights(graph)["a"])


def test_rows_of_a_block_whose_codes_ask_for_another_scale_stay(
    told: type[Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's scales keep sums of two products in 16 bits."""
    graph = residuals(target="onnxruntime")
    for code, kept in ((127.0, True), (1.0, False)):
        monkeypatch.setattr(told, "code", code)
        monkeypatch.setattr(told, "made", [])
        made = brecq(graph, X)
        for learner in told.made:
            for name, found in learner.rounded().items():
                (mark,) = (n for n in graph.find("quant.fake_quant") if n.operand(0).name == name)
                assert fits(mark, found).all() != kept
                wanted = graph.constants[name].data if kept else found
                assert np.array_equal(made.constants[name].data, wanted)


# ---- which blocks there are


def described(graph: Graph) -> list[tuple[list[str], str, list[str]]]:
    """Of each block its ops but for parameters', the op of its result, and what it is computed from."""
    names = graph.value_names()
    found = []
    for block in blocks(graph):
        ops = [node.op.partition(".")[2] for node in block.nodes]
        assert block.result.producer is not None
        found.append((ops, block.result.producer.op, sorted(names[value] for value in block.sources)))
    return found


def test_a_block_lies_between_values_through_which_everything_goes() -> None:
    graph = residuals()
    second = next(node for node in graph.find("nn.linear") if node.operand(1).producer.operand(0).name == "c.weight")
    names = graph.value_names()
    assert described(graph) == [
        (RESIDUAL, "nn.add", ["%1"]),
        (RESIDUAL, "nn.add", [names[second.operand(0)]]),
        (LAYER, "nn.linear", [names[graph.find("nn.linear")[-1].operand(0)]]),
    ]
    assert [[unquantized(layer.operand(1)).name[0] for layer in block.layers] for block in blocks(graph)] == [
        ["a", "b"],
        ["c", "d"],
        ["h"],
    ]


def test_a_blocks_first_node_is_the_first_that_reads_what_goes_in() -> None:
    for block in blocks(residuals()):
        assert block.first.op == "nn.linear"
        assert block.first is block.layers[0]


def test_inputs_of_the_graph_are_sources_wherever_they_are_read() -> None:
    graph = residuals(masked=True)
    first, head = blocks(graph)
    assert {graph.value_names()[value] for value in first.sources} == {"%1", "%x"}
    assert first.sources[-1] is graph.inputs[0]
    assert [len(block.layers) for block in (first, head)] == [4, 1]


def test_a_value_that_is_returned_lives_to_the_end() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.a(x)
            return y, self.b(y)

    graph = qgraph.trace(Both(), torch.from_numpy(X))
    graph = qgraph.calibrate(qgraph.prepare(graph, "litert"), [X])
    assert [len(block.layers) for block in blocks(graph)] == [1, 1]
    order = [unquantized(layer.operand(1)).name for block in blocks(graph) for layer in block.layers]
    assert order == ["a.weight", "b.weight"]


def test_what_is_not_rounded_is_no_layer_and_what_has_no_layer_no_block() -> None:
    graph = qgraph.trace(nn.Sequential(nn.ReLU(), nn.Linear(4, 4), nn.Tanh()), torch.from_numpy(X))
    graph = qgraph.calibrate(qgraph.prepare(graph, "litert"), [X])
    assert [[node.op for node in block.layers] for block in blocks(graph)] == [["nn.linear"]]
    assert not [*blocks(strip_fake_quant(graph))]


def test_what_is_made_of_parameters_belongs_to_every_block_that_reads_it() -> None:
    """Two layers with one rounded weight, which is the relu of a parameter."""
    graph = qgraph.trace(nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)), torch.from_numpy(X))
    graph = qgraph.calibrate(qgraph.prepare(graph, "litert"), [X])
    first, second = graph.find("nn.linear")
    mark = first.operand(1).producer
    assert mark is not None
    graph.set_operands(mark, [graph.insert_before(mark).nn.relu(mark.operand(0)), *mark.operands[1:]])
    graph.set_operands(second, [second.operand(0), first.operand(1)])
    graph = qgraph.PassManager("drop-dead-code").run(graph)
    assert [ops for ops, *_ in described(graph)] == [["relu", "fake_quant", "linear"]] * 2


def test_the_last_block_goes_to_the_last_node() -> None:
    graph = residuals()
    add = graph.find("nn.add")[-1]
    graph.set_outputs([add.result])
    graph = qgraph.PassManager("drop-dead-code").run(graph)
    *_, last = blocks(graph)
    assert last.result is graph.outputs[0]
    assert len(last.layers) == 2


# ---- soft rounding


def soft(w: list[float], low: int = -3, high: int = 3) -> SoftRounding:
    return SoftRounding(torch.tensor(w), torch.full((len(w),), 0.5), low, high)


def test_a_weight_begins_where_it_is_and_ends_above_or_below() -> None:
    """Weights of 0.6, -2.4 and 7 steps."""
    rounding = soft([0.3, -1.2, 3.5])
    torch.testing.assert_close(rounding.codes(), torch.tensor([0.6, -2.4, 3.0]))
    torch.testing.assert_close(rounding(torch.zeros(3)), torch.tensor([0.3, -1.2, 1.5]))
    rounding.way = "nearest"
    assert rounding.codes().tolist() == [1, -2, 3]
    rounding.way = "learned"
    assert rounding.codes().tolist() == [1, -2, 3]
    with torch.no_grad():
        rounding.v.copy_(torch.tensor([-0.01, 0.0, -9.0]))
    assert rounding.codes().tolist() == [0, -2, 3]  # half goes up
    assert soft([-9.0, 9.0], -3, 2).codes().tolist() == [-3, 2]
    low = soft([-9.0, 9.0], -3, 2)
    low.way = "nearest"
    assert low.codes().tolist() == [-3, 2]


def test_the_rectified_sigmoid_reaches_both_ends() -> None:
    rounding = soft([0.0, 0.0, 0.0])
    with torch.no_grad():
        rounding.v.copy_(torch.tensor([-9.0, 0.0, 9.0]))
    assert rounding.h().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(("progress", "beta"), [(0.2, 20), (0.6, 11), (1.0, 2)])
def test_the_regularizer_begins_after_a_fifth_of_the_steps_and_grows_flatter(progress: float, beta: float) -> None:
    rounding = soft([0.1, 0.4, -0.3])
    off = 2 * torch.tensor([0.2, 0.8, 0.4]) - 1
    torch.testing.assert_close(rounding.regularized(progress), (1 - off.abs() ** beta).sum())
    assert rounding.regularized(0.199).item() == 0


def test_an_element_is_as_it_was_with_a_probability() -> None:
    y, x, generator = torch.zeros(10_000), torch.ones(10_000), torch.Generator().manual_seed(0)
    assert mixed(y, x, 0.0, generator).sum() == 0
    assert mixed(y, x, 1.0, generator).sum() == 10_000
    assert 2300 < mixed(y, x, 0.25, generator).sum() < 2700


def test_a_quantizer_drops_while_it_is_told_to_and_not_at_first() -> None:
    dropping = Dropping(nn.Threshold(9.0, 0.0), 1.0, torch.Generator())
    assert dropping(torch.ones(3)).tolist() == [0, 0, 0]
    dropping.drops = True
    assert dropping(torch.ones(3)).tolist() == [1, 1, 1]


class Plain(nn.Module):
    """Two layers without biases, of 4 and 3 channels, and an activation between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


def plain() -> tuple[Graph, Block, SoftBlock, SoftBlock]:
    """The graph, all of it as one block, and its learners, that drop nothing and half."""
    graph = qgraph.trace(Plain(), torch.from_numpy(X))
    graph = qgraph.calibrate(qgraph.prepare(graph, "litert", overrides={"*": {"bits": 3}}), [X])
    found = [*blocks(graph)]
    block = Block(tuple(node for each in found for node in each.nodes), found[-1].result)
    source = graph.nodes[0].result
    part = between(graph, [source], [block.result])
    marks = [layer.operand(1).producer for layer in graph.find("nn.linear")]
    grids = {m.operand(0).name: (np.repeat(m.operand(1).data[:, None], 4, 1), -3, 3) for m in marks if m is not None}
    return graph, block, SoftBlock(part, grids, 0.0, seed=0), SoftBlock(part, grids, 0.5, seed=0)


def by_hand(learner: SoftBlock, given: Tensor, exact: Tensor, wanted: Tensor, steps: int) -> list[Tensor]:
    """v after so many steps of Adam on the error of randomly chosen examples and the regularizer, written out."""
    learner._set("nearest")
    nearest = (learner.module(given) - wanted).square().sum(1).mean().item()
    learner._set("soft")
    for each in learner.dropping:
        each.drops = True
    parts = learner.soft.values()
    adam = torch.optim.Adam([each.v for each in parts], lr=0.02)
    for step in range(1, steps + 1):
        chosen = torch.randperm(len(wanted), generator=learner.generator)[:32]
        x = given[chosen]
        if learner.dropped:
            x = torch.where(torch.rand(x.shape, generator=learner.generator) < 0.5, exact[chosen], x)
        error = (learner.module(x) - wanted[chosen]).square().sum(1).mean()
        loss = 0.1 * (16 + 12) / nearest * (1 - step / steps) * error
        for each in parts:
            beta = 2 + 18 * (1 + np.cos(np.pi * (step / steps - 0.2) / 0.8)) / 2
            loss = loss + ((1 - (2 * each.h() - 1).abs() ** beta).sum() if step / steps >= 0.2 else 0)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return [each.v.detach() for each in parts]


@pytest.mark.parametrize("which", [2, 3])
@pytest.mark.parametrize("steps", [1, 5])
def test_each_step_is_that_of_adam_on_the_error_of_some_examples_and_the_regularizer(which: int, steps: int) -> None:
    """Of 40 examples 32 are chosen; the other learner also drops half of the activations."""
    torch.manual_seed(2)
    given = torch.from_numpy(correlated(40, 4))
    exact, wanted = given + 0.1, Plain()(given).detach()
    learner, twin = plain()[which], plain()[which]
    assert isinstance(learner, SoftBlock)
    assert isinstance(twin, SoftBlock)
    assert learner.generator.initial_seed() == 0
    assert (len(learner.dropping) > 0) == (which == 3)
    learner.learn([given], [exact], wanted, steps)
    for each, v in zip(learner.soft.values(), by_hand(twin, given, exact, wanted, steps), strict=True):
        torch.testing.assert_close(each.v.detach(), v, rtol=1e-5, atol=1e-6)
    assert not any(each.drops for each in learner.dropping)


def test_what_is_learned_is_taken_where_it_errs_less_on_all_examples() -> None:
    _, _, learner, _ = plain()
    given = torch.from_numpy(correlated(40, 4))
    learner._set("nearest")
    wanted = learner.module(given).detach()
    assert not learner.is_better([given], wanted)  # the nearest errs by nothing
    with torch.no_grad():
        for each in learner.soft.values():
            each.v.neg_()
    assert not learner.is_better([given], wanted)
    learner._set("learned")
    assert learner.is_better([given], learner.module(given).detach())
    found = learner.rounded()
    for name, each in learner.soft.items():
        assert np.array_equal(found[name], (each.codes() * each.scale).detach().numpy())


def test_weights_that_are_not_learned_keep_their_scale() -> None:
    graph, block, *_ = plain()
    part = between(graph, [graph.nodes[0].result], [block.result])
    mark = graph.find("nn.linear")[1].operand(1).producer
    other = part.find("nn.linear")[0].operand(1).producer
    assert mark is not None
    assert other is not None
    part.set_data(other.operand(1), other.operand(1).data * 2)  # not the one that would follow from the weight
    grid = np.repeat(mark.operand(1).data[:, None], 4, 1), -3, 3
    learner = SoftBlock(part, {mark.operand(0).name: grid}, 0.0, seed=0)
    assert [*learner.soft] == ["b.weight"]
    given = torch.from_numpy(X)
    before = {name: value.clone() for name, value in learner.module.state_dict().items()}
    learner.learn([given], [given], learner.module(given).detach() + 1, 2)
    for name, value in learner.module.state_dict().items():
        assert name.endswith(".v") or torch.equal(value, before[name])
