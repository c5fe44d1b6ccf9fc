"""Graphs lowered to TOSA as C99, with every warning and the sanitizers, against the interpreter, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.errors import ExportError
from qgraph.ir import Builder, Graph, QuantParams, TensorType, Value
from tests.c_compiler import build_and_run
from tests.targets.tosa.test_lowering import Attending

RNG = np.random.default_rng(8)


class Net(nn.Module):
    """Layers of all kinds, a residual, pools with pads, a join, an enlargement, softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 2, dilation=2, groups=8)
        self.groups = nn.Conv2d(8, 8, 3, 2, 1, groups=2)
        self.up = nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        y = nn.functional.max_pool2d(nn.functional.hardswish(self.depthwise(x)), 3, 2, 1)
        y = nn.functional.interpolate(y, scale_factor=2.0) + self.up(self.groups(x)).clamp(-0.1, 0.2)
        y = nn.functional.avg_pool2d(torch.cat([y, torch.sigmoid(x) * x - 0.5], 1), 3, 2, 1, count_include_pad=False)
        return torch.softmax(self.head(y.mean((2, 3))), -1)


def lowered(model: nn.Module, x: torch.Tensor) -> Graph:
    return qgraph.quantize(qgraph.trace(model.eval(), x), "tosa", calibration=[x.numpy()])


@pytest.mark.parametrize("flags", [(), ("-O3",)])
@pytest.mark.parametrize("name", ["convolutions", "attention"])
def test_models(name: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Net() if name == "convolutions" else Attending()
    x = torch.randn(8, 3, 16, 16) if name == "convolutions" else torch.randint(0, 50, (8, 7))
    qgraph.export(lowered(model, x), tmp_path)
    assert ", 0 bytes differ, " in build_and_run(tmp_path, *flags)


def test_accumulators_that_one_rescale_reads_need_no_array(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 32, 32)
    low = lowered(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), x)
    assert [node.op for node in low.nodes] == ["tosa.conv2d", "tosa.rescale"] * 2
    qgraph.export(low, tmp_path)
    header = (tmp_path / "model.h").read_text()
    used = next(int(line.split()[-1]) for line in header.splitlines() if "MODEL_ARENA_BYTES" in line and "#" in line)
    assert used <= 30 * 30 * 4 + 2 * 4 * 4


def graph_of(*makers: str) -> Graph:
    """Single ops, by their names, on inputs of their own, whose results are all returned."""
    graph = Graph("g", "integer", {"target": "tosa"})
    build, outputs = Builder(graph), []

    def given(shape: tuple[int, ...], dtype: str) -> Value:
        quant = QuantParams.of(0.1, 0) if dtype != "bool" else None
        return graph.add_input(f"x{len(graph.inputs)}", TensorType(shape, dtype, quant))

    for name in makers:
        op = getattr(build.tosa, name)
        if name == "mul":
            outputs += [op(given((2, 3), "i8"), given((1, 3), "i8"), shift=0)]
        elif name in ("greater", "equal", "greater_equal"):
            made = op(given((2, 3), "i32"), given((2, 1), "i32"))
            outputs += [build.tosa.select(made, given((2, 3), "i32"), given((1, 1), "i32"))]
        elif name.startswith("reduce"):
            outputs += [op(given((2, 3, 4), "i8" if name != "reduce_sum" else "i32"), axis=axis) for axis in range(3)]
        else:
            outputs += [op(given((2, 3), "i32"), given((1, 3), "i32"))]
    graph.set_outputs(outputs)
    return graph


@pytest.mark.parametrize(
    "names",
    [("maximum", "minimum", "mul"), ("greater", "equal", "greater_equal"), ("reduce_max", "reduce_min")],
)
def test_ops(names: tuple[str, ...], tmp_path: Path) -> None:
    qgraph.export(graph_of(*names), tmp_path)
    assert ", 0 bytes differ, " in build_and_run(tmp_path)


def test_what_has_no_form_is_named(tmp_path: Path) -> None:
    x = torch.randn(4, 3, 8, 8)
    low = lowered(nn.Upsample(scale_factor=2, mode="bilinear"), x)
    with pytest.raises(ExportError, match="RESIZE of the mode NEAREST, not BILINEAR"):
        qgraph.export(low, tmp_path)
