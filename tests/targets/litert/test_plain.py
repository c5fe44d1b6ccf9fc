"""Integers and conditions as they are, against every family, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from qgraph.errors import InputError, RuntimeFailure, TypeMismatch
from qgraph.interpreter import execute
from qgraph.ir import Array, QuantParams, Value
from qgraph.ir.types import NUMPY_DTYPE
from qgraph.targets.litert.file_format import to_tflite
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, Rng, groups, integers, params

CASES = 60
EXTREMES = (-(2**31), -1, 0, 1, 2**31 - 1)


def plain(rng: Rng, dtype: str, shape: Sequence[int]) -> Array:
    """Small integers, so that many are equal, or extreme ones; conditions."""
    if dtype == "bool":
        return np.asarray(rng.integers(2, size=shape), bool)
    small = rng.integers(-3, 4, shape)
    extreme = rng.choice(EXTREMES, shape)
    return np.asarray(extreme if rng.integers(4) == 0 else small, NUMPY_DTYPE[dtype])


def pair(cases: Cases, dtypes: Sequence[str]) -> tuple[Value, Value]:
    """Two operands of one type that broadcast."""
    rng, dtype = cases.rng, str(cases.rng.choice(dtypes)) if not cases.outputs else cases.storage
    cases.storage = dtype  # TFLite Micro does not have all
    shape = [int(n) for n in rng.integers(1, 5, int(rng.integers(1, 5)))]
    other = [1 if rng.integers(3) == 0 else size for size in shape]
    return cases.input(plain(rng, dtype, shape), None), cases.input(plain(rng, dtype, other), None)


OPERATIONS = {
    **dict.fromkeys(("equal", "not_equal"), ("i32", "bool")),
    **dict.fromkeys(("less", "less_equal"), ("i32",)),
    **dict.fromkeys(("logical_and", "logical_or"), ("bool",)),
    **dict.fromkeys(("float_add", "float_sub", "float_mul", "float_maximum", "float_minimum"), ("i32",)),
}
"""Ops of two operands that come back when they are raised -> storage."""


def operation(cases: Cases, name: str) -> None:
    cases.output(getattr(cases.build.litert, name)(*pair(cases, OPERATIONS[name])))


COMPARED = {
    **dict.fromkeys(("equal", "not_equal"), ("i32", "f32", "i64", "bool")),
    **dict.fromkeys(("less", "less_equal", "greater", "greater_equal"), ("i32", "f32", "i64")),
}


@pytest.mark.parametrize("name", COMPARED)
def test_comparisons(litert: Families, name: str) -> None:
    def compare(cases: Cases) -> None:
        cases.output(getattr(cases.build.litert, name)(*pair(cases, COMPARED[name])))

    for cases in groups(CASES, compare, seed=60, size=10):
        cases.check(litert)


@pytest.mark.parametrize("name", [name for name, storage in OPERATIONS.items() if name not in COMPARED])
def test_logic_and_arithmetic_that_wraps_around(litert: Families, name: str) -> None:
    for cases in groups(CASES, lambda cases: operation(cases, name), seed=61):
        with np.errstate(over="ignore"):
            cases.check(litert)


def test_negation(litert: Families) -> None:
    for cases in groups(CASES, lambda c: c.output(c.build.litert.logical_not(pair(c, ["bool"])[0])), seed=62):
        cases.check(litert)


@pytest.mark.parametrize("name", ["floor_div", "floor_mod"])
def test_integers_are_divided_towards_minus_infinity(litert: Families, name: str) -> None:
    def divide(cases: Cases) -> None:
        rng = cases.rng
        a = cases.input(rng.integers(-40, 40, (3, 16)).astype(np.int32), None)
        b = cases.input(rng.choice([-7, -3, -1, 1, 2, 5, 64], 16).astype(np.int32), None)
        cases.output(getattr(cases.build.litert, name)(a, b))

    for cases in groups(CASES, divide, seed=64):
        cases.check(litert)


@pytest.mark.parametrize("name", ["floor_div", "floor_mod"])
def test_a_division_by_zero_is_refused_as_the_runtime_does(litert: Families, name: str) -> None:
    cases = Cases(np.random.default_rng(0))
    a, b = (cases.input(np.array([3, 0], np.int32), None) for _ in range(2))
    cases.output(getattr(cases.build.litert, name)(a, b))
    cases.graph.set_outputs(cases.outputs)
    with pytest.raises(InputError, match="divided by 0"):
        execute(cases.graph, cases.feed)
    with pytest.raises(RuntimeFailure):
        litert.outputs("litert", to_tflite(cases.graph), [*cases.feed.values()])


STORED = ("i8", "i16", "i32", "f32", "bool")


@pytest.mark.parametrize("made", STORED)
@pytest.mark.parametrize("given", [*STORED, "u8", "i64"])
def test_casts(litert: Families, given: str, made: str) -> None:
    if given == made:
        return
    rng, cases = np.random.default_rng(65), Cases(np.random.default_rng(65))
    for _ in range(3):
        low, high = (0, 2) if "bool" in (given, made) else (0, 100) if given == "u8" else (-100, 100)
        numbers = rng.integers(low, high, (2, 9)).astype(NUMPY_DTYPE[given])
        if given == "f32":
            numbers = (numbers + rng.choice([0.0, 0.25, 0.5, 0.75], numbers.shape)).astype(np.float32)
        cases.output(cases.build.litert.cast(cases.input(numbers, None), element=(made, None)))
    cases.check(litert)


def cast_of_codes(cases: Cases) -> None:
    codes = np.arange(-128, 128).astype(np.int8)
    cases.output(cases.build.litert.cast(cases.input(codes, QuantParams.of(0.25, 3)), element=("i32", None)))


@pytest.mark.parametrize("storage", ["i8", "i16"])
def test_a_cast_of_codes_does_not_look_at_scales(litert: Families, storage: str) -> None:
    cases = Cases(np.random.default_rng(66))
    quant = QuantParams.of(0.25, 3 if storage == "i8" else 0)
    codes = np.arange(-128, 128).astype(NUMPY_DTYPE[storage])
    cases.output(cases.build.litert.cast(cases.input(codes, quant), element=("i32", None)))
    truth = cases.input(np.array([False, True]), None)
    cases.output(cases.build.litert.cast(truth, element=(storage, QuantParams.of(1.0, 0))))
    cases.check(litert)


@pytest.mark.parametrize("number", [3e9, -3e9, np.inf, np.nan])
def test_a_cast_of_a_float_that_is_no_integer_of_the_result_is_refused(number: float) -> None:
    cases = Cases(np.random.default_rng(0))
    x = cases.input(np.array([1, number], np.float32), None)
    cases.output(cases.build.litert.cast(x, element=("i32", None)))
    cases.graph.set_outputs(cases.outputs)
    with pytest.raises(InputError, match="CAST of"):
        execute(cases.graph, cases.feed)


@pytest.mark.parametrize("storage", ["i8", "i16", "f32", "i32", "bool"])
def test_choices(litert: Families, storage: str) -> None:
    def choose(cases: Cases) -> None:
        rng = cases.rng
        shape = [int(n) for n in rng.integers(1, 5, int(rng.integers(1, 6)))]
        shapes = [[1 if rng.integers(3) == 0 else size for size in shape] for _ in range(3)]
        quant = None if storage not in ("i8", "i16") else params(rng) if storage == "i8" else QuantParams.of(0.5)
        xs = [
            cases.input(integers(rng, tuple(each)) if storage == "i8" else plain(rng, storage, each), quant)
            for each in shapes[1:]
        ]
        cases.output(cases.build.litert.select(cases.input(plain(rng, "bool", shapes[0]), None), *xs))

    for cases in groups(CASES, choose, seed=67, size=10):
        cases.check(litert)


def test_sums_along_an_axis(litert: Families) -> None:
    def add_up(cases: Cases) -> None:
        rng = cases.rng
        x = cases.input(plain(rng, "i32", [int(n) for n in rng.integers(1, 6, 3)]), None)
        words = {"exclusive": bool(rng.integers(2)), "reverse": bool(rng.integers(2))}
        cases.output(cases.build.litert.cumsum(x, axis=int(rng.integers(-3, 3)), **words))

    for cases in groups(CASES, add_up, seed=68):
        with np.errstate(over="ignore"):
            cases.check(litert)


@pytest.mark.parametrize("dtype", ["i8", "i32", "bool"])
def test_elements_by_computed_indices(litert: Families, dtype: str) -> None:
    def gather(cases: Cases) -> None:
        rng = cases.rng
        rank = int(rng.integers(1, 4))
        lead, size = [int(n) for n in rng.integers(1, 4, rank - 1)], int(rng.integers(1, 6))
        quant = params(rng) if dtype == "i8" else None
        made = [*lead, size]
        x = cases.input(integers(rng, tuple(made)) if dtype == "i8" else plain(rng, dtype, made), quant)
        places = cases.input(rng.integers(0, size, (*lead, 4)).astype(np.int32), None)
        cases.output(cases.build.litert.gather(x, places, axis=rank - 1, batch_dims=rank - 1))

    for cases in groups(CASES, gather, seed=69, size=10):
        cases.check(litert)


@pytest.mark.parametrize(
    "name", ["reduce_any", "reduce_all", "reduce_prod", "float_sum", "float_reduce_max", "float_reduce_min"]
)
def test_reductions(litert: Families, name: str) -> None:
    def reduce(cases: Cases) -> None:
        rng = cases.rng
        x = cases.input(plain(rng, "bool" if name[7:] in ("any", "all") else "i32", rng.integers(1, 5, 3)), None)
        axes = tuple(int(axis) - 3 * int(rng.integers(2)) for axis in rng.permutation(3)[: rng.integers(1, 4)])
        cases.output(getattr(cases.build.litert, name)(x, axes=axes, keep_dims=bool(rng.integers(2))))

    for cases in groups(CASES, reduce, seed=70):
        with np.errstate(over="ignore"):
            cases.check(litert)


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "bool", "f32"])
def test_what_is_repeated_to_a_shape(litert: Families, dtype: str) -> None:
    def repeat(cases: Cases) -> None:
        rng = cases.rng
        shape = [int(n) for n in rng.integers(1, 5, int(rng.integers(1, 6)))]
        given = [1 if rng.integers(2) else size for size in shape][int(rng.integers(len(shape))) :]
        quant = None if dtype not in ("i8", "i16") else params(rng) if dtype == "i8" else QuantParams.of(0.5)
        x = cases.input(integers(rng, tuple(given)) if dtype == "i8" else plain(rng, dtype, given), quant)
        cases.output(cases.build.litert.broadcast_to(x, shape=tuple(shape)))

    for cases in groups(CASES, repeat, seed=71, size=10):
        cases.check(litert)


@pytest.mark.parametrize("dtype", ["i8", "i32", "bool", "f32", "i16"])
def test_parts_at_places(litert: Families, dtype: str) -> None:
    def gather(cases: Cases) -> None:
        rng = cases.rng
        shape = [int(n) for n in rng.integers(1, 5, int(rng.integers(1, 5)))]
        count = int(rng.integers(1, len(shape) + 1))
        lead = [int(n) for n in rng.integers(1, 4, int(rng.integers(1, 3)))]
        quant = None if dtype not in ("i8", "i16") else params(rng) if dtype == "i8" else QuantParams.of(0.5)
        x = cases.input(integers(rng, tuple(shape)) if dtype == "i8" else plain(rng, dtype, shape), quant)
        places = np.stack([rng.integers(0, size, lead) for size in shape[:count]], -1)
        cases.output(cases.build.litert.gather_nd(x, cases.input(places.astype(np.int32), None)))

    for cases in groups(CASES, gather, seed=72, size=10):
        cases.check(litert)


@pytest.mark.parametrize("place", [-1, 4])
def test_places_that_there_are_not_are_refused(place: int) -> None:
    cases = Cases(np.random.default_rng(0))
    x = cases.input(np.zeros((4, 2), np.int32), None)
    cases.output(cases.build.litert.gather_nd(x, cases.input(np.array([[place, 0]], np.int32), None)))
    cases.graph.set_outputs(cases.outputs)
    with pytest.raises(InputError, match=r"do not lie in 0 \.\. 3"):
        execute(cases.graph, cases.feed)


@pytest.mark.parametrize("name", ["arg_max", "arg_min"])
def test_places_of_extreme_integers(litert: Families, name: str) -> None:
    def find(cases: Cases) -> None:
        x = cases.input(plain(cases.rng, "i32", cases.rng.integers(1, 5, 3)), None)
        cases.output(getattr(cases.build.litert, name)(x, axis=int(cases.rng.integers(-3, 3))))

    for cases in groups(CASES, find, seed=73):
        cases.check(litert)


@pytest.mark.parametrize("storage", ["i8", "i16", "i32", "f32"])
def test_the_largest_come_first_and_of_equal_ones_the_first(litert: Families, storage: str) -> None:
    def order(cases: Cases) -> None:
        rng = cases.rng
        shape = [int(n) for n in rng.integers(1, 9, int(rng.integers(1, 4)))]
        quant = {"i8": params(rng), "i16": QuantParams.of(0.5)}.get(storage)
        x = integers(rng, tuple(shape)) if storage == "i8" else plain(rng, storage, shape)
        if rng.integers(2):
            x = (x // 40).astype(x.dtype)  # many are equal
        made = cases.build.node("litert.topk_v2", [cases.input(x, quant)], {"k": int(rng.integers(1, shape[-1] + 1))})
        for value in made.results:
            cases.output(value)

    for cases in groups(CASES, order, seed=74, size=10):
        cases.check(litert)


@pytest.mark.parametrize("k", [0, 5])
def test_as_many_as_there_are_not_are_refused(k: int) -> None:
    cases = Cases(np.random.default_rng(0))
    x = cases.input(np.zeros((2, 4), np.int32), None)
    with pytest.raises(TypeMismatch, match=f"there are no {k} elements"):
        cases.build.node("litert.topk_v2", [x], {"k": k})
