"""What lies between ops that ONNX Runtime computes on floats is not rounded, and the bits are the runtime's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.ir import Array, Graph

Function = Callable[[Tensor], Tensor]
STEEP: dict[str, Function] = {
    "normalize": lambda x: F.normalize(x, dim=-1),
    "cosine similarity": lambda x: F.cosine_similarity(x, x.flip(1), dim=1),
    "norm": lambda x: x.norm(dim=1, keepdim=True),
    "inverse root": lambda x: torch.rsqrt(x * x + 1e-4),
    "rms norm by hand": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "standardized": lambda x: (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt(),
    "log softmax": lambda x: F.log_softmax(x * 20, -1),
}
"""Functions of examples of all sizes that a grid in their middle would spoil."""


class Of(nn.Module):
    """A function as a model."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def examples() -> Tensor:
    """Rows whose norms are between 0.01 and 1."""
    torch.manual_seed(0)
    return torch.randn(64, 16) * 10 ** (torch.rand(64, 1) * 2 - 2)


def sqnr(wanted: Array, got: Array) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum()))


@pytest.mark.parametrize("fallback", [None, "float"])
@pytest.mark.parametrize("name", STEEP)
def test_between_ops_on_floats_nothing_is_rounded(name: str, fallback: str | None) -> None:
    """The result is as near as the grid of the input alone allows."""
    x, function = examples(), STEEP[name]
    low = qgraph.quantize(qgraph.trace(Of(function), x), "onnxruntime", calibration=[x.numpy()], fallback=fallback)
    result = qgraph.verify(low, inputs=x.numpy())
    assert result.bit_exact, result.first_difference
    q = next(iter(low.nodes)).result.type.q
    on_grid = (np.clip(np.rint(x.numpy() / q.scales[0]) + q.zero_points[0], 0, 255) - q.zero_points[0]) * q.scales[0]
    wanted = function(x).numpy()
    limit = sqnr(wanted, function(torch.from_numpy(on_grid.astype(np.float32))).numpy())
    assert sqnr(wanted, qgraph.run(low, x.numpy())) > limit - 0.1


def test_a_quotient_of_zeros_by_their_norm_is_zero() -> None:
    x = examples()
    x[::2] = 0
    low = qgraph.quantize(qgraph.trace(Of(STEEP["normalize"]), x), "onnxruntime", calibration=[x.numpy()])
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact
    assert not qgraph.run(low, x.numpy())[::2].any()


class Between(nn.Module):
    """A difference between layers, and a product and a sum that integers read too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.a(x) * x
        z = y + self.b(x)
        return self.c(torch.tanh(z - y)), self.c(z)


def calibrated(model: nn.Module, **options: object) -> Graph:
    """The model, prepared and calibrated."""
    x = examples()
    return qgraph.calibrate(qgraph.prepare(qgraph.trace(model, x), "onnxruntime", **options), [x.numpy()])


def test_an_island_ends_where_an_op_on_integers_reads() -> None:
    low = qgraph.lower(calibrated(Between()), "onnxruntime")
    ops = [node.op.partition(".")[2] for node in low.nodes]
    assert (ops.count("QLinearMul"), ops.count("QLinearAdd")) == (1, 1)  # both are read by integers
    assert ops[ops.index("sub") :][:3] == ["sub", "tanh", "QuantizeLinear"]
    assert qgraph.verify(low, inputs=examples().numpy()).bit_exact


class Centred(nn.Module):
    """A difference that tanh alone reads."""

    def __init__(self) -> None:
        super().__init__()
        self.soft, self.head = nn.Tanh(), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.soft(x - x.mean(1, keepdim=True)))


@pytest.mark.parametrize(("overrides", "in_float"), [(None, 1), ({"soft": {"activation_bits": 4}}, 0)])
def test_a_number_of_bits_that_is_asked_for_keeps_a_node_on_a_grid(overrides: object, in_float: int) -> None:
    low = qgraph.lower(calibrated(Centred(), overrides=overrides), "onnxruntime")
    assert len(low.find("nn.tanh")) == in_float
    assert qgraph.verify(low, inputs=examples().numpy()).bit_exact


def test_floats_whose_bits_are_known_are_returned_as_they_are() -> None:
    graph = calibrated(nn.LogSoftmax(-1))
    low, of_integers = (qgraph.lower(graph, "onnxruntime", io=io) for io in ("float", "integer"))
    assert low.outputs[0].producer.op == "nn.log_softmax"
    assert [of_integers.inputs[0].type.dtype, of_integers.outputs[0].type.dtype] == ["u8", "f32"]
    assert np.array_equal(qgraph.run(low, examples().numpy()), qgraph.run(of_integers, examples().numpy()))


def test_floats_whose_bits_are_not_known_are_returned_on_a_grid() -> None:
    graph = calibrated(Of(lambda x: torch.cumsum(x, 1) - x), fallback="float")
    assert qgraph.lower(graph, "onnxruntime").outputs[0].producer.op == "ort.DequantizeLinear"


class Joined(nn.Module):
    """A product with a number, of an island's result that is joined to another value."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.cat([x.tanh(), F.normalize(x, dim=-1)][::-1], 1) * 0.3 + 0.1)


def test_an_island_ends_at_a_join_of_which_it_makes_the_first_part_alone() -> None:
    low = qgraph.lower(calibrated(Joined()), "onnxruntime")
    assert "QLinearMul" in [node.op.partition(".")[2] for node in low.nodes]
    assert qgraph.verify(low, inputs=examples().numpy()).bit_exact
