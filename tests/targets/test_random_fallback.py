"""Random graphs of every op of `nn`, lowered with ops that stay in float: each node is near what it was made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings

import qgraph
from qgraph import targets
from qgraph.errors import LoweringError
from qgraph.ir import Graph
from tests.passes.random_graphs import random_graphs, random_input

REFUSALS = ("spatial dimensions, not", "TRANSPOSE_CONV", "cannot lower", "output_padding")
"""Words of what a target holds neither as integers nor as floats: LiteRT has windows of two dimensions."""


def lowered_or_refused(graph: Graph, target: str, folder: Path) -> None:
    """Lower and run the graph, and read its file again, unless `prepare` refuses it in words."""
    x = random_input(graph)
    try:
        prepared = qgraph.prepare(
            graph, target=target, fallback="float" if targets.get(target).floats else None, check=True
        )
    except LoweringError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert not targets.get(target).floats or any(words in refusal for words in REFUSALS)
        assert "fallback" not in refusal
        return
    lowered = qgraph.lower(qgraph.calibrate(prepared, [x]), target=target, check=True)
    qgraph.run(lowered, x, layout="NCHW")
    path = folder / f"model{next(iter(targets.get(target).exporters))}"
    qgraph.export(lowered, path)
    assert qgraph.load(path, target=target) == lowered


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.mark.parametrize("target", targets.coded_names())
@settings(max_examples=15)
@given(graph=random_graphs())
def test_random_graphs_are_lowered_or_refused(target: str, folder: Path, graph: Graph) -> None:
    lowered_or_refused(graph, target, folder)


@pytest.mark.slow
@pytest.mark.parametrize("target", targets.coded_names())
@settings(max_examples=400)
@given(graph=random_graphs())
def test_many_random_graphs_are_lowered_or_refused(target: str, folder: Path, graph: Graph) -> None:
    lowered_or_refused(graph, target, folder)
