"""`verify` beside a runtime that the interpreter plays: of any release, on any processor, with any fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qgraph
from qgraph import targets
from qgraph.errors import InputError
from qgraph.exporters.content import Content
from qgraph.interpreter import execute
from qgraph.ir import Array, parse
from qgraph.ir.printer import print_node
from qgraph.runtimes import Processor, RunResult
from qgraph.runtimes.messages import NamedArray, Run, RuntimeVersion
from qgraph.verification import verify_runtime
from tests.targets.litert.layer_cases import INT8, boundary
from tests.targets.litert.op_cases import Cases

TWO_INPUTS = """graph @g level=integer target=litert (%b: i8<0.1:0>[N,4], %a: i8<0.1:3>[N,4]) {
  %1: i8<0.25:-1>[N,4] = litert.sub(%b, %a) {activation="NONE"} loc(first m.py:1, again m.py:2)
  %y: i8<0.25:-1>[N,4] = litert.relu(%1) loc(second m.py:3)
  return %y
}"""
PROCESSOR = Processor("x86_64", "a processor")


@dataclass
class Played:
    """What the runtime is, and what it was asked."""

    target: str = "litert"
    release: str = "2.3.0"
    processor: Processor = PROCESSOR
    fault: Callable[[int, Array], Array] = lambda index, array: array  # by the number of an output
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def worker(self, program: str, *, on: str | None = None) -> Played:
        self.asked.append((program, on))
        return self

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *exception: object) -> None:
        self.asked.append(("closed",))

    def run(self, model: bytes, inputs: Sequence[Sequence[Array]], *, options: Mapping[str, object]) -> RunResult:
        self.asked.append((model, inputs, options))
        graph = targets.get(self.target).importers[".tflite"](Content("played.tflite", model))
        graph.metadata |= {"target": self.target, "release": self.release}
        runs = []
        for arrays in inputs:
            given = {value.name: array for value, array in zip(graph.inputs, arrays, strict=True)}
            outputs = [self.fault(index, array) for index, array in enumerate(execute(graph, given))]
            runs.append(Run(tuple(NamedArray(str(index), array) for index, array in enumerate(outputs)), (), ()))
        return RunResult(tuple(runs), RuntimeVersion("LiteRT", self.release, "3"), self.processor)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    runtime = Played()
    monkeypatch.setattr(verify_runtime, "Worker", runtime.worker)
    yield runtime
    assert not runtime.asked or runtime.asked[-1] == ("closed",)


def layers() -> Cases:
    """FULLY_CONNECTED on both sides of every step, where releases differ."""
    cases = Cases(np.random.default_rng(4))
    for factor in np.exp2(np.random.default_rng(5).uniform(-12, 4, 12)):
        boundary(cases, "fully_connected", INT8, float(factor))
    cases.graph.set_outputs(cases.outputs)
    cases.graph.metadata["target"] = "litert"
    return cases


@pytest.mark.parametrize(("release", "tried"), [("1.2.0", True), ("2.3.0", True), ("1.0.0", False)])
def test_the_interpreter_follows_the_rules_of_the_release_that_answered(
    played: Played, release: str, tried: bool
) -> None:
    cases = layers()
    played.release = release
    report = qgraph.verify(cases.graph, inputs=cases.feed)
    assert report.bit_exact
    assert report.version == f"LiteRT {release}"
    assert any("not tried" in note for note in report.notes) == (not tried)
    assert "release" not in cases.graph.metadata, "the graph is the user's"


def test_a_runtime_that_is_another_release_than_it_says_is_found(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = layers()
    answer = played.run

    def older(*arguments: Any, **options: Any) -> RunResult:
        result = answer(*arguments, **options)
        return RunResult(result.runs, RuntimeVersion("LiteRT", "1.2.0", "3"), result.processor)

    monkeypatch.setattr(played, "run", older)
    report = qgraph.verify(cases.graph, inputs=cases.feed)
    assert not report.bit_exact
    assert report.nodes, "where an output differs the nodes are compared"


def test_the_runtime_gets_what_it_was_asked_for_and_the_inputs_in_order(played: Played) -> None:
    graph = parse(TWO_INPUTS)
    a, b = np.full((2, 4), 5, np.int8), np.full((2, 4), 100, np.int8)
    report = qgraph.verify(graph, inputs={"a": a, "b": b}, on="ssh pi python3", options={"threads": 2})
    (program, on), (_, inputs, options), _ = played.asked
    assert (program, on) == (targets.get("litert").runtime, "ssh pi python3")
    assert options == {**targets.get("litert").runtime_options, "threads": 2}
    ((first, second),) = inputs
    assert np.array_equal(first, b)
    assert np.array_equal(second, a)
    assert (report.samples, report.compared, report.nodes, report.notes) == (2, 8, (), ())
    assert [output.name for output in report.outputs] == ["y"]


@pytest.mark.parametrize(
    ("processor", "text"),
    [
        (Processor("x86_64", "a processor"), "x86_64 a processor"),
        (Processor("aarch64", "another", ("asimddp", "i8mm")), "aarch64 another (asimddp, i8mm)"),
    ],
)
def test_the_processor_is_named(played: Played, processor: Processor, text: str) -> None:
    played.processor = processor
    assert qgraph.verify(parse(TWO_INPUTS)).processor == text


def test_random_inputs_follow_from_their_number_and_the_seed(played: Played) -> None:
    graph = parse(TWO_INPUTS)
    for words, samples in (({}, 64), ({"samples": 3}, 3), ({"samples": 3, "seed": 1}, 3)):
        assert qgraph.verify(graph, **words).samples == samples + 5  # and the extreme ones
    given = [asked[1][0][0] for asked in played.asked if len(asked) == 3]
    assert np.array_equal(given[0][:0], given[1][:0])
    assert not np.array_equal(given[1], given[2])
    assert qgraph.verify(graph, samples=3).samples == 8
    assert np.array_equal(played.asked[-2][1][0][0], given[1])


@pytest.mark.parametrize("wrong", [0, 1])
def test_all_nodes_are_compared_where_that_is_asked_for_or_an_output_differs(played: Played, wrong: int) -> None:
    graph = parse(TWO_INPUTS)
    report = qgraph.verify(graph, intermediate=True)
    assert [node.node.partition(":")[0] for node in report.nodes] == ["%1", "%y"]
    assert report.nodes[0].origins == ("first  (m.py:1)", "again  (m.py:2)")
    assert report.bit_exact

    def off(index: int, array: Array) -> Array:
        return array + np.int8(2) if len(played.asked) != 2 and index == wrong else array

    played.fault, played.asked = off, []
    report = qgraph.verify(graph, intermediate=True)
    assert report.mismatches == 0
    assert not report.bit_exact, "a node differs, though the output does not"
    assert report.first_difference is report.nodes[wrong]
    assert [node.mismatches for node in report.nodes] == [276 * (index == wrong) for index in range(2)]
    assert report.nodes[wrong].largest in (2, 254)
    assert qgraph.parse(TWO_INPUTS) == graph, "the graph is the user's"


def test_nodes_of_more_than_200_letters_are_shortened(played: Played) -> None:
    short = len(print_node(parse(TWO_INPUTS).nodes[0])) - len("1")
    for length in (20, 199, 200, 201, 300):
        graph = parse(TWO_INPUTS)
        graph.nodes[0].result.name = "n" * (length - short)
        whole = print_node(graph.nodes[0])
        (first, _) = qgraph.verify(graph, intermediate=True).nodes
        assert first.node == (whole if length <= 200 else f"{whole[:197]}...")
        assert length == 20 or len(whole) == length


def test_a_file_is_run_as_it_is_and_another_form_is_exported(played: Played, tmp_path: Path) -> None:
    graph = parse(TWO_INPUTS)
    model = tmp_path / "g.tflite"
    qgraph.export(graph, model)
    model.write_bytes(model.read_bytes() + b"\0" * 16)
    qgraph.verify(model)
    assert played.asked[1][0] == model.read_bytes()
    qgraph.save(graph, tmp_path / "g.qg")
    qgraph.verify(str(tmp_path / "g.qg"))
    assert played.asked[4][0] == model.read_bytes()[:-16]


def test_another_variant_of_the_family_runs_the_same_graph(played: Played) -> None:
    graph = parse(TWO_INPUTS)
    played.target, played.release = "tflm", targets.get("tflm").proven
    assert qgraph.verify(graph, runtime="tflm").runtime == "tflm"
    assert played.asked[0][0] == targets.get("tflm").runtime
    assert graph.target == "litert"
    with pytest.raises(InputError) as caught:
        qgraph.verify(graph, runtime="onnxruntime")
    assert str(caught.value) == (
        "a graph lowered to litert does not run on onnxruntime\n  help    lower it to onnxruntime"
    )


@pytest.mark.parametrize("level", ["float", "fake_quant"])
def test_a_graph_that_was_not_lowered_has_no_runtime(level: str, tmp_path: Path) -> None:
    graph = parse(f"graph @g level={level} (%x: f32[N,4]) {{\n  %1: f32[N,4] = nn.relu(%x)\n  return %1\n}}")
    qgraph.save(graph, tmp_path / "g.qg")
    for given in (graph, tmp_path / "g.qg"):
        with pytest.raises(InputError) as caught:
            qgraph.verify(given)
        assert str(caught.value) == f"a graph of level {level} has no runtime\n  help    lower it first: qgraph.lower"


def test_there_is_something_to_compare_on_or_an_error() -> None:
    with pytest.raises(InputError) as caught:
        qgraph.verify(parse(TWO_INPUTS), inputs=[np.zeros((0, 4), np.int8)] * 2)
    assert str(caught.value) == (
        "there is no sample to compare on\n  help    give at least one example (a whole batch, where it is fixed)"
    )


def test_an_input_without_elements_is_no_reason_to_refuse_the_others(played: Played) -> None:
    graph = parse(TWO_INPUTS.replace("%a: i8<0.1:3>[N,4])", "%a: i8<0.1:3>[N,4], %e: i8<0.1:3>[N,0])"))
    array = np.ones((2, 4), np.int8)
    assert qgraph.verify(graph, inputs={"a": array, "b": array, "e": array[:, :0]}).compared == 8


def test_a_layout_that_both_fit_is_said_by_the_user(played: Played) -> None:
    graph = parse("""graph @g level=integer target=litert io_layout=NHWC (%x: i8<0.1:0>[N,3,3,3]) {
  %1: i8<0.1:0>[N,3,3,3] = litert.relu(%x)
  return %1
}""")
    x = np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3)
    qgraph.verify(graph)
    for layout in ("NCHW", "NHWC"):
        qgraph.verify(graph, inputs=x, layout=layout)  # type: ignore[arg-type]
    seen = [asked[1][0][0] for asked in played.asked if len(asked) == 3][1:]
    assert np.array_equal(seen[0], seen[1].transpose(0, 2, 3, 1))
    with pytest.raises(InputError, match="may be NCHW or NHWC"):
        qgraph.verify(graph, inputs=x)
