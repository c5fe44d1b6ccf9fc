"""Ranges that calibration searches for in a histogram, and scales that are powers of two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import qgraph
from qgraph import quantizers
from qgraph.ir import Array
from qgraph.quantizers.arrays import extremes
from qgraph.quantizers.histogram import SIDE, Histogram, power_of_two
from qgraph.training.observers import ActivationQuantizer

SEEDS = st.integers(0, 2**32 - 1)


def calibrated(observer: str, chunks: list[torch.Tensor], quant_range: tuple[int, int] = (-128, 127)) -> float:
    """The scale after calibration by chunks."""
    module = ActivationQuantizer(1, quant_range, None, observer, symmetric=False)
    scale, zero_point = torch.full((1,), torch.nan), torch.zeros(1, dtype=torch.int32)
    for count, chunk in enumerate(chunks, 1):
        module.observing = count
        module(chunk, scale, zero_point, None, "half_even", True)
    module.end_calibration(scale, zero_point)
    return scale.item()


# ---- histograms


@settings(max_examples=40)
@given(SEEDS, st.sampled_from([None, 0, 1]))
def test_a_histogram_depends_neither_on_the_split_nor_on_the_order(seed: int, axis: int | None) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(8, 3, 5)) * 2.0 ** rng.integers(-30, 30, (8, 1, 1))).astype(np.float32)
    whole = Histogram.of(torch.from_numpy(x), axis if axis != 0 else None)
    order, cut = rng.permutation(8), int(rng.integers(1, 8))
    parts = [torch.from_numpy(x[each]) for each in (order[:cut], order[cut:])]
    both = Histogram.of(parts[0], axis if axis != 0 else None).plus(Histogram.of(parts[1], axis if axis != 0 else None))
    assert torch.equal(both.counts, whole.counts)
    assert torch.equal(both.exponent, whole.exponent)


def test_a_value_lies_in_the_bin_from_its_multiple_of_the_width_on_and_zeros_in_none() -> None:
    seen = Histogram.of(torch.tensor([0.0, 1.0, 3.999, -3.0, -(2.0**-20), torch.inf, torch.nan]), None)
    assert seen.exponent.tolist() == [2]
    assert [i - SIDE for i in seen.counts[0].nonzero().flatten().tolist()] == [
        *(-3 * SIDE // 4, -1, SIDE // 4),
        int(3.999 * SIDE / 4),
    ]


def test_values_of_nothing_leave_a_histogram_as_it_is() -> None:
    nothing, seen = Histogram.of(torch.zeros(5), None), Histogram.of(torch.tensor([1e-30, 2e-30]), None)
    assert torch.equal(nothing.plus(seen).counts, seen.counts)
    assert torch.equal(nothing.plus(seen).exponent, seen.exponent)
    for observer in ("mse", "entropy", "mse:power_of_two"):
        assert calibrated(observer, [torch.zeros(4)]) == 1
    least = Histogram.of(torch.tensor([1e-38, -1e-45, 3e-39]), None)  # some are no normal floats
    assert least.counts.sum() == 3
    assert least.exponent.tolist() == [-126]
    exponents = torch.arange(-1022, 1024)
    assert np.array_equal(power_of_two(exponents), np.ldexp(1.0, exponents.numpy()))


@pytest.mark.parametrize("observer", ["mse", "entropy", "mse:power_of_two", "entropy:power_of_two"])
def test_calibration_by_a_histogram_does_not_depend_on_the_split(observer: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3))
    x = np.random.default_rng(0).standard_t(3, (70, 2, 8, 8)).astype(np.float32)
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    prepared = qgraph.prepare(graph, "litert", observers={"activation": observer})
    assert qgraph.calibrate(prepared, [x]) == qgraph.calibrate(prepared, [x[:1], x[1:40], x[40:]])


# ---- least squares


@pytest.mark.parametrize("quant_range", [(-128, 127), (-8, 7), (-4, 3)])
@pytest.mark.parametrize("shape", ["normal", "relu", "laplace"])
def test_no_other_range_of_its_kind_has_a_smaller_squared_error(shape: str, quant_range: tuple[int, int]) -> None:
    """Of a range of 3 bits much is clipped; the search knows how many bits there are."""
    rng = np.random.default_rng(0)
    x = {"normal": rng.normal(size=20000), "relu": rng.normal(size=20000).clip(0), "laplace": rng.laplace(size=20000)}
    values, levels = x[shape].astype(np.float32).astype(np.float64), quant_range[1] - quant_range[0]

    def error(scale: float) -> float:
        span = scale * levels
        low = 0.0 if shape == "relu" else -span / 2 / scale
        codes = [np.clip(np.rint(values / scale), lowest, lowest + levels) for lowest in (np.floor(low), np.ceil(low))]
        return min(float(np.square(each * scale - values).sum()) for each in codes)  # 0 lies in the middle of two codes

    found = calibrated("mse", [torch.from_numpy(values).float()], quant_range)
    widest = (values.max() - values.min()) / levels
    best = min(error(widest * fraction) for fraction in np.linspace(0.03, 1, 500))
    assert error(found) <= best * 1.03  # candidates are 2.2% apart, and bins not infinitely narrow
    if levels < 255:
        assert found < widest * 0.9


# ---- entropy


def test_what_fits_the_codes_loses_nothing_and_keeps_its_range() -> None:
    """256 values, one for each code: nothing to gain by clipping."""
    x = (torch.arange(256.0) - 128).repeat(20)
    assert calibrated("entropy", [x]) == 1


def test_a_few_outliers_are_left_out_by_entropy() -> None:
    x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    plain = calibrated("entropy", [torch.from_numpy(x)])
    x[0] = 40
    spiky = calibrated("entropy", [torch.from_numpy(x)])
    assert calibrated("min_max", [torch.from_numpy(x)]) > 0.17
    assert plain / 1.3 < spiky < plain * 1.3


@pytest.mark.parametrize("shape", ["normal", "relu", "laplace"])
def test_entropy_does_not_take_the_noise_of_few_examples_for_a_reason_to_clip(shape: str) -> None:
    """Bins that hold one example each make narrow ranges, of a bin for each code, look perfect."""
    rng = np.random.default_rng(0)
    x = {"normal": rng.normal(size=2000), "relu": rng.normal(size=4000).clip(0), "laplace": rng.laplace(size=2000)}
    chunk = torch.from_numpy(x[shape].astype(np.float32))
    assert calibrated("entropy", [chunk]) > 0.5 * calibrated("min_max", [chunk])


@pytest.mark.parametrize("scale", ["entropy", "entropy:power_of_two"])
def test_of_16_bits_everything_is_kept(scale: str) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    wide = (-(2**15), 2**15 - 1)
    assert calibrated(scale, [x], wide) == calibrated(scale.replace("entropy", "min_max"), [x], wide)


@pytest.mark.parametrize("shape", ["laplace", "normal", "student"])
def test_entropy_loses_no_more_than_onnxruntimes_calibrator(shape: str) -> None:
    """Its histogram search, on the same values, by our measure: it has 128 codes there, a few of ours at most."""
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate", reason="install qgraph-compiler[onnxruntime]")
    rng = np.random.default_rng(0)
    draw = {"laplace": rng.laplace, "normal": rng.normal, "student": lambda size: rng.standard_t(4, size)}
    x = draw[shape](size=50_000).astype(np.float32)
    largest = float(np.abs(x).max())
    counts, edges = np.histogram(x, 2048, range=(-largest, largest))
    collector = calibrate.HistogramCollector("entropy", False, 2048, 128, None, None)
    theirs = collector.get_entropy_threshold((counts, edges, x.min(), x.max(), largest), 128)
    seven_bits = (-64, 63)
    ours = calibrated("entropy", [torch.from_numpy(x)], seven_bits) * 127

    def divergence(span: float) -> float:
        seen = Histogram.of(torch.from_numpy(x), None)
        values, width = (np.arange(-SIDE, SIDE) + 0.5) * 2.0 ** float(seen.exponent) / SIDE, 2.0 ** float(seen.exponent)
        bounds = max(float(x.min()), -span / 2), min(float(x.max()), span / 2)
        quantizer = ActivationQuantizer(1, seven_bits, None, "entropy", symmetric=False).quantizer
        kept = seen.counts[0].numpy() > 0
        return quantizer.loss(seen.counts[0].numpy()[kept] * 1.0, values[kept], width / SIDE, bounds)

    assert divergence(ours) <= divergence(float(theirs[1]) - float(theirs[0])) * 1.02
    assert 0.4 < ours / (float(theirs[1]) - float(theirs[0])) < 2.5


# ---- powers of two


@settings(max_examples=60)
@given(SEEDS, st.sampled_from(["min_max", "percentile:99", "mse", "moving_average", "entropy"]))
def test_the_allowed_scale_is_a_power_of_two_with_the_same_bits_in_torch(seed: int, name: str) -> None:
    quantizer = quantizers.get(f"{name}:power_of_two")
    rng = np.random.default_rng(seed)
    scale = np.exp2(rng.uniform(-30, 30, 20)).astype(np.float32)
    scale[:3] = [0, 0.25, np.nextafter(np.float32(0.25), np.float32(1))]
    found = quantizer.allowed(scale)
    assert found.dtype == np.float32
    assert np.array_equal(found, quantizer.torch_allowed(torch.from_numpy(scale)).numpy())
    assert found[0] == 0
    assert found[1] == 0.25
    mantissa, _ = np.frexp(found[1:])
    assert (mantissa == 0.5).all()
    ratio = found[1:] / scale[1:]
    if name in ("mse", "entropy"):
        assert ((ratio > 0.7071) & (ratio < 1.4143)).all()
    else:
        assert ((ratio >= 1) & (ratio < 2)).all()


@pytest.mark.parametrize("limit", [127, 7, 1])
def test_of_all_powers_of_two_a_weight_has_the_one_with_the_least_squared_error(limit: int) -> None:
    rows = np.random.default_rng(0).normal(size=(6, 200)).astype(np.float32)
    scale = quantizers.get("mse:power_of_two").scale(rows, limit)

    def errors(scale: Array) -> Array:
        step = scale[:, None].astype(np.float64)
        return np.square(np.clip(np.rint(rows / step), -limit, limit) * step - rows).sum(axis=1)

    assert (errors(scale) <= np.min([errors(scale * 2.0**k) for k in range(-4, 5)], axis=0)).all()
    torch_scale = quantizers.get("mse:power_of_two").torch_scale(torch.from_numpy(rows), torch.tensor([limit]))
    assert np.array_equal(torch_scale.numpy(), scale)


@pytest.mark.parametrize("quant_range", [(-128, 127), (-8, 7)])
def test_of_all_powers_of_two_an_activation_has_the_one_with_the_least_squared_error(
    quant_range: tuple[int, int],
) -> None:
    levels = quant_range[1] - quant_range[0]
    for seed, size in enumerate((0.7, 1.0, 1.3, 1.7)):
        x = (np.random.default_rng(seed).normal(size=20000) * size).astype(np.float32)
        found = calibrated("mse:power_of_two", [torch.from_numpy(x)], quant_range)
        errors = {}
        for k in range(-12, 3):
            lowest = np.rint(max(float(x.min()), -(2.0**k) * levels / 2) / 2.0**k)
            errors[2.0**k] = np.square(np.clip(np.rint(x / 2.0**k), lowest, lowest + levels) * 2.0**k - x).sum()
        assert found == min(errors, key=lambda scale: errors[scale])


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
def test_all_scales_are_powers_of_two_where_that_is_asked_for_and_the_runtime_agrees(target: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten())
    model = nn.Sequential(*model, nn.Linear(64, 3)).eval()
    x = np.random.default_rng(0).normal(size=(64, 3, 8, 8)).astype(np.float32)
    weight = "pair_safe" if target == "onnxruntime" else "mse"
    observers = {"activation": "mse:power_of_two", "weight": f"{weight}:power_of_two"}
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, target, observers=observers)), [x])
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.from_numpy(x)).square().mean().backward()
        optimizer.step()
    trained = qgraph.from_torch(module)
    for name, constant in trained.constants.items():
        if name.endswith("_scale"):
            assert (np.frexp(constant.data)[0] == 0.5).all(), name
    assert qgraph.verify(qgraph.lower(trained, target), inputs=x).bit_exact


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_masks_and_constants_have_powers_of_two_too(target: str) -> None:
    """Their ranges follow from rules of their own; the user's constraint goes with them."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
            self.place = nn.Parameter(torch.randn(1, 5, 8) * 0.3)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            x = x + self.place
            return nn.functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), mask)

    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 5, 8)).astype(np.float32)
    mask = np.where(rng.random((16, 5, 5)) < 0.3, np.float32(-10000), np.float32(0))
    mask[:, :, 0] = 0
    graph = qgraph.trace(Attention().eval(), (torch.from_numpy(x[:2]), torch.from_numpy(mask[:2])))
    weight = "pair_safe" if target == "onnxruntime" else "min_max"
    observers = {"activation": "moving_average:power_of_two", "weight": f"{weight}:power_of_two"}
    made = qgraph.calibrate(qgraph.prepare(graph, target, observers=observers), [(x, mask)])
    for name, constant in made.constants.items():
        if name.endswith("_scale"):
            assert (np.frexp(constant.data)[0] == 0.5).all(), name
    assert qgraph.verify(qgraph.lower(made, target), inputs=dict(zip(("x", "mask"), (x, mask), strict=True))).bit_exact


