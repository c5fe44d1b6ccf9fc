"""What stands before or behind a layer as one number a channel."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from qgraph.ir import Array, Builder, Graph, Node, TensorType, op_def
from qgraph.passes.rules.layer_scaling import (
    channel_axis,
    largest_inputs,
    largest_outputs,
    obstacle_to_shift,
    per_channel,
    scaled_inputs,
    scaled_outputs,
    shift_of_outputs,
)


@given(
    st.lists(st.sampled_from(["N", 1, 2, 3]), min_size=1, max_size=4),
    st.lists(st.sampled_from([1, 2, 3]), max_size=5),
    st.integers(0, 3),
)
def test_one_number_a_channel_is_what_broadcasting_gives(shape: list[str | int], of: list[int], axis: int) -> None:
    axis %= len(shape)
    constant = np.random.default_rng(0).normal(size=of)
    found = per_channel(constant, TensorType(tuple(shape)), axis)
    sizes = [size if isinstance(size, int) else 7 for size in shape]
    try:
        whole = np.broadcast_to(constant, sizes)
    except ValueError:
        whole = None
    if isinstance(shape[axis], str) or len(of) > len(shape) or whole is None:
        assert found is None
        return
    rows = np.moveaxis(whole, axis, 0).reshape(sizes[axis], -1)
    varies = any(size > 1 for place, size in enumerate((1,) * (len(shape) - len(of)) + tuple(of)) if place != axis)
    assert (found is None) == varies
    assert found is None or np.array_equal(found, rows[:, 0])


WINDOW = {"stride": (2, 1), "pads": (0, 0, 0, 0), "dilation": (1, 2)}
LAYERS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "linear": ("nn.linear", (6,), (4, 6), {}),
    "linear of rows": ("nn.linear", (3, 6), (4, 6), {}),
    "conv": ("nn.conv", (6, 5, 5), (4, 6, 2, 2), WINDOW),
    "grouped conv": ("nn.conv", (6, 5, 5), (4, 3, 2, 2), {**WINDOW, "groups": 2}),
    "depthwise conv": ("nn.conv", (6, 5, 5), (12, 1, 2, 2), {**WINDOW, "groups": 6}),
    "conv_transpose": ("nn.conv_transpose", (6, 5, 5), (6, 4, 2, 2), {**WINDOW, "output_padding": (0, 0)}),
    "grouped conv_transpose": (
        "nn.conv_transpose",
        (6, 5, 5),
        (6, 2, 2, 2),
        {**WINDOW, "output_padding": (0, 0), "groups": 2},
    ),
}


def layer_of(name: str) -> tuple[Node, Array, Array]:
    """A layer of float64, its input and its weight."""
    op, shape, weight, attrs = LAYERS[name]
    rng = np.random.default_rng(0)
    graph = Graph("g")
    x = graph.add_input("x", TensorType((2, *shape), "f64"))
    w = graph.add_constant(rng.normal(size=weight), "w")
    graph.set_outputs([Builder(graph).node(op, [x, w], attrs).result])
    return graph.nodes[0], rng.normal(size=(2, *shape)), w.data


def computed(layer: Node, x: Array, w: Array) -> Array:
    return op_def(layer.op).evaluate(layer, [x, w])[0]


def along(values: Array, array: Array, axis: int) -> Array:
    return values.reshape([-1 if place == axis else 1 for place in range(array.ndim)])


@pytest.mark.parametrize("name", LAYERS)
def test_factors_and_summands_of_channels_move_into_the_weight(name: str) -> None:
    layer, x, w = layer_of(name)
    y = computed(layer, x, w)
    axis = channel_axis(layer)
    assert axis == (x.ndim - 1 if layer.op == "nn.linear" else 1)
    gains = np.random.default_rng(1).normal(size=y.shape[axis])
    np.testing.assert_allclose(computed(layer, x, scaled_outputs(layer, w, gains)), y * along(gains, y, axis))
    factors = np.random.default_rng(2).normal(size=x.shape[axis])
    expected = computed(layer, x * along(factors, x, axis), w)
    np.testing.assert_allclose(computed(layer, x, scaled_inputs(layer, w, factors)), expected)
    if layer.op == "nn.conv_transpose":
        assert obstacle_to_shift(layer) == "at the borders of a transposed convolution fewer products are added"
        return
    assert obstacle_to_shift(layer) == ""
    shifted = computed(layer, x + along(factors, x, axis), w)
    added = shift_of_outputs(layer, w, factors)
    np.testing.assert_allclose(y + along(added, y, axis), shifted)
    assert shift_of_outputs(layer, w.astype(np.float32), factors).dtype == np.float32


def test_zeros_beside_an_image_are_no_shifted_values() -> None:
    layer, _, _ = layer_of("conv")
    for pads in ((0, 0, 0, 1), (1, 0, 0, 0)):
        layer.attrs["pads"] = pads
        assert obstacle_to_shift(layer) == "the zeros that the convolution pads with are not shifted"


@pytest.mark.parametrize("name", LAYERS)
def test_the_largest_weight_of_a_channel_is_among_those_that_its_gain_scales(name: str) -> None:
    layer, x, w = layer_of(name)
    outputs, inputs = layer.result.type.shape[-1 if w.ndim == 2 else 1], x.shape[-1 if w.ndim == 2 else 1]
    for found, scaled, count in (
        (largest_outputs(layer, w), scaled_outputs, outputs),
        (largest_inputs(layer, w), scaled_inputs, inputs),
    ):
        assert found.shape == (count,)
        for channel, largest in enumerate(found):
            gain = np.where(np.arange(int(count)) == channel, 2.0, 1.0)
            assert largest == np.abs(w[scaled(layer, w, gain) != w]).max()
