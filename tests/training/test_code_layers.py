"""Exact products of codes: against integers, at the bound and beyond it, for every kind of window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from qgraph.arith.accumulate import convolve, matmul
from qgraph.training import exact_products, windows
from qgraph.training.code_layers import layer_of_codes
from qgraph.training.exact_products import Way, Window, way_of

X_SCALE, W_SCALE = torch.tensor([0.037]), torch.tensor([0.011, 0.25, 3e-3, 0.011])

WINDOWS = {
    "1d": (Window((2,), (1, 0), (1,), 1), (3, 6, 9), (4, 6, 3)),
    "2d": (Window((1, 1), (1, 1, 1, 1), (1, 1), 1), (2, 6, 7, 5), (4, 6, 3, 3)),
    "strided, dilated, padded on one side": (Window((2, 1), (0, 2, 1, 0), (1, 2), 1), (2, 3, 8, 9), (4, 3, 3, 2)),
    "grouped": (Window((1, 1), (1, 1, 1, 1), (1, 1), 2), (2, 6, 5, 5), (4, 3, 3, 3)),
    "depthwise": (Window((1, 1), (1, 1, 1, 1), (1, 1), 4), (2, 4, 5, 5), (4, 1, 3, 3)),
    "3d": (Window((1, 1, 1), (0,) * 6, (1, 1, 1), 1), (2, 2, 4, 4, 4), (4, 2, 2, 2, 2)),
    "linear": (None, (5, 7), (4, 7)),
    "linear of a sequence": (None, (2, 3, 7), (4, 7)),
    "wide": (Window((1, 1), (0, 0, 0, 0), (1, 1), 1), (2, 900, 3, 3), (4, 900, 1, 1)),
    "wide linear": (None, (2, 900), (4, 900)),
}


class Ledger:
    """Stands in for a run: takes the accumulators."""

    def __init__(self) -> None:
        self.accumulators: dict[int, object] = {}


def _codes(shape: tuple[int, ...], low: int, high: int, seed: int, extreme: bool) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    drawn = rng.choice([low, high], shape) if extreme else rng.integers(low, high, shape, endpoint=True)
    return torch.from_numpy(drawn.astype(np.float32))


def _reference(x: torch.Tensor, w: torch.Tensor, window: Window | None) -> np.ndarray:
    """The products by the interpreter's accumulation in int64, channels last."""
    rows, weight = (tensor.numpy().astype(np.int64) for tensor in (x, w))
    if window is None:
        return matmul(rows.astype(np.int16), weight.astype(np.int16)).astype(np.int64)
    return convolve(
        np.moveaxis(rows, 1, -1).astype(np.int16),
        np.moveaxis(weight, 1, -1).astype(np.int16),
        stride=window.stride,
        pads=window.pads,
        dilation=window.dilation,
        groups=window.groups,
    ).astype(np.int64)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_accumulators_are_those_of_the_integers(name: str, extreme: bool) -> None:
    window, x_shape, w_shape = WINDOWS[name]
    x, w = _codes(x_shape, -255, 255, 0, extreme), _codes(w_shape, -127, 127, 1, extreme)
    ledger = Ledger()
    w_scale = W_SCALE.reshape(-1, *(1,) * (w.ndim - 1))
    y = layer_of_codes(ledger, 3, x * X_SCALE, w * w_scale, None, (X_SCALE, W_SCALE), window)
    bias = np.array([5, -(2**30), 0, 2**24], np.int32)
    expected = _reference(x, w, window)
    known = ledger.accumulators[3]
    for added in (None, bias):  # NumPy's sum last: it takes the memory of the products
        wanted = expected if added is None else expected + added
        for in_torch in (True, False):
            made = known.with_bias(added, expected.ndim, in_torch)
            assert np.array_equal(np.asarray(made).astype(np.int64), wanted)
    real = torch.from_numpy(expected).double() * (X_SCALE * W_SCALE).double()
    assert y.shape == (real if window is None else real.movedim(-1, 1)).shape
    torch.testing.assert_close(y, (real if window is None else real.movedim(-1, 1)).float(), rtol=2e-6, atol=0)


