"""The ops of the shipped descriptions against what their oracles gave: the very stages that stand in the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qgraph.arith.narrow_accumulator import AccumulatorRule, narrow_convolve
from qgraph.arith.stages import Program
from qgraph.arith.tosa_scale import apply_scale_32, reciprocal_scale
from qgraph.description.description import Description
from qgraph.description.reading import read
from tests.descriptions.golden import load

FOLDER = Path(__file__).parents[2] / "targets"
Columns = dict[str, NDArray[Any]]

Proof = tuple[str, str, str, str, dict[str, int], Callable[[Columns], Columns], Mapping[str, int]]

S32 = {"low": -(1 << 31), "high": (1 << 31) - 1}
S8 = {"low": -128, "high": 127}
U8 = {"low": 0, "high": 255}
NO_BIAS = {"bias": 0, "output_zero_point": 0}


def everything(columns: Columns) -> Columns:
    return columns


def q31_sum(columns: Columns) -> Columns:
    """Shifts in all beside right shifts."""
    more = {n.replace("right_shift", "shift"): c + 31 for n, c in columns.items() if n.endswith("_right_shift")}
    return {**columns, **more}


def floats(columns: Columns) -> Columns:
    """float32 scales of their bits."""
    return {
        n.removesuffix("_bits"): c.astype(np.uint32).view(np.float32) if n.endswith("_bits") else c
        for n, c in columns.items()
    }


def unshifted(columns: Columns) -> Columns:
    return {**columns, "shift": np.full(columns["x"].shape, 16)}


def qonnx_thresholds(columns: Columns) -> Columns:
    return {"x": columns["x"], "thresholds": np.stack([columns[f"t{i}"] for i in range(7)], axis=1)}


def max78000_layer(columns: Columns) -> Columns:
    acc = columns["x"] * columns["w0"] + columns["x1"] * columns["w1"]
    return {"x": acc, "bias": columns["bias"], "shift": 7 - columns["output_shift"]}


def of_four(columns: Columns) -> Columns:
    return {"x": columns["x"], "count": np.full(columns["x"].shape, 4)}


def bn(columns: Columns) -> Columns:
    return {**columns, "multiplier": columns["kappa"]}


# description, op, oracle, case, what else the stages read, columns made of the oracle's, rows that the chip's op has
PROOFS: list[Proof] = [
    ("cmsis-nn", "conv", "cmsis-nn", "requantize", {**S32, **NO_BIAS}, everything, {}),
    ("cmsis-nn", "mul", "cmsis-nn", "multiply", {**S8, "bias": 0}, everything, {}),
    ("cmsis-nn", "add", "cmsis-nn", "add", S8, q31_sum, {}),
    ("cmsis-nn", "average_pool", "cmsis-nn", "average", S8, everything, {}),
    ("cmsis-nn-single", "conv", "cmsis-nn-single", "requantize", {**S32, **NO_BIAS}, everything, {}),
    ("cmsis-nn-single", "mul", "cmsis-nn-single", "multiply", {**S8, "bias": 0}, everything, {}),
    ("cmsis-nn-single", "add", "cmsis-nn-single", "add", S8, q31_sum, {}),
    ("cmsis-nn-single", "average_pool", "cmsis-nn-single", "average", S8, everything, {}),
    ("nvdla", "conv", "nvdla", "layer", S8, everything, {}),
    ("nvdla", "add", "nvdla", "sum", S8, everything, {}),
    ("nvdla", "mul", "nvdla", "product", {**S8, "input_zero_point": 0, "second_zero_point": 0}, everything, {}),
    ("nvdla", "rescale", "nvdla", "output_s8", S8, lambda c: {**c, "multiplier": c["scale"]}, {"offset": 0}),
    ("hls4ml", "conv", "ap_fixed", "AP_TRN_AP_WRAP", S8, unshifted, {}),
    ("hls4ml-round", "conv", "ap_fixed", "AP_RND_AP_SAT", S8, unshifted, {}),
    ("finn", "conv", "qonnx", "threshold", {"low": -4}, qonnx_thresholds, {}),
    ("max78000", "conv", "max78000", "layer", S8, max78000_layer, {}),
    ("max78000", "conv", "max78000", "layer_relu", {"low": 0, "high": 127}, max78000_layer, {}),
    ("max78000", "average_pool", "max78000", "average", {}, of_four, {}),
    ("max78000", "add", "max78000", "add", S8, everything, {}),
    ("pulp-nn", "conv", "pulp-nn", "bn_u8", {**U8, **NO_BIAS}, bn, {"lambda": 0}),
    ("pulp-nn", "conv", "pulp-nn", "bn_u4", {"low": 0, "high": 15, **NO_BIAS}, bn, {"lambda": 0}),
    ("pulp-nn", "add", "pulp-nn", "add_u8", U8, everything, {"shift": 8}),
    ("pulp-nn-64bit", "conv", "pulp-nn-64bit", "bn_u8", {**U8, **NO_BIAS}, bn, {"lambda": 0}),
    ("pulp-nn-64bit", "conv", "nemo", "requantize", {**S32, **NO_BIAS}, everything, {}),
    ("ne16", "conv", "ne16", "quantized", U8, everything, {}),
    ("esp-dl-s3", "conv", "esp-dl", "half_up_s32", {**S32, **NO_BIAS}, everything, {}),
    ("esp-dl-s3", "conv", "esp-ppq", "s3", {**S8, **NO_BIAS}, everything, {}),
    ("esp-dl-p4", "conv", "esp-dl", "half_even_s32", {**S32, **NO_BIAS}, everything, {}),
    ("esp-dl-p4", "conv", "esp-ppq", "p4", {**S8, **NO_BIAS}, everything, {}),
    ("tosa-rescale", "conv", "tosa", "single_32", {**S32, **NO_BIAS}, everything, {}),
    ("tosa-rescale", "average_pool", "tosa", "average", {**S8, "output_zero_point": 0}, of_four, {}),
    ("gemmini", "conv", "gemmini", "store", {**S8, **NO_BIAS}, floats, {}),
    ("gemmini", "add", "gemmini", "add", S8, floats, {"output_scale_bits": 0x3F800000}),
]
MACRO = {("gemmini", "store"): 2}
"""Rows in which the oracle is known to err: see `test_stage_programs`."""


def described(name: str) -> Description:
    return read(FOLDER / f"{name}.toml")


def results(description: Description, op: str, columns: Columns, further: Mapping[str, int]) -> NDArray[np.int64]:
    """What the stages of an op make of columns, with its constants; the second operand goes through its own first."""
    settings = description.op(op)
    operands: dict[str, Any] = {**further, **{name: c for name, c in columns.items() if name != "x"}}
    for constant, expression in settings.constants.items():
        if constant not in operands:
            operands[constant] = expression.evaluate(operands)
    if "second" in operands:
        operands["second"] = Program.parse(settings.second()).apply(operands["second"], operands)
    return Program.parse(settings.stages()).apply(columns["x"], operands)


def compared(proof: Proof) -> tuple[int, int]:
    """Rows that were compared, and those that differ."""
    name, op, oracle, case, further, made_of, only = proof
    recorded = load(oracle)[case]
    rows = np.all([recorded.columns[column] == value for column, value in only.items()], axis=0)
    rows = np.broadcast_to(rows, recorded.y.shape)
    columns = made_of({column: values[rows] for column, values in recorded.columns.items()})
    made = results(described(name), op, columns, further)
    return int(rows.sum()), int((made != recorded.y[rows]).sum())


@pytest.mark.parametrize("proof", PROOFS, ids=lambda p: f"{p[0]}-{p[1]}-{p[3]}")
def test_the_stages_of_a_description_give_what_its_oracle_gave(proof: Proof) -> None:
    rows, differing = compared(proof)
    assert rows > 100
    assert differing == MACRO.get((proof[2], proof[3]), 0)


def test_what_is_called_proven_has_a_proof() -> None:
    proven = {path.stem for path in FOLDER.glob("*.toml") if described(path.stem).get("target.evidence") == "proven"}
    assert proven == {proof[0] for proof in PROOFS} | {"hls4ml-cast"}


def test_the_products_that_hls4ml_casts_are_cast_as_its_types_do() -> None:
    recorded = load("ap_fixed")["dense_wide"]
    columns = np.stack(list(recorded.columns.values()), axis=1)
    x, w, bias = columns[:, :4].astype(np.int8), columns[:, 4:8].astype(np.int8), columns[:, 8]
    settings = described("hls4ml-cast").op("linear")
    rule = AccumulatorRule.parse(*(settings.get(f"accumulator.{key}") for key in ("width", "order", "product")))
    layout: dict[str, Any] = {"stride": (1, 1), "pads": (0, 0, 0, 0), "dilation": (1, 1), "groups": len(x)}
    acc = narrow_convolve(x.reshape(1, 1, 1, -1), w.reshape(len(w), 1, 1, 4), rule, **layout, bias=bias).reshape(-1)
    made = Program.parse(settings.stages()).apply(acc, {"shift": 1, **S8})
    assert np.array_equal(made, recorded.y)


def test_rescale_as_a_description_is_the_arithmetic_of_tosa() -> None:
    recorded = load("cmsis-nn")["requantize"].columns  # accumulators beside each step, and 31-bit multipliers
    keep = (recorded["shift"] >= 2) & (np.abs(recorded["x"]) < 1 << np.clip(recorded["shift"] - 1, 0, 40))
    columns = {name: column[keep] for name, column in recorded.items()}
    made = results(described("tosa-rescale"), "conv", columns, {**S32, **NO_BIAS})
    assert np.array_equal(made, apply_scale_32(columns["x"], columns["multiplier"], columns["shift"]))
    assert keep.sum() > 4000


def test_averages_of_the_description_of_tosa_are_those_of_its_reciprocal() -> None:
    counts = np.repeat(np.arange(1, 65), 200)
    totals = np.random.default_rng(0).integers(-128, 128, counts.size) * counts // 2
    columns = {"x": totals, "count": counts}
    made = results(described("tosa-rescale"), "average_pool", columns, {**S8, "output_zero_point": 0})
    multiplier, shift = reciprocal_scale(counts)
    assert np.array_equal(made, np.clip(apply_scale_32(totals, multiplier, shift), -128, 127))
