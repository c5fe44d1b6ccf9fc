"""MEAN, SUM, REDUCE_MAX, REDUCE_MIN, ARG_MAX, ARG_MIN against every family, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.ir import QuantParams, Value
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, groups, integers, params, scale, zero_point

CASES = 200


def axes_of(cases: Cases, rank: int) -> tuple[int, ...]:
    """Some of the axes, counted from the front or from the end."""
    axes = cases.rng.choice(rank, int(cases.rng.integers(1, rank + 1)), replace=False)
    return tuple(int(axis) - (rank if cases.rng.integers(2) else 0) for axis in axes)


def reduced(cases: Cases, name: str, x: Value, result: QuantParams) -> None:
    axes, keep = axes_of(cases, x.type.rank), bool(cases.rng.integers(2))
    if len(axes) == x.type.rank:
        keep = True
    op = getattr(cases.build.litert, name)
    cases.output(op(x, axes=axes, keep_dims=keep, element=("i8", result)))


def shape(cases: Cases) -> tuple[int, ...]:
    return tuple(int(n) for n in cases.rng.integers(1, 7, int(cases.rng.integers(2, 5))))


def mean(cases: Cases) -> None:
    result = params(cases.rng, -8, 2)
    quant = QuantParams.of(np.float32(result.scale[0] * scale(cases.rng, -4, 5)), zero_point(cases.rng))
    reduced(cases, "mean", cases.input(integers(cases.rng, shape(cases)), quant), result)


def total(cases: Cases) -> None:
    result = params(cases.rng, -8, 2)
    quant = QuantParams.of(np.float32(result.scale[0] * scale(cases.rng, -8, 3)), zero_point(cases.rng))
    reduced(cases, "sum", cases.input(integers(cases.rng, shape(cases)), quant), result)


def largest(cases: Cases) -> None:
    quant = params(cases.rng)
    reduced(cases, "reduce_max", cases.input(integers(cases.rng, shape(cases)), quant), quant)


def smallest(cases: Cases) -> None:
    quant = params(cases.rng)
    reduced(cases, "reduce_min", cases.input(integers(cases.rng, shape(cases)), quant), quant)


def place(cases: Cases, name: str) -> None:
    x = cases.input(integers(cases.rng, shape(cases)), params(cases.rng))
    axis = int(cases.rng.integers(-x.type.rank, x.type.rank))
    cases.output(getattr(cases.build.litert, name)(x, axis=axis))


def arg_max(cases: Cases) -> None:
    place(cases, "arg_max")


def arg_min(cases: Cases) -> None:
    place(cases, "arg_min")


@pytest.mark.parametrize("case", [mean, total, largest, smallest, arg_max, arg_min])
def test_random_cases(litert: Families, case) -> None:
    for cases in groups(CASES, case, 61):
        cases.check(litert)


@pytest.mark.parametrize("name", ["mean", "sum"])
def test_every_sum_of_four(litert: Families, name: str) -> None:
    """Sums on both sides of every step of the result, at ratios that are powers of two and nearly so."""
    values = np.arange(-512, 509)
    x = np.stack([np.clip(values // 4 + (np.arange(4)[:, None] < values % 4), -128, 127)], 0).astype(np.int8)
    cases = Cases(np.random.default_rng(7))
    for exponent in range(-3, 4):
        for near in (2.0**exponent, np.nextafter(np.float32(2.0**exponent), np.float32(0))):
            for zeros in ((0, 0), (-128, 127), (5, -7)):
                quant, result = QuantParams.of(near, zeros[0]), QuantParams.of(1.0, zeros[1])
                op = getattr(cases.build.litert, name)
                cases.output(op(cases.input(x, quant), axes=(1,), element=("i8", result)))
    cases.check(litert)
