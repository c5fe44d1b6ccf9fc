"""Translation validation: a pass that changes what a graph computes is caught, and the message says where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph import passes
from qgraph.errors import ValidationError
from qgraph.interpreter.execute import execute
from qgraph.ir import Builder, Graph, parse
from qgraph.passes.engine import registry
from qgraph.passes.engine.validation import validate
from qgraph.passes.rewriter import Match, Replacement, pattern, rewrite, rule
from tests.passes.test_exactness import edited

NORMALIZED = """graph @g level=float (%x: f32[N,2,3,3]) {
  const @w: f32[2,2,1,1] = [0.5,-1.0,2.0,0.25], @g: f32[2] = [1.0,2.0], @b: f32[2] = [0.5,0.0]
  const @m: f32[2] = [0.0,1.0], @v: f32[2] = [0.5,2.0]
  %1: f32[N,2,3,3] = nn.conv(%x, @w) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]} loc(stem m.py:3)
  %2: f32[N,2,3,3] = nn.batch_norm(%1, @g, @b, @m, @v) {eps=0.01} loc(bn m.py:4)
  %3: f32[N,2,3,3] = nn.relu(%2) loc(act m.py:5)
  %4: f32[N,2,3,3] = nn.tanh(%3) loc(head m.py:6)
  return %4
}"""


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def test_a_wrong_pass_is_named_with_node_rule_and_inputs(tmp_path: Path) -> None:
    @rule(pattern("nn.relu", "x"))
    def wrong(match: Match, build: Builder) -> Replacement:
        return build.nn.relu6(match.values["x"])

    @passes.graph_pass(exact="bits")
    def becomes_relu6(graph: Graph) -> None:
        rewrite(graph, [wrong])

    graph = parse(NORMALIZED)
    assert "nn.relu6" in str(qgraph.PassManager("becomes-relu6").run(graph)), "without a check it goes through"
    file = tmp_path / "again.qg"
    with pytest.raises(ValidationError) as caught:
        qgraph.PassManager("becomes-relu6", check=True, reproducer=file).run(graph)
    message = str(caught.value)
    for part in ("pass becomes-relu6: it changes what the graph computes: %output[", "nn.relu6(", "act  (m.py:5)"):
        assert part in message
    for part in ("rule    wrong (", "%x float32[2, 2, 3, 3], random with seed 0"):
        assert part in message
    saved = dict(np.load(file.with_suffix(".npz")))
    assert np.array_equal(saved["x"], caught.value.inputs["x"])
    before, after = (execute(g, saved)[0] for g in (graph, edited(graph, "becomes-relu6", {})))
    assert not np.array_equal(before, after), "the inputs show it"


def test_an_error_below_the_rounding_of_float32_is_caught_where_a_pass_claims_real_arithmetic() -> None:
    @passes.graph_pass(exact="real")
    def shifts_a_little(graph: Graph) -> None:
        for node in graph.find("nn.batch_norm"):
            node.attrs = {**node.attrs, "eps": node.attrs["eps"] * (1 + 1e-6)}

    with pytest.raises(ValidationError, match="pass shifts-a-little"):
        qgraph.PassManager("shifts-a-little", check=True).run(parse(NORMALIZED))


def test_a_prepared_graph_without_its_fake_quant_is_the_float_graph() -> None:
    graph = parse(NORMALIZED)
    prepared = qgraph.prepare(graph, target="litert", check=True)
    assert validate(graph, passes.strip_fake_quant(prepared), "real")
    assert [node.op for node in passes.strip_fake_quant(prepared).nodes][:2] == ["nn.conv", "nn.batch_norm"]
    (constant,) = [value for name, value in prepared.constants.items() if name == "b"]
    prepared.replace_uses(constant, prepared.add_constant(constant.data + np.float32(0.25), "other"))
    with pytest.raises(ValidationError, match=r"was .* and is"):
        passes.get("insert-fake-quant").check(graph, prepared)


def test_what_cannot_be_compared_is_said() -> None:
    manager = qgraph.PassManager("extract{from=%2}", check=True)
    manager.run(parse(NORMALIZED))
    assert [record.checked for record in manager.records] == [False], "its inputs are others"
    manager = qgraph.PassManager("canonicalize,fold-batchnorm", check=True)
    manager.run(parse(NORMALIZED))
    assert [record.checked for record in manager.records] == [True, True]
    assert [record.checked for record in _run("canonicalize").records] == [None]


def _run(pipeline: str) -> qgraph.PassManager:
    manager = qgraph.PassManager(pipeline)
    manager.run(parse(NORMALIZED))
    return manager
