"""Channels last: the same function, no fewer transposes possible, and back again."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import qgraph
from qgraph import passes
from qgraph.ir import Builder, Graph, Node, TensorType, Value, parse, set_states, states_of, verify_graph
from tests.models import Globals, Mixed, seeded

WEIGHT = np.random.default_rng(0).normal(size=(3, 3, 1, 1)).astype(np.float32)
MOVES, STAYS, FREE = ("conv",), ("linear",), ("relu", "add", "concat", "reshape")
FEATURES = np.random.default_rng(1).normal(size=(5, 5)).astype(np.float32)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Convolutions, linear layers over the width (they stay NCHW) and ops that go either way, in any order."""
    graph = Graph()
    values = [graph.add_input("x", TensorType(("N", 3, 4, 5)))]
    build, w = Builder(graph), graph.add_constant(WEIGHT, "w")
    for kind in draw(st.lists(st.sampled_from(MOVES + STAYS + FREE), min_size=1, max_size=7)):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        values.append(_made(build, kind, a, b, w))
    unread = [value for value in values if not value.use_count]
    graph.set_outputs(unread or values[-1:])
    graph.drop_unused_constants()
    return graph


def _made(build: Builder, kind: str, a: Value, b: Value, w: Value) -> Value:
    if kind == "conv":
        return build.nn.conv(a, w, stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1))
    if kind == "linear":
        return build.nn.linear(a, build.constant(FEATURES, "features"))
    if kind == "reshape":
        return build.nn.reshape(a, shape=(-1, 3, 4, 5))
    if kind == "concat":
        return build.nn.slice(build.nn.concat(a, b, axis=1), axis=1, start=1, end=4)
    return build.nn.add(a, b) if kind == "add" else build.nn.relu(a)


def transposes(graph: Graph, moved: dict[Node, bool], io: bool) -> int:
    """How many transposes a choice of layouts takes: one for each value that is read as it is not made."""
    count = 0
    for value in [*graph.inputs, *(node.result for node in graph.nodes)]:
        made = io if value.producer is None else moved[value.producer]
        readers = {moved[user] for user in value.users} | ({io} if value.is_output else set())
        count += bool(readers - {made})
    return count


def fewest(graph: Graph, io: bool) -> int:
    """By trying every choice."""
    free = [node for node in graph.nodes if node.op not in ("nn.conv", "nn.linear")]
    fixed = {node: node.op == "nn.conv" for node in graph.nodes if node not in free}
    choices = product((False, True), repeat=len(free))
    return min(transposes(graph, fixed | dict(zip(free, choice, strict=True)), io) for choice in choices)


@given(graphs(), st.booleans())
def test_no_choice_leaves_fewer_transposes(graph: Graph, io: bool) -> None:
    moved = passes.convert_layout(graph, to="NHWC", io="convert" if io else "keep")
    verify_graph(moved)
    assert len(moved.find("nn.transpose")) == fewest(graph, io)
    assert passes.convert_layout(moved, to="NCHW", io="convert" if io else "keep") == graph


@pytest.mark.parametrize(
    ("model", "shape", "kept", "converted"), [(Mixed, (3, 16, 16), 2, 1), (Globals, (4, 7, 9), 1, 0)]
)
def test_real_models(model: type[torch.nn.Module], shape: tuple[int, ...], kept: int, converted: int) -> None:
    graph = qgraph.trace(seeded(model()), torch.zeros(2, *shape))
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    expected = np.asarray(qgraph.run(graph, x))
    bound = 1e-5 * np.abs(expected).max()  # the order in which a mean and a matrix product add
    keep = passes.convert_layout(graph)
    assert len(keep.find("nn.transpose")) == kept
    assert np.abs(np.asarray(qgraph.run(keep, x)) - expected).max() <= bound
    convert = passes.convert_layout(graph, io="convert")
    assert len(convert.find("nn.transpose")) == converted
    assert np.abs(np.asarray(qgraph.run(convert, x.transpose(0, 2, 3, 1))) - expected).max() <= bound
    assert np.abs(np.asarray(qgraph.run(convert, x, layout="NCHW")) - expected).max() <= bound
    assert not keep.find("nn.conv|nn.max_pool|nn.avg_pool|nn.batch_norm")
    arrays = {id(value.data) for value in graph.constants.values()}
    assert {id(value.data) for value in keep.constants.values()} <= arrays


