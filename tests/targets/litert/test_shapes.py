"""RESHAPE, TRANSPOSE, CONCATENATION, PAD and PADV2 against LiteRT, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.errors import TypeMismatch
from qgraph.ir import QuantParams, Value, op_def
from qgraph.ir.types import NUMPY_DTYPE, integer_range
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, groups, integers, params

CASES = 200


def reshape(cases: Cases) -> None:
    rng = cases.rng
    sizes = tuple(int(n) for n in rng.integers(1, 6, 4))
    x = cases.input(integers(rng, sizes), params(rng))
    shapes = [(sizes[0], -1), (-1,), (sizes[0] * sizes[1], sizes[2], sizes[3]), (-1, *sizes[2:], 1)]
    cases.output(cases.build.litert.reshape(x, shape=shapes[rng.integers(len(shapes))]))


def transpose(cases: Cases) -> None:
    rng = cases.rng
    rank = int(rng.integers(2, 5))
    x = cases.input(integers(rng, tuple(int(n) for n in rng.integers(1, 6, rank))), params(rng))
    cases.output(cases.build.litert.transpose(x, perm=tuple(int(i) for i in rng.permutation(rank))))


def concatenation(cases: Cases) -> None:
    rng = cases.rng
    rank, count = int(rng.integers(2, 5)), int(rng.integers(2, 8))
    axis, sizes, quant = int(rng.integers(rank)), [int(n) for n in rng.integers(1, 6, rank)], params(rng)
    xs = []
    for _ in range(count):
        sizes[axis] = int(rng.integers(1, 6))
        xs.append(cases.input(integers(rng, tuple(sizes)), quant))
    place = axis - rank if len(cases.outputs) % 2 else axis  # files count from the end too
    cases.output(cases.build.litert.concatenation(*xs, axis=place, element=("i8", quant)))


def concatenation_of_scales(cases: Cases) -> None:
    """Operands of several scales: of uint8 they are requantized, of int16 joined as they are."""
    rng, dtype = cases.rng, ("u8", "i16")[int(cases.rng.integers(2))] if not cases.outputs else cases.storage
    cases.storage = dtype  # TFLite Micro has no CONCATENATION of uint8
    low, high = integer_range(dtype)
    exponents = rng.uniform(-8, 4, 4)
    scales = np.exp2(np.floor(exponents) if rng.integers(2) else exponents)  # powers of two: ties
    zeros = rng.integers(low, high + 1, 4) * (dtype == "u8")
    quants = [QuantParams.of(s, int(z)) for s, z in zip(scales, zeros, strict=True)]
    count = int(rng.integers(1, 4))
    xs = [cases.input(rng.integers(low, high + 1, (2, 256)).astype(NUMPY_DTYPE[dtype]), q) for q in quants[:count]]
    made = quants[0 if rng.integers(3) == 0 else 3]
    cases.output(cases.build.litert.concatenation(*xs, axis=1, element=(dtype, made)))


def test_operands_of_a_concatenation_may_have_scales_of_their_own(litert: Families) -> None:
    for cases in groups(CASES, concatenation_of_scales, seed=4, size=10):
        cases.check(litert)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_other_operands_of_a_concatenation_that_no_runtime_takes_are_refused(dtype: str) -> None:
    cases = Cases(np.random.default_rng(0))
    element = (dtype, QuantParams.of(0.5, 0))
    other = QuantParams.of(0.25 if dtype == "i8" else 0.5, 0 if dtype == "i8" else 1)
    x = cases.input(np.zeros((1, 4), NUMPY_DTYPE[dtype]), other)
    made = cases.build.litert.concatenation(x, axis=1, element=element)
    with pytest.raises(TypeMismatch, match=r"same quantization parameters|must have the zero point 0"):
        op_def("litert.concatenation").view(made.producer).check()


def pad(cases: Cases) -> None:
    rng = cases.rng
    rank = int(rng.integers(2, 5))
    x = cases.input(integers(rng, tuple(int(n) for n in rng.integers(1, 6, rank))), params(rng))
    value = None if rng.integers(2) else int(rng.integers(-128, 128))
    cases.output(cases.build.litert.pad(x, pads=tuple(int(n) for n in rng.integers(0, 4, 2 * rank)), value=value))


def any_integers(cases: Cases, shape: tuple[int, ...]) -> tuple[np.ndarray, QuantParams]:
    """Integers of the group's storage type, and parameters."""
    rng, dtype = cases.rng, cases.storage
    low, high = integer_range(dtype)
    zero = 0 if dtype == "i16" else int(rng.integers(low, high + 1))
    return rng.integers(low, high + 1, shape).astype(NUMPY_DTYPE[dtype]), QuantParams.of(0.5, zero)


def any_input(cases: Cases, low: int = 1, high: int = 5) -> Value:
    """An input of random type, rank and sizes."""
    rank = int(cases.rng.integers(low, high))
    x, quant = any_integers(cases, tuple(int(n) for n in cases.rng.integers(1, 6, rank)))
    return cases.input(x, quant)


