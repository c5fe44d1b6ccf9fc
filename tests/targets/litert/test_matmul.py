"""BATCH_MATMUL against the runtimes, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.errors import TypeMismatch
from qgraph.ir import QuantParams
from qgraph.ir.types import integer_range
from tests.targets.litert.families import Families
from tests.targets.litert.layer_cases import random_integers, random_zero_point
from tests.targets.litert.op_cases import Cases, Rng, groups, scale

CASES = 200


def matmul(cases: Cases, dtype: str, y_dtype: str | None = None) -> None:
    """A random product; with `y_dtype` of an int8 matrix y, with scales per channel in every second case."""
    rng = cases.rng
    rows, inner, columns = (int(n) for n in rng.integers(1, 24, 3))
    adj_x, adj_y = bool(rng.integers(2)), bool(rng.integers(2))
    x_batch, y_batch = batches(rng)
    x = random_integers(rng, dtype, (*x_batch, *((inner, rows) if adj_x else (rows, inner))))
    y = random_integers(rng, y_dtype or dtype, (*y_batch, *((columns, inner) if adj_y else (inner, columns))))
    bits = 15 if dtype == "i16" else 7
    x_scale, y_scale = scale(rng, -8, 0), scale(rng, -8, 0)
    result = float(np.float32(x_scale * y_scale * 2**bits * np.sqrt(inner) * 2.0 ** rng.uniform(-3, 4)))
    if rng.integers(4) == 0:
        x_scale, y_scale, result = (2.0 ** round(np.log2(s)) for s in (x_scale, y_scale, result))
    y_quant = QuantParams.of(y_scale, 0 if rng.integers(2) else random_zero_point(rng, dtype))
    if y_dtype and rng.integers(2):
        axis = y.ndim - 1
        y_quant = QuantParams.of([scale(rng, -8, 0) for _ in range(y.shape[axis])], 0, axis)
    left = cases.input(x, QuantParams.of(x_scale, random_zero_point(rng, dtype)))
    right = cases.build.constant(y, "y", y_quant) if rng.integers(2) else cases.input(y, y_quant)
    element = (dtype, QuantParams.of(result, random_zero_point(rng, dtype)))
    cases.output(cases.build.litert.batch_matmul(left, right, adj_x=adj_x, adj_y=adj_y, element=element))


def batches(rng: Rng) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Leading dimensions of two operands, which broadcast."""
    shape = tuple(int(n) for n in rng.integers(1, 4, int(rng.integers(0, 4))))
    x, y = (tuple(1 if rng.integers(4) == 0 else n for n in shape) for _ in range(2))
    return (x[1:], y) if shape and rng.integers(4) == 0 else (x, y[1:]) if shape and rng.integers(4) == 0 else (x, y)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_random_products(litert: Families, dtype: str) -> None:
    for cases in groups(CASES, lambda cases: matmul(cases, dtype), seed=71):
        cases.check(litert)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_products_with_an_int8_matrix_and_scales_per_channel(litert: Families, dtype: str) -> None:
    for cases in groups(CASES // 2, lambda cases: matmul(cases, dtype, "i8"), seed=73):
        cases.check(litert)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_products_of_single_elements_on_both_sides_of_every_step(litert: Families, dtype: str) -> None:
    """A column times a row: every product of two codes (int16: of some), with factors between 2**-15 and 2."""
    cases = Cases(np.random.default_rng(72))
    low, high = integer_range(dtype)
    factors = [2.0**e for e in range(-15, 2)] + [float(2.0 ** cases.rng.uniform(-15, 1)) for _ in range(12)]
    for factor in factors:
        codes = np.unique(cases.rng.integers(low, high + 1, 300)) if dtype == "i16" else np.arange(low, high + 1)
        factor = factor / 256 if dtype == "i16" else factor
        quant = QuantParams.of(1.0, random_zero_point(cases.rng, dtype))
        symmetric = QuantParams.of(np.float32(factor), random_zero_point(cases.rng, dtype) * int(cases.rng.integers(2)))
        x = cases.input(codes[:, None].astype("i2" if dtype == "i16" else "i1"), quant)
        y = cases.input(codes[None, :].astype("i2" if dtype == "i16" else "i1"), symmetric)
        element = (dtype, QuantParams.of(1.0, random_zero_point(cases.rng, dtype)))
        cases.output(cases.build.litert.batch_matmul(x, y, element=element))
    cases.check(litert)


def test_sizes_that_do_not_meet_are_refused() -> None:
    cases = Cases(np.random.default_rng(0))
    x = cases.input(np.zeros((2, 3), np.int8), QuantParams.of(1.0))
    with pytest.raises(TypeMismatch, match="do not multiply"):
        cases.build.litert.batch_matmul(x, x, element=("i8", QuantParams.of(1.0)))
