"""Graphs for described chips as C99, against the interpreter and bit-true training, byte for byte."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import qgraph
from qgraph.arith.stages_rounding import ROUNDINGS
from qgraph.ir import Builder, Graph, TensorType
from tests.c_compiler import build_and_run
from tests.description.chips import BASIC, FLOAT, SHIFTS, random_net, small_net, written

CHIPS = {
    "multipliers": BASIC,
    "floats": FLOAT,
    "shifts": SHIFTS,
    "weights of 2 bits": BASIC + '[weight]\nstorage = "s2"\n',
    "unsigned activations of 4 bits": BASIC + '[activation]\nstorage = "u4"\n',
    "accumulators that wrap": BASIC + '[accumulator]\nwidth = "s32 wrap"\nzero_point = "folded"\n',
    "thresholds": BASIC.replace(
        "[ops.conv]\n",
        '[ops.conv]\nscale.form = "thresholds"\nscale.rounding = "half_even"\n'
        'requantize.stages = ["threshold thresholds", "add low"]\n',
    ),
}


@pytest.mark.parametrize("chip", CHIPS)
def test_training_graph_and_program_give_the_same_bytes(tmp_path: Path, chip: str) -> None:
    target = written(tmp_path, CHIPS[chip])
    graph, images = small_net()
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, target=target), mode="bit-true"), [images]).eval()
    lowered = qgraph.lower(qgraph.from_torch(module), target=target)
    made = qgraph.run(lowered, images, dequantize=True, layout="NCHW")
    assert np.array_equal(module(torch.from_numpy(images)).detach(), made)
    qgraph.export(lowered, tmp_path / "model_c")
    assert ", 0 bytes differ" in build_and_run(tmp_path / "model_c")


@pytest.mark.parametrize("seed", range(4))
def test_random_nets_give_the_same_bytes_in_training_graph_and_program(tmp_path: Path, seed: int) -> None:
    name = [*CHIPS][seed % len(CHIPS)]
    target = written(tmp_path, CHIPS[name])
    graph, images = random_net(seed)
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, target=target), mode="bit-true"), [images]).eval()
    lowered = qgraph.lower(qgraph.from_torch(module), target=target)
    made = qgraph.run(lowered, images, dequantize=True, layout="NCHW")
    assert np.array_equal(module(torch.from_numpy(images)).detach(), made)
    qgraph.export(lowered, tmp_path / "model_c")
    assert ", 0 bytes differ" in build_and_run(tmp_path / "model_c", "-O2", compiler="clang")


@pytest.mark.parametrize(
    ("width", "product"),
    [
        ("s14 wrap", []),
        ("s12 saturate at end", []),
        ("s12 saturate each 4", []),
        ("s13 wrap", ["shift right 2 half_even", "wrap s12"]),
    ],
)
def test_narrow_accumulators_are_counted_step_by_step(tmp_path: Path, width: str, product: list[str]) -> None:
    accumulator = f'[accumulator]\nwidth = "{width}"\nproduct = {product}\norder = "c/4 ky kx c"\n'
    sums = '[ops.average_pool.accumulator]\nwidth = "s32"\nproduct = []\n'
    target = written(tmp_path, BASIC + accumulator + sums + sums.replace("average_pool", "mean"))
    graph, images = small_net()
    lowered = qgraph.quantize(graph, target=target, calibration=[images])
    qgraph.export(lowered, tmp_path / "model_c")
    assert ", 0 bytes differ" in build_and_run(tmp_path / "model_c")


CONDITIONS = ("", " where negative", " where not positive", " where n > 3", " where value <= n and n > 1")
STAGES = [
    *([f"shift right {amount} {rounding}"] for amount in ("3", "n") for rounding in ROUNDINGS),
    *([f"shift right m {rounding} negative left"] for rounding in ("floor", "half_even")),
    *([f"divide {by} {rounding}"] for by in ("6", "d") for rounding in ROUNDINGS),
    *([f"add n{condition}", "multiply 3 to s12 wrap"] for condition in CONDITIONS),
    *([f"subtract 7 to s9 {mode}"] for mode in ("saturate", "saturate symmetric", "saturate to zero", "wrap")),
    ["wrap u7"],
    ["saturate u7 symmetric", "shift left n", "negate", "maximum -99", "minimum 99"],
    ["absolute", "clamp 10 d", "keep size", "subtract 20", "add size", "take size"],
    ["threshold each"],
    ["threshold all"],
    ["saturate u4", "table table"],
    ["saturate u6", "interpolate table 2", "shift right 2 half_up"],
    *(
        [f"convert {kind}", "multiply gain", "subtract 0.25", f"round {rounding}"]
        for kind, rounding in product(("float32", "float64"), ROUNDINGS)
    ),
    ["convert float32", "divide gain", "absolute", "minimum 1000.5", "round half_away"],
]
"""Programs that have every word of the language, every rounding, width and condition."""


def test_every_stage_gives_the_same_integers_in_c(tmp_path: Path) -> None:
    graph = Graph("stages", "integer", {"target": "cmsis-nn", "layout": "NHWC", "io": "integer"})
    x = graph.add_input("x", TensorType((1, 40, 6), "i16"))
    constants = {
        "n": np.array([0, 1, 2, 5, 9, 15], np.int32),
        "m": np.array([-3, -1, 0, 1, 4, 12], np.int32),
        "d": np.array([1, 2, 3, 8, 100, 4097], np.int32),
        "each": np.sort(np.random.default_rng(0).integers(-99, 99, (6, 7)), axis=1).astype(np.int32),
        "all": np.array([-300, -5, 0, 5, 70], np.int32),
        "table": np.random.default_rng(1).integers(-2000, 2000, 17).astype(np.int32),
        "gain": np.array([0.5, 0.25, 1.5, 0.1, 3.0, 2.0], np.float32),
    }
    values = {name: graph.add_constant(data, name) for name, data in constants.items()}
    made = []
    for stages in STAGES:
        used = [name for name in values if any(name in stage.split() for stage in stages)]
        operands, words = [x, *(values[name] for name in used)], {"stages": tuple(stages), "names": tuple(used)}
        made.append(Builder(graph).node("npu.stages", operands, words, element=("i64", None)).result)
    graph.set_outputs(made, [f"y{number}" for number in range(len(made))])
    qgraph.export(graph, tmp_path / "model_c")
    for compiler, flags in (("gcc", ()), ("clang", ("-O2",))):
        assert ", 0 bytes differ" in build_and_run(tmp_path / "model_c", *flags, compiler=compiler)
