"""SPLIT, SPLIT_V and UNPACK on each family, and ops of several results in the IR."""

from __future__ import annotations

import numpy as np
import pytest

import qgraph
from qgraph.errors import TypeMismatch, VerificationError
from qgraph.interpreter import execute
from qgraph.ir import Builder, Graph, QuantParams, TensorType, parse, verify_graph
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, groups, integers, params

Q = QuantParams.of(0.5, 3)


def sizes(cases: Cases) -> list[int]:
    return [int(cases.rng.integers(1, 5)) for _ in range(int(cases.rng.integers(1, 5)))]


def add(cases: Cases, op: str, shape: list[int], **attrs: object) -> None:
    quant = params(cases.rng)
    x = cases.input(integers(cases.rng, tuple(shape)), quant)
    node = cases.build.node(f"litert.{op}", [x], dict(attrs), element=("i8", quant))
    for value in node.results:
        cases.output(value)


def split(cases: Cases) -> None:
    shape, parts = sizes(cases), int(cases.rng.integers(1, 4))
    axis = int(cases.rng.integers(len(shape)))
    shape[axis] *= parts
    add(cases, "split", shape, axis=axis - len(shape) * int(cases.rng.integers(2)), parts=parts)


def split_v(cases: Cases) -> None:
    shape, parts = sizes(cases), sizes(cases)
    axis = int(cases.rng.integers(len(shape)))
    shape[axis] = sum(parts)
    if cases.rng.integers(2):
        parts[int(cases.rng.integers(len(parts)))] = -1
    add(cases, "split_v", shape, sizes=tuple(parts), axis=axis)


def unpack(cases: Cases) -> None:
    shape = [*sizes(cases), 2]
    axis = int(cases.rng.integers(len(shape)))
    add(cases, "unpack", shape, parts=shape[axis], axis=axis)


@pytest.mark.parametrize("make", [split, split_v, unpack])
def test_random_cases(litert: Families, make: object) -> None:
    for cases in groups(200, make, seed=0):  # type: ignore[arg-type]  # one of the functions above
        cases.check(litert)


def halves() -> Graph:
    graph = Graph("halves", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType(("N", 4), "i8", Q))
    build = Builder(graph)
    left, right = build.node("litert.split", [x], {"axis": 1, "parts": 2}, element=("i8", Q), names=("left",)).results
    graph.set_outputs([build.litert.add(left, right, element=("i8", Q)), right])
    return graph


def test_several_results_print_parse_clone_and_verify() -> None:
    graph = halves()
    assert "%left: i8<0.5:3>[N,2], %1: i8<0.5:3>[N,2] = litert.split(%x) {axis=1, parts=2}" in str(graph)
    assert parse(str(graph), constants=graph) == graph == graph.clone()
    verify_graph(graph)


def test_several_results_stand_in_the_file() -> None:
    assert from_tflite(to_tflite(halves())) == halves()


def test_each_result_is_used_by_itself() -> None:
    x = np.arange(8, dtype=np.int8).reshape(2, 4)
    total, right = execute(halves(), {"x": x})
    assert np.array_equal(right, x[:, 2:])
    assert total.shape == (2, 2)


def test_verify_reports_every_result(litert: Families) -> None:
    report = qgraph.verify(halves(), "litert", intermediate=True)
    assert report.bit_exact
    assert len(report.nodes) == 3


def test_a_node_with_too_few_results_is_refused() -> None:
    text = str(halves()).replace("%left: i8<0.5:3>[N,2], %1", "%1").replace("%left", "%1")
    with pytest.raises(VerificationError, match=r"litert\.split makes 2 results here, not 1"):
        verify_graph(parse(text))


def test_parts_that_do_not_fit_are_refused() -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType((1, 5), "i8", Q))
    with pytest.raises(TypeMismatch, match="5 elements along 1"):
        Builder(graph).node("litert.split", [x], {"axis": 1, "parts": 2}, element=("i8", Q))
    with pytest.raises(TypeMismatch, match="only one of the sizes"):
        Builder(graph).node("litert.split_v", [x], {"axis": 1, "sizes": (-1, -1)}, element=("i8", Q))
