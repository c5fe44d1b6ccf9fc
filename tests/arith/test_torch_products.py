"""Products by torch: the same integers as NumPy's, and none of torch's where it is not exact or not itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from qgraph.arith import accumulate, torch_products
from qgraph.arith.prepared_weight import prepare_convolution, prepare_depthwise
from tests.arith.test_accumulate import full_range

ENDS = (np.array([-128, 127], np.int8), np.array([0, 255], np.uint8))


def torch_with(**ops: Any) -> ModuleType:
    """A module that has these in the place of torch's."""
    module = ModuleType("torch")
    module.__dict__.update({"from_numpy": torch.from_numpy, **ops})
    return module


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.delitem(sys.modules, "torch")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which of torch's products are taken."""
    seen: list[str] = []

    def noted(name: str) -> Any:
        find = getattr(torch_products, name)

        def found(*args: Any) -> Any:
            product = find(*args)
            seen.append(f"{name}: {'numpy' if product is None else 'torch'}")
            return product

        return found

    for name in ("of_codes", "of_channels"):
        monkeypatch.setattr(torch_products, name, noted(name))
    return seen


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("seed", range(8))
def test_convolutions_are_the_same_with_torch_and_without(
    dtype: type[np.integer], seed: int, without_torch: Callable[[], None], calls: list[str]
) -> None:
    rng = np.random.default_rng(seed)
    groups, inputs, outputs = (1, 5, 7) if seed % 2 else (3, 2, 4)
    x = full_range(rng, dtype, (3, 9, 11, groups * inputs))
    weight = full_range(rng, np.int8, (groups * outputs, 3, 2, inputs))
    bias = rng.integers(-(2**20), 2**20, groups * outputs).astype(np.int32)
    settings: dict[str, Any] = {"stride": (2, 1), "pads": (1, 0, 2, 1), "dilation": (1, 2), "groups": groups}
    settings |= {"x_zero_point": int(full_range(rng, dtype, (1,))[0]), "bias": bias}
    made = accumulate.convolve(x, weight, **settings).array
    assert "of_codes: torch" in calls
    without_torch()
    assert np.array_equal(accumulate.convolve(x, weight, **settings), made)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(
    ("stride", "dilation", "pads", "multiplier"),
    [((1, 1), (1, 1), (1, 1, 1, 1), 1), ((2, 1), (1, 2), (0, 2, 1, 0), 1), ((3, 2), (2, 1), (0, 0, 0, 0), 2)],
)
@pytest.mark.parametrize("block", [2**10, 2**16])
def test_depthwise_convolutions_are_the_same_with_torch_and_without(
    dtype: type[np.integer],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, int, int, int],
    multiplier: int,
    block: int,
    without_torch: Callable[[], None],
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qgraph.arith.depthwise.BLOCK", block)
    rng = np.random.default_rng(block)
    x, weight = full_range(rng, dtype, (5, 33, 30, 24)), full_range(rng, np.int8, (3, 4, 24, multiplier))
    bias = rng.integers(-(2**26), 2**26, 24 * multiplier).astype(np.int32)
    settings: dict[str, Any] = {"stride": stride, "dilation": dilation, "pads": pads, "x_zero_point": 7, "bias": bias}
    made = accumulate.depthwise_convolve(x, weight, **settings).array
    assert calls[-1] == "of_channels: torch"
    without_torch()
    assert np.array_equal(accumulate.depthwise_convolve(x, weight, **settings), made)


@pytest.mark.parametrize("x_ends", ENDS)
@pytest.mark.parametrize("w_ends", ENDS)
def test_a_matrix_product_of_extremes_is_exact(x_ends: NDArray[Any], w_ends: NDArray[Any], calls: list[str]) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.choice(x_ends, (40, 300)), rng.choice(w_ends, (17, 300))
    wanted = (x.astype(np.int64) - 3) @ weight.astype(np.int64).T
    assert np.array_equal(accumulate.matmul(x, weight, x_zero_point=3), wanted)
    assert ("of_codes: torch" in calls) == (weight.dtype == np.int8)


def test_a_product_that_saturates_in_pairs_is_not_taken() -> None:
    def pairwise(a: Any, b: Any, out: Any) -> None:
        """As vpmaddubsw adds, on a processor without VNNI."""
        products = a.numpy().astype(np.int32)[:, :, None] * b.numpy().astype(np.int32)[None]
        padded = np.pad(products, ((0, 0), (0, products.shape[1] % 2), (0, 0)))
        pairs = np.clip(padded.reshape(len(products), -1, 2, products.shape[2]).sum(2), -(2**15), 2**15 - 1)
        out.numpy()[...] = pairs.sum(1)

    saturating = torch_with(_int_mm=pairwise)
    assert torch_products._proved_product(saturating) is None


def test_a_product_that_torch_refuses_is_not_taken() -> None:
    def refused(a: Any, b: Any, out: Any) -> None:
        raise RuntimeError("not on this processor")

    assert torch_products._proved_product(torch_with(_int_mm=refused)) is None


def test_a_convolution_that_rounds_is_not_taken() -> None:
    def conv2d(x: torch.Tensor, w: torch.Tensor, *window: Any) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, w, *window) + 2.0**-7  # as Winograd may

    rounding = torch_with(nn=SimpleNamespace(functional=SimpleNamespace(conv2d=conv2d)))
    weight = prepare_depthwise(np.ones((3, 3, 4, 1), np.int8))
    assert torch_products._proved_convolution(weight, rounding, (1, 1), (1, 1)) is None
    assert torch_products._proved_convolution(weight, torch, (1, 1), (1, 1)) is not None


def test_weights_that_do_not_fit_8_bits_are_multiplied_in_floats() -> None:
    wide = prepare_convolution(np.array([[0, 255]], np.uint8), 1, 0)
    assert (wide.codes, wide.is_of_8_bits) == (None, True)
    assert prepare_convolution(np.array([[0, 255]], np.uint8), 1, 128).codes is not None
    assert prepare_convolution(np.array([[-128, 127]], np.int8), 1, 1).codes is None
    assert not prepare_convolution(np.array([[256]], np.int16)).is_of_8_bits


def test_autocast_and_modes_of_dispatch_do_not_reach_the_integers(calls: list[str]) -> None:
    rng = np.random.default_rng(1)
    x, weight = full_range(rng, np.int8, (2, 40, 40, 8)), full_range(rng, np.int8, (3, 3, 8, 1))
    wanted = accumulate.depthwise_convolve(x, weight).array
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(accumulate.depthwise_convolve(x, weight), wanted)
    with TorchDispatchMode():
        assert np.array_equal(accumulate.depthwise_convolve(x, weight), wanted)

    def inside(t: torch.Tensor) -> torch.Tensor:
        assert np.array_equal(accumulate.depthwise_convolve(x, weight), wanted)
        return t.sum()

    torch.func.grad(inside)(torch.ones(2))
    assert calls == ["of_channels: torch", *["of_channels: numpy"] * 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not() -> None:
    x = np.full((40, 64), 3, np.int8)
    assert torch_products.of_codes() is not None
    child = os.fork()
    if not child:
        alone = torch_products.of_codes() is None and bool((accumulate.matmul(x, x[:8]).array == 576).all())
        os._exit(0 if alone else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_arrays_that_nobody_may_write_are_taken() -> None:
    x = np.broadcast_to(np.arange(64, dtype=np.int8), (32, 64))
    with np.errstate(all="raise"):
        assert np.array_equal(accumulate.matmul(x, np.ones((3, 64), np.int8)), np.full((32, 3), 2016))