def test_what_is_too_wide_for_parts_is_left_to_the_kernels() -> None:
    x, w = torch.full((1, 2, 90, 90), 255.0), torch.full((1, 2, 90, 90), 127.0)
    window, one = Window((1, 1), (0, 0, 0, 0), (1, 1), 1), torch.ones(1)
    assert layer_of_codes(Ledger(), 0, x, w, None, (one, one), window) is None


@pytest.mark.parametrize("name", WINDOWS)
def test_gradients_are_those_of_the_layer_on_real_values(name: str) -> None:
    window, x_shape, w_shape = WINDOWS[name]
    x, w = (_codes(s, -100, 100, 0, False).double().requires_grad_() for s in (x_shape, w_shape))
    bias = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    one = torch.ones(1, dtype=torch.float64)
    y = layer_of_codes(Ledger(), 0, x, w, bias, (one, one), window)
    expected = F.linear(x, w, bias) if window is None else windows.convolve(x, w, bias, *window)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=0)  # the bias is added elsewhere
    grad = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(*(torch.autograd.grad(each, (x, w, bias), grad) for each in (y, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-9)  # sums in another order


def test_a_shape_that_float32_gets_wrong_is_computed_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    original = exact_products._computed

    def winograd(x: torch.Tensor, w: torch.Tensor, window: Window | None, way: Way) -> torch.Tensor:
        y = original(x, w, window, way)
        return y + 2**-5 if way.dtype == torch.float32 and window is not None and w.shape[2:] == (3, 3) else y

    monkeypatch.setattr(exact_products, "_computed", winograd)
    way_of.cache_clear()
    try:
        cpu, window = torch.device("cpu"), WINDOWS["2d"][0]
        assert way_of(cpu, (2, 6, 7, 5), (4, 6, 3, 3), window) == Way(torch.float64, False)
        assert way_of(cpu, (2, 6, 7, 5), (4, 6, 1, 1), window) == Way(torch.float32, False)
        monkeypatch.setattr(exact_products, "_has", lambda device, dtype: dtype == torch.float32)
        way_of.cache_clear()
        with pytest.raises(
            exact_products.InputError, match=r"cpu has no exact way to compute a layer of \[4, 6, 3, 3\]"
        ):
            way_of(cpu, (2, 6, 7, 5), (4, 6, 3, 3), window)
    finally:
        way_of.cache_clear()


def test_a_gpu_tries_tf32_first_and_a_cpu_that_has_none_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Way] = []
    monkeypatch.setattr(exact_products, "_is_exact", lambda *given: tried.append(given[-1]))
    for device, ways in (
        ("cuda", [Way(torch.float32, True), Way(torch.float32, False)]),
        ("cpu", [Way(torch.float32, False)]),
    ):
        tried.clear()
        way_of.cache_clear()
        assert way_of(torch.device(device), (2, 6), (4, 6), None) == Way(torch.float64, False)
        assert tried == ways
    way_of.cache_clear()


@pytest.mark.parametrize(("outs", "ins"), [(40, 64), (3, 1000), (1, 70000)])
def test_a_way_is_proved_at_the_largest_sums_and_at_those_that_cancel(
    outs: int, ins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[torch.Tensor, torch.Tensor]] = []
    wrong: list[torch.Tensor] = []

    def computed(x: torch.Tensor, w: torch.Tensor, window: object, way: exact_products.Way) -> torch.Tensor:
        if way.dtype == torch.float32:
            drawn.append((x, w))
        y = x.double() @ w.double().T
        return y + 1 if way.dtype == torch.float32 and wrong and len(drawn) == wrong[0] else y

    monkeypatch.setattr(exact_products, "_computed", computed)
    shapes, way = ((500, ins), (outs, ins)), exact_products.Way(torch.float32, False)
    assert exact_products._is_exact(torch.device("cpu"), *shapes, None, way)
    largest = max(1, min(127, (2**24 - 1) // (255 * ins)))
    (x, w), (mixed_x, mixed_w) = drawn
    assert (x.min().item(), x.max().item(), mixed_x.min().item(), mixed_x.max().item()) == (252, 255, -255, 255)
    assert (w.min().item(), w.max().item()) == (largest - 1, largest)
    assert (mixed_w.min().item(), mixed_w.max().item()) == (-largest, largest)
    for turn in (1, 2):
        drawn.clear()
        wrong[:] = [torch.tensor(turn)]
        assert not exact_products._is_exact(torch.device("cpu"), *shapes, None, way)
