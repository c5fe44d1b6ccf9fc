"""A net lowered for a described chip and run: what its layers made of their accumulators, judged by the oracle itself.

QGRAPH_ORACLES names a folder with the sources, each under its oracle's name: cmsis-nn, nvdla, pulp-nn, gemmini, esp-dl
(`tests/descriptions/oracles/catalogue.py` says which).  Rows come from the graph, with the multipliers, shifts and
biases that lowering derived.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import qgraph
from qgraph.interpreter.execute import execute
from qgraph.interpreter.inputs import quantize_inputs
from qgraph.ir import Graph
from tests.descriptions.oracles.catalogue import ORACLES
from tests.descriptions.oracles.programs import results
from tests.descriptions.test_described_ops import FOLDER

SOURCES = os.environ.get("QGRAPH_ORACLES", "")
Columns = dict[str, NDArray[Any]]


def shifted(o: Columns) -> list[NDArray[Any]]:
    return [o["x"] + o["bias"], o["multiplier"], o["left_shift"], o["right_shift"], o["left_shift"] * 0]


def clipped(y: NDArray[Any], o: Columns) -> NDArray[Any]:
    return np.clip(y + o.get("output_zero_point", 0), o["low"], o["high"])


def scaled(o: Columns) -> list[NDArray[Any]]:
    bits = o["scale"].astype(np.float32).view(np.uint32).astype(np.int64)
    return [o["x"] + o["bias"], bits]


def half(o: Columns) -> list[NDArray[Any]]:
    return [o["x"] + o["bias"], o["shift"]]


ROADS: dict[str, tuple[str, str, Callable[[Columns], list[NDArray[Any]]]]] = {
    "cmsis-nn": ("cmsis-nn", "requantize", shifted),
    "cmsis-nn-single": (
        "cmsis-nn-single",
        "requantize",
        lambda o: [o["x"] + o["bias"], o["multiplier"], 31 - o["shift"], o["shift"] * 0, o["shift"]],
    ),
    "nvdla": ("nvdla", "layer", lambda o: [o["x"], o["bias"], o["multiplier"], o["shift"]]),
    "pulp-nn": ("pulp-nn", "bn_u8", lambda o: [o["x"] + o["bias"], o["multiplier"], o["x"] * 0, o["shift"]]),
    "pulp-nn-64bit": (
        "pulp-nn-64bit",
        "bn_u8",
        lambda o: [o["x"] + o["bias"], o["multiplier"], o["x"] * 0, o["shift"]],
    ),
    "gemmini": ("gemmini", "store", scaled),
    "esp-dl-p4": ("esp-dl", "half_even_s32", half),
    "esp-dl-s3": ("esp-dl", "half_up_s32", half),
}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, 1, 1)
        self.point = torch.nn.Conv2d(8, 16, 1)
        self.head = torch.nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.max_pool2d(torch.relu(self.stem(x)), 2)
        x = torch.nn.functional.max_pool2d(torch.relu(self.point(x)), 2)
        return torch.relu(self.head(x.flatten(1)))


def lowered(target: str) -> tuple[Graph, NDArray[Any]]:
    torch.manual_seed(0)
    images = np.random.default_rng(0).random((8, 3, 8, 8)).astype(np.float32)
    graph = qgraph.trace(Net().eval(), torch.from_numpy(images[:2]))
    return qgraph.quantize(graph, target=str(FOLDER / f"{target}.toml"), calibration=[images]), images


def layers(graph: Graph, images: NDArray[Any]) -> list[tuple[Columns, NDArray[Any]]]:
    """Of each requantization behind a layer: x and operands, one a row, and the results."""
    seen: dict[Any, NDArray[Any]] = {}
    execute(
        graph, quantize_inputs(graph, images, layout="NCHW"), lambda value, array: seen.update({value: array.copy()})
    )
    found = []
    for node in graph.nodes:
        if node.op != "npu.stages" or "bias" not in node.attrs["names"]:
            continue
        x, *others = node.operands
        acc, made = seen[x].astype(np.int64), seen[node.result].reshape(-1)
        columns = {"x": acc.reshape(-1)}
        for name, value in zip(node.attrs["names"], others, strict=True):
            columns[name] = np.broadcast_to(value.data, acc.shape).reshape(-1)
        found.append((columns, made))
    return found


@pytest.mark.skipif(not SOURCES, reason="QGRAPH_ORACLES does not name a folder with the oracles' sources")
@pytest.mark.parametrize("target", ROADS)
def test_each_layer_of_a_net_is_what_the_oracle_makes_of_its_accumulators(target: str, tmp_path: Path) -> None:
    oracle, case, columns_of = ROADS[target]
    command = ORACLES[oracle].build(Path(SOURCES) / oracle.removesuffix("-single").removesuffix("-64bit"), tmp_path)
    judged = layers(*lowered(target))
    assert len(judged) == 3
    for columns, made in judged:
        table = np.stack([np.broadcast_to(c, made.shape).astype(np.int64) for c in columns_of(columns)], axis=1)
        table, place = np.unique(table, axis=0, return_inverse=True)
        expected = clipped(results(command, case, table)[place.reshape(-1)], columns)
        assert np.array_equal(made, expected)


@pytest.mark.parametrize("target", sorted(path.stem for path in FOLDER.glob("*.toml")))
def test_a_net_is_lowered_for_every_described_chip(target: str) -> None:
    """Convolutions, pools and a linear layer run on all of them; rk3588 says that a source is silent."""
    if target == "rk3588":
        with pytest.raises(qgraph.errors.LoweringError, match="the source does not say what"):
            lowered(target)
        return
    if target == "ne16":
        with pytest.raises(qgraph.errors.LoweringError, match="ne16 has no max_pool"):
            lowered(target)
        return
    graph, images = lowered(target)
    made = qgraph.run(graph, images, layout="NCHW")
    assert len(np.unique(made)) > 3
