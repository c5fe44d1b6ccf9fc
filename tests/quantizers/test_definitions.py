"""Every quantizer against its definition, written out in NumPy."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgraph import quantizers
from qgraph.errors import InputError
from qgraph.quantizers import registry, rounding
from qgraph.quantizers.masked import FLOOR
from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.weight_scale import rows_of, torch_weight_scale, weight_scale

SEEDS = st.integers(0, 2**32 - 1)
FRACTIONS = [1 - 0.025 * step for step in range(28)]
"""Of the widest range, from 1 down to 0.325."""
LEVELS = 255
SMALLEST, BIAS_LIMIT, BIAS_GOAL = 2.0**-16, 2.0**28, 2.0**20
"""The scale of a channel beside the layer's largest; the integer of a bias at most, and beside weights of nothing."""


def values(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy((rng.normal(rng.normal(), 1, shape) * rng.choice([0.1, 1, 9], shape)).astype(np.float32))


def ranges(name: str, x: torch.Tensor, axis: int | None) -> np.ndarray:
    """(low, high) of each row."""
    seen = quantizers.get(name).seen(x, axis).numpy()
    assert seen.dtype == np.float32
    return np.stack((seen[0], -seen[1]), axis=1)


def rows(x: torch.Tensor, axis: int | None) -> np.ndarray:
    array = x.numpy()
    return array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([None, 0, 1]))
def test_min_max_covers_everything(seed: int, axis: int | None) -> None:
    x = values(seed, (3, 4, 5))
    expected = [(row.min(), row.max()) for row in rows(x, axis)]
    for name in ("min_max", "moving_average", "lsq"):
        assert np.array_equal(ranges(name, x, axis), np.asarray(expected))


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([None, 0, 1]), st.sampled_from([60.0, 90.0, 99.99, 100.0]), st.integers(1, 40))
def test_a_percentile_leaves_as_many_out_below_as_above(seed: int, axis: int | None, percent: float, size: int) -> None:
    x = values(seed, (2, 3, size))
    for (low, high), row in zip(ranges(f"percentile:{percent}", x, axis), rows(x, axis), strict=True):
        last = min(max(round(row.size * (50 + percent / 2) / 100), 1), row.size)  # of the sorted ones, from 1 on
        assert high == np.sort(row)[last - 1]
        assert low == np.sort(row)[row.size - last]
    magnitudes = np.sort(np.abs(rows(x, 0)), axis=1)
    last = min(max(round(magnitudes.shape[1] * percent / 100), 1), magnitudes.shape[1])
    scale = quantizers.get(f"percentile:{percent}").scale(rows(x, 0), 7)
    assert np.array_equal(scale, magnitudes[:, last - 1] / np.float32(7))


def test_of_reciprocals_those_of_divisors_with_a_code_beside_that_of_0_have_a_range() -> None:
    """A divisor of half a step of 8 bits of the largest has a code; 510 times the least reciprocal, it is in range."""
    for row, low, high in (
        ([1.0, 510.0], 1, 510),
        ([1.0, 511.0], 0, 1),
        ([-0.5, 255.0], -0.5, 255),
        ([2.0, -4.0], -4, 2),
    ):
        assert ranges("reciprocal", torch.tensor(row), None).tolist() == [[low, high]]
    quantizer = quantizers.get("reciprocal")
    near, far = torch.tensor([[-1.0], [-2.0]]), torch.tensor([[-3.0], [-1021.0]])
    for one, other, expected in ((near, far, near), (far, near, near), (near, near * 510, near * 510)):
        assert torch.equal(quantizer.calibrated(one, other, 2), expected)
    for below in (torch.tensor([[-1020.0], [-1.0]]), torch.tensor([[-1.0], [-1020.0]])):
        assert torch.equal(quantizer.calibrated(near, below, 2), torch.minimum(near, below))
    beyond = torch.tensor([[-1021.0], [-1.0]])
    assert torch.equal(quantizer.calibrated(near, beyond, 2), near)