def test_passes_over_nchw_ops_refuse_the_other_layout() -> None:
    graph = passes.convert_layout(qgraph.trace(seeded(Globals()), torch.zeros(2, 4, 7, 9)))
    with pytest.raises(qgraph.QGraphError, match="needs layout=NCHW, and the graph has layout=NHWC"):
        qgraph.prepare(graph, target="litert")


def test_a_constant_operand_is_permuted_and_every_op_goes_along() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = torch.nn.Conv2d(3, 4, 3), torch.nn.Parameter(torch.randn(4, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x) * self.scale
            y = torch.softmax(torch.nn.functional.pad(y, (1, 0, 2, 1)), 1)
            return torch.cat([y, torch.nn.functional.hardswish(y)], 1).mean((2, 3), keepdim=True)

    graph = qgraph.trace(Net(), torch.zeros(2, 3, 6, 7))
    moved = passes.convert_layout(graph, io="convert")
    assert not moved.find("nn.transpose")
    x = np.random.default_rng(2).normal(size=(2, 3, 6, 7)).astype(np.float32)
    y = np.asarray(qgraph.run(moved, x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(y, np.asarray(qgraph.run(graph, x)), rtol=1e-5, atol=1e-6)


def test_first_values_of_states_move_where_their_inputs_do() -> None:
    graph = parse("""graph @g level=float (%x: f32[1,2,3,4], %a: f32[1,2,3,4], %b: f32[1,2,3,4], %c: f32[1,3]) {
  %1: f32[1,2,3,4] = nn.add(%x, %a)
  %2: f32[1,2,3,4] = nn.add(%1, %b)
  %3: f32[1,3] = nn.relu(%c)
  return %2, %1, %2, %3
}""")
    values = np.arange(24.0).reshape(2, 3, 4)
    set_states(graph, {"a": 1, "b": 2, "c": 3}, {"a": values.ravel().tolist(), "b": 2.5, "c": [1.0, 2.0, 3.0]})
    moved = passes.convert_layout(graph, io="convert")
    assert moved.inputs[1].type.shape == (1, 3, 4, 2)
    expected = [values.transpose(1, 2, 0).ravel().tolist(), 2.5, [1.0, 2.0, 3.0]]
    assert [(each.output, each.first) for each in states_of(moved)] == list(zip((1, 2, 3), expected, strict=True))
    kept = passes.convert_layout(graph, io="keep")
    assert [each.first for each in states_of(kept)] == [each.first for each in states_of(graph)]


@pytest.mark.parametrize("sizes", [(7,), (4, 5), (3, 4, 5)])
def test_layers_over_any_number_of_dimensions_move(sizes: tuple[int, ...]) -> None:
    """With a constant operand of fewer dimensions, a scalar one, and one of the whole rank among them."""
    rank, rng = len(sizes), np.random.default_rng(3)
    graph = Graph()
    value = graph.add_input("x", TensorType(("N", 3, *sizes)))
    build = Builder(graph)
    words = {"stride": (1,) * rank, "pads": (0,) * 2 * rank, "dilation": (1,) * rank}
    weight = rng.normal(size=(3, 3, *(1,) * rank)).astype(np.float32)
    value = build.nn.conv(value, build.constant(weight, "w"), **words)
    for shape in ((3, *(1,) * rank), (1,) * (rank + 2), (sizes[-1],), (1, 3, *sizes)):
        value = build.nn.add(value, build.constant(rng.normal(size=shape).astype(np.float32), "c"))
    value = build.nn.conv(build.nn.relu(value), build.constant(weight, "w"), **words)
    graph.set_outputs([value])
    moved = passes.convert_layout(graph)
    verify_graph(moved)
    assert [node.op for node in moved.find("nn.transpose|nhwc.*")] == [
        "nn.transpose",
        "nhwc.conv",
        "nhwc.conv",
        "nn.transpose",
    ]
    x = rng.normal(size=(2, 3, *sizes)).astype(np.float32)
    np.testing.assert_allclose(qgraph.run(moved, x), qgraph.run(graph, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("to", "io"), [("CHWN", "keep"), ("NHWC", "some")])
def test_a_layout_or_an_io_that_there_is_not_is_refused(to: str, io: str) -> None:
    graph = qgraph.parse("graph @g level=float (%x: f32[N,2,3,4]) {\n  %1: f32[N,2,3,4] = nn.relu(%x)\n  return %1\n}")
    with pytest.raises(qgraph.errors.InputError) as caught:
        passes.convert_layout(graph, to=to, io=io)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"to={to} io={io} is not a choice\n  help    to is NHWC or NCHW, io keep, convert or images"
    )
