"""What a graph costs on a described chip, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import qgraph
from qgraph import targets
from tests.description.chips import BASIC, written

CHIP = (
    BASIC
    + """
[memory]
weight_bytes = 200
activation_bytes = 100
bytes_per_cycle = 4

[throughput]
macs_per_cycle = 16
elements_per_cycle = 8
clock_mhz = 100
"""
)


def test_cycles_and_memory_are_those_that_the_tables_say(tmp_path: Path) -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(16, 3)
    )
    x = np.random.default_rng(0).normal(size=(4, 2, 6, 6)).astype(np.float32)
    graph = qgraph.trace(net, torch.from_numpy(x))
    lowered = qgraph.quantize(graph, target=written(tmp_path, CHIP), calibration=[x])
    estimate = targets.of(lowered).estimate
    assert estimate is not None
    told = estimate(lowered)
    convolution = max(4 * 4 * 4 * 18 // 16, 72 // 4)
    stages = (4 + 4 + 4 + 1 + 1 + 1) * 4 // 4, (3 + 3 + 3 + 1 + 1 + 1) * 4 // 4  # their constants are read
    pool, linear = 16 // 8, max(16 * 3 // 16, 48 // 4)
    cycles = convolution + sum(stages) + pool + linear
    assert told["cycles, at least"] == f"{cycles:,}, {cycles / 1e5:,.3f} ms at 100 MHz"
    assert told["weights in memory"] == "120 of 200 bytes: fit"
    assert told["activations in memory"].endswith("of 100 bytes: DO NOT FIT")


def test_a_chip_that_says_nothing_of_its_speed_has_no_estimate(tmp_path: Path) -> None:
    x = np.ones((2, 4), np.float32)
    graph = qgraph.trace(torch.nn.Sequential(torch.nn.Linear(4, 2)), torch.from_numpy(x))
    lowered = qgraph.quantize(graph, target=written(tmp_path, BASIC), calibration=[x])
    estimate = targets.of(lowered).estimate
    assert estimate is not None
    assert estimate(lowered) == {}
