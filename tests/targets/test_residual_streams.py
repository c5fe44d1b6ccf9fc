"""What blocks add to a residual stream counts for the small tokens too, where nothing but normalizations reads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph


class Blocks(nn.Module):
    """Blocks that normalize first, over tokens of which the first is forty times smaller than the others reach."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(3))
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(16, 5)
        self.places = nn.Parameter(torch.randn(1, 6, 16) * 0.05)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(x * torch.tensor([0.0, 1, 1, 1, 1, 1])[:, None] + self.places)
        for norm, layer in zip(self.norms[:2], self.layers[:2], strict=True):
            x = x + self.drop(layer(norm(x)) * 0.02)
        return self.head(self.norms[2](x)[:, 0])


def decibels(make: type[nn.Module], target: str) -> float:
    """Signal over error of the integers, which are the runtime's."""
    torch.manual_seed(0)
    model, x = make().eval(), torch.randn(32, 6, 16)
    low = qgraph.quantize(qgraph.trace(model, x), target, calibration=[x.numpy()])
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact
    with torch.no_grad():
        wanted, got = model(x).numpy(), qgraph.run(low, x.numpy(), dequantize=True)
    return float(10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()))


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
def test_a_token_that_is_small_in_the_stream_is_classified_as_in_float(target: str) -> None:
    assert decibels(Blocks, target) > 25


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_sums_that_layers_read_stay_on_their_grids(target: str) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            y = x + self.a(x)
            return self.norm(y) + self.b(y)

    torch.manual_seed(0)
    x = torch.randn(16, 8)
    prepared = qgraph.prepare(qgraph.trace(Residual(), x), target)
    first = prepared.find("nn.add")[0]
    (mark,) = [user for user in first.result.users if user.op == "quant.fake_quant"]
    assert mark.attrs["type"] in ("i8", "u8")


class WithToken(nn.Module):
    """A class token, much smaller than the patches behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 16) * 0.05), nn.Parameter(torch.randn(1, 7, 16) * 0.01)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.norm(y)[:, 0])


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
def test_what_is_joined_for_a_stream_is_as_fine_as_it(target: str) -> None:
    assert decibels(WithToken, target) > 28