@settings(max_examples=60)
@given(SEEDS, st.sampled_from([None, 0, 1]), st.sampled_from([0.3, 2.0, 30.0, 127.0, 300.0]))
def test_integers_lie_on_the_grid_of_a_range_of_them(seed: int, axis: int | None, size: float) -> None:
    """It begins at the least of them or at 0, and its step is the smallest power of two that covers them in 255."""
    x = torch.round(values(seed, (3, 4)) * size)
    for (low, high), row in zip(ranges("whole", x, axis), rows(x, axis), strict=True):
        assert low == min(row.min(), 0)
        step = (high - low) / LEVELS
        assert step == 2.0 ** round(np.log2(step))
        assert high >= max(row.max(), 0)
        assert low + LEVELS * step / 2 < max(row.max(), 0, low + 1)
    seen = quantizers.get("whole").seen(x, axis)
    assert torch.equal(quantizers.get("whole").calibrated(seen, seen, 2), seen), "widened before"
    assert torch.equal(quantizers.get("whole").trained(seen, seen), seen)


@pytest.mark.parametrize(
    ("seen", "low", "high"),
    [
        ([0.0, 0.0], 0, 255 / 128),
        ([1.0, 2.0], 0, 255 / 64),
        ([-2.0, -1.0], -2, 255 / 64 - 2),
        ([-3.6, 4.9], -3, 255 / 32 - 3),
        ([0.0, 127.0], 0, 127.5),
        ([0.0, 255.0], 0, 255),
        ([-1.0, 255.0], -1, 509),
    ],
)
def test_a_range_of_integers_holds_zero_and_one_beside_it(seen: list[float], low: float, high: float) -> None:
    assert ranges("whole", torch.tensor(seen), None).tolist() == [[low, high]]


def test_a_range_of_integers_grows_with_what_is_seen_later() -> None:
    quantizer = quantizers.get("whole")
    chunks = [quantizer.seen(torch.tensor([-1.0, each]), None) for each in (1.0, 200.0)]
    for merged in (quantizer.calibrated(*chunks, 2), quantizer.trained(*chunks)):
        assert merged.flatten().tolist() == [-1, -254]


def test_a_range_beside_a_pole_has_room_for_what_lies_nearer_to_it() -> None:
    assert ranges("open_ended", torch.tensor([[1.0, 3.0], [-2.0, 0.5]]), 0).tolist() == [[8, 24], [-16, 4]]


def squared_error(row: np.ndarray, low: float, high: float) -> float:
    step = max((high - low) / LEVELS, 1e-30)
    return float(np.square(np.clip(np.rint((row - low) / step), 0, LEVELS) * step + low - row).sum())


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([None, 1]), st.sampled_from([1e-6, 1.0, 1e6]))
def test_no_other_fraction_of_the_range_has_a_smaller_error(seed: int, axis: int | None, size: float) -> None:
    x = values(seed, (2, 3, 40)) * size
    for (low, high), row in zip(ranges("mse", x, axis), rows(x, axis), strict=True):
        widest = min(row.min(), 0.0), max(row.max(), 0.0)
        errors = [squared_error(row.astype(np.float64), *(f * w for w in widest)) for f in FRACTIONS]
        fraction = (high - low) / (widest[1] - widest[0])
        chosen = int(np.argmin(np.abs(np.asarray(FRACTIONS) - fraction)))
        assert fraction == pytest.approx(FRACTIONS[chosen], rel=1e-6)
        assert errors[chosen] <= min(errors) * 1.001  # the quantizer sums in float32
    weight = rows(x, 1)
    widest = np.abs(weight).max(axis=1) / np.float32(7)
    for scale, wide, row in zip(quantizers.get("mse").scale(weight, 7), widest, weight, strict=True):
        errors = [
            float(np.square(np.clip(np.rint(row / step), -7, 7) * step - row.astype(np.float64)).sum())
            for step in (float(wide * np.float32(f)) for f in FRACTIONS)
        ]
        assert scale == wide * np.float32(FRACTIONS[int(np.argmin(errors))])


def test_of_equal_errors_the_largest_range_is_taken() -> None:
    assert np.array_equal(ranges("mse", torch.zeros(4), None), [[0, 0]])
    assert ranges("mse", torch.tensor([0.0, 255.0, 1.0, 2.0]), None).tolist() == [[0, 255]]  # exact: no error at all


@pytest.mark.parametrize(
    ("scores", "low", "high"),
    [
        ([-10000.0, -3.0, 5.0], -11, 5),
        ([-128.0, -20.0, 5.0], -20, 5),
        ([-64.0, -63.5, -20.0, 5.0], -63.5, 5),
        ([-torch.inf, -64.0, 2.0, 5.0], -11, 5),
        ([-128.0, -128.0], -16, 0),
        ([-5.0, -3.0], -19, -3),
    ],
)
def test_the_range_of_masked_scores_reaches_16_below_the_largest(scores: list[float], low: float, high: float) -> None:
    """What is masked lies at -128, on either side of half of that; a softmax makes nothing of what lies 16 below."""
    assert ranges("masked", torch.tensor(scores), None).tolist() == [[low, high]]
    assert FLOOR == -128


