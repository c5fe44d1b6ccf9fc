"""Activations of 16 bits: of a whole graph, and where one asks, beside others of 8."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph import passes
from qgraph.errors import InputError
from qgraph.ir import Graph
from tests.models import seeded
from tests.targets.litert.families import HERE

F = nn.functional


class Network(nn.Module):
    """A kernel of 16 bits for each row that has one, and hard_swish, which has none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.depthwise, self.gate = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.up, self.head = nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.first(x)))
        y = F.hardswish(self.depthwise(x))
        x = F.max_pool2d(x + y * torch.sigmoid(self.gate(y)), 3, 2, 1)
        x = F.leaky_relu(torch.cat([x, torch.tanh(x)], 1)[:, 4:12] - 0.3)
        x = F.pad(F.avg_pool2d(x, 2, 1), (1, 0, 1, 0), value=0.7)
        return torch.softmax(self.head(self.up(x).clamp(-0.5, 0.8).mean((2, 3))), 1)


def decibels(expected: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10((expected**2).sum() / ((expected - got) ** 2).sum()))


def lowered(target: str, **words: object) -> tuple[Graph, float]:
    """The network on a target, checked, and how near its results are to those in float."""
    model, x = seeded(Network()).eval(), torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    graph = qgraph.trace(model, x, dynamic_batch=False)
    prepared = qgraph.calibrate(qgraph.prepare(graph, target, check=True, **words), [x.numpy()])  # type: ignore[arg-type]
    low = qgraph.lower(prepared, target, check=True)
    got = qgraph.run(low, x.numpy(), dequantize=True, layout="NCHW")
    return low, decibels(model(x).detach().numpy(), np.asarray(got))


def storage(graph: Graph) -> set[str]:
    return {node.result.type.dtype for node in graph.nodes}


@pytest.mark.parametrize("target", HERE)
def test_a_graph_of_16_bits_is_exact_and_near_the_floats(target: str) -> None:
    low, near = lowered(target, activations="i16")
    assert qgraph.verify(low, samples=16).bit_exact
    assert near > lowered(target)[1] + 10  # of 8 bits
    narrow = [node for node in low.nodes if node.result.type.dtype == "i8"]
    assert [node.op for node in narrow] == ["litert.quantize", "litert.hard_swish"], "what has no form of 16 bits"
    assert {node.operand(2).type.dtype for node in low.find("litert.conv_2d")} == {"i64"}


@pytest.mark.parametrize("target", HERE)
def test_some_nodes_have_16_bits_where_one_asks(target: str) -> None:
    asked = {"gate": {"activation_bits": 16}, "up": {"activation_bits": 16}}
    low, _ = lowered(target, overrides=asked)
    assert qgraph.verify(low, samples=16).bit_exact
    wide = [node.op for node in low.nodes if node.result.type.dtype == "i16"]
    assert wide == ["litert.quantize", "litert.conv_2d", "litert.quantize", "litert.transpose_conv"]


def test_some_nodes_of_a_graph_of_16_bits_have_8() -> None:
    low, _ = lowered("litert", activations="i16", overrides={"head": {"activation_bits": 8}})
    assert qgraph.verify(low, samples=16).bit_exact
    assert low.find("litert.fully_connected")[0].result.type.dtype == "i8"


@pytest.mark.parametrize("target", HERE)
def test_a_graph_of_16_bits_comes_back(target: str) -> None:
    low, _ = lowered(target, activations="i16")
    again = qgraph.lower(passes.raise_to_fake_quant(low), target)
    feed = qgraph.quantize_inputs(low, np.random.default_rng(1).normal(size=(8, 16, 16, 3)).astype(np.float32))
    assert np.array_equal(qgraph.run(low, feed), qgraph.run(again, feed))


def test_more_bits_than_an_op_has_are_refused() -> None:
    class Swish(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.swish = nn.Hardswish()

        def forward(self, x: Tensor) -> Tensor:
            return self.swish(x)

    graph = qgraph.trace(Swish(), torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"asks for 16 bits of nn\.hard_swish, whose integer op has 8"):
        qgraph.prepare(graph, "litert", overrides={"swish": {"activation_bits": 16}})
    with pytest.raises(InputError, match=r"activation_bits=16 is outside 2\.\.8"):
        qgraph.prepare(graph, "onnxruntime", overrides={"swish": {"activation_bits": 16}})


def test_a_graph_of_16_bits_trains() -> None:
    model, x = seeded(Network()).eval(), torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    prepared = qgraph.prepare(qgraph.trace(model, x, dynamic_batch=False), "litert", activations="i16")
    module = qgraph.calibrate(qgraph.to_torch(prepared), [x.numpy()]).train()
    optimizer = torch.optim.SGD(module.parameters(), 0.01)
    module(x).square().sum().backward()
    optimizer.step()
    low = qgraph.lower(qgraph.from_torch(module.eval()), "litert")
    assert qgraph.verify(low, samples=8).bit_exact


class Behind(nn.Module):
    """An op that has 8 bits only, behind one that moves values of 16."""

    def __init__(self, move: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.move = move

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(self.move(x))


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x[:, ::2],
        lambda x: torch.cat([x, x * 0.5], 1),
        lambda x: x.amax(1),
        lambda x: x.chunk(2, 1)[1],
        lambda x: torch.tanh(x)[:, ::2],
    ],
)
def test_what_moves_values_of_16_bits_to_an_op_of_8_keeps_their_range(move: Callable[[Tensor], Tensor]) -> None:
    model, x = Behind(move), torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    low = qgraph.quantize(qgraph.trace(model, x), "litert", calibration=[x.numpy()], activations="i16")
    got = qgraph.run(low, x.numpy(), dequantize=True)
    assert decibels(model(x).numpy(), np.asarray(got)) > 30


@pytest.mark.parametrize(
    "joined",
    [
        lambda x: torch.maximum(x, torch.zeros(8)),
        lambda x: torch.minimum(x, torch.full((8,), 0.3)),
        lambda x: torch.maximum(x * 1e-4, torch.full((8,), 2e-5)),
    ],
)
def test_a_constant_that_joins_values_of_16_bits_does_not_choose_their_scale(
    joined: Callable[[Tensor], Tensor],
) -> None:
    model, x = Behind(joined), torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    graph = qgraph.trace(model, x)
    low = qgraph.quantize(graph, "litert", calibration=[x.numpy()], activations="i16")
    assert decibels(model(x).numpy(), np.asarray(qgraph.run(low, x.numpy(), dequantize=True))) > 30
