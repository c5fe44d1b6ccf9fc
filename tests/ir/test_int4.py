"""The storage type i4: integers from -8 to 7, one a byte in a graph, packed in a .tflite file."""

from __future__ import annotations

import numpy as np
import pytest

import qgraph
from qgraph.errors import VerificationError
from qgraph.ir import Builder, Graph, QuantParams, TensorType, verify_graph
from qgraph.ir.storage import from_bytes, to_bytes
from qgraph.ir.types import integer_range
from qgraph.targets.litert.file_format import from_tflite, to_tflite


def linear(values: np.ndarray) -> Graph:
    """A FULLY_CONNECTED with int4 weights [O, I]."""
    graph = Graph("g", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType((2, values.shape[1]), "i8", QuantParams.of(0.5, 3)))
    build = Builder(graph)
    w = build.constant(values.astype(np.int8), "w", QuantParams.of(0.25), "i4")
    y = build.litert.fully_connected(x, w, None, element=("i8", QuantParams.of(1.0, 0)))
    y.name = "y"
    graph.set_outputs([y])
    return graph


def test_text_and_files_keep_the_type() -> None:
    graph = linear(np.arange(-8, 7).reshape(3, 5))
    assert "@w: i4<0.25:0>[3,5]" in str(graph)
    assert qgraph.parse(str(graph), constants=graph) == graph
    assert from_bytes(to_bytes(graph)) == graph
    assert from_tflite(to_tflite(graph)) == graph
    assert graph.clone() == graph


def test_the_range_is_that_of_four_bits() -> None:
    assert integer_range("i4") == (-8, 7)
    with pytest.raises(VerificationError, match="its data reach from -9 to 7"):
        verify_graph(linear(np.array([[-9, 7]])))
    with pytest.raises(VerificationError, match="its data reach from -8 to 8"):
        verify_graph(linear(np.array([[-8, 8]])))
    verify_graph(linear(np.array([[-8, 7]])))