def test_an_outlier_is_left_out_where_the_others_then_lie_on_the_steps() -> None:
    row = torch.arange(256.0).repeat(100)
    row[0] = 255 / 0.9
    for sign in (1, -1):
        bounds = [0, 255] if sign > 0 else [-255, 0]
        np.testing.assert_allclose(ranges("mse", row * sign, None), [bounds], rtol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_lies_a_step_outside_of_a_range_is_left_out_of_it(sign: int) -> None:
    """0.975 of the range puts 256 steps under most values, and 1000 values a step below them."""
    steps = torch.arange(256.0).repeat(10) * 0.025 - 0.975
    widest = 0.025 * 255 / 0.975
    row = torch.cat([steps, torch.full((1000,), -1.0), torch.tensor([widest - 1])])
    bounds = sorted((-1.0 * sign, (widest - 1) * sign))
    np.testing.assert_allclose(ranges("mse", row * sign, None), [bounds], rtol=1e-6)


@pytest.mark.parametrize(("outlier", "fraction"), [(2.0, 0.5), (3.0, 0.325), (3.4, 0.325)])
def test_no_more_of_the_range_is_left_out_than_0_675(outlier: float, fraction: float) -> None:
    weight = np.float32([[1, -1] * 50000 + [outlier]])
    np.testing.assert_allclose(quantizers.get("mse").scale(weight, 1), [outlier * fraction], rtol=1e-6)
    limit = torch.tensor([1], dtype=torch.int32)
    np.testing.assert_allclose(quantizers.get("mse").torch_scale(torch.from_numpy(weight), limit), [outlier * fraction])


@pytest.mark.parametrize(
    ("name", "weight"),
    [("moving_average", 0.05), ("moving_average:0.25", 0.25), ("percentile:99", 0.05), ("mse", 0.05)],
)
def test_in_training_a_range_moves_towards_each_batch(name: str, weight: float) -> None:
    before, seen = torch.tensor([[-1.0], [-2.0]]), torch.tensor([[-3.0], [0.0]])
    moved = quantizers.get(name).trained(before, seen)
    torch.testing.assert_close(moved, before * (1 - weight) + seen * weight)


def test_in_calibration_a_range_covers_all_chunks_or_is_their_mean() -> None:
    chunks = [torch.tensor([[-float(i * i)], [-float(10 - i)]]) for i in range(1, 6)]
    for name, expected in (("min_max", [-25, -9]), ("moving_average", [-25, -9]), ("percentile", [-11, -7])):
        found = chunks[0]
        for count, chunk in enumerate(chunks[1:], 2):
            found = quantizers.get(name).calibrated(found, chunk, count)
        np.testing.assert_allclose(found.flatten(), expected, rtol=1e-6)
    assert torch.equal(quantizers.get("min_max").trained(chunks[0], chunks[4]), torch.tensor([[-25.0], [-9.0]]))
    for name in ("mse", "entropy"):  # which search within that range
        assert torch.equal(quantizers.get(name).calibrated(chunks[0], chunks[4], 4), torch.tensor([[-25.0], [-9.0]]))


def straight_through(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    quotient = x / scale
    return torch.round(quotient).detach() + (quotient - quotient.detach())


def test_the_gradient_of_a_learned_step_is_that_of_the_paper() -> None:
    """Esser et al. 2020, equation 3 and section 2.2; x inside, on both sides outside, and exactly at the ends."""
    x = torch.tensor([0.3, -0.8, 9.0, -9.0, 3.4, 1.26], requires_grad=True)
    scale, zero = torch.tensor([0.5], requires_grad=True), torch.tensor([1.0])
    low, high = -8, 7
    result = quantizers.get("lsq").learned(x, scale, zero, (low, high), straight_through, {})
    codes = np.clip(np.rint(np.float32([0.3, -0.8, 9, -9, 3.4, 1.26]) / 0.5) + 1, low, high)
    assert np.array_equal(result.detach().numpy(), (codes - 1) * np.float32(0.5))
    result.sum().backward()
    inside = np.array([1, 1, 0, 0, 0, 1], bool)  # 3.4 rounds to the code 8
    assert x.grad is not None
    assert scale.grad is not None
    assert np.array_equal(x.grad.numpy(), inside.astype(np.float32))
    slopes = np.where(inside, codes - 1 - x.detach().numpy() / 0.5, codes - 1)
    np.testing.assert_allclose(scale.grad, slopes.sum() / np.sqrt(6 * (high - low) / 2), rtol=1e-5)
    scales = torch.full((6, 1), 0.5, requires_grad=True)  # one for each value: each has one element
    each = quantizers.get("lsq").learned(x[:, None], scales, zero, (low, high), straight_through, {})
    each.sum().backward()
    assert scales.grad is not None
    np.testing.assert_allclose(scales.grad[:, 0], slopes / np.sqrt((high - low) / 2), rtol=1e-5)


@settings(max_examples=60)
@given(
    SEEDS,
    st.sampled_from([0, None]),
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 1e-4, 1.0, 1e8]), st.sampled_from([1e-6, 0.1, 3.0, np.nan])),
        max_size=3,
    ),
)
def test_a_weights_scale_leaves_room_for_every_bias_beside_it(
    seed: int, axis: int | None, layers: list[tuple[bool, float, float]]
) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.normal(size=(4, 6)) * rng.choice([0.0, 1e-6, 1.0], (4, 1))).astype(np.float32)
    arguments: list[torch.Tensor | None] = []
    own = np.abs(w).max(axis=1) / np.float32(127)
    own = own if axis == 0 else own.max(keepdims=True)
    wanted, free = own.astype(np.float64), 1.0
    for has_bias, size, x_scale in layers:
        bias = (rng.normal(size=4) * size).astype(np.float32) if has_bias else None
        arguments += [None if bias is None else torch.from_numpy(bias), torch.tensor([x_scale], dtype=torch.float32)]
        known = not np.isnan(x_scale)
        free = min(free, 1 / np.float32(x_scale)) if known else free
        if bias is not None and known:
            largest = np.abs(bias) if axis == 0 else np.abs(bias).max(keepdims=True)
            goal = np.where(own > 0, 1 / BIAS_LIMIT, 1 / BIAS_GOAL)
            wanted = np.maximum(wanted, largest / np.float32(x_scale) * goal)
    top = wanted.max()
    expected = np.maximum(wanted, top * SMALLEST if top > 0 else free)
    limit = torch.tensor([127], dtype=torch.int32)
    found = torch_weight_scale(torch.from_numpy(w), limit, axis, quantizers.get("min_max"), arguments)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_a_weight_of_zeros_has_the_smallest_scale_that_the_others_leave() -> None:
    w = np.zeros((3, 2), np.float32)
    assert np.array_equal(weight_scale(w, 127, 0, quantizers.get("min_max")), [1, 1, 1])
    w[1, 0] = 127
    assert np.array_equal(weight_scale(w, 127, 0, quantizers.get("min_max")), np.float32([SMALLEST, 1, SMALLEST]))
    assert np.array_equal(weight_scale(w, 127, None, quantizers.get("min_max")), [1])


