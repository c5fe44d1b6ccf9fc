"""The cost of linear work grows linearly: calls of Python functions are counted, no clock is read."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType

import numpy as np
import pytest

from qgraph import passes
from qgraph.errors import VerificationError
from qgraph.ir import Builder, Graph, TensorType, collector_paused, parse, storage, verify_graph
from tests.benchmarks.graphs import residual_graph, rewrite, walk

SMALL, FACTOR = 140, 8


def calls(work: Callable[[], object]) -> int:
    """How many functions `work` calls, C's among them."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def unused_constants(graph: Graph) -> Graph:
    """As many constants of one name as there are nodes."""
    copy = graph.clone()
    for _ in range(len(graph)):
        copy.add_constant(np.zeros(1, np.float32))
    return copy


def broken(graph: Graph) -> None:
    """Verify a graph in which every node breaks a rule."""
    copy = graph.clone()
    for node in copy.nodes:
        node.result.type = TensorType(("N", 1))
    with pytest.raises(VerificationError):
        verify_graph(copy)


JOBS: dict[str, Callable[[Graph], object]] = {
    "parse": lambda graph: parse(str(graph), graph),
    "print": str,
    "verify": verify_graph,
    "report violations": broken,
    "clone": Graph.clone,
    "equal": lambda graph: graph == graph.clone(),
    "to .qg": storage.to_bytes,
    "from .qg": lambda graph: storage.from_bytes(storage.to_bytes(graph)),
    "walk": walk,
    "rewrite": lambda graph: rewrite(graph.clone()),
    "constants of one name": unused_constants,
    "canonicalize": passes.canonicalize,
    "fold-batchnorm": passes.fold_batchnorm,
    "fuse-conv-relu": passes.fuse_conv_relu,
}


@pytest.mark.parametrize("name", JOBS)
def test_the_cost_grows_linearly_with_the_number_of_nodes(name: str) -> None:
    small, large = residual_graph(SMALL), residual_graph(SMALL * FACTOR)
    JOBS[name](small)  # imports and caches
    assert calls(lambda: JOBS[name](large)) <= 1.1 * FACTOR * calls(lambda: JOBS[name](small))


COPIES: dict[str, Callable[[Graph], Graph]] = {
    "clone": Graph.clone,
    "parse": lambda graph: parse(storage.print_graph(graph, inline=-1), graph),
    "canonicalize": passes.canonicalize,
    "fuse-conv-relu": passes.fuse_conv_relu,
}


@pytest.mark.parametrize("name", COPIES)
def test_constants_are_shared_not_copied(name: str) -> None:
    graph = residual_graph(SMALL)
    copy = COPIES[name](graph)
    assert copy.constants.keys() == graph.constants.keys()
    assert all(value.data is graph.constants[key].data for key, value in copy.constants.items())


def test_fold_batchnorm_shares_the_constants_that_it_leaves() -> None:
    graph = residual_graph(SMALL)
    scale = graph.add_constant(np.ones((1, 4, 1, 1), np.float32), "scale")
    graph.set_outputs([Builder(graph).add(graph.outputs[0], scale)])
    assert passes.fold_batchnorm(graph).constants["scale"].data is scale.data


def test_parsed_nodes_share_what_is_equal() -> None:
    graph = residual_graph(SMALL)
    first, second, *_ = parse(str(graph), graph).find("nn.conv")
    assert first.result.type is second.result.type
    assert first.attrs["pads"] is second.attrs["pads"]
    assert first.attrs is not second.attrs
    assert first.op is second.op


def test_the_collector_is_as_it_was_after_a_pause() -> None:
    assert gc.isenabled()
    with collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collector_paused():
        _ = 1 / 0
    assert gc.isenabled()
