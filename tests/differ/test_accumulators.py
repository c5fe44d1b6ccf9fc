"""Targets whose layers give accumulators, which another op requantizes: both are one group with the float layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qgraph


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Linear(8, 4),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = nn.functional.max_pool2d(x + torch.relu(self.second(x)), 8)
        return self.head(x.flatten(1))


@pytest.mark.parametrize(
    ("target", "layer", "requantizes"),
    [("tosa", "tosa.conv2d", "tosa.rescale"), ("nvdla", "npu.conv2d", "npu.stages")],
)
def test_a_layer_is_compared_with_what_its_accumulators_become(target: str, layer: str, requantizes: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 3, 8, 8)
    graph = qgraph.trace(Net(), x)
    low = qgraph.quantize(graph, target, calibration=[x.numpy()])
    found = qgraph.diff(graph, low, inputs=x.numpy())
    groups = [group for group in found.groups if [node.op for node in group.before] == ["nn.conv", "nn.relu"]]
    assert [[node.op for node in group.after] for group in groups] == [[layer, requantizes]] * 2
    for group in found.groups:
        if group.numbers is not None and group.numbers.sqnr_db is not None:
            assert group.numbers.sqnr_db > 30, group