def kept(x: Value) -> dict[str, object]:
    return {"element": (x.type.dtype, x.type.quant)}


def slice_(cases: Cases) -> None:
    x = any_input(cases)
    begin = [int(cases.rng.integers(n)) for n in x.type.shape]
    size = [int(cases.rng.choice([-1, *range(1, n - b + 1)])) for n, b in zip(x.type.shape, begin, strict=True)]
    cases.output(cases.build.litert.slice(x, begin=tuple(begin), size=tuple(size), **kept(x)))


def strided_slice(cases: Cases) -> None:
    rng = cases.rng
    x = any_input(cases)
    begin, end, strides = [], [], []
    for n in x.type.shape:
        step = int(rng.choice([1, 1, 2, 3, -1, -2]))
        a, b = sorted(int(i) for i in rng.choice(np.arange(n + 1), 2, replace=False))
        first, last = (a, b) if step > 0 else (b - 1, a - 1 if a else -n - 1)
        shift = -n if rng.integers(4) == 0 and step > 0 and b < n else 0
        begin, end, strides = [*begin, first + shift], [*end, last + shift], [*strides, step]
    masks = {
        name: int(rng.integers(1 << x.type.rank)) if rng.integers(3) == 0 else 0 for name in ("begin_mask", "end_mask")
    }
    masks["shrink_axis_mask"] = int(rng.integers(1 << x.type.rank)) if rng.integers(3) == 0 else 0
    for axis in range(x.type.rank):
        if masks["shrink_axis_mask"] >> axis & 1:
            begin[axis], end[axis], strides[axis] = (
                begin[axis] % x.type.shape[axis],
                begin[axis] % x.type.shape[axis] + 1,
                1,
            )
            masks["begin_mask"] &= ~(1 << axis)
    if masks["shrink_axis_mask"] == (1 << x.type.rank) - 1:
        masks["shrink_axis_mask"] &= ~1
    try:
        made = cases.build.litert.strided_slice(
            x, begin=tuple(begin), end=tuple(end), strides=tuple(strides), **masks, **kept(x)
        )
    except TypeMismatch:  # a mask left nothing
        return strided_slice(cases)
    return cases.output(made)


def squeeze(cases: Cases) -> None:
    rng = cases.rng
    shape = tuple(int(n) for n in rng.choice([1, 1, 2, 3], int(rng.integers(2, 5))))
    array, quant = any_integers(cases, shape)
    x = cases.input(array, quant)
    ones = [axis for axis, n in enumerate(shape) if n == 1]
    axes = tuple(int(a) for a in rng.choice(ones, rng.integers(len(ones) + 1), replace=False)) if ones else ()
    if not axes and len(ones) == len(shape):
        axes = (0,)
    cases.output(
        cases.build.litert.squeeze(x, axes=tuple(a - len(shape) if rng.integers(2) else a for a in axes), **kept(x))
    )


def expand_dims(cases: Cases) -> None:
    x = any_input(cases, 1, 4)
    axis = int(cases.rng.integers(-x.type.rank - 1, x.type.rank + 1))
    cases.output(cases.build.litert.expand_dims(x, axis=axis, **kept(x)))


def pack(cases: Cases) -> None:
    rng = cases.rng
    shape = tuple(int(n) for n in rng.integers(1, 5, int(rng.integers(1, 4))))
    quant = params(rng)
    xs = [cases.input(integers(rng, shape), quant) for _ in range(int(rng.integers(1, 4)))]
    axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
    cases.output(cases.build.litert.pack(*xs, axis=axis, element=("i8", quant)))


def gather(cases: Cases) -> None:
    rng = cases.rng
    shape = tuple(int(n) for n in rng.integers(1, 5, int(rng.integers(1, 4))))
    quant = params(rng)
    x = cases.input(integers(rng, shape), quant)
    axis = int(rng.integers(len(shape)))
    batch = int(rng.integers(axis + 1)) if rng.integers(2) else 0
    places = (*shape[:batch], *(int(n) for n in rng.integers(1, 4, int(rng.integers(1, 3)))))
    indices = cases.build.constant(rng.integers(0, shape[axis], places).astype(np.int32), "indices")
    cases.output(cases.build.litert.gather(x, indices, axis=axis, batch_dims=batch, element=("i8", quant)))


def embedding_lookup(cases: Cases) -> None:
    rng = cases.rng
    quant = params(rng)
    table = cases.build.constant(integers(rng, (int(rng.integers(1, 9)), int(rng.integers(1, 6)))), "table", quant)
    ids = cases.input(rng.integers(0, table.type.shape[0], int(rng.integers(1, 6))).astype(np.int32), None)
    cases.output(cases.build.litert.embedding_lookup(ids, table, element=("i8", quant)))


CASE_MAKERS = [
    *(reshape, transpose, concatenation, pad, slice_, strided_slice),
    *(squeeze, expand_dims, pack, gather, embedding_lookup),
]


@pytest.mark.parametrize("case", CASE_MAKERS)
def test_random_cases(litert: Families, case) -> None:
    for cases in groups(CASES, case, 31):
        cases.check(litert)
