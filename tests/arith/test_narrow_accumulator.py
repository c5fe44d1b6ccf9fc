from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qgraph.arith import narrow_accumulator as narrow
from qgraph.arith.narrow_accumulator import AccumulatorError, AccumulatorRule
from tests.arith.plain_stages import Machine, fitted

RULES = [
    ("s32", "", ()),
    ("s12 wrap", "", ()),
    ("s12 saturate at end", "", ()),
    ("s12 saturate each 1", "ky kx c", ()),
    ("s12 saturate each 4", "c ky kx", ()),
    ("s13 saturate each 3", "c/2 ky kx c", ()),
    ("u12 saturate each 2", "kx c ky", ()),
    ("s12 wrap", "", ("shift right 3 half_up", "wrap s9")),
    ("s12 saturate each 2", "c/4 kx ky c", ("shift right 4 floor to s8 saturate",)),
]


def added_up(products: list[int], rule: AccumulatorRule, stages: tuple[str, ...], start: int) -> int:
    """One accumulator in Python integers."""
    acc = start
    for count, one in enumerate(products, 1):
        acc += int(Machine(one, {}).run(stages))
        if rule.each and (count % rule.each == 0 or count == len(products)):
            acc = fitted(acc, str(rule.width), "saturate")
    return acc if rule.mode is None or rule.each else fitted(acc, str(rule.width), rule.mode)


