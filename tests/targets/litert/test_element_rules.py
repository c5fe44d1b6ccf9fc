"""Storage and parameters that elementwise ops refuse: runtimes refuse them too, or read past an operand's end."""

from __future__ import annotations

import pytest

from qgraph.errors import VerificationError
from qgraph.ir import Builder, Graph, QuantParams, TensorType, Value, verify_graph

PER_AXIS = QuantParams.of([0.5, 0.25], 0, 1)
RESULT = ("i8", QuantParams.of(0.5, 0))


def graph_of(op: str, *types: TensorType, element: tuple[str, QuantParams] = RESULT, **attrs: object) -> Graph:
    graph = Graph("one", "integer", {"target": "litert"})
    values = [graph.add_input(f"x{index}", type) for index, type in enumerate(types)]
    made: Value = getattr(Builder(graph).litert, op)(*values, element=element, **attrs)
    graph.set_outputs([made])
    return graph


def of(dtype: str, quant: QuantParams | None = None) -> TensorType:
    return TensorType((3, 2), dtype, quant or QuantParams.of(0.5, 0))


@pytest.mark.parametrize(
    ("op", "types", "said"),
    [
        ("relu", [of("u8")], "must have the storage of"),
        ("add", [of("i8"), of("u8")], "must have the storage of"),
        ("maximum", [of("i16"), of("i16")], "must have the storage of"),
        ("prelu", [of("i8"), of("u8")], "must have the storage of"),
        ("abs", [of("i8", PER_AXIS)], "must have one scale"),
        ("quantize", [of("i8", PER_AXIS)], "must have one scale"),
        ("softmax", [of("i8")], "must have scale"),
        ("tanh", [of("i8")], "must have scale"),
        ("l2_normalization", [of("i8")], "must have scale"),
    ],
)
def test_refused_types(op: str, types: list[TensorType], said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        verify_graph(graph_of(op, *types))


@pytest.mark.parametrize("op", ["relu", "logistic"])
def test_int16_has_the_zero_point_0(op: str) -> None:
    element = ("i16", QuantParams.of(2.0**-15, 0))
    with pytest.raises(VerificationError, match="must have the zero point 0"):
        verify_graph(graph_of(op, of("i16", QuantParams.of(0.5, 3)), element=element))
