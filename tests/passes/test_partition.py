"""The parts of a graph, run in order, compute what the graph computes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

import qgraph
from qgraph import passes
from qgraph.ir import Array, Graph, verify_graph
from qgraph.passes.extract import lasting_names
from qgraph.passes.partition import Part, parts
from tests.models import Mixed, seeded


def run_parts(found: list[Part], x: dict[str, Array]) -> dict[str, Array]:
    """Every value that the parts give, by name."""
    known = dict(x)
    for part in found:
        verify_graph(part.graph)
        made = qgraph.run(part.graph, {value.name: known[value.name] for value in part.graph.inputs})
        known |= made if isinstance(made, dict) else {part.graph.outputs[0].name: made}
    return known


@pytest.mark.parametrize("ops", ["nn.conv", "nn.conv|nn.batch_norm|nn.relu", "nn.add|nn.linear", "nn.nothing"])
def test_the_parts_compute_what_the_graph_computes(ops: str) -> None:
    graph = qgraph.trace(seeded(Mixed()), torch.zeros(2, 3, 16, 16))
    before = str(graph)
    found = parts(graph.clone(), lambda node: node.op in ops.split("|"))
    assert sum(len(part.graph) for part in found) == len(graph)
    assert all(a.supported != b.supported for a, b in pairwise(found))
    x = {graph.inputs[0].name: np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)}
    expected = qgraph.run(graph, x)
    known = run_parts(found, x)
    assert isinstance(expected, np.ndarray)
    assert np.array_equal(known[lasting_names(graph)[graph.outputs[0]]], expected)
    assert str(graph) == before


def test_a_target_says_what_it_lowers() -> None:
    graph = qgraph.trace(seeded(Mixed()), torch.zeros(2, 3, 16, 16))
    part = passes.partition(graph, part=0, target="litert")
    lowered: Graph = qgraph.prepare(part, target="litert")
    assert lowered.level == "fake_quant"


def test_constants_are_shared_not_copied() -> None:
    graph = qgraph.trace(seeded(Mixed()), torch.zeros(2, 3, 16, 16))
    arrays = {id(value.data) for value in graph.constants.values()}
    for part in parts(graph.clone(), lambda node: node.op == "nn.conv"):
        assert {id(value.data) for value in part.graph.constants.values()} <= arrays
