"""Where sources of one chip disagree: each side is a description, or a variant that inherits it, and the bytes differ.

The cases are those of rows where two sources say different things of the same arithmetic; what a test calls A or B is
what that source says, worked out by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgraph.arith.narrow_accumulator import AccumulatorRule, narrow_matmul
from qgraph.arith.stages import Program
from qgraph.description.description import Description
from qgraph.description.reading import read
from tests.descriptions.golden import load
from tests.descriptions.test_described_ops import FOLDER, NO_BIAS, S8, U8, described, results


def variant(folder: Path, of: str, text: str) -> Description:
    """A description that inherits a shipped one and says something else."""
    file = folder / "variant.toml"
    file.write_text(f'[target]\nname = "variant"\ninherits = "{of}"\n{text}')
    return read(file)


def accumulated(description: Description, products: list[int]) -> int:
    """What the accumulator keeps of so many products of 1."""
    accumulator = {key: description.op("linear").get(f"accumulator.{key}") for key in ("width", "order", "product")}
    rule = AccumulatorRule.parse(accumulator["width"], accumulator["order"], accumulator["product"])
    x, one = np.array([products], np.int64), np.ones((1, len(products)), np.int64)
    return int(narrow_matmul(x, one, rule)[0, 0])


def test_nvdla_saturates_34_bits_in_its_rtl_and_48_in_its_c_model() -> None:
    """Blocks of 64 products that leave 34 bits and come back."""
    products = [1 << 40, *[0] * 63, -(1 << 40), *[0] * 63]
    assert accumulated(described("nvdla"), products) == -(1 << 33)
    assert accumulated(described("nvdla-cmodel"), products) == 0


def test_vta_shifts_by_negative_amounts_to_the_left_in_its_simulator_alone(tmp_path: Path) -> None:
    stages = ["add bias to s32 wrap", "shift right shift floor negative left to s32 wrap", "clamp low high"]
    simulator = variant(tmp_path, "vta", f"[scale]\nshift = [-31, 31]\n[requantize]\nstages = {stages}\n")
    columns: dict[str, Any] = {"x": np.array([3]), "shift": np.array([-2]), "half": np.array([0])}
    assert results(simulator, "conv", columns, {**S8, **NO_BIAS}).tolist() == [12]
    with pytest.raises(Exception, match="shifts are from 0 to 63"):
        Program.parse(described("vta").op("conv").stages()).ranges((3, 3), {**columns, **S8, **NO_BIAS})
    assert described("vta").op("conv").get("scale.shift") == (0, 31)


def test_ne16_floors_in_its_rtl_and_adds_half_in_the_simulator_of_gap9(tmp_path: Path) -> None:
    rtl = described("ne16").op("conv").stages()
    rounded = [stage.replace("floor", "half_up") for stage in rtl]
    simulator = variant(tmp_path, "ne16", f"[requantize]\nstages = {rounded}\n")
    columns = {"x": np.array([2, 6, 7]), "multiplier": np.array([1, 1, 1]), "shift": np.array([2, 2, 2])}
    assert results(described("ne16"), "conv", columns, {**U8, **NO_BIAS}).tolist() == [0, 1, 1]
    assert results(simulator, "conv", columns, {**U8, **NO_BIAS}).tolist() == [1, 2, 2]


def test_the_readme_of_max78000_rounds_averages_half_up_and_its_simulator_half_away(tmp_path: Path) -> None:
    totals = {"x": np.array([-6, -2, 2, 6]), "count": np.full(4, 4)}
    readme = variant(tmp_path, "max78000", '[ops.average_pool]\nrequantize.stages = ["divide count half_up"]\n')
    assert results(readme, "average_pool", totals, {}).tolist() == [-1, 0, 1, 2]
    model = variant(tmp_path, "max78000", '[ops.average_pool]\nrequantize.stages = ["divide count half_away"]\n')
    assert results(model, "average_pool", totals, {}).tolist() == [-2, -1, 1, 2]
    assert results(described("max78000"), "average_pool", totals, {}).tolist() == [-1, 0, 0, 1]  # not switched on


def test_esp_dl_floors_twice_in_generic_c_per_channel_and_rounds_once_in_vectors(tmp_path: Path) -> None:
    twice = ["shift right 4 floor", "add bias", "shift right rest floor", "clamp low high"]
    text = f'[constants]\nrest = "shift - 4"\n[requantize]\nstages = {twice}\n'
    text = text.replace("[constants]\nrest", "[ops.conv.constants]\nrest")
    generic = variant(tmp_path, "esp-dl-p4", text.replace("[requantize]\nstages", "[ops.conv.requantize]\nstages"))
    columns = {"x": np.array([31, 8 + 16, 63]), "shift": np.full(3, 5), "rest": np.full(3, 1)}
    assert results(described("esp-dl-p4"), "conv", columns, {**S8, **NO_BIAS}).tolist() == [1, 1, 2]
    assert results(generic, "conv", columns, {**S8, **NO_BIAS}).tolist() == [0, 0, 1]


def test_rk3588_differs_from_the_nvdla_that_it_descends_from() -> None:
    """Measured: half to even, the offset after the shift. NVDLA's documents: half away, the offset before."""
    columns = {"x": np.array([1, 3, 5, -1, -3]), "multiplier": np.ones(5, int), "shift": np.ones(5, int)}
    rk3588 = results(described("rk3588"), "conv", columns, {**S8, "bias": 0, "output_zero_point": 10})
    assert rk3588.tolist() == [10, 12, 12, 10, 8]
    nvdla = results(described("nvdla"), "rescale", columns, {**S8, "output_zero_point": 0})
    assert nvdla.tolist() == [1, 2, 3, -1, -2]