@pytest.mark.parametrize(("x_scale", "expected"), [(np.nan, 1.0), (4.0, 0.25), (0.25, 1.0)])
def test_a_weight_of_zeros_beside_an_input_has_at_most_its_inverse_scale(x_scale: float, expected: float) -> None:
    limit, layers = torch.tensor([127], dtype=torch.int32), [None, torch.tensor([x_scale])]
    found = torch_weight_scale(torch.zeros(3, 2), limit, 0, quantizers.get("min_max"), layers)
    assert found.tolist() == [expected] * 3


def test_a_weight_of_any_rank_has_the_scale_that_numpy_gives() -> None:
    limit, rng = torch.tensor([7], dtype=torch.int32), np.random.default_rng(0)
    for name in ("min_max", "mse", "pair_safe"):
        quantizer = quantizers.get(name)
        for shape in ((3,), (4, 6), (2, 3, 5), (2, 4, 3, 3)):
            w = rng.normal(size=shape).astype(np.float32)
            for axis in (None, 0, *([1] if len(shape) > 1 and not quantizer.needs_order else [])):
                found = torch_weight_scale(torch.from_numpy(w), limit, axis, quantizer)
                assert np.array_equal(found.numpy(), weight_scale(w, 7, axis, quantizer))
        number = torch_weight_scale(torch.tensor(-1.75), limit, None, quantizer)
        assert number.tolist() == torch_weight_scale(torch.tensor([[-1.75]]), limit, None, quantizer).tolist()


