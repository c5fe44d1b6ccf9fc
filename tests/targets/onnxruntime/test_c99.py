"""The `ort` dialect in C99, against the interpreter, byte for byte, on the cases that ONNX Runtime is compared on."""

from __future__ import annotations

import ctypes
import inspect
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qgraph
from qgraph.exporters.c99 import test_program as program_of_cases
from qgraph.interpreter import execute
from qgraph.targets import get
from qgraph.targets.c_source import to_program
from tests.c_compiler import build_and_run
from tests.targets.onnxruntime import (
    test_elementwise,
    test_extreme_scales,
    test_functions,
    test_layers,
    test_pooling,
    test_products,
    test_shapes,
)
from tests.targets.onnxruntime.op_cases import OpCases

MOST, LARGEST_RANK = 24, 4
"""Cases of one program, and dimensions that windows in C have."""
CASES: dict[str, Callable[..., None]] = {
    **{
        f"{layer.__name__} with {weights}": partial(test_layers.test_random, weights=weights, layer=layer)
        for layer in (test_layers.convolution, test_layers.product)
        for weights in ("i8", "u8")
    },
    "accumulators that wrap": test_layers.test_accumulators_wrap_at_int32,
    "every step of QGemm": partial(test_layers.test_both_sides_of_every_output_step, weights="i8", op="QGemm"),
    "sums of all pairs": test_elementwise.test_add_of_all_pairs,
    "sums": partial(test_elementwise.test_add_of_random_shapes, form="qoperator"),
    "sums of exchanged operands": test_elementwise.test_add_exchanges_its_operands_where_the_first_is_broadcast,
    "conversions": partial(test_elementwise.test_quantize_ties_extremes_and_dequantize, opset=19),
    "products of all pairs": test_products.test_mul_of_all_pairs,
    "products": partial(test_products.test_mul_of_random_shapes, form="qoperator"),
    "matrix products": partial(test_products.test_matmul, form="qoperator"),
    "largest of windows": partial(test_pooling.test_max_pool, form="qoperator"),
    "means of windows": test_pooling.test_average_pool,
    "means of all pairs": partial(test_pooling.test_average_of_all_pairs_and_others, count=2),
    "means of all": test_pooling.test_global_average_pool,
    "every sum of a mean": partial(test_pooling.test_global_average_of_every_sum, count=7),
    "softmax": partial(test_functions.test_softmax, form="qoperator"),
    "softmax on ties": test_functions.test_softmax_on_ties,
    "concat": partial(test_shapes.test_concat, form="qoperator"),
    "choices": test_shapes.test_choosing,
    "moves": partial(test_shapes.test_moving_elements, form="qoperator"),
    "sigmoid": partial(test_functions.test_sigmoid, form="qoperator"),
    **{
        f"{op.__name__} at extreme scales": partial(test_extreme_scales.test_extreme_scales, op=op)
        for op in (
            *(test_extreme_scales.conv, test_extreme_scales.gemm, test_extreme_scales.add),
            *(test_extreme_scales.average_pool, test_extreme_scales.global_average_pool, test_extreme_scales.concat),
        )
    },
}


def in_c(cases: OpCases, folder: Path) -> None:
    """The C program of the first cases gives what the interpreter gives."""
    kept = [value for value in cases.outputs if _has_two_dimensions(value)][:MOST]
    cases.outputs[:] = kept
    graph = qgraph.PassManager("drop-dead-code").run(cases.finished())
    inputs = [cases.arrays[value.name] for value in graph.inputs]
    program = to_program(graph, get("onnxruntime").c_forms)
    source, header, _ = program.source("cases")
    main = program_of_cases(program, [[*inputs, *execute(graph, cases.arrays)]])
    for name, text in (("model.c", source), ("model.h", header), ("main.c", main)):
        (folder / name).write_text(text)
    assert build_and_run(folder).startswith("1 examples, 0 bytes differ")
    assert len(kept) >= 3


