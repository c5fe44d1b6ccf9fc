"""What holds for every pass: pure from outside, the same twice as once, and the function that it keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph import passes
from qgraph.passes.engine.manager import PassManager
from tests.models import Globals, Mixed, seeded

MODELS = {"mixed": (Mixed, (3, 16, 16)), "globals": (Globals, (4, 7, 9))}
KEEPING = ("canonicalize", "drop-dropout", "fold-batchnorm", "fuse-conv-relu")
BIT_EXACT = ("canonicalize", "drop-dropout", "fuse-conv-relu")


@pytest.fixture(scope="module", params=MODELS)
def graph(request: pytest.FixtureRequest) -> qgraph.Graph:
    model, shape = MODELS[request.param]
    return qgraph.trace(seeded(model()), torch.zeros(2, *shape))


@pytest.mark.parametrize("name", KEEPING)
def test_a_pass_is_pure_idempotent_and_keeps_the_function(graph: qgraph.Graph, name: str) -> None:
    text = str(graph)
    once = PassManager(name).run(graph)
    assert str(graph) == text
    assert PassManager(name).run(once) == once
    x = np.random.default_rng(1).normal(0, 1, (4, *(int(d) for d in graph.inputs[0].type.shape[1:]))).astype(np.float32)
    before, after = qgraph.run(graph, x), qgraph.run(once, x)
    if name in BIT_EXACT:
        assert np.array_equal(before, after)
    else:  # weights are rounded once more
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())


def test_every_origin_survives_fusing_and_folding(graph: qgraph.Graph) -> None:
    before = {origin for node in graph.nodes for origin in node.origins}
    fused = PassManager("fold-batchnorm,fuse-conv-relu").run(graph)
    assert {origin for node in fused.nodes for origin in node.origins} == before


def test_the_manager_records_snapshots_and_names_the_pass_that_fails(graph: qgraph.Graph) -> None:
    manager = PassManager([passes.fold_batchnorm, "fuse-conv-relu"], keep_snapshots=True)
    manager.run(graph)
    assert [record.name for record in manager.records] == ["fold-batchnorm", "fuse-conv-relu"]
    assert [name for name, _ in manager.snapshots] == ["fold-batchnorm", "fuse-conv-relu"]
    assert len(manager.snapshots[0][1]) == manager.records[0].nodes_after
    with pytest.raises(qgraph.QGraphError, match="pass lower needs level=fake_quant"):
        PassManager("lower{target=litert}").run(graph)
    with pytest.raises(qgraph.QGraphError, match="has no option 'speed'"):
        PassManager("fold-batchnorm{speed=2}")
    with pytest.raises(qgraph.QGraphError, match="needs the option target"):
        PassManager("lower")
    with pytest.raises(qgraph.QGraphError, match="cannot read the pipeline"):
        PassManager("fold-batchnorm}{")
