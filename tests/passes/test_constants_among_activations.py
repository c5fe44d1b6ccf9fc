"""Constants that stand among activations: a grid of their own, on which both ends of their range lie."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

import qgraph
from qgraph.ir import Builder, Graph, TensorType


def added(constant: np.ndarray, target: str) -> Graph:
    """x + constant, prepared."""
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", constant.size)))
    build = Builder(graph)
    graph.set_outputs([build.nn.add(x, build.constant(constant.reshape(1, -1), "c"))])
    return qgraph.prepare(graph, target)


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@settings(max_examples=60)
@given(low=st.floats(-8, 2, width=32), size=st.floats(0.125, 16, width=32))
@example(low=-0.7, size=1.0)
def test_no_end_of_a_constants_range_is_off_by_more_than_half_a_step(target: str, low: float, size: float) -> None:
    constant = np.linspace(low, low + size, 7, dtype=np.float32)
    graph = added(constant, target)
    (quantized,) = (node for node in graph.find("quant.fake_quant") if node.operand(0).is_constant)
    step = quantized.operand(1).data.astype(np.float64)
    steps = np.rint(constant / step) + quantized.operand(2).data
    nearest = (np.clip(steps, *quantized.attrs["range"]) - quantized.operand(2).data) * step
    assert np.abs(nearest - constant).max() <= step * (0.5 + 1e-4)  # the scale is rounded to float32
    whole = max(low + size, 0.0) - min(low, 0.0)
    np.testing.assert_allclose(step, whole / 255, rtol=1e-5, err_msg="the range is that of the constant and zero")


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_a_constant_of_zeros_has_steps_of_one(target: str) -> None:
    graph = added(np.zeros(3, np.float32), target)
    (quantized,) = (node for node in graph.find("quant.fake_quant") if node.operand(0).is_constant)
    assert quantized.operand(1).data == 1
