"""Constants that stand among activations: a grid of their own, on which both ends of their range lie."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

import qgraph
from qgraph.ir import Builder, Graph, Node, TensorType
from qgraph.ir.origin import Origin


def added(constant: np.ndarray, target: str, bits: int = 8) -> Graph:
    """x + constant, prepared."""
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", constant.size)))
    build = Builder(graph, origins=(Origin("sum"),))
    graph.set_outputs([build.nn.add(x, build.constant(constant.reshape(1, -1), "c"))])
    overrides = None if bits == 8 else {"sum": {"activation_bits": bits}}
    return qgraph.prepare(graph, target, overrides=overrides)


def quantized_constant(graph: Graph) -> Node:
    (found,) = (node for node in graph.find("quant.fake_quant") if node.operand(0).is_constant)
    return found


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@settings(max_examples=60)
@given(low=st.floats(-8, 2, width=32), size=st.floats(0.125, 16, width=32))
@example(low=-0.7, size=1.0)
def test_no_end_of_a_constants_range_is_off_by_more_than_half_a_step(target: str, low: float, size: float) -> None:
    constant = np.linspace(low, low + size, 7, dtype=np.float32)
    graph = added(constant, target)
    quantized = quantized_constant(graph)
    step = quantized.operand(1).data.astype(np.float64)
    steps = np.rint(constant / step) + quantized.operand(2).data
    nearest = (np.clip(steps, *quantized.attrs["range"]) - quantized.operand(2).data) * step
    assert np.abs(nearest - constant).max() <= step * (0.5 + 1e-4)  # the scale is rounded to float32
    whole = max(low + size, 0.0) - min(low, 0.0)
    np.testing.assert_allclose(step, whole / 255, rtol=1e-5, err_msg="the range is that of the constant and zero")


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_a_constant_of_zeros_has_steps_of_one(target: str) -> None:
    graph = added(np.zeros(3, np.float32), target)
    quantized = quantized_constant(graph)
    assert quantized.operand(1).data == 1


@pytest.mark.parametrize(("numbers", "observer"), [([0, 0, 0], "fixed"), ([-1, 0, 3], "min_max"), ([0, -1e4], "fixed")])
def test_training_has_a_say_in_the_range_of_numbers_and_not_of_zeros_and_masks(
    numbers: list[float], observer: str
) -> None:
    quantized = quantized_constant(added(np.float32(numbers), "litert"))
    assert quantized.attrs["observer"] == observer


@pytest.mark.parametrize(("lowest", "step"), [(-1e4, 128 / 255), (-np.inf, 128 / 255), (-9999.0, 9999 / 255)])
def test_a_mask_reaches_as_far_as_a_softmax_can_tell(lowest: float, step: float) -> None:
    quantized = quantized_constant(added(np.float32([0, lowest, 0]), "litert"))
    np.testing.assert_allclose(quantized.operand(1).data, step, rtol=1e-6)
    assert quantized.operand(2).data == 127


@pytest.mark.parametrize(
    ("numbers", "scale"),
    [([-1, 0.5, 3], 3 / 32767), ([-4, 0.5, 1], 4 / 32767), ([-1, -0.5], 1 / 32767), ([0, 0], 1 / 32767)],
)
def test_16_bits_are_symmetric_and_reach_to_the_number_farthest_from_zero(numbers: list[float], scale: float) -> None:
    quantized = quantized_constant(added(np.float32(numbers), "litert", bits=16))
    low, high = quantized.attrs["range"]
    limit = high if max(numbers) >= -min(numbers) else -low
    np.testing.assert_allclose(quantized.operand(1).data, scale * 32767 / limit, rtol=1e-6)
    assert quantized.operand(2).data == 0
