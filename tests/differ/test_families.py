"""One graph under several kernel families: what each node adds, what it inherits, and why."""

from __future__ import annotations

import numpy as np

from qgraph import targets
from qgraph.differ.families import diff_targets
from qgraph.ir import Builder, Graph, QuantParams, TensorType

targets.get("litert")

X = QuantParams.of(0.13, 4)


def two_layers() -> Graph:
    """FULLY_CONNECTED of one element, where LiteRT and TFLM part (targets/litert/README.md), and MAXIMUM behind it."""
    graph = Graph("g", "integer", {"target": "litert"})
    build = Builder(graph)
    x = graph.add_input("x", TensorType((1, 1), "i8", X))
    w = build.constant(np.array([[11]], np.int8), "w", QuantParams.of(0.83, 0))
    bias = build.constant(np.array([123], np.int32), "bias", QuantParams.of(np.float32(0.13) * np.float32(0.83), 0))
    result = ("i8", QuantParams.of(0.64, 0))
    y = build.litert.fully_connected(x, w, bias, element=result)
    graph.set_outputs([build.litert.maximum(y, y, element=result)])
    return graph


def test_the_cause_is_told_from_what_is_inherited() -> None:
    examples = np.array([[54], [0], [1]], np.int8)  # three of a file that takes one: batch by batch
    (found,) = diff_targets(two_layers(), ["litert", "tflm"], {"x": examples})
    first, second = found.nodes
    assert (first.differing, first.own, first.compared) == (1, 1, 3)
    assert "float64 scale" in first.cause
    assert "double rounding" in first.cause
    assert (second.differing, second.own, second.cause) == (1, 0, "")
    assert any("CONV_2D" in text for text in found.advice)
    assert not found.identical


def test_families_that_agree_have_nothing_to_say() -> None:
    (found,) = diff_targets(two_layers(), ["litert", "litert-xnnpack"], {"x": np.array([[0]], np.int8)})
    assert found.identical
    assert found.advice == ()