def test_rows_come_in_the_order_in_which_a_convolution_multiplies() -> None:
    assert np.array_equal(rows_of(np.arange(12.0).reshape(1, 3, 2, 2)), [[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]])
    assert rows_of(np.arange(3.0)).shape == (3, 1)
    assert rows_of(np.ones((2, 5))).shape == (2, 5)


# ---- names


def test_quantizers_are_named_with_the_options_that_are_not_the_defaults() -> None:
    assert str(quantizers.get("percentile")) == str(quantizers.get("percentile:99.99")) == "percentile"
    assert str(quantizers.get("percentile:90")) == "percentile:90.0"
    assert str(quantizers.get("min_max")) == "min_max"
    names = quantizers.names()
    assert names == sorted(names)
    assert {"fixed", "lsq", "min_max", "moving_average", "mse", "pair_safe", "percentile"} <= set(names)


NAMES = ", ".join(quantizers.names())
NUMBERS = "\n  help    options are numbers: percentile:99.9"
MORE = "\n  help    choose more than 50, at most 100"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("median", f"there is no quantizer 'median'\n  help    use one of {NAMES}"),
        ("percentile:1:2", "quantizer percentile has 1 options, 'percentile:1:2' gives 2"),
        ("min_max:1", "quantizer min_max has 0 options, 'min_max:1' gives 1"),
        ("percentile:50", f"percentile:50.0 leaves nothing{MORE}"),
        ("percentile:100.5", f"percentile:100.5 leaves nothing{MORE}"),
        ("percentile:x", f"quantizer 'percentile:x': could not convert string to float: 'x'{NUMBERS}"),
    ],
)
def test_a_name_or_option_that_there_is_not_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        quantizers.get(text)
    assert str(caught.value) == message


def test_all_values_and_a_little_more_than_half_of_them_are_percentages() -> None:
    assert [str(quantizers.get(f"percentile:{percent}")) for percent in (100, 50.5)] == [
        "percentile:100.0",
        "percentile:50.5",
    ]


def test_what_nobody_imported_yet_is_found_and_what_is_known_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    known: dict[str, type[registry.Quantizer]] = {"early": MinMax}
    monkeypatch.setattr(registry, "_REGISTRY", known)
    monkeypatch.setattr(registry, "load_all", lambda: loads.append(known.setdefault("late", MinMax)))
    quantizers.get.cache_clear()
    assert quantizers.get("early") == MinMax()
    assert not loads
    assert quantizers.get("late") == MinMax()
    assert len(loads) == 1
    with pytest.raises(InputError, match="help    use one of early, late"):
        quantizers.get("never")
    quantizers.get.cache_clear()


def test_roundings_that_nobody_imported_yet_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"half_even": rounding.HalfEven}
    monkeypatch.setattr(rounding, "_CLASSES", known)
    monkeypatch.setattr(rounding, "_KNOWN", {})
    monkeypatch.setattr(rounding, "load_all", lambda: known.setdefault("half_away", rounding.HalfAway))
    assert rounding.get_rounding("half_even") == rounding.HalfEven()
    assert list(known) == ["half_even"]
    assert rounding.get_rounding("half_away") == rounding.HalfAway()
    assert rounding.get_rounding("half_away") is rounding.get_rounding("half_away")
    assert list(rounding.roundings()) == ["half_away", "half_even"]


FORMS = [":".join((word, *["3"] * len(fields(cls)))) for word, cls in rounding.roundings().items()]


@pytest.mark.parametrize("form", FORMS)
def test_a_rounding_gives_the_same_codes_in_torch(form: str) -> None:
    """On numbers of many sizes, and on all ties of the steps, of thirds and of halves of them."""
    rng = np.random.default_rng(0)
    ties = np.arange(-300, 300) / 12
    x = np.float32(np.concatenate([rng.normal(size=2000) * np.exp2(rng.uniform(-4, 8, 2000)), ties, ties * 0.3]))
    word = rounding.get_rounding(form)
    assert str(type(word).name) == form.partition(":")[0]
    for scale in np.float32([0.3, 0.5, 1.0, 0.0117]):
        source = np.float32(0.25) if word.needs_source else None
        kept = x.copy()
        expected = word.codes(x, scale, np.float32(3), source)
        numbers = [None if each is None else torch.tensor(each) for each in (scale, np.float32(3), source)]
        found = word.torch_codes(torch.from_numpy(x), *numbers)  # type: ignore[arg-type]
        assert np.array_equal(found.numpy(), expected)
        assert np.array_equal(x, kept), "x is the caller's"
        assert np.abs(expected - 3 - x / scale).max() <= 1.01 if not word.needs_source else True