@pytest.mark.parametrize("bounds", [(-0.875, 1.375), (-1.5, 1.0), (-0.5, 0.5)])
@pytest.mark.parametrize("off", [0.001, 0.0])
def test_the_entropy_that_a_range_loses_is_that_of_the_range_and_the_values_turned_round(
    bounds: tuple[float, float], off: float
) -> None:
    """What lies below, or at the end, counts at the lowest code as what lies above at the highest: many below."""
    entropy: Any = replace(quantizers.get("entropy"), levels=7)
    values = np.linspace(-2, 2, 65) + off
    counts = np.linspace(9, 1, 65) ** 2
    (low, high), width = bounds, 4 / 64
    found = entropy.loss(counts.copy(), values, width, bounds)
    turned = entropy.loss(counts[::-1].copy(), -values[::-1], width, (-high, -low))
    assert found == pytest.approx(turned, rel=1e-6)  # a value on the border of two bins is in the upper one
    without = counts * ((values > low) & (values < high))
    assert found > entropy.loss(without, values, width, bounds)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_extremes_are_those_of_all_or_of_each_index_in_both_libraries(axis: int | None) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    rows = x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    for found in (extremes(x, axis), map(np.asarray, extremes(torch.from_numpy(x), axis))):
        for got, wanted in zip(found, (rows.min(1), rows.max(1)), strict=True):
            assert np.array_equal(np.asarray(got).reshape(-1), wanted)


def test_bins_are_as_fine_for_small_numbers_as_for_large_ones() -> None:
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    large, small = (Histogram.of(each, None) for each in (x, x * np.float32(2.0**-12)))
    assert np.array_equal(large.counts, small.counts)


def test_bins_of_nothing_are_those_of_torch() -> None:
    x = np.zeros(10, np.float32)
    found, wanted = Histogram.of(x, None), Histogram.of(torch.from_numpy(x), None)
    assert np.array_equal(found.exponent, wanted.exponent.numpy())
    assert np.array_equal(found.counts, wanted.counts.numpy())
