"""Normalizations have 16 bits inside: of examples whose sizes differ a hundredfold, 8 bits keep the largest alone. So
have the softmax of long rows, whose shares are next to the step of 8 bits, differences of squares, and soft caps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.ir import Array, Graph
from qgraph.passes import raise_to_fake_quant

HERE = ["litert", "litert-xnnpack", "tflm"]


class Of(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: nn.LayerNorm(16),
    "rms norm": lambda: nn.RMSNorm(16),
    "group norm": lambda: nn.GroupNorm(4, 16),
    "normalize": lambda: Of(lambda x: F.normalize(x, dim=1)),
    "cosine similarity": lambda: Of(lambda x: F.cosine_similarity(x, x.flip(1), dim=1)),
    "inverse root": lambda: Of(lambda x: torch.rsqrt(x * x + 1e-4)),
    "before a layer": lambda: nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 8)),
}


def examples() -> Tensor:
    """Rows whose norms are between 0.01 and 1."""
    torch.manual_seed(0)
    return torch.randn(64, 16) * 10 ** (torch.rand(64, 1) * 2 - 2)


def quantized(model: nn.Module, x: Tensor, target: str, **options: object) -> Graph:
    low: Graph = qgraph.quantize(qgraph.trace(model, x), target, calibration=[x.numpy()], **options)
    result = qgraph.verify(low, inputs=x.numpy())
    assert result.bit_exact, result.first_difference
    return low


def sqnr(wanted: Array, got: Array) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum()))


def widths(graph: Graph) -> set[str]:
    return {node.result.type.dtype for node in graph.nodes}


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("name", MODELS)
def test_small_examples_keep_their_size_through_a_normalization(name: str, target: str) -> None:
    """The result is within 1.5 dB of what the grid of the input alone allows, and comes back from integers."""
    torch.manual_seed(1)
    model, x = MODELS[name]().eval(), examples()
    low = quantized(model, x, target)
    low_type = low.outputs[0].type.dtype
    q = low.inputs[0].type.q
    on_grid = (np.clip(np.rint(x.numpy() / q.scales[0]) + q.zero_points[0], -128, 127) - q.zero_points[0]) * q.scales[0]
    with torch.no_grad():
        wanted, limit = (model(each).numpy() for each in (x, torch.from_numpy(on_grid.astype(np.float32))))
    assert low_type == "i8"
    assert sqnr(wanted, qgraph.run(low, x.numpy(), dequantize=True)) > sqnr(wanted, limit) - 1.5
    again = qgraph.lower(raise_to_fake_quant(low), target)
    assert np.array_equal(qgraph.run(again, x.numpy()), qgraph.run(low, x.numpy()))


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("name", ["normalize", "layer norm"])
def test_examples_of_zeros_spoil_no_others(name: str, target: str) -> None:
    x, model = examples(), MODELS[name]().eval()
    with torch.no_grad():
        alone = sqnr(model(x).numpy(), qgraph.run(quantized(model, x, target), x.numpy(), dequantize=True))
        x[::2] = 0
        got = qgraph.run(quantized(model, x, target), x.numpy(), dequantize=True)
        assert not got[::2].any()
        assert sqnr(model(x).numpy(), got) > alone - 2


@pytest.mark.parametrize("target", HERE)
def test_an_example_that_calibration_had_nothing_like_is_exact(target: str) -> None:
    low = quantized(MODELS["layer norm"](), torch.randn(64, 16), target)
    rows = np.concatenate([np.zeros((1, 16)), np.full((1, 16), 3.0), np.eye(16) * 100, np.eye(16) * 1e-3])
    assert qgraph.verify(low, inputs=rows.astype(np.float32)).bit_exact


@pytest.mark.parametrize("target", HERE)
def test_an_example_smaller_than_those_of_calibration_is_normalized_too(target: str) -> None:
    torch.manual_seed(0)
    x, model = torch.randn(64, 16), MODELS["normalize"]()
    low = quantized(model, x, target)
    small = x / 5
    assert sqnr(model(small).numpy(), qgraph.run(low, small.numpy(), dequantize=True)) > 25


class Attention(nn.Module):
    """Shares of 64 rows that are much alike."""

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(1, 2) * 0.1).softmax(-1) @ x


@pytest.mark.parametrize("target", HERE)
def test_small_shares_of_a_long_row_count(target: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 64, 16) + 1
    low = quantized(Attention(), x, target)
    assert [node.result.type.dtype for node in low.find("litert.softmax")] == ["i16"]
    assert sqnr(Attention()(x).numpy(), qgraph.run(low, x.numpy(), dequantize=True)) > 35


@pytest.mark.parametrize("shape", [(8, 4, 16), (8, 20)])
def test_a_short_row_and_a_result_have_shares_of_1_in_256(shape: tuple[int, ...]) -> None:
    model = nn.Softmax(-1) if len(shape) == 2 else Attention()
    low = quantized(model, torch.randn(shape), "litert")
    assert [node.result.type.q.scale for node in low.find("litert.softmax")] == [(1 / 256,)]


@pytest.mark.parametrize("target", HERE)
def test_what_is_left_of_a_difference_of_squares_counts(target: str) -> None:
    torch.manual_seed(0)
    machine = Of(lambda x: x.sum(1).square() - x.square().sum(1))  # of a factorization machine
    x = torch.randn(64, 3, 8) * 0.2 + torch.tensor([1.0, 0.0, 0.0])[:, None]
    low = quantized(machine, x, target)
    assert sqnr(machine(x).numpy(), qgraph.run(low, x.numpy(), dequantize=True)) > 30


@pytest.mark.parametrize("target", HERE)
def test_a_soft_cap_keeps_values_far_below_the_cap(target: str) -> None:
    """`30 * tanh(x / 30)` of values below 1: steps of 1/128, the grid of an int8 TANH, leave two or three of them."""
    torch.manual_seed(0)
    model, x = Of(lambda x: 30 * torch.tanh(x / 30)), torch.rand(64, 16) * 2 - 1
    low = quantized(model, x, target)
    assert sqnr(model(x).numpy(), qgraph.run(low, x.numpy(), dequantize=True)) > 45
    assert widths(quantized(Of(torch.tanh), x, target)) == {"i8"}  # one whose whole range is wanted has 8 bits


def test_eight_bits_that_are_asked_for_are_kept() -> None:
    low = quantized(nn.Sequential(nn.LayerNorm(16)), examples(), "litert", overrides={"0": {"activation_bits": 8}})
    assert "i16" not in widths(low)


def test_a_mean_that_would_leave_int32_keeps_eight_bits() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 128, 128)
    low = qgraph.quantize(qgraph.trace(nn.GroupNorm(1, 2), x), "litert", calibration=[x.numpy()])
    assert [node.result.type.dtype for node in low.find("litert.mean")] == ["i8", "i8"]
    feed = qgraph.quantize_inputs(low, x.numpy(), layout="NCHW")
    assert qgraph.verify(low, inputs=feed).bit_exact


@pytest.mark.parametrize("root", [torch.sqrt, torch.rsqrt])
def test_a_root_that_stays_in_float_is_none_of_xnnpacks(root: Callable[[Tensor], Tensor]) -> None:
    """A result of a scale that no kernel of integers takes; XNNPACK's roots differ in every third last digit."""
    model = Of(lambda x: root(x.abs() + 0.1))
    fine = qgraph.calibrate(qgraph.prepare(qgraph.trace(model, examples()), "litert-xnnpack"), [examples().numpy()])
    for mark in fine.find("quant.fake_quant"):
        if "sqrt" in mark.operand(1).name:
            mark.operand(1).data[:] = 1e32
    low = qgraph.lower(fine, "litert-xnnpack", fallback="float")
    assert {f"litert.float_{root.__name__}"} <= {node.op for node in low.nodes}
    verdict = qgraph.verify(low, inputs=examples().numpy(), intermediate=True)
    assert verdict.bit_exact, str(verdict)
    assert not verdict.notes