def _has_two_dimensions(value: Any) -> bool:
    windows = ("Conv", "MaxPool", "AveragePool")
    return not any(word in value.producer.op for word in windows) or value.type.rank <= LARGEST_RANK


@pytest.mark.parametrize("name", CASES)
def test_ops(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpCases, "check", lambda cases, folder, **_: in_c(cases, folder))
    word = "dtype" if "dtype" in inspect.signature(CASES[name]).parameters else "activations"
    CASES[name](tmp_path, **{word: "u8" if "u8" in name or len(name) % 2 else "i8"})


class Net(torch.nn.Module):
    """What people export: windows of all kinds, a residual, a shared scale, attention without a mask, two results."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.Hardswish())
        self.deep = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.nn.ReLU6())
        self.wide = torch.nn.Conv2d(8, 4, 3, padding=2, dilation=2)
        self.up = torch.nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.head = torch.nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        x = x + self.deep(x)
        joined = torch.cat([torch.nn.functional.max_pool2d(x, 2), torch.nn.functional.avg_pool2d(self.wide(x), 2)], 1)
        tokens = joined.flatten(2).transpose(1, 2)
        scores = (tokens @ tokens.transpose(1, 2)).softmax(-1)
        return self.head(scores @ tokens), self.up(self.wide(x) * 0.5).mean((2, 3))


@pytest.mark.parametrize(
    ("compiler", "runner"), [("gcc", ()), ("clang", ()), ("arm-linux-gnueabihf-gcc", ("qemu-arm",))]
)
@pytest.mark.parametrize("io", ["float", "integer"])
def test_a_model(io: str, compiler: str, runner: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 16, 16)
    low = qgraph.quantize(qgraph.trace(Net().eval(), x), "onnxruntime", calibration=[x.numpy()], io=io)
    qgraph.export(low, tmp_path)
    flags = ("-O3", *(["-static"] if runner else []))
    assert ", 0 bytes differ, " in build_and_run(tmp_path, *flags, compiler=compiler, runner=runner)


class Islands(torch.nn.Module):
    """Ids, a mean that is taken away in float and added again, an enlargement, a choice."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.mix = torch.nn.Embedding(9, 6), torch.nn.Conv1d(6, 6, 3, padding=1)

    def forward(self, ids: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        mean = x[:, :, -1:]
        y = self.mix(x - mean) + mean
        chosen = torch.where(ids[:, None, :] == 3, torch.zeros(()), self.words(ids).transpose(1, 2))
        return torch.nn.functional.interpolate(y * chosen, scale_factor=2)


def test_what_stays_in_float_and_what_is_no_number(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = torch.randint(0, 9, (4, 8)), torch.randn(4, 6, 8)
    graph = qgraph.trace(Islands().eval(), inputs)
    feed = {value.name: each.numpy() for value, each in zip(graph.inputs, inputs, strict=True)}
    low = qgraph.quantize(graph, "onnxruntime", calibration=[feed], fallback="float")
    assert {"nn.gather", "nn.sub", "nn.equal", "nn.resize"} <= {node.op for node in low.nodes}
    qgraph.export(low, tmp_path)
    assert ", 0 bytes differ, " in build_and_run(tmp_path)


def test_an_id_that_is_none_is_refused(tmp_path: Path) -> None:
    graph = qgraph.trace(torch.nn.Embedding(5, 2), torch.zeros(1, 3, dtype=torch.int64))
    low = qgraph.quantize(graph, "onnxruntime", calibration=[np.zeros((1, 3), np.int64)])
    qgraph.export(low, tmp_path)
    build_and_run(tmp_path, "-O1")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "model.so", "model.c", "-lm"], cwd=tmp_path, check=True)
    run, made = ctypes.CDLL(str(tmp_path / "model.so")).model_run, np.empty(6, np.float32)
    for last, refused in ((4, 0), (5, 1), (-1, 1)):
        arrays = np.array([0, 1, last], np.int64), made
        assert run(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays)) == refused
