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
        ("insert-fake-quant{target=litert,batchnorm=fold}", "cannot read the pipeline at"),
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


TWO = "simplify,canonicalize"


def test_records_tell_of_the_last_run_alone() -> None:
    manager = qgraph.PassManager(TWO)
    graph = parse(GRAPH)
    assert manager.names == ["simplify", "canonicalize"]
    for _ in range(2):
        result = manager.run(graph)
        assert [record.name for record in manager.records] == ["simplify", "canonicalize"]
        assert [(record.nodes_before, record.nodes_after) for record in manager.records] == [(2, 1), (1, 1)]
        assert all(0 <= record.seconds < 60 for record in manager.records)
        assert all((record.declined, record.checked) == ((), None) for record in manager.records), "nobody asked"
        assert manager.snapshots == []
    assert len(result) == 1
    assert graph == parse(GRAPH), "the argument stays as it was"


def test_hooks_stand_around_each_pass_and_snapshots_are_clones() -> None:
    seen: list[tuple[str, str, int]] = []
    manager = qgraph.PassManager(TWO, keep_snapshots=True)
    manager.before = lambda name, graph: seen.append(("before", name, len(graph)))
    manager.after = lambda name, graph: seen.append(("after", name, len(graph)))
    result = manager.run(parse(GRAPH))
    assert seen == [
        ("before", "simplify", 2),
        ("after", "simplify", 1),
        ("before", "canonicalize", 1),
        ("after", "canonicalize", 1),
    ]
    assert [name for name, _ in manager.snapshots] == ["simplify", "canonicalize"]
    assert all(graph is not result and len(graph) == 1 for _, graph in manager.snapshots)
    manager.run(parse(GRAPH))
    assert len(manager.snapshots) == 2


def broken() -> Graph:
    graph = parse(GRAPH)
    graph.nodes[0].result.type = graph.inputs[0].type.with_shape(("N", 7))
    return graph


def test_a_graph_is_verified_before_the_first_pass_and_after_each_unless_nobody_wants_that() -> None:
    with pytest.raises(VerificationError) as caught:
        qgraph.PassManager("canonicalize").run(broken())
    assert caught.value.what.startswith("graph @g"), "no pass is to blame"

    @passes.graph_pass
    def breaks(graph: Graph) -> None:
        graph.nodes[0].result.type = broken().nodes[0].result.type

    with pytest.raises(VerificationError, match=r"^pass breaks: graph @g"):
        qgraph.PassManager("breaks").run(parse(GRAPH))
    assert qgraph.PassManager("breaks", verify=False).run(parse(GRAPH)) == broken()
    assert qgraph.PassManager("breaks", verify=False).run(broken()) == broken()


def test_a_pipeline_is_text_names_passes_functions_or_pairs_with_options() -> None:
    steps = ["simplify", passes.get("canonicalize"), passes.drop_dropout, ("extract", {"from": "%1"})]
    manager = qgraph.PassManager(steps)
    assert manager.names == ["simplify", "canonicalize", "drop-dropout", "extract"]
    assert qgraph.PassManager(" simplify , canonicalize,drop-dropout ").names == manager.names[:3]
    assert qgraph.PassManager("").names == []
    for text, place in (("simplify;canonicalize", "simplify;canonicalize"), ("simplify, {a=1}", " {a=1}")):
        with pytest.raises(InputError) as caught:
            qgraph.PassManager(text)
        assert str(caught.value) == (
            f"cannot read the pipeline at {place!r}\n  help    a pipeline reads: "
            '"fold-batchnorm,insert-fake-quant{target=litert weights=per-tensor}", options with spaces between them'
        )


def test_the_command_that_runs_a_failed_pass_again_has_its_options(tmp_path: Path) -> None:
    @passes.graph_pass
    def fails(graph: Graph, on: bool = False, names: tuple[str, ...] = (), size: int = 1, other: str = "x") -> None:
        raise PassError("it fails", help="do that")

    file = tmp_path / "again.qg"
    options = {"on": True, "names": ("a", "b"), "size": 2, "other": None}
    manager = qgraph.PassManager(["simplify", ("fails", options)], reproducer=file, command="other command")
    with pytest.raises(PassError) as caught:
        manager.run(parse(GRAPH))
    assert str(caught.value) == (
        "pass fails: it fails\n  help    do that\n"
        f"          to run it again: other command {file} --passes 'fails{{on=true names=a,b size=2}}'"
    )
    assert len(qgraph.load(file)) == 1
    with pytest.raises(PassError) as caught:
        qgraph.PassManager([("fails", {})]).run(parse(GRAPH))
    assert str(caught.value) == "pass fails: it fails\n  help    do that"


def test_each_pass_is_checked_on_the_graph_that_it_was_given() -> None:
    @passes.graph_pass(exact="bits")
    def to_relu6(graph: Graph) -> None:
        for node in graph.find("nn.relu"):
            node.replace_with(Builder(graph, node).nn.relu6(node.operand(0)))

    graph = parse(GRAPH.replace("nn.relu6(%x)", "nn.tanh(%x)"))
    assert qgraph.PassManager("to-relu6", check=True).run(graph).find("nn.relu6"), "of tanh relu is relu6"
    with pytest.raises(qgraph.errors.ValidationError, match=r"^pass to-relu6: it changes what the graph computes"):
        qgraph.PassManager("canonicalize,to-relu6", check=True).run(parse(GRAPH.replace("relu6", "leaky_relu")))


def test_what_nobody_asks_for_is_not_kept() -> None:
    manager = qgraph.PassManager("simplify")
    manager.run(parse("graph @g level=float (%x: f32[N]) {\n  %1: f32[N] = nn.clamp(%x) {min=1.0}\n  return %1\n}"))
    (record,) = manager.records
    assert manager.snapshots == []
    assert record.declined == ()
    assert record.checked is None


@pytest.mark.parametrize("told", ["records", "snapshots"])
def test_what_a_manager_tells_is_its_own_to_say(told: str) -> None:
    with pytest.raises(TypeError, match=told):
        qgraph.PassManager("simplify", **{told: []})
