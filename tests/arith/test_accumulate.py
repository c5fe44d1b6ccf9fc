from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qgraph.arith import accumulate, depthwise
from qgraph.arith.exactness import as_int32
from qgraph.arith.prepared_weight import prepare_convolution, prepare_depthwise, prepare_matrix
from tests.arith import plain_integers as plain

ACTIVATIONS = [np.int8, np.uint8, np.int16]
WEIGHTS = [np.int8, np.uint8]


def full_range(rng: np.random.Generator, dtype: type[np.integer], shape: tuple[int, ...]) -> NDArray[np.integer]:
    """Random integers of the whole range, sometimes nothing but its two ends."""
    info = np.iinfo(dtype)
    if rng.random() < 0.3:
        return rng.choice(np.array([info.min, info.max], dtype), shape)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def some_bias(rng: np.random.Generator, outputs: int) -> NDArray[np.int32]:
    return rng.integers(-1, 2, outputs).astype(np.int32) * np.int32(rng.choice([1, 1000, 2**24, 2**31 - 1]))


@settings(max_examples=300)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_convolve_equals_int64(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = data.draw(st.integers(1, 3), "rank")
    axes = lambda low, high: tuple(int(v) for v in rng.integers(low, high + 1, rank))  # noqa: E731  # drawn five times
    groups, inputs, outputs = (int(v) for v in rng.integers(1, 4, 3))
    size, kernel, stride, dilation, pads = axes(2, 7), axes(1, 3), axes(1, 3), axes(1, 2), axes(0, 2) + axes(0, 2)
    reach = [s + pads[i] + pads[i + rank] - dilation[i] * (kernel[i] - 1) for i, s in enumerate(size)]
    assume(min(reach) > 0)
    x = full_range(rng, data.draw(st.sampled_from(ACTIVATIONS)), (3, *size, groups * inputs))
    weight = full_range(rng, data.draw(st.sampled_from(WEIGHTS)), (groups * outputs, *kernel, inputs))
    x_zero_point = int(full_range(rng, x.dtype.type, (1,))[0])
    weight_zero_point = full_range(rng, weight.dtype.type, (groups * outputs,)).astype(np.int64)
    bias = some_bias(rng, groups * outputs)
    acc = accumulate.convolve(
        x, weight, stride=stride, pads=pads, dilation=dilation, groups=groups,
        x_zero_point=x_zero_point, weight_zero_point=weight_zero_point, bias=bias,
    )  # fmt: skip
    expected = plain.convolve(x, weight, stride, pads, dilation, groups, x_zero_point, weight_zero_point, bias)
    assert np.array_equal(acc, expected)


@settings(max_examples=150)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_transpose_convolve_equals_int64(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = data.draw(st.integers(1, 2), "rank")
    size, kernel, stride, sizes, pads = (
        tuple(int(v) for v in rng.integers(low, high + 1, rank))
        for low, high in ((1, 4), (1, 4), (1, 3), (1, 12), (0, 2))
    )
    inputs, outputs = (int(v) for v in rng.integers(1, 4, 2))
    x = full_range(rng, data.draw(st.sampled_from(ACTIVATIONS)), (2, *size, inputs))
    weight = full_range(rng, data.draw(st.sampled_from(WEIGHTS)), (outputs, *kernel, inputs))
    zero_points = [int(full_range(rng, array.dtype.type, (1,))[0]) for array in (x, weight)]
    bias = some_bias(rng, outputs)
    acc = accumulate.transpose_convolve(
        x, weight, stride=stride, pads=pads, sizes=sizes, x_zero_point=zero_points[0],
        weight_zero_point=zero_points[1], bias=bias,
    )  # fmt: skip
    assert np.array_equal(acc, plain.transpose_convolve(x, weight, stride, pads, sizes, *zero_points, bias))


@pytest.mark.parametrize("block", [1, 40, 300])
def test_convolve_is_the_same_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulate, "COLUMNS", block)
    monkeypatch.setattr(depthwise, "BLOCK", block)
    rng = np.random.default_rng(2)
    x, bias = full_range(rng, np.int8, (5, 9, 8, 4)), some_bias(rng, 8)
    zero = np.zeros(8, np.int64)
    for groups, kernel, pads in (
        (1, 3, (1, 1, 0, 2)),
        (2, 3, (0, 0, 1, 1)),
        (4, 3, (1, 0, 1, 2)),
        (1, 1, (0, 0, 0, 0)),
    ):
        weight = full_range(rng, np.int8, (8, kernel, kernel, 4 // groups))
        acc = accumulate.convolve(x, weight, stride=(2, 1), pads=pads, groups=groups, x_zero_point=-3, bias=bias)
        assert np.array_equal(acc, plain.convolve(x, weight, (2, 1), pads, (1, 1), groups, -3, zero, bias))


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.sampled_from(ACTIVATIONS), st.sampled_from(WEIGHTS))
def test_depthwise_convolve_is_a_convolution_in_groups_of_one_channel(
    seed: int, multiplier: int, x_dtype: type[np.integer], weight_dtype: type[np.integer]
) -> None:
    rng = np.random.default_rng(seed)
    channels, stride, pads = 3, tuple(rng.integers(1, 4, 2)), tuple(rng.integers(0, 3, 4))
    x = full_range(rng, x_dtype, (2, 7, 6, channels))
    weight = full_range(rng, weight_dtype, (3, 2, channels, multiplier))
    zero_point = full_range(rng, weight_dtype, (channels * multiplier,)).astype(np.int64)
    bias = some_bias(rng, channels * multiplier)
    acc = accumulate.depthwise_convolve(
        x, weight, stride=stride, pads=pads, x_zero_point=5, weight_zero_point=zero_point, bias=bias
    )
    grouped = weight.transpose(2, 3, 0, 1).reshape(channels * multiplier, 3, 2, 1)
    assert np.array_equal(acc, plain.convolve(x, grouped, stride, pads, (1, 1), channels, 5, zero_point, bias))


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from(ACTIVATIONS), st.sampled_from(WEIGHTS), st.integers(0, 40))
def test_matmul_equals_int64(seed: int, x_dtype: type[np.integer], weight_dtype: type[np.integer], depth: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = full_range(rng, x_dtype, (2, 3, depth)), full_range(rng, weight_dtype, (5, depth))
    zero_point, bias = full_range(rng, weight_dtype, (5,)).astype(np.int64), some_bias(rng, 5)
    acc = accumulate.matmul(x, weight, x_zero_point=9, weight_zero_point=zero_point, bias=bias)
    assert np.array_equal(acc, (x.astype(np.int64) - 9) @ (weight.astype(np.int64) - zero_point[:, None]).T + bias)


@pytest.mark.parametrize("dtype", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 64, 258, 259, 3000])
def test_batch_matmul_equals_int64(dtype: type[np.integer], depth: int) -> None:
    rng = np.random.default_rng(depth)
    x, y = full_range(rng, dtype, (2, 1, 3, depth)), full_range(rng, dtype, (4, depth, 2))
    acc = accumulate.batch_matmul(x, y, x_zero_point=-7, y_zero_point=11)
    assert np.array_equal(acc, (x.astype(np.int64) + 7) @ (y.astype(np.int64) - 11))


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_products_change_to_float64_right_at_the_bound(excess: int) -> None:
    """|x| = 128 times a sum of weights on either side of 2**24 / 128, then 2**24 + an odd bias."""
    total = 2**24 // 128 + excess
    weight = np.full(-(-total // 127), 127, np.int8)
    weight[0] -= 127 * weight.size - total
    x = np.full((1, weight.size), -128, np.int8)
    acc = accumulate.matmul(x, weight[None])
    assert acc.dtype == (np.float32 if excess < 0 else np.int32)
    assert acc.tolist() == [[-128 * total]]


@pytest.mark.parametrize(("magnitude", "dtype"), [(2**24 - 129, np.float32), (2**24 - 128, np.int32)])
def test_the_bias_is_within_the_bound(magnitude: int, dtype: type[np.generic]) -> None:
    x, weight = np.array([[-128]], np.int8), np.array([[1]], np.int8)
    acc = accumulate.matmul(x, weight, bias=np.array([-magnitude], np.int32))
    assert acc.dtype == dtype
    assert acc.tolist() == [[-128 - magnitude]]


def test_an_accumulator_beyond_int32_is_the_true_integer_and_wraps_on_demand() -> None:
    x, weight = np.array([[127]], np.int8), np.array([[127]], np.int8)
    acc = accumulate.matmul(x, weight, bias=np.array([2**31 - 1], np.int32))
    assert acc.tolist() == [[2**31 - 1 + 127**2]]
    assert as_int32(acc).tolist() == [[-(2**31) - 1 + 127**2]]
    wide = accumulate.matmul(x.astype(np.int16), weight, bias=np.array([-(2**40)], np.int64))
    assert wide.tolist() == [[127**2 - 2**40]]


def test_uint8_is_recentred_where_that_keeps_float32() -> None:
    weight = np.full((1, 900), 127, np.int8)  # 128 * sum < 2**24 <= 255 * sum
    x = np.full((1, 900), 255, np.uint8)
    acc = accumulate.matmul(x, weight, x_zero_point=128)
    assert acc.dtype == np.float32
    assert acc.tolist() == [[127 * 127 * 900]]


def test_prepared_weights_give_the_same() -> None:
    rng = np.random.default_rng(3)
    x, weight = full_range(rng, np.uint8, (2, 6, 6, 4)), full_range(rng, np.uint8, (6, 3, 3, 2))
    plainly = accumulate.convolve(x, weight, groups=2, x_zero_point=3, weight_zero_point=128)
    assert np.array_equal(plainly, accumulate.convolve(x, prepare_convolution(weight, 2, 128), x_zero_point=3))
    taps = full_range(rng, np.int8, (3, 3, 4, 2))
    assert np.array_equal(
        accumulate.depthwise_convolve(x, taps), accumulate.depthwise_convolve(x, prepare_depthwise(taps))
    )
    matrix = full_range(rng, np.int8, (3, 4))
    assert np.array_equal(accumulate.matmul(x, matrix), accumulate.matmul(x, prepare_matrix(matrix)))


def test_empty_batches_and_outputs() -> None:
    weight = np.ones((2, 3, 3, 1), np.int8)
    assert accumulate.convolve(np.empty((0, 5, 5, 1), np.int8), weight).shape == (0, 3, 3, 2)
    assert accumulate.convolve(np.ones((1, 2, 5, 1), np.int8), weight).shape == (1, 0, 3, 2)
    assert accumulate.matmul(np.empty((0, 4), np.int8), np.ones((2, 4), np.int8)).shape == (0, 2)


def test_strided_and_transposed_inputs() -> None:
    rng = np.random.default_rng(4)
    nchw = full_range(rng, np.int8, (2, 4, 7, 6))
    x, zero = nchw.transpose(0, 2, 3, 1), np.zeros(3, np.int64)
    for kernel, stride in ((1, (1, 1)), (1, (2, 3)), (3, (1, 2))):
        weight = full_range(rng, np.int8, (3, kernel, kernel, 4))
        expected = plain.convolve(x, weight, stride, (0,) * 4, (1, 1), 1, 0, zero, zero)
        assert np.array_equal(accumulate.convolve(x, weight, stride=stride), expected)