def in_order(order: str, kernel: tuple[int, int], channels: int) -> list[tuple[int, int, int] | None]:
    """The places of a kernel one after the other, by loops; None where a block of channels is not full."""
    names = order.split() or ["ky", "kx", "c"]
    block = next((int(name[2:]) for name in names if "/" in name), channels)
    sizes = {"ky": kernel[0], "kx": kernel[1], "c": block} | {n: -(-channels // block) for n in names if "/" in n}
    found: list[tuple[int, int, int] | None] = []
    for place in product(*(range(sizes[name]) for name in names)):
        at = dict(zip(names, place, strict=True))
        channel = at["c"] + block * next((v for name, v in at.items() if "/" in name), 0)
        found.append((at.get("ky", 0), at.get("kx", 0), channel) if channel < channels else None)
    return found


def convolved(
    x: NDArray[Any], w: NDArray[Any], rule: AccumulatorRule, words: tuple[str, str, tuple[str, ...]], **g: Any
) -> NDArray[Any]:
    """The convolution by loops over its results."""
    outputs, *kernel, channels = w.shape
    (top, left, bottom, right), groups = g["pads"], g["groups"]
    centred = np.pad(x.astype(int) - g["x_zero_point"], [(0, 0), (top, bottom), (left, right), (0, 0)])
    height = (centred.shape[1] - g["dilation"][0] * (kernel[0] - 1) - 1) // g["stride"][0] + 1
    width = (centred.shape[2] - g["dilation"][1] * (kernel[1] - 1) - 1) // g["stride"][1] + 1
    made = np.empty((len(x), height, width, outputs), int)
    places = in_order(words[1], (kernel[0], kernel[1]), channels)
    for n, i, j, o in np.ndindex(*made.shape):
        row, column = i * g["stride"][0], j * g["stride"][1]
        first = o // (outputs // groups) * channels
        products = [
            0
            if at is None
            else int(centred[n, row + at[0] * g["dilation"][0], column + at[1] * g["dilation"][1], first + at[2]])
            * int(w[(o, *at)])
            for at in places
        ]
        made[n, i, j, o] = added_up(products, rule, words[2], int(g["bias"][o]))
    return made


@pytest.mark.parametrize("words", RULES)
@pytest.mark.parametrize("groups", [1, 3])
def test_every_rule_gives_what_loops_over_python_integers_give(words: tuple[Any, ...], groups: int) -> None:
    generator = np.random.default_rng(5)
    rule = AccumulatorRule.parse(*words)
    x = generator.integers(-128, 128, (2, 5, 4, 9)).astype(np.int8)
    w = generator.integers(-30, 30, (6, 3, 2, 9 // groups)).astype(np.int8)
    bias = generator.integers(-2000, 2000, 6).astype(np.int32)
    g: dict[str, Any] = {"stride": (2, 1), "pads": (1, 0, 1, 1), "dilation": (1, 2), "groups": groups}
    g |= {"x_zero_point": -5, "bias": bias}
    expected = convolved(x, w, rule, words, **g)
    assert np.array_equal(narrow.narrow_convolve(x, w, rule, **g), expected)
    if groups == 1 and rule.mode != "wrap" and rule.each:
        assert not np.array_equal(expected, convolved(x, w, AccumulatorRule.parse("s32"), ("s32", "", ()), **g))


@pytest.mark.parametrize("words", RULES)
def test_a_depthwise_convolution_is_one_in_groups(words: tuple[Any, ...]) -> None:
    generator = np.random.default_rng(6)
    rule = AccumulatorRule.parse(*words)
    x = generator.integers(0, 256, (1, 5, 6, 3)).astype(np.uint8)
    w = generator.integers(-30, 30, (2, 3, 3, 2)).astype(np.int8)
    g: dict[str, Any] = {"stride": (1, 2), "pads": (1, 1, 0, 1), "dilation": (1, 1), "x_zero_point": 100}
    g["bias"] = generator.integers(-200, 200, 6).astype(np.int32)
    regular = w.transpose(2, 3, 0, 1).reshape(6, 2, 3, 1)
    expected = convolved(x, regular, rule, words, **g, groups=3)
    assert np.array_equal(narrow.narrow_depthwise(x, w, rule, **g), expected)


@pytest.mark.parametrize("words", RULES)
def test_products_of_matrices_and_sums_follow_the_rule(words: tuple[Any, ...]) -> None:
    generator = np.random.default_rng(7)
    rule = AccumulatorRule.parse(*words)
    x = generator.integers(-128, 128, (2, 3, 11)).astype(np.int8)
    w = generator.integers(-99, 99, (4, 11)).astype(np.int8)
    bias = generator.integers(-2000, 2000, 4).astype(np.int32)
    order = [at and at[2] for at in in_order(" ".join(n for n in words[1].split() if n[0] == "c"), (1, 1), 11)]

    def dot(row: NDArray[Any], column: NDArray[Any], start: int) -> int:
        products = [0 if at is None else (int(row[at]) - 3) * int(column[at]) for at in order]
        return added_up(products, rule, words[2], start)

    linear = [[[dot(row, w[o], int(bias[o])) for o in range(4)] for row in image] for image in x]
    assert narrow.narrow_matmul(x, w, rule, x_zero_point=3, bias=bias).tolist() == linear
    matrix = [[[dot(row, w[o], 0) for o in range(4)] for row in image] for image in x]
    assert narrow.narrow_batch_matmul(x, w.T[None], rule, x_zero_point=3).tolist() == matrix
    sums = [[[added_up([int(v) - 3 for v in row], rule, words[2], 0)] for row in image] for image in x]
    assert narrow.narrow_sum(x, (2,), rule, x_zero_point=3).tolist() == sums


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(9, 15))
def test_the_fast_way_and_the_slow_way_give_the_same(seed: int, each: int, bits: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.integers(-128, 128, (1, 4, 4, 3)).astype(np.int8)
    w = generator.integers(-2, 3, (2, 2, 2, 3)).astype(np.int8)
    g: dict[str, Any] = {"stride": (1, 1), "pads": (0, 0, 1, 1), "dilation": (1, 1), "x_zero_point": 7}
    rule = AccumulatorRule.parse(f"s{bits} saturate each {each}", "c ky kx")
    slow = AccumulatorRule.parse(f"s{bits} saturate each {each}", "c ky kx", ("add 0",))
    assert np.array_equal(narrow.narrow_convolve(x, w, rule, **g), narrow.narrow_convolve(x, w, slow, **g))


@settings(max_examples=60)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=5), st.integers(-5, 0), st.integers(0, 5), st.integers(1, 3))
def test_the_range_of_sums_is_met_by_some_input(weight: list[int], low: int, high: int, each: int) -> None:
    rule = AccumulatorRule.parse(f"s32 saturate each {each}")
    bound = rule.sums(np.array([weight]), (low, high), np.array([2]))
    sums = []
    for x in product((low, high), repeat=len(weight)):
        acc = np.cumsum([a * b for a, b in zip(x, weight, strict=True)]) + 2
        sums += [2, *acc[each - 1 :: each], acc[-1]]
    assert (bound.low[0], bound.high[0]) == (min(sums), max(sums))


def test_sums_that_a_width_does_not_hold_are_refused() -> None:
    rule = AccumulatorRule.parse("s16")
    weight = np.array([[1, -1], [127, -127]])
    rule.check(weight, (-128, 127))
    with pytest.raises(AccumulatorError) as caught:
        rule.check(weight, (-128, 127), np.array([0, 2000]))
    assert str(caught.value) == (
        "the sums of channel 1 may be from -30385 to 34385, and the accumulator s16 holds -32768 to 32767; 1 of 2 "
        "channels are like that\n  help    smaller weights, fewer inputs, or an accumulator that says what it does: "
        "wrap, saturate"
    )


@pytest.mark.parametrize("text", ["s65", "32", "s32 saturate", "s32 saturate each 0", "u64 wrap", "s32 wraps"])
def test_a_text_that_is_no_accumulator_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(AccumulatorError, match="WIDTH saturate each N"):
        AccumulatorRule.parse(text)
    with pytest.raises(AccumulatorError, match="is not an order"):
        AccumulatorRule.parse("s32 wrap", "kx ky ky")
