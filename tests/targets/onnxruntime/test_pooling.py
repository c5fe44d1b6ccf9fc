"""MaxPool, QLinearAveragePool and QLinearGlobalAveragePool against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.ir import Builder
from qgraph.runtimes import Worker
from tests.targets.onnxruntime.op_cases import FUSING, OpCases

TYPES = pytest.mark.parametrize("dtype", ["u8", "i8"])


def window(cases: OpCases, dilations: list[int]) -> tuple[dict[str, object], list[int]]:
    """A random window with pads below the kernel's size, and spatial sizes that it fits."""
    rng, rank = cases.rng, len(dilations)
    kernel = rng.integers(1, 4, rank)
    pads = [int(rng.integers(0, size)) for size in [*kernel, *kernel]]
    sizes = np.array(dilations) * (kernel - 1) + rng.integers(1, 7, rank)
    attrs = {"kernel_shape": tuple(kernel), "strides": tuple(rng.integers(1, 3, rank)), "pads": tuple(pads)}
    return attrs, [int(size) for size in sizes]


@TYPES
@pytest.mark.parametrize("form", ["qoperator", "qdq"])
def test_max_pool(ort: Worker, dtype: str, form: str) -> None:
    cases = OpCases(dtype, 1)
    for _ in range(200):
        dilations = [int(d) for d in cases.rng.integers(1, 3, cases.rng.integers(1, 4))]
        attrs, sizes = window(cases, dilations)
        x = cases.random_input(2, int(cases.rng.integers(1, 5)), *sizes)
        cases.returns(cases.build.ort.MaxPool(x, dilations=dilations, **attrs))
    cases.check(ort, form=form, least=200)


def average_pools(cases: OpCases, count: int) -> None:
    for _ in range(count):
        attrs, sizes = window(cases, [1] * int(cases.rng.integers(1, 4)))
        x = cases.random_input(2, int(cases.rng.integers(1, 20)), *sizes)
        element = (cases.dtype, cases.quant(float(x.type.q.scale[0] * cases.rng.uniform(0.3, 1.5))))
        counted = int(cases.rng.integers(0, 2))
        cases.returns(cases.build.ort.QLinearAveragePool(x, count_include_pad=counted, element=element, **attrs))


@TYPES
def test_average_pool(ort: Worker, dtype: str) -> None:
    cases = OpCases(dtype, 2)
    average_pools(cases, 200)
    cases.check(ort, least=200)


@TYPES
def test_average_pool_in_qdq_form(ort: Worker, dtype: str) -> None:
    cases = OpCases(dtype, 3)
    average_pools(cases, 60)
    cases.check(ort, form="qdq", levels=FUSING)


@TYPES
@pytest.mark.parametrize("count", [2, 3, 6])
def test_average_of_all_pairs_and_others(ort: Worker, dtype: str, count: int) -> None:
    """Windows with every pair of codes; scales that put results on ties."""
    cases = OpCases(dtype, 4)
    every = np.arange(cases.low, cases.high + 1)
    pairs = np.stack(np.meshgrid(every, every), -1).reshape(-1, 2)
    others = cases.rng.integers(cases.low, cases.high + 1, (len(pairs), count - 2))
    data = np.concatenate([pairs, others], 1).astype(cases.numpy).reshape(1, 1, -1)
    for number in range(24):
        power_of_two = number % 3 == 0
        q = cases.quant(float(2.0 ** cases.rng.integers(-6, 1)) if power_of_two else None)
        result = (
            cases.quant(float(q.scale[0] * 2.0 ** cases.rng.integers(-2, 3)))
            if power_of_two
            else cases.tie_quant(q, count)
        )
        x = cases.input(data, q)
        window = {"kernel_shape": (count,), "strides": (count,), "pads": (0, 0)}
        cases.returns(cases.build.ort.QLinearAveragePool(x, element=(dtype, result), **window))
    cases.check(ort, levels=("disable", "all"))


@TYPES
def test_global_average_pool(ort: Worker, dtype: str) -> None:
    cases = OpCases(dtype, 5)
    for _ in range(200):
        sizes = [int(size) for size in cases.rng.integers(1, 9, cases.rng.integers(1, 4))]
        x = cases.random_input(2, int(cases.rng.integers(1, 20)), *sizes)
        element = (dtype, cases.quant(float(x.type.q.scale[0] * cases.rng.uniform(0.05, 1.5))))
        cases.returns(cases.build.ort.QLinearGlobalAveragePool(x, element=element))
    cases.check(ort, least=200)


@TYPES
@pytest.mark.parametrize("count", [2, 4, 7])
def test_global_average_of_every_sum(ort: Worker, dtype: str, count: int) -> None:
    """A channel for each sum that `count` codes can have: both sides of every output step."""
    cases = OpCases(dtype, 6)
    sums = np.arange(255 * count + 1)
    data = np.stack([(sums + index) // count for index in range(count)], -1) + cases.low
    for _ in range(100):
        q = cases.quant()
        x = cases.input(data.astype(cases.numpy)[None], q)
        cases.returns(cases.build.ort.QLinearGlobalAveragePool(x, element=(dtype, cases.tie_quant(q, count))))
    cases.check(ort, levels=("disable", "all"))


@TYPES
def test_pools_of_channels_last_arrays(ort: Worker, dtype: str) -> None:
    """What a convolution leaves behind in the interpreter, and what the runtime's own layout passes change."""
    cases = OpCases(dtype, 7)
    build: Builder = cases.build
    for _ in range(10):
        x = cases.random_input(2, 4, 8, 8)
        w = cases.weight((16, 4, 3, 3))
        attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
        y = build.ort.QLinearConv(x, w, element=cases.product_result(x, w, 36), **attrs)
        y = build.ort.MaxPool(y, kernel_shape=(3, 3), **attrs)
        element = (dtype, cases.quant(y.type.q.scale[0]))
        y = build.ort.QLinearAveragePool(y, kernel_shape=(2, 2), strides=(2, 2), pads=(0,) * 4, element=element)
        cases.returns(build.ort.QLinearGlobalAveragePool(y, element=element))
    cases.check(ort)
