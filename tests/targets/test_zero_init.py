"""Residual branches that begin as nothing, as published networks initialize them: their last gain is zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qgraph
from tests.targets.test_fewer_bits import TARGETS


class Residual(nn.Module):
    def __init__(self, act: nn.Module, conv: nn.Conv2d) -> None:
        super().__init__()
        self.stem, self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), conv, nn.BatchNorm2d(8), act
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        y: Tensor = self.act(x + self.norm(self.conv(x)))
        return y


@TARGETS
@pytest.mark.parametrize("act", [nn.Identity(), nn.ReLU()], ids=["plain", "relu"])
@pytest.mark.parametrize("groups", [1, 8])
def test_a_residual_branch_of_nothing_is_lowered_exactly(target: str, act: nn.Module, groups: int) -> None:
    torch.manual_seed(0)
    model = Residual(act, nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False))
    x = torch.randn(4, 3, 6, 5)
    model(x)  # statistics of a few examples
    model.eval()
    low = qgraph.quantize(qgraph.trace(model, x), target=target, calibration=[x.numpy()])
    assert qgraph.verify(low, inputs=x.numpy(), layout="NCHW").bit_exact
    made = torch.from_numpy(qgraph.run(low, x.numpy(), dequantize=True, layout="NCHW"))
    assert (made - model(x)).abs().max() < 0.05
