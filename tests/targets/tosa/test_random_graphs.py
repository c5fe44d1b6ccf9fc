"""Random graphs of every op of `nn` on the reference model: exact, or refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

import qgraph
from qgraph.errors import LoweringError
from qgraph.ir import Graph
from qgraph.runtimes import is_installed, python_variable
from tests.passes.random_graphs import random_graphs, random_input

pytestmark = pytest.mark.skipif(
    not is_installed("tosa"),
    reason=f"tosa-tools is not installed: pip install 'qgraph-compiler[tosa]', or let {python_variable('tosa')} name "
    "the Python of an environment that has it",
)


def exact_or_refused(graph: Graph) -> None:
    x = random_input(graph)
    try:
        lowered = qgraph.quantize(graph, target="tosa", calibration=[x])
    except LoweringError:
        return
    report = qgraph.verify(lowered, samples=3)
    assert report.bit_exact, f"{report}\n{lowered}"


@settings(max_examples=15)
@given(graph=random_graphs())
def test_random_graphs_are_exact_or_refused(graph: Graph) -> None:
    exact_or_refused(graph)


@pytest.mark.slow
@settings(max_examples=400)
@given(graph=random_graphs())
def test_many_random_graphs_are_exact_or_refused(graph: Graph) -> None:
    exact_or_refused(graph)
