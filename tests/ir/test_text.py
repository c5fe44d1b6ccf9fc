"""A graph's text, its `.qg` file, clone, deepcopy and pickle all give an equal graph."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qgraph.errors import FileError, ParseError
from qgraph.ir import Builder, Graph, QuantParams, TensorType, parse, verify_graph
from qgraph.ir.printer import print_graph
from qgraph.ir.storage import from_bytes, to_bytes
from qgraph.ir.types import format_scale

from .graphs import QUANTS, float_graphs


@settings(max_examples=150, deadline=None, derandomize=True)
@given(float_graphs())
def test_text_file_and_copies_give_an_equal_graph(graph: Graph) -> None:
    verify_graph(graph)
    assert parse(str(graph)) == graph
    assert str(parse(str(graph))) == str(graph)
    assert from_bytes(to_bytes(graph)) == graph
    assert graph.clone() == graph
    assert pickle.loads(pickle.dumps(graph)) == graph


@settings(max_examples=200, deadline=None, derandomize=True)
@given(QUANTS, st.sampled_from(["i8", "u8", "i32"]))
def test_types_with_quantization_parameters_survive_the_text(quant: QuantParams, dtype: str) -> None:
    graph = Graph(level="integer")
    shape = (len(quant.scale), 2) if quant.axis is not None else ("N", 2)
    graph.set_outputs([graph.add_input("x", TensorType(shape, dtype, quant))])
    assert parse(str(graph)) == graph


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=0))
def test_a_printed_scale_reads_back_as_the_same_float32(scale: float) -> None:
    assert np.float32(float(format_scale(scale))) == np.float32(scale)


def long_chain(length: int) -> Graph:
    """relu of relu of ... x."""
    graph = Graph()
    value = graph.add_input("x", TensorType(("N", 4)))
    build = Builder(graph)
    for _ in range(length):
        value = build.nn.relu(value)
    graph.set_outputs([value])
    return graph


def test_a_file_keeps_a_constant_without_dimensions() -> None:
    graph = parse("""graph @g level=float (%x: f32[N]) {
  const @c: f32[] = 2.0
  %1: f32[N] = nn.mul(%x, @c)
  return %1
}""")
    assert from_bytes(to_bytes(graph)) == graph
    assert pickle.loads(pickle.dumps(graph)) == graph


def test_deepcopy_and_pickle_of_a_large_graph_do_not_recurse() -> None:
    graph = long_chain(5000)
    assert copy.deepcopy(graph) == graph
    assert pickle.loads(pickle.dumps(graph)) == graph


def test_large_constants_are_named_in_the_text_and_taken_from_a_graph_or_arrays() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(("N", 40)))
    w = graph.add_constant(np.arange(120, dtype=np.float32).reshape(3, 40), "w")
    graph.set_outputs([Builder(graph).nn.linear(x, w)])
    assert parse(str(graph), constants=graph) == graph
    assert parse(str(graph), constants={"w": w.data}) == graph
    with pytest.raises(ParseError, match="the data of @w are not in the text"):
        parse(str(graph))


def test_names_of_digits_differ_from_numbers() -> None:
    graph = Graph()
    x = graph.add_input("1", TensorType(("N",)))
    w = graph.add_constant(np.ones(1, np.float32), "1")
    build = Builder(graph)
    graph.set_outputs([build.add(build.add(x, w), w, name="2")])
    assert str(parse(str(graph))) == str(graph)
    assert '%"2"' in str(graph)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text ends before the graph does"),
        ("graph @g level=float (%x: f32[N]) {\n  return %x", "the text ends before the graph does"),
        ("graph @g level=what (%x: f32[N]) {", "'what' is not a level"),
        ("graph @g level=float (%x: f33[N]) {", "f33[N] is not a type"),
        ("graph @g level=float (%x: f32[N]) {\n  return %y\n}", "%y is not defined before its use"),
        ("graph @g level=float (%x: f32[N]) {\n  %1: f32[N] = nn.rely(%x)\n  return %1\n}", "there is no op 'nn.rely'"),
        ("graph @g level=float (%x: f32[N]) {\n  %x: f32[N] = nn.relu(%x)\n  return %x\n}", "%x is defined twice"),
        (
            "graph @g level=float (%x: f32[N]) {\n  const @c: f32[2] = [1]\n  return %x\n}",
            "1 elements are given for f32[2]",
        ),
        ("graph @g level=float (%x: f32[N]) {\n  return %x\n}\nmore", "there is text after the end of the graph"),
    ],
)
def test_wrong_text_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ParseError) as error:
        parse(text)
    assert message in str(error.value)


def test_truncated_and_foreign_files_are_errors() -> None:
    data = to_bytes(long_chain(3))
    for size in (*range(0, len(data), 7), len(data) - 1):
        with pytest.raises(FileError):
            from_bytes(data[:size])
    from safetensors.numpy import save

    with pytest.raises(FileError, match=r"not a .qg file"):
        from_bytes(save({"a": np.zeros(2, np.float32)}))


def test_a_brief_print_sums_up_the_scales_of_many_channels_behind_the_graph() -> None:
    quant = QuantParams.of([0.5, 0.25, 2.0, 1.0, 0.125], [0, 0, 3, 0, 0], 0)
    graph = Graph(level="integer")
    graph.set_outputs([graph.add_input("x", TensorType((5, 2), "i8", quant))])
    lines = print_graph(graph, brief=True).splitlines()
    assert lines[0] == "graph @main level=integer (%x: i8<#1>[5,2]) {"
    assert lines[-1] == "// #1: 5 scales along axis 0, 0.125 to 2.0, zero points 0 to 3"
    assert str(graph).startswith("quant #1 = <0.5:0,0.25:0,2.0:3,")
