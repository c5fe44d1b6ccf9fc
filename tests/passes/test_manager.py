"""Pipelines: order, failures and what they leave for the user to look at."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import qgraph
from qgraph import extensions, passes
from qgraph.errors import InputError, PassError, VerificationError
from qgraph.ir import Builder, Graph, parse
from qgraph.passes.engine import registry
from qgraph.passes.rewriter import Match, Replacement, pattern, rewrite, rule

GRAPH = """graph @g level=float (%x: f32[N,4]) {
  %1: f32[N,4] = nn.relu6(%x) loc(act m.py:3)
  %2: f32[N,4] = nn.relu(%1)
  return %2
}"""
CONV = """graph @g level=float (%x: f32[N,1,4,4]) {
  const @w: f32[2,1,1,1] = 0.5
  %1: f32[N,2,4,4] = nn.conv(%x, @w) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]}
  return %1
}"""


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def test_a_wrong_order_is_an_error_with_the_reason_before_anything_runs() -> None:
    ran = []
    manager = qgraph.PassManager("insert-fake-quant{target=litert},lower{target=litert}")
    manager.before = lambda name, graph: ran.append(name)
    with pytest.raises(PassError) as caught:
        manager.run(parse(GRAPH))
    assert str(caught.value) == (
        "pass lower needs calibrated=yes, and the graph has calibrated=no here\n"
        "  because insert-fake-quant makes it so\n"
        "  help    calibrate between the two: qgraph.calibrate(graph, batches), or `qgraph quantize`"
    )
    assert not ran
    with pytest.raises(PassError, match="pass fold-batchnorm needs layout=NCHW, and the graph has layout=NHWC here"):
        qgraph.PassManager("convert-layout,fold-batchnorm").run(parse(CONV))
    with pytest.raises(PassError, match="pass lower needs level=fake_quant, and the graph has level=float here"):
        passes.lower(parse(GRAPH), target="litert")


def test_a_pass_that_breaks_its_word_is_found() -> None:
    @passes.graph_pass
    def lifts(graph: Graph) -> None:
        graph.level = "fake_quant"

    with pytest.raises(VerificationError, match="it leaves level=fake_quant, and says that it gives level=float"):
        qgraph.PassManager("lifts").run(parse(GRAPH))


def test_a_failed_verification_names_pass_node_origin_and_rule_and_can_be_run_again(tmp_path: Path) -> None:
    @rule(pattern("nn.relu6", "x"))
    def spoil(match: Match, build: Builder) -> Replacement:
        made = build.nn.relu(match.x)
        made.type = made.type.with_shape((7,))
        return made

    @passes.graph_pass
    def spoils(graph: Graph, deep: bool = False) -> None:
        """Break a graph."""
        rewrite(graph, [spoil])

    file = tmp_path / "again.qg"
    manager = qgraph.PassManager("canonicalize,spoils{deep=true}", reproducer=file)
    with pytest.raises(VerificationError) as caught:
        manager.run(parse(GRAPH))
    message = str(caught.value)
    for part in ("pass spoils: ", "nn.relu(%x)", "from act  (m.py:3)", "made by rule spoil (", "test_manager.py:"):
        assert part in message
    assert f"to run it again: qgraph opt {file} --passes 'spoils{{deep=true}}'" in message
    with pytest.raises(VerificationError, match="pass spoils"):
        qgraph.PassManager("spoils{deep=true}").run(qgraph.load(file))
    assert len(qgraph.load(file)) == 1, "the graph is the one that the failing pass was given"


def test_an_exception_in_a_users_rule_says_where() -> None:
    @rule(pattern("nn.relu6", "x"))
    def divides(match: Match, build: Builder) -> Replacement:
        raise ZeroDivisionError("by zero")

    @passes.graph_pass
    def raises(graph: Graph) -> None:
        rewrite(graph, [divides])

    with pytest.raises(PassError) as caught:
        qgraph.PassManager("raises").run(parse(GRAPH))
    message = str(caught.value)
    parts = ("pass raises failed: ZeroDivisionError: by zero", "test_manager.py:", "rule    divides", "act  (m.py:3)")
    for part in parts:
        assert part in message


def test_options_are_converted_to_their_types() -> None:
    seen = []

    @passes.graph_pass
    def typed(graph: Graph, n: int = 1, names: tuple[str, ...] = (), on: bool = False, f: float = 0.0) -> None:
        seen.append((n, names, on, f))

    qgraph.PassManager("typed{n=3 names=a,b on=true f=0.5}").run(parse(GRAPH))
    assert seen == [(3, ("a", "b"), True, 0.5)]
    for text, message in (
        ("typed{n=x}", "n=x is not of type int"),
        ("typed{on=yes}", "on=yes is not of type bool"),
        ("convert-layout{to=CHWN}", "to=CHWN is not one of NHWC, NCHW"),
        ("typed{m=1}", "no option 'm'"),
        ("typed{n}", "cannot read the pipeline at"),
    ):
        with pytest.raises(InputError, match=message):
            qgraph.PassManager(text)


def test_explain_tells_why_rules_declined() -> None:
    graph = parse(GRAPH.replace("return %2", "return %1, %2"))
    manager = qgraph.PassManager("fuse-conv-relu", explain=True)
    manager.run(graph)
    assert manager.records[0].declined == ()
    graph = parse("""graph @g level=float (%x: f32[N,4]) {
  %1: f32[N,4] = nn.add(%x, %x)
  %2: f32[N,4] = nn.relu(%1)
  return %1, %2
}""")
    manager.run(graph)
    ((rule_name, node, reason),) = manager.records[0].declined
    assert (rule_name, reason) == ("fuse", "the result before the activation is used elsewhere too")
    assert "nn.relu(" in node


def test_a_name_is_taken_once() -> None:
    with pytest.raises(InputError, match="there is a pass 'canonicalize' already, in qgraph"):

        @passes.graph_pass
        def canonicalize(graph: Graph) -> None:
            """Another."""


def test_installed_packages_register_passes_by_an_entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "their_passes.py").write_text(
        'from qgraph.passes import graph_pass\n\n@graph_pass\ndef their_pass(graph):\n    """Theirs."""\n'
    )
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[qgraph.passes]\ntheirs = their_passes\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    extensions.installed.cache_clear()
    assert "their-pass" in passes.names()
    assert passes.get("their-pass").summary == "Theirs."
    extensions.installed.cache_clear()
