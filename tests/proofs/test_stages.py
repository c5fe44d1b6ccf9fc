"""Ranges of the stages of described chips, and of their accumulators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import qgraph
from qgraph.arith.stages import Program
from qgraph.ir import Graph, op_def
from qgraph.proofs import OverflowProofs, prove_no_overflow


class Net(nn.Module):
    """Three layers, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(4, 16, 3), nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = nn.functional.max_pool2d(torch.relu(x + self.second(x)), 4)
        return self.head(x.flatten(1))


def lowered(target: str) -> Graph:
    torch.manual_seed(0)
    x = torch.randn(16, 4, 6, 6)
    return qgraph.quantize(qgraph.trace(Net(), x), target, calibration=[x.numpy()])


def chip(folder: Path, width: str) -> str:
    """A chip like the ESP32-S3 whose accumulators have another width."""
    file = folder / "chip.toml"
    text = '[target]\nname = "chip"\ninherits = "esp-dl-s3"\n[accumulator]\n'
    file.write_text(f'{text}width = "{width}"\n')
    return str(file)


def test_what_a_relu_leaves_bounds_the_next_layer() -> None:
    """With all codes of s8 the second layer would need 21 of the 20 bits; lowering proved the same before."""
    found = prove_no_overflow(lowered("esp-dl-s3"))
    assert found.proved
    assert [layer.bits for layer in found.layers] == [20, 20, 20]
    assert found.layers[1].needed <= 20
    assert not found.not_looked_at


def test_a_stage_that_wraps_is_shown_with_numbers_for_which_it_does() -> None:
    found = prove_no_overflow(lowered("hls4ml"))
    assert not found.proved
    wrapping = [proof for proof in found.stages if proof.wraps]
    assert wrapping
    for proof in wrapping:
        assert proof.witness is not None
        names = ["x", *proof.node.attrs["names"]]
        given = {
            name: np.array([proof.witness[name]]) if name in proof.witness else np.ravel(value.data)[:1]
            for name, value in zip(names, proof.node.inputs, strict=True)
        }
        until = Program.parse(proof.node.attrs["stages"][: proof.stage.stage.number])
        made = int(until.apply(given.pop("x"), given)[0])
        assert not -128 <= proof.reached <= 127
        assert (made - proof.reached) % 256 == 0
        assert f"gives {proof.reached:,}" in str(proof)


def test_a_narrow_accumulator_overflows_on_codes_for_which_the_chip_is_wrong(tmp_path: Path) -> None:
    narrow, wide = (lowered(chip(tmp_path, width)) for width in ("s14 wrap", "s32"))
    found = prove_no_overflow(narrow).layers[0]
    assert (found.proved, found.bits) == (False, 14)
    assert found.witness is not None
    assert found.reached in (found.low, found.high)
    exact, kept = (_first(graph, found.witness["x"]) for graph in (wide, narrow))
    assert int(np.abs(exact).max()) >= abs(found.reached) >= 2**13
    assert ((exact - kept) % 2**14 == 0).all()
    assert (exact != kept).any()


def _first(graph: Graph, codes: np.ndarray) -> np.ndarray:
    """The accumulators of the first layer."""
    node = next(iter(graph.nodes))
    view = op_def(node.op).view(node)
    given = [value.data if value is not None and value.is_constant else value and codes for value in node.operands]
    return np.asarray(view.evaluate(*op_def(node.op).grouped(given))).astype(np.int64)


def test_accumulators_that_saturate_on_the_way_are_bounded_in_any_order(tmp_path: Path) -> None:
    each = prove_no_overflow(lowered(chip(tmp_path, "s14 saturate each 4"))).layers[0]
    end = prove_no_overflow(lowered(chip(tmp_path, "s14 saturate at end"))).layers[0]
    assert each.low <= end.low < end.high <= each.high
    assert not each.proved


def test_casts_of_products_are_not_looked_at_and_said() -> None:
    found: OverflowProofs = prove_no_overflow(lowered("hls4ml-cast"))
    assert not found.layers
    assert found.not_looked_at == ("npu.conv2d", "npu.linear")
    assert min(proof.low for proof in found.stages) >= -(2**18)
