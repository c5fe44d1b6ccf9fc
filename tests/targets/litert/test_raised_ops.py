"""Every op of the dialect, in every form that the tests of its kernels try: raised and lowered again it gives the same
integers on every family, or raising refuses and says what it cannot carry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import qgraph
from qgraph import passes
from qgraph.errors import LoweringError, UnsupportedOp
from qgraph.interpreter import execute
from qgraph.ir import Array, Graph
from tests.targets.litert import (
    test_binary,
    test_elementwise,
    test_functions,
    test_plain,
    test_reductions,
    test_shapes,
    test_softmax,
    test_splitting,
)
from tests.targets.litert.layer_cases import KINDS, LAYERS
from tests.targets.litert.op_cases import Cases
from tests.targets.litert.test_pooling import pool

COUNT = 12
TARGETS = ("litert", "litert-xnnpack", "tflm")
Make = Callable[[Cases], None]

SAME: dict[str, Make] = {
    **{f"{op}, {kind}": partial(LAYERS[op], kind=KINDS[kind]) for op in LAYERS for kind in ("int8",)},
    **{f"{op} without a bias": partial(LAYERS[op], kind=KINDS["int8 without a bias"]) for op in LAYERS},
    **{op: partial(pool, op=op) for op in ("max_pool_2d", "average_pool_2d")},
    **{op: partial(test_binary.binary, name=op, storage="i8") for op in ("add", "sub", "mul")},
    **{case.__name__: case for case in (test_elementwise.add_constant, test_elementwise.requantize)},
    **{op: partial(test_functions.requantizing, name=op, storage="i8") for op in ("relu_n1_to_1", "hard_swish")},
    **{op: partial(test_functions.requantizing, name=op, storage="i8") for op in ("relu_0_to_1", "leaky_relu")},
    **{op: partial(test_functions.function, name=op, storage="i8") for op in ("logistic", "tanh")},
    **{f"{op}, 16x8": partial(LAYERS[op], kind=KINDS["16x8"]) for op in LAYERS},
    **{f"{op} of int16": partial(pool, op=op) for op in ("max_pool_2d", "average_pool_2d")},
    **{f"{op} of int16": partial(test_binary.binary, name=op, storage="i16") for op in ("add", "sub", "mul")},
    **{f"{op} of int16": partial(test_functions.requantizing, name=op, storage="i16") for op in ("relu", "leaky_relu")},
    **{f"{op} of int16": partial(test_functions.function, name=op, storage="i16") for op in ("logistic", "tanh")},
    "softmax": partial(test_softmax.softmax, storage="i8"),
    "own_relu": test_elementwise.own_relu,
    "mean": test_reductions.mean,
    **{case.__name__: case for case in test_shapes.CASE_MAKERS[:8]},
    **{case.__name__: case for case in (test_splitting.split, test_splitting.split_v, test_splitting.unpack)},
    **{op: partial(test_plain.operation, name=op) for op in test_plain.OPERATIONS},
}
"""What comes back at least once in a few cases."""

REFUSED: dict[str, tuple[Make, str]] = {
    **{
        f"{op}, {kind}": (partial(LAYERS[op], kind=KINDS[kind]), message)
        for op in ("conv_2d", "depthwise_conv_2d", "fully_connected")
        for kind, message in (
            ("int8 by int4", "an int8 weight cannot carry i4"),
            ("uint8", "cannot carry zero_point="),
            ("16x4", "an int8 weight cannot carry i4"),
            ("16x8 without a bias", "kernels of 16 bits have no bias"),
            ("int8, the weight an input", "cannot carry a weight that is computed"),
            ("int8, the bias an input", "an int32 constant cannot carry the bias"),
            ("int8, the weight shifted", "cannot carry zero_point="),
        )
    },
    "pack": (test_shapes.pack, "no counterpart in nn for litert.pack"),
    "concatenation of scales": (test_shapes.concatenation_of_scales, "cannot carry parameters of its own"),
    "cast of codes": (test_plain.cast_of_codes, "without looking at scales"),
    "sum": (test_reductions.total, "no counterpart in nn for litert.sum"),
}


def one(make: Make, seed: int) -> Cases:
    cases = Cases(np.random.default_rng(seed))
    make(cases)
    cases.graph.set_outputs(cases.outputs)
    return cases


def signed(array: Array) -> Array:
    """uint8 codes as int8: all 128 lower."""
    return (array.astype(np.int16) - 128).astype(np.int8) if array.dtype == np.uint8 else array


def outputs(graph: Graph, feed: dict[str, Array]) -> list[Array] | str:
    try:
        return execute(graph, feed)
    except UnsupportedOp as error:
        return error.what


def comes_back(cases: Cases, target: str) -> str:
    """Raise, lower and compare; what raising said where it refused."""
    cases.graph.metadata["target"] = target
    expected = outputs(cases.graph, cases.feed)
    if isinstance(expected, str):  # the target does not offer it
        return expected
    try:
        raised = passes.raise_to_fake_quant(cases.graph)
    except LoweringError as error:
        return error.what
    assert raised.target == target
    floats = cases.graph.inputs[0].type.quant is None
    again = qgraph.lower(raised, target, io="float" if floats else "integer")
    assert [value.type.shape for value in again.inputs] == [value.type.shape for value in cases.graph.inputs]
    actual = execute(again, {name: signed(array) for name, array in cases.feed.items()})
    for ours, theirs in zip(actual, expected, strict=True):
        assert np.array_equal(ours, signed(theirs)), f"{cases.graph}\n{raised}\n{again}"
    return "the same"


def refusal(graph: Graph) -> str:
    try:
        passes.raise_to_fake_quant(graph)
    except LoweringError as error:
        return error.what
    return ""


@pytest.mark.parametrize("name", SAME)
def test_raised_and_lowered_again_an_op_gives_the_same_integers(name: str) -> None:
    said = Counter(comes_back(one(SAME[name], seed), target) for seed in range(COUNT) for target in TARGETS)
    assert name.startswith("transpose_conv") or said["the same"], said


CARRYING = ["add", "sub", "mul", "conv_2d", "depthwise_conv_2d", "fully_connected", "transpose_conv"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", CARRYING)
def test_a_clamp_that_an_op_carries_comes_back(op: str, target: str) -> None:
    found = 0
    for seed in range(60):
        cases = one(SAME.get(f"{op}, int8", SAME.get(op)), seed)  # type: ignore[arg-type]  # it has one of them
        if cases.graph.nodes[-1].attrs["activation"] == "RELU_N1_TO_1":
            found += comes_back(cases, target) == "the same"
    assert found or op == "transpose_conv"  # which carries none in these cases


@pytest.mark.parametrize("name", REFUSED)
def test_what_raising_cannot_carry_is_named(name: str) -> None:
    make, message = REFUSED[name]
    said = {refusal(one(make, seed).graph) for seed in range(4)}
    assert any(message in each for each in said), said
