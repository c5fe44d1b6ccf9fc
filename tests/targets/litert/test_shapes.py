"""RESHAPE, TRANSPOSE, CONCATENATION, PAD and PADV2 against LiteRT, byte for byte."""

from __future__ import annotations

import pytest

from qgraph.runtimes import Worker
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
    cases.output(cases.build.litert.concatenation(*xs, axis=axis, element=("i8", quant)))


def pad(cases: Cases) -> None:
    rng = cases.rng
    rank = int(rng.integers(2, 5))
    x = cases.input(integers(rng, tuple(int(n) for n in rng.integers(1, 6, rank))), params(rng))
    value = None if rng.integers(2) else int(rng.integers(-128, 128))
    cases.output(cases.build.litert.pad(x, pads=tuple(int(n) for n in rng.integers(0, 4, 2 * rank)), value=value))


@pytest.mark.parametrize("case", [reshape, transpose, concatenation, pad])
def test_random_cases(litert: Worker, case) -> None:
    for cases in groups(CASES, case, 31):
        cases.check(litert)