def test_ties_go_to_even_or_away_from_zero() -> None:
    x = np.float32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997])
    for form, expected in (("half_even", [-2, -2, 0, 0, 2, 2, 0]), ("half_away", [-3, -2, -1, 1, 2, 3, 0])):
        assert rounding.get_rounding(form).codes(x, np.float32(1), np.float32(0)).tolist() == expected


def test_a_rounding_that_there_is_not_is_refused_with_all_that_there_are() -> None:
    forms = ", ".join(form.replace("3", "N") for form in FORMS)
    for text in ("half_odd", "half_even:3", "half_away_code", "half_away_code:x", "half_away_code:3:3"):
        with pytest.raises(InputError) as caught:
            rounding.get_rounding(text)
        assert str(caught.value) == f"rounding={text!r} is not one of {forms}"
    with pytest.raises(InputError) as caught:
        rounding.get_rounding("half_away_code:0")
    assert str(caught.value) == "rounding='half_away_code:0': a mean of 0 integers"
    assert rounding.get_rounding("half_away_code:1") == rounding.get_rounding("half_away_code:1")


def test_the_numbers_of_a_rounding_are_of_the_kind_of_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "_CLASSES", dict(rounding.roundings()))
    monkeypatch.setattr(rounding, "_KNOWN", {})

    @rounding.rounding("shifted")
    @dataclass(frozen=True)
    class Shifted(rounding.HalfEven):
        steps: int
        slope: float

    for text, numbers in (("3:2", (3, 2.0)), ("3:0.25", (3, 0.25)), ("3:1e-05", (3, 1e-5)), ("3:1.5e+30", (3, 1.5e30))):
        found = rounding.get_rounding(f"shifted:{text}")
        assert (found.steps, found.slope) == numbers  # type: ignore[attr-defined]
        assert type(found.slope) is float  # type: ignore[attr-defined]
    for text in ("3", "3.5:2", "3:x", "3:1e", "3:-1", "1e3:1"):
        with pytest.raises(InputError, match="is not one of"):
            rounding.get_rounding(f"shifted:{text}")


def test_half_away_trains_in_float32_only() -> None:
    with pytest.raises(InputError, match="half_away rounding trains in float32 only"):
        rounding.torch_half_away(torch.ones(1, dtype=torch.float64))
    assert rounding.torch_half_away(torch.tensor([0.5, -0.5])).tolist() == [1, -1]


@pytest.mark.parametrize(
    ("word", "rows", "low", "high"),
    [
        ("scores:-1:16:0", [[-1e4, -3.0, 5.0], [-1e4, 1.0, 2.0]], -14, 5),
        ("scores:-1:16:0", [[-1.0, -3.0, 5.0], [0.0, 1.0, 2.0]], -3, 5),
        ("scores:-1:16:1", [[-1.0, -3.0, 5.0], [0.0, 1.0, 2.0]], -14, 5),
        ("scores:-2:16:0", [[-1e4, -3.0, 5.0], [-1e4, 1.0, 2.0]], -3, 5),
        ("scores:-1:32:0", [[-1e4, -3.0, 5.0], [-1e4, -1e4, -1e4]], -27, 5),
        ("mask", [[0.0, -3.0]], FLOOR, 0),
        ("mask:-1", [[0.0, 1e9]], 0, -FLOOR),
        ("addend", [[0.0, -1000.0]], -1000, 0),
        ("addend", [[0.0, -1001.0]], FLOOR, 0),
        ("addend", [[0.0, 1001.0]], 0, 1001),
        ("addend:-1", [[-2.0, 1001.0]], -2, -FLOOR),
        ("of_masks", [[2e4, -2e4]], -1e4, 1e4),
    ],
)
def test_ranges_around_float_masks(word: str, rows: list[list[float]], low: float, high: float) -> None:
    assert ranges(word, torch.tensor(rows), None).tolist() == [[low, high]]


def test_a_channel_has_the_range_that_it_has_alone() -> None:
    steps = torch.arange(256.0).repeat(100)
    outlier = torch.cat([torch.tensor([255 / 0.9]), steps[1:]])
    both = torch.stack([outlier, steps * 40])
    for x, axis in ((both, 0), (both.T.contiguous(), 1), (both.T.contiguous()[None], 2)):
        np.testing.assert_allclose(ranges("mse", x, axis), [[0, 255], [0, 255 * 40]], rtol=1e-6)
