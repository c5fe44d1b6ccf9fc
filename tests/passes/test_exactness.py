"""Every pass keeps what it says (`exact`), leaves a graph that verifies, and does the same twice as once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qgraph import passes
from qgraph.interpreter.execute import execute
from qgraph.ir import Array, Graph, verify_graph
from tests.passes.random_graphs import random_graphs, random_input

SIMPLE = "nn.conv|nn.conv_transpose|nn.linear|nn.add|nn.mul|nn.tanh|nn.softmax|nn.max_pool|nn.avg_pool|nn.mean|"
SHAPES = "nn.reshape|nn.transpose|nn.concat|nn.pad|nn.slice"

OPTIONS: dict[str, list[dict[str, object]]] = {
    "decompose": [{"ops": f"{SIMPLE}{SHAPES}|nn.{word}"} for word in ("relu", "clamp")],
    "eliminate-common-subexpressions": [{}, {"constants": False}],
    "fold-batchnorm": [{"alone": word} for word in ("conv", "scale-shift", "keep")],
    "drop-unreachable": [{"target": "litert"}, {"target": "onnxruntime"}],
    "fuse-conv-relu": [{}, {"activations": ("relu", "relu6", "clamp", "hard_swish")}],
    "legalize": [{"target": "litert"}, {"target": "onnxruntime"}],
    "insert-fake-quant": [{"target": "litert"}, {"target": "onnxruntime", "batchnorm": "fold"}],
}
"""Options with which a pass is tried; none where it is not named."""

FOCUS = {
    "batchnorm-to-scale-shift": "affine",
    "canonicalize": "repeating",
    "drop-dropout": "unary",
    "eliminate-common-subexpressions": "twin",
    "fold-batchnorm": "folding",
    "fold-constants": "constant_expression",
    "fold-mul-add": "folding",
    "fuse-conv-relu": "fusing",
    "legalize": "unary",
    "simplify": "repeating",
}
"""What a pass's graphs have more of."""

ELSEWHERE = {"check-lowerable", "extract", "lower", "partition", "raise-to-fake-quant", "set-batch", "strip-fake-quant"}
"""What changes inputs and outputs is tried in test_partition.py, what needs a target in tests/targets."""

CASES = [(name, options) for name in passes.names() if name not in ELSEWHERE for options in OPTIONS.get(name, [{}])]
IDS = ["-".join([name, *map(str, options.values())])[:60] for name, options in CASES]

ULPS = 2**16 * 2.0**-52
"""Bound on the error in float64, relative to the largest value on the way: sums of at most 2**8 products, ten nodes
deep, each of which makes an error at most 2**4 times larger than its operand's, in units of the last place."""


def edited(graph: Graph, name: str, options: dict[str, object]) -> Graph:
    copy = graph.clone()
    passes.get(name).edit(copy, **options)
    return copy


def outputs(graph: Graph, x: Array) -> tuple[list[Array], float]:
    """The outputs, and the largest magnitude of any value on the way."""
    largest = [1.0]
    with np.errstate(all="ignore"):  # values may overflow: they do so before and after
        made = execute(graph, {"x": x}, lambda _, array: largest.append(float(np.abs(array).max(initial=0))))
    return made, max(largest)


def assert_same_interface(before: Graph, after: Graph) -> None:
    assert [(value.name, value.type) for value in after.inputs] == [(v.name, v.type) for v in before.inputs]
    assert [value.type for value in after.outputs] == [value.type for value in before.outputs]
    assert {o for n in after.nodes for o in n.origins} <= {o for n in before.nodes for o in n.origins}


def assert_idempotent(once: Graph, twice: Graph, name: str) -> None:
    if name == "convert-layout":  # of several choices with as few transposes it may take another
        assert len(once) == len(twice)
    else:
        assert once == twice


def check(name: str, options: dict[str, object], graph: Graph) -> None:
    """Assert what the pass says of itself, for one graph."""
    exact = passes.get(name).exact
    after = edited(graph, name, options)
    verify_graph(after)
    if exact == "no":
        return
    assert_idempotent(after, edited(after, name, options), name)
    assert_same_interface(graph, after)
    x = random_input(graph)
    (expected, largest), (got, other) = outputs(graph, x), outputs(after, x)
    for a, b in zip(expected, got, strict=True):
        assert a.dtype == b.dtype
        if exact == "bits":
            assert np.array_equal(a, b, equal_nan=True)
        else:
            assume(max(largest, other) < 1e6)
            np.testing.assert_allclose(b, a, rtol=0, atol=ULPS * max(largest, other))


def graphs_for(name: str) -> st.SearchStrategy[Graph]:
    """In float64 where the statement is about real arithmetic: its error is far below that of a wrong formula."""
    return random_graphs("f64" if passes.get(name).exact == "real" else "f32", FOCUS.get(name, ""))


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
@settings(max_examples=60)
@given(data=st.data())
def test_a_pass_keeps_what_it_says(name: str, options: dict[str, object], data: st.DataObject) -> None:
    check(name, options, data.draw(graphs_for(name)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
@settings(max_examples=1000)
@given(data=st.data())
def test_a_pass_keeps_what_it_says_on_many_graphs(name: str, options: dict[str, object], data: st.DataObject) -> None:
    check(name, options, data.draw(graphs_for(name)))


def test_every_pass_states_how_exact_it_is() -> None:
    assert [name for name in passes.names() if passes.get(name).exact is None] == []
