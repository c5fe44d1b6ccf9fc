"""Ranges of accumulators: exact, since an input that reaches their ends is found and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import qgraph
from qgraph.cli.app import app
from qgraph.errors import InputError
from qgraph.ir import Graph
from qgraph.proofs import prove_no_overflow
from qgraph.proofs.accumulators import Layer, bits_of
from qgraph.proofs.worst_codes import worst_codes

PLACES = 12
"""Accumulators of a layer that are looked at, beside those at the two ends."""


class Layers(torch.nn.Module):
    """All kinds of layers, with strides, dilation, groups and pads, and a product of two computed matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = torch.nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.grouped = torch.nn.Conv2d(8, 12, 3, groups=4)
        self.up = torch.nn.ConvTranspose2d(12, 4, 3, stride=2, padding=1)
        self.linear = torch.nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.grouped(torch.relu(self.depthwise(torch.relu(self.strided(x))))))
        z = self.linear(self.up(y).mean((2, 3)))
        return z[:, :, None] @ z[:, None, :]


def lowered(target: str, **options: Any) -> Graph:
    torch.manual_seed(0)
    x = torch.randn(16, 3, 20, 20)
    return qgraph.quantize(qgraph.trace(Layers(), x), target, calibration=[x.numpy()], **options)


@pytest.mark.parametrize("target", ["litert", "tflm", "litert-xnnpack", "onnxruntime", "tosa"])
def test_the_ends_of_every_range_are_reached_by_codes_that_the_kernel_is_given(target: str) -> None:
    layers = [layer for node in lowered(target).nodes if (layer := Layer.of(node)) is not None]
    assert len(layers) >= 6
    for layer in layers:
        low, high = (each.reshape(-1) for each in layer.extremes())
        somewhere = np.random.default_rng(0).integers(0, high.size, PLACES)
        for place in (int(low.argmin()), int(high.argmax()), *map(int, somewhere)):
            for up, ends in ((True, high), (False, low)):
                codes = worst_codes(layer, place, up)
                reached = layer.accumulators(**codes).reshape(-1)[place]
                assert reached == ends[place], (layer.node.op, place, up)
                for name, array in codes.items():
                    first, last = layer.ends(name)
                    assert first <= array.min()
                    assert array.max() <= last


@pytest.mark.parametrize("target", ["litert", "onnxruntime", "tosa"])
def test_no_random_codes_leave_a_range(target: str) -> None:
    rng = np.random.default_rng(1)
    for layer in (found for node in lowered(target).nodes if (found := Layer.of(node)) is not None):
        low, high = layer.extremes()
        for _ in range(5):
            given = {}
            for name in layer.computed:
                like = layer.codes(name, 0)
                given[name] = rng.integers(*layer.ends(name), like.shape, like.dtype, endpoint=True)
            acc = layer.accumulators(**given)
            assert (acc >= low).all()
            assert (acc <= high).all()


def test_16_bit_activations_add_up_in_64_bits_of_which_few_are_needed() -> None:
    found = prove_no_overflow(lowered("tflm", activations="i16")).layers
    assert {each.bits for each in found} == {64}
    assert all(each.proved and 20 < each.needed < 40 for each in found)


def overflowing(bias: int) -> Graph:
    """A linear layer of LiteRT's whose bias, as a file may have it, leaves no room for the products."""
    torch.manual_seed(0)
    x = torch.randn(16, 40)
    low = qgraph.quantize(qgraph.trace(torch.nn.Linear(40, 3), x), "litert", calibration=[x.numpy()])
    (node,) = low.nodes
    biases = node.operand(2).data.copy()
    biases[1] = bias
    low.set_data(node.operand(2), biases)
    return low


@pytest.mark.parametrize("bias", [2**31 - 1000, -(2**31) + 1000])
def test_an_overflow_is_shown_by_an_input_on_which_the_real_runtime_is_wrong(bias: int) -> None:
    low = overflowing(bias)
    (found,) = prove_no_overflow(low).layers
    assert (found.proved, found.needed) == (False, 33)
    assert found.reached == (found.high if bias > 0 else found.low)
    assert f"OVERFLOWS: 33 of 32 bits, {found.low:,} to {found.high:,}: litert.fully_connected" in str(found)
    assert found.witness is not None
    inputs = {low.inputs[0].name: found.witness["x"]}
    made = qgraph.run(low, inputs)
    assert isinstance(made, np.ndarray)
    assert made[0, 1] == (-128 if bias > 0 else 127)  # the wrong end
    assert qgraph.verify(low, inputs=inputs).bit_exact


def test_a_bias_that_leaves_room_is_proved() -> None:
    (found,) = prove_no_overflow(overflowing(2**31 - 500_000)).layers
    assert (found.proved, found.needed, found.witness) == (True, 32, None)


def test_the_command_prints_ranges_and_exits_with_1_on_an_overflow(tmp_path: Path) -> None:
    fine, wrong = tmp_path / "fine.qg", tmp_path / "wrong.qg"
    qgraph.save(lowered("litert"), fine)
    qgraph.save(overflowing(2**31 - 1), wrong)
    runner = CliRunner()
    said = runner.invoke(app, ["report", str(fine), "--overflow"])
    assert said.exit_code == 0
    assert "6 of 6 layers cannot overflow" in said.output
    assert "litert.depthwise_conv_2d (depthwise" in said.output
    assert "not looked at: litert.mean" in said.output
    said = runner.invoke(app, ["report", str(wrong), "--overflow", "--json"])
    assert said.exit_code == 1
    (words,) = json.loads(said.output)["layers"]
    assert words["needed"] == 33
    assert len(words["witness"]["x"][0]) == 40


def test_a_float_graph_has_no_accumulators() -> None:
    with pytest.raises(InputError, match="level float has no accumulators"):
        prove_no_overflow(qgraph.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)))


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-128, 127, 8), (-129, 0, 9), (5, 200, 9)]
)
def test_bits_hold_both_ends(low: int, high: int, bits: int) -> None:
    assert bits_of(low, high) == bits
