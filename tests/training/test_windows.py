"""Convolutions and pools of torch's with pads before and behind that differ, against the meaning of the ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qgraph.errors import TypeMismatch
from qgraph.interpreter.execute import execute
from qgraph.ir import Array, Builder, Graph, TensorType
from qgraph.training import windows


def meaning(op: str, operands: list[Array], attrs: dict[str, Any]) -> Array:
    """What the op computes by its definition, in float64."""
    graph = Graph("g")
    x = graph.add_input("x", TensorType(operands[0].shape, "f64"))
    constants = [graph.add_constant(each, f"c{index}") for index, each in enumerate(operands[1:])]
    try:
        graph.set_outputs([Builder(graph).node(f"nn.{op}", [x, *constants], attrs).result])
    except TypeMismatch:  # nothing is left of it
        assume(False)
    return execute(graph, {"x": operands[0]})[0]


def tensors(operands: list[Array]) -> list[torch.Tensor]:
    return [torch.from_numpy(each) for each in operands]


def some(draw: st.DrawFn, count: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(low, high)) for _ in range(count))


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, dict[str, Any], np.random.Generator]:
    """Rank, and the attributes that all windows have."""
    rank = draw(st.integers(1, 3))
    pads = some(draw, rank, 0, 2)
    attrs = {
        "stride": some(draw, rank, 1, 2),
        "pads": pads + (pads if draw(st.booleans()) else some(draw, rank, 0, 2)),
    }
    return rank, attrs, np.random.default_rng(draw(st.integers(0, 2**16)))


@settings(max_examples=60)
@given(cases(), st.booleans(), st.booleans(), st.data())
def test_convolutions(case: tuple[int, dict[str, Any], np.random.Generator], up: bool, bias: bool, data: Any) -> None:
    rank, attrs, rng = case
    groups = data.draw(st.sampled_from([1, 2]))
    attrs |= {"dilation": some(data.draw, rank, 1, 2), "groups": groups}
    weight = (4, 3, *(2,) * rank) if up else (6, 4 // groups, *(2,) * rank)
    outputs = 3 * groups if up else 6
    operands = [rng.normal(size=(2, 4, *rng.integers(4, 6, rank))), rng.normal(size=weight)]
    operands += [rng.normal(size=outputs)] if bias else []
    if up:
        attrs["output_padding"] = tuple(data.draw(st.integers(0, stride - 1)) for stride in attrs["stride"])
    expected = meaning("conv_transpose" if up else "conv", operands, attrs)
    x, w, *b = tensors(operands)
    order = [attrs[name] for name in ("stride", "pads", "dilation", "groups", *(["output_padding"] if up else []))]
    found = (windows.convolve_transposed if up else windows.convolve)(x, w, b[0] if b else None, *order)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)  # 32 products, in another order


@settings(max_examples=80)
@given(cases(), st.booleans(), st.booleans(), st.booleans(), st.data())
def test_pools(
    case: tuple[int, dict[str, Any], np.random.Generator], largest: bool, ceil: bool, counted: bool, data: Any
) -> None:
    rank, attrs, rng = case
    kernel = some(data.draw, rank, 1, 3)
    attrs |= {"kernel": kernel, "ceil_mode": ceil}
    attrs["pads"] = tuple(min(pad, size - 1) for pad, size in zip(attrs["pads"], kernel * 2, strict=True))
    attrs |= {"dilation": some(data.draw, rank, 1, 2)} if largest else {"count_include_pad": counted}
    x = rng.normal(size=(2, 3, *rng.integers(4, 7, rank)))
    expected = meaning("max_pool" if largest else "avg_pool", [x], attrs)
    (given_,) = tensors([x])
    if largest:
        found = windows.max_pool(given_, kernel, attrs["stride"], attrs["pads"], attrs["dilation"], ceil)
        assert np.array_equal(found.numpy(), expected)
    else:
        found = windows.avg_pool(given_, kernel, attrs["stride"], attrs["pads"], ceil, counted)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, -2.5])
def test_pads_stand_before_each_dimension_then_behind_each(value: float) -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    found = windows.pad(x, (1, 0, 0, 2), value)
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=value)
    assert np.array_equal(found.numpy(), expected)
    assert windows.pad(x, (0, 0, 0, 0)) is x


def test_what_torch_can_pad_by_itself_has_torchs_bits() -> None:
    x = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    found = windows.avg_pool(x, (6, 6), (1, 1), (3, 3, 3, 3), False, False)
    assert torch.equal(found, torch.nn.functional.avg_pool2d(x, 6, 1, 3, count_include_pad=False))


@pytest.mark.parametrize("ceil", [True, False])
@pytest.mark.parametrize("largest", [True, False])
def test_no_window_starts_in_the_padding_behind(largest: bool, ceil: bool) -> None:
    x = torch.arange(1.0, 5.0).reshape(1, 1, 4)
    if largest:
        found = windows.max_pool(x, (2,), (2,), (0, 1), (1,), ceil)
        assert found.tolist() == [[[2, 4]]]
    else:
        assert windows.avg_pool(x, (2,), (2,), (0, 1), ceil, False).tolist() == [[[1.5, 3.5]]]
