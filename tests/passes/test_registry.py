"""What a pass says of itself, which options it takes, and in which order passes can run."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any, Literal

import pytest

import qgraph
from qgraph import extensions, passes
from qgraph.errors import InputError, PassError, VerificationError
from qgraph.ir import Graph, parse
from qgraph.passes.engine import registry
from qgraph.passes.engine.registry import Pass, facts_of, verify_facts


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def graph_of(level: str = "float", op: str = "nn.relu", more: str = "") -> Graph:
    return parse(f"graph @g level={level}{more} (%x: f32[N,4,4,2]) {{\n  %1: f32[N,4,4,2] = {op}(%x)\n  return %1\n}}")


def test_the_documentation_is_that_of_the_function_else_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    @passes.graph_pass
    def documented(graph: Graph) -> None:
        """Do this.

        And more.
        """

    @passes.graph_pass
    def silent(graph: Graph) -> None: ...

    assert passes.get("documented").doc == "Do this.\n\nAnd more."
    assert passes.get("documented").summary == "Do this."
    assert (
        passes.get("silent").summary
        == "What a pass says of itself, which options it takes, and in which order passes can run."
    )
    edit = passes.get("silent").edit
    monkeypatch.setitem(sys.modules, "without_words", types.ModuleType("without_words"))
    monkeypatch.setattr(edit, "__module__", "without_words")
    assert passes.get("silent").doc == ""
    monkeypatch.setattr(edit, "__module__", "no_module_at_all")
    assert Pass("x", edit).summary == ""


def typed(
    graph: Graph,
    n: int = 1,
    f: float = 0.5,
    on: bool = False,
    way: Literal["up", "down"] = "up",
    names: tuple[str, ...] = (),
    sizes: list[int] | None = None,
    counts: tuple[int, ...] = (),
    from_: str | None = None,
    mapping: dict[str, int] | None = None,
) -> None: ...


TYPED = Pass("typed", typed)


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("n", "3", 3),
        ("n", 4, 4),
        ("f", "2.5", 2.5),
        ("on", "true", True),
        ("on", "false", False),
        ("way", "down", "down"),
        ("names", "a,b", ("a", "b")),
        ("names", "", ()),
        ("counts", "1,2,", (1, 2)),
        ("from", "%1", "%1"),
        ("from_", "%1", "%1"),
    ],
)
def test_an_option_is_converted_to_its_type(option: str, text: Any, value: object) -> None:
    ((_, converted),) = TYPED.checked({option: text}).items()
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("n", "x", "pass typed: n=x is not of type int"),
        ("f", "x", "pass typed: f=x is not of type float"),
        ("on", "yes", "pass typed: on=yes is not of type bool"),
        ("way", "left", "pass typed: way=left is not one of up, down"),
        ("counts", "1,b", "pass typed: counts=1,b is not of type tuple[int, ...]"),
        ("mapping", "a", "pass typed: mapping=a is not of type dict[str, int] | None"),
        (
            "m",
            "1",
            "pass typed has no option 'm'\n  help    its options: n, f, on, way, names, sizes, counts, from_, mapping",
        ),
    ],
)
def test_an_option_of_another_type_is_refused(option: str, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        TYPED.checked({option: text})
    assert str(caught.value) == message


def test_an_option_that_is_missing_is_named_and_some_passes_take_any() -> None:
    @passes.graph_pass
    def needing(graph: Graph, size: int, other: int = 1) -> None: ...

    @passes.graph_pass
    def taking(graph: Graph, size: int = 1, **options: str) -> None: ...

    @passes.graph_pass
    def plain(graph: Graph) -> None: ...

    with pytest.raises(InputError) as caught:
        passes.get("needing").checked({"other": 2})
    assert str(caught.value) == "pass needing needs the option size\n  help    needing{size=...}"
    with pytest.raises(InputError) as caught:
        passes.get("plain").checked({"a-b": 2})
    assert str(caught.value) == "pass plain has no option 'a_b'\n  help    its options: none"
    assert passes.get("taking").checked({"what-else": "x"}) == {"what_else": "x"}
    assert [passes.get(name).open_options for name in ("needing", "taking", "plain")] == [False, True, False]
    assert list(passes.get("taking").options) == ["size"]


def placed(**words: Any) -> Pass:
    @passes.graph_pass(**words)
    def placed(graph: Graph, target: str = "tflm") -> None: ...

    return passes.get("placed")


@pytest.mark.parametrize(
    ("needs", "facts", "message"),
    [
        (
            {"level": "fake_quant"},
            {"level": "float"},
            "pass placed needs level=fake_quant, and the graph has level=float here\n  because of that\n"
            "  help    prepare and calibrate first: qgraph.calibrate(qgraph.prepare(graph, target=...), batches)",
        ),
        (
            {"level": "fake_quant"},
            {"level": "integer"},
            "pass placed needs level=fake_quant, and the graph has level=integer here\n  because of that\n"
            "  help    put placed where the graph has level=fake_quant",
        ),
        (
            {"level": "float|fake_quant"},
            {"level": "integer"},
            "pass placed needs level=float or fake_quant, and the graph has level=integer here\n  because of that\n"
            "  help    put placed where the graph has level=float or fake_quant",
        ),
        (
            {"calibrated": "yes"},
            {"calibrated": "no"},
            "pass placed needs calibrated=yes, and the graph has calibrated=no here\n  because of that\n"
            "  help    calibrate between the two: qgraph.calibrate(graph, batches), or `qgraph quantize`",
        ),
        (
            {"target": "{target}"},
            {"target": "onnxruntime"},
            "pass placed needs target=tflm, and the graph has target=onnxruntime here\n  because of that\n"
            "  help    prepare the graph for tflm, or lower it for onnxruntime: their quantization rules differ",
        ),
        ({"level": "float|fake_quant"}, {"level": "fake_quant"}, ""),
        ({"level": "float"}, {}, ""),
        ({"target": "{target}"}, {"target": "litert"}, ""),
        ({"target": "{target}"}, {"target": "tflm"}, ""),
    ],
)
def test_a_pass_that_cannot_run_here_says_what_it_needs(
    needs: dict[str, str], facts: dict[str, str], message: str
) -> None:
    made = placed(needs=needs)
    if not message:
        assert made.facts_after(facts, {}, "of that") == facts
        return
    with pytest.raises(PassError) as caught:
        made.facts_after(facts, {}, "of that")
    assert str(caught.value) == message
    with pytest.raises(PassError) as caught:
        made.facts_after(facts, {}, "")
    assert caught.value.where == ()


def test_facts_are_those_before_and_those_that_a_pass_gives() -> None:
    made = placed(gives={"level": "fake_quant", "layout": "", "target": "{target}"})
    before = {"level": "float", "layout": "NCHW", "calibrated": "no"}
    assert made.facts_after(before, {}, "") == {"level": "fake_quant", "calibrated": "no", "target": "tflm"}
    assert made.facts_after(before, {"target": "litert"}, "")["target"] == "litert"


def test_a_graph_says_level_layout_and_target() -> None:
    assert facts_of(graph_of()) == {"level": "float", "layout": "NCHW"}
    assert facts_of(graph_of("fake_quant", more=" target=litert")) == {
        "level": "fake_quant",
        "layout": "NCHW",
        "target": "litert",
    }
    assert facts_of(graph_of(more=" io_layout=NHWC"))["layout"] == "NHWC"
    pooled = graph_of(op="nn.relu")
    pooled.nodes[0].op = "nhwc.max_pool"
    assert facts_of(pooled)["layout"] == "NHWC"


def test_a_fact_that_was_promised_and_is_not_there_is_an_error() -> None:
    verify_facts(graph_of(), {"level": "float", "calibrated": "yes"})
    verify_facts(graph_of(), {})
    with pytest.raises(VerificationError) as caught:
        verify_facts(graph_of(), {"level": "fake_quant"})
    assert str(caught.value) == (
        "it leaves level=float, and says that it gives level=fake_quant\n"
        "  help    declare it: @graph_pass(gives={'level': 'float'})"
    )


@pytest.mark.parametrize("words", [{"needs": {"size": "3"}}, {"gives": {"size": "3"}}])
def test_a_fact_that_there_is_not_is_refused(words: dict[str, dict[str, str]]) -> None:
    with pytest.raises(InputError) as caught:
        placed(**words)
    assert str(caught.value) == ("pass placed speaks of 'size'\n  help    facts are level, layout, calibrated, target")


def test_the_pure_form_edits_a_clone_checks_facts_and_verifies() -> None:
    @passes.graph_pass(needs={"level": "float"}, gives={"target": "{target}"})
    def retargets(graph: Graph, target: str, way: str = "right") -> None:
        graph.metadata["target"] = target if way == "right" else "onnxruntime"
        if way == "broken":
            graph.nodes[0].result.type = graph.inputs[0].type.with_shape((3,))

    graph = graph_of()
    assert retargets(graph, "litert").target == retargets(graph, target="litert").target == "litert"
    assert graph == graph_of()
    with pytest.raises(PassError, match="pass retargets needs level=float"):
        retargets(graph_of("fake_quant"), "litert")
    with pytest.raises(VerificationError, match="it leaves target=onnxruntime, and says that it gives target=litert"):
        retargets(graph, "litert", way="wrong")
    with pytest.raises(VerificationError, match="breaks 1 rule"):
        retargets(graph, "onnxruntime", way="broken")


def test_a_pass_that_there_is_not_is_refused_with_all_that_there_are() -> None:
    names = passes.names()
    assert names == sorted(names)
    with pytest.raises(InputError) as caught:
        passes.get("no-such-pass")
    assert str(caught.value) == (
        f"there is no pass 'no-such-pass'\n  help    use one of {', '.join(names)}; a pass of your own: --load FILE.py"
    )


def test_passes_that_nobody_imported_yet_are_found_and_known_ones_are_not_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"typed": TYPED}
    loads: list[str] = []

    def load() -> None:
        loads.append("once")
        known["late"] = TYPED

    monkeypatch.setattr(registry, "_REGISTRY", known)
    monkeypatch.setattr(registry, "_load_others", load)
    assert registry.get("typed") is TYPED
    assert not loads
    assert registry.get("late") is TYPED
    assert loads == ["once"]


def test_the_passes_that_nobody_imported_are_those_of_the_files_and_of_installed_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, found = Path(passes.__path__[0]), list[str]()
    monkeypatch.setattr(extensions, "installed", lambda group: found.append(group))
    imported = importlib.import_module

    def noted(name: str) -> types.ModuleType:
        found.append(name)
        return imported(name)

    monkeypatch.setattr(importlib, "import_module", noted)
    registry._load_others()
    files = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert {each.removeprefix("qgraph.passes.") for each in found[1:-1]} == files - {"__init__"}
    assert (found[0], found[-1]) == ("qgraph.passes", extensions.PASSES)


def test_a_name_is_the_functions_and_a_module_may_define_it_again() -> None:
    first = placed()
    second = placed()
    assert first is not second
    assert passes.get("placed") is second
    assert qgraph.PassManager("placed").names == ["placed"]