@pytest.mark.parametrize(
    ("rounding", "codes"), [("half_even", [-2, -2, 0, 0, 2, 2]), ("half_away", [-3, -2, -1, 1, 2, 3])]
)
def test_ties_of_fake_quantize_go_to_even_at_run_time_and_away_when_the_npu_folds_constants(
    rounding: str, codes: list[int]
) -> None:
    program = Program.parse([f"round {rounding}"], x="float32")
    assert program.apply(np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32), {}).tolist() == codes


def test_gemmini_may_clip_at_zero_before_the_scale_or_behind_it() -> None:
    """RTL and C differ in the order, and not in a byte, as scales are positive."""
    behind = described("gemmini").op("conv").stages()
    before = (behind[0], "maximum 0", *behind[1:])
    x = np.concatenate([np.arange(-70000, 70000), [-(1 << 31), (1 << 31) - 1]])
    for scale in np.array([1e-3, 0.37, 1.0], np.float32):
        operands = {"scale": scale, "bias": 0, "low": 0, "high": 127}
        clipped = Program.parse(behind).apply(x, operands)
        assert np.array_equal(Program.parse(before).apply(x, operands), clipped)


def test_k210_rounds_negatives_in_its_simulator_as_no_banker_does() -> None:
    """The simulator steps towards the sign from what is floored; the name that it has says half to even."""
    recorded = load("k210")["banker"]
    named = Program.parse(["shift right shift half_even"]).apply(recorded.x, recorded.operands)
    negative = recorded.x < 0
    assert np.array_equal(named[~negative], recorded.y[~negative])
    assert (named[negative] != recorded.y[negative]).mean() > 0.3
    assert (recorded.y[negative] <= named[negative]).all()


def test_all_sides_are_shipped_or_inherit_what_is_shipped() -> None:
    shipped = {path.stem for path in FOLDER.glob("*.toml")}
    assert {"nvdla", "nvdla-cmodel", "vta", "ne16", "max78000", "esp-dl-p4", "rk3588", "gemmini"} <= shipped
