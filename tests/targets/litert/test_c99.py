"""Ops of LiteRT's family in C99, against the interpreter, byte for byte, on cases that runtimes are compared on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from qgraph.errors import ExportError, UnsupportedOp
from qgraph.exporters.c99 import test_program as program_of_cases
from qgraph.interpreter import execute
from qgraph.ir import TensorType
from qgraph.targets import get
from qgraph.targets.c_source import to_program
from tests.c_compiler import build_and_run
from tests.targets.litert import (
    test_elementwise,
    test_functions,
    test_lstm,
    test_matmul,
    test_plain,
    test_reductions,
    test_resizing,
    test_shapes,
    test_softmax,
    test_splitting,
)
from tests.targets.litert.layer_cases import KINDS, LAYERS, boundary
from tests.targets.litert.op_cases import Cases, groups, integers, params
from tests.targets.litert.storage import every_code
from tests.targets.litert.test_binary import all_pairs, binary
from tests.targets.litert.test_layers import ALL, OTHERS, POWERS, REFUSED
from tests.targets.litert.test_pooling import pool

FAMILY = ("litert", "tflm")


def check_in_c(cases: Cases, target: str, folder: Path) -> None:
    """The program of the cases gives what the interpreter gives."""
    cases.graph.set_outputs(cases.outputs)
    cases.graph.metadata["target"] = target
    inputs = [cases.feed[value.name] for value in cases.graph.inputs]
    expected = execute(cases.graph, cases.feed)
    program = to_program(cases.graph, get(target).c_forms)
    source, header, _ = program.source("cases")
    main = program_of_cases(program, [[*inputs, *expected]])
    for name, text in (("model.c", source), ("model.h", header), ("main.c", main)):
        (folder / name).write_text(text)
    assert build_and_run(folder).startswith("1 examples, 0 bytes differ")


def in_c(make: Callable[[Cases], None], target: str, folder: Path, seed: int = 51, count: int = 12) -> None:
    """Random cases; where the target does not offer what C has, there is nothing to compare."""
    for cases in groups(count, make, seed, size=count):
        with suppress(UnsupportedOp):
            check_in_c(cases, target, folder)


COMPUTED = tuple(name for name in KINDS if "an input" in name)
NOT_IN_C = {
    *(("litert", "depthwise_conv_2d", name) for name, kind in KINDS.items() if kind.w == "i4"),
    *((target, op, name) for target in FAMILY for op in LAYERS for name in COMPUTED),
    *(
        ("litert", "fully_connected", name)
        for name, kind in KINDS.items()
        if kind.x == "i16" and kind.declared != "i32"
    ),
}
"""What the reference kernels do not have, computed weights and biases, and accumulators of 64 bits times a double."""


@pytest.mark.parametrize(("op", "name"), [case for case in ALL if case not in REFUSED])
@pytest.mark.parametrize("target", FAMILY)
def test_layers(op: str, name: str, target: str, tmp_path: Path) -> None:
    make = partial(LAYERS[op], kind=KINDS[name])
    if (target, op, name) in NOT_IN_C:
        with pytest.raises(
            (ExportError, UnsupportedOp), match=r"12 of 12 nodes cannot be written in C|have no DEPTHWISE"
        ):
            check_in_c(next(groups(12, make, 51)), target, tmp_path)
    else:
        in_c(make, target, tmp_path)


def look_up(cases: Cases) -> None:
    table = cases.build.constant(integers(cases.rng, (256,)), "table", params(cases.rng))
    x = cases.input(every_code("i8").reshape(2, 1, 128), params(cases.rng))
    cases.output(cases.build.litert.lookup(x, table))


OPS: dict[str, Callable[[Cases], None]] = {
    "add": test_elementwise.add,
    "add a constant": test_elementwise.add_constant,
    "requantize": test_elementwise.requantize,
    "relu": test_elementwise.own_relu,
    "quantize": test_elementwise.quantize,
    "pixels": test_elementwise.pixels,
    "dequantize": test_elementwise.dequantize,
    "mean": test_reductions.mean,
    "sum": test_reductions.total,
    "the largest": test_reductions.largest,
    "the smallest": test_reductions.smallest,
    "reshape": test_shapes.reshape,
    "transpose": test_shapes.transpose,
    "concatenation": test_shapes.concatenation,
    "pad": test_shapes.pad,
    "slice": test_shapes.slice_,
    "strided slice": test_shapes.strided_slice,
    "squeeze": test_shapes.squeeze,
    "expand_dims": test_shapes.expand_dims,
    "pack": test_shapes.pack,
    "gather": test_shapes.gather,
    "split": test_splitting.split,
    "split_v": test_splitting.split_v,
    "unpack": test_splitting.unpack,
    "nearest neighbour": test_resizing.nearest,
    "bilinear": test_resizing.bilinear,
    "look-up": look_up,
    "softmax to 16": test_softmax.widened,
    "arg_max": test_reductions.arg_max,
    "embedding": test_shapes.embedding_lookup,
    "rsqrt": partial(test_functions.root, name="rsqrt", storage="i8"),
    "sqrt": partial(test_functions.root, name="sqrt", storage="i8"),
    "cast": test_plain.cast_of_codes,
    **{
        f"{op} of {dtype}": partial(pool, op=op, dtype=dtype)
        for op in ("max_pool_2d", "average_pool_2d")
        for dtype in ("i8", "u8", "i16")
    },
    **{f"softmax of {dtype}": partial(test_softmax.softmax, storage=dtype) for dtype in ("i8", "u8")},
    **{
        f"matmul of {x} by {y}": partial(test_matmul.matmul, dtype=x, y_dtype=y)
        for x, y in (("i8", "i8"), ("i16", "i16"), ("i16", "i8"))
    },
    **{
        f"{op} of {dtype}": partial(binary, name=op, storage=dtype)
        for op in ("add", "sub", "mul", "maximum", "minimum", "prelu")
        for dtype in ("i8", "u8", "i16")
        if (op, dtype) != ("prelu", "i16")
    },
    "squared_difference": partial(binary, name="squared_difference", storage="i8"),
}


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("target", FAMILY)
def test_ops(name: str, target: str, tmp_path: Path) -> None:
    if (target, name) == ("litert", "sum"):
        with pytest.raises(ExportError, match="12 of 12 nodes cannot be written in C"):
            in_c(OPS[name], target, tmp_path)
    else:
        in_c(OPS[name], target, tmp_path)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "squared_difference"])
def test_all_pairs(name: str, tmp_path: Path) -> None:
    in_c(partial(all_pairs, name=name, storage="i8"), "litert", tmp_path, count=6)


@pytest.mark.parametrize(
    ("op", "name"), [(op, name) for op, name in ALL if KINDS[name].bias and ("litert", op, name) not in NOT_IN_C]
)
def test_accumulators_on_both_sides_of_every_step(op: str, name: str, tmp_path: Path) -> None:
    for index, factors in enumerate(np.array_split([*POWERS, *OTHERS], 4)):
        cases = Cases(np.random.default_rng([7, index]))
        for factor in factors:
            boundary(cases, op, KINDS[name], float(factor))
        check_in_c(cases, "litert", tmp_path)


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
@pytest.mark.parametrize("dtype", ["i32", "f32"])
def test_numbers_as_they_are(op: str, dtype: str, tmp_path: Path) -> None:
    """Integers wrap, floats are rounded once."""
    cases = Cases(np.random.default_rng(5))
    info = np.iinfo(np.int32)
    for a, b in (((2, 1, 5), (3, 1)), ((4,), (4,)), ((1,), (2, 3))):
        drawn = [cases.rng.integers(info.min, info.max, shape, dtype=np.int32) for shape in (a, b)]
        arrays = [each if dtype == "i32" else (each / 3e8).astype(np.float32) for each in drawn]
        cases.output(getattr(cases.build.litert, f"float_{op}")(*(cases.input(array, None) for array in arrays)))
    check_in_c(cases, "litert", tmp_path)


@pytest.mark.parametrize("ids", ["i32", "i64"])
def test_parts_at_computed_places(ids: str, tmp_path: Path) -> None:
    """Along any axis, also of a batch that both share."""
    cases = Cases(np.random.default_rng(6))
    for shape, places, axis, batch in (
        *(((5, 3), (4,), 0, 0), ((2, 5, 3), (2, 4), 1, 1), ((2, 5, 3), (3,), -1, 0), ((2, 3, 4), (2, 3, 2), 2, 2)),
    ):
        x = cases.input(integers(cases.rng, shape), params(cases.rng))
        drawn = cases.rng.integers(0, shape[axis], places).astype(TensorType((), ids).numpy)
        indices = cases.input(drawn, None)
        attrs = {"axis": axis, "batch_dims": batch}
        cases.output(cases.build.litert.gather(x, indices, **attrs, element=("i8", x.type.quant)))
    check_in_c(cases, "litert", tmp_path)


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize(
    "make", [test_lstm.random_case, partial(test_lstm.random_case, begins=True), test_lstm.boundary_case]
)
def test_sequences_of_an_lstm(make: Callable[[Cases], None], target: str, tmp_path: Path) -> None:
    in_c(make, target, tmp_path, count=24)
