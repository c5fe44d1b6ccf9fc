"""The text, the page and the JSON of what was measured, of data made by hand."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph.accuracy import Explanation, Front, Plan, Sensitivity, page
from qgraph.accuracy.explanation import ClassLoss, NodeLoss, Sample, Try, gain_of, node_lines
from qgraph.accuracy.losses import Grid, Loss
from qgraph.accuracy.plans import Chosen
from qgraph.accuracy.sensitivities import Row, Score
from qgraph.errors import InputError
from qgraph.ir import Graph

NAN, INF = float("nan"), float("inf")
LONG = "a" * 30 + "cut" + "b" * 30


def graph() -> Graph:
    return qgraph.parse("""graph @net level=fake_quant (%x: f32[N,1]) {
  const @s: f32[1] = [1.0], @z: i32[1] = [0]
  %1: f32[N,1] = quant.fake_quant(%x, @s, @z) {type="i8", range=[0,3]}
  %2: f32[N,1] = nn.relu(%1)
  return %2
}""")


def loss(grid: Grid | None = None, own: float = 20.0, **shares: float) -> Loss:
    parts = {"weights": 0.0, "clipping": 0.0, "rounding": 0.0, **shares}
    return Loss(10.0, 30.0, own, 15.0, grid=grid, **parts)


def explanation(**words: object) -> Explanation:
    made = graph()
    grid = Grid(8.0, 0.0005, 0.49, (1,), (2, 3), (1, 2, 3, 4, 5, 6, 7))
    nodes = (
        NodeLoss(
            LONG, "nn.relu", "%1", made.nodes[0], loss(grid, weights=0.6, clipping=0.395, rounding=0.005), 9, 3.04
        ),
        NodeLoss("x", "input", "%x", None, loss(Grid(8.0, 0.0, 0.5, (), (), ()), INF)),
        NodeLoss("y", "nn.relu", "%2", made.nodes[1], loss(rounding=1.0, weights=0.004), INF, 999.0),
    )
    tries = (Try(LONG, "weights of 8 bits", "how", 999.0), Try("y", "w" * 60, "x" * 61, -0.04))
    samples = (Sample(3, 7.06, 1, 1, 0), Sample(0, INF))
    classes = (ClassLoss(1, 5, 4, 2), ClassLoss(0, 7, 6, 6))
    outputs = {"a": 1.0, "b": INF}
    found = Explanation(made, 12, 11.11, 0.55, 13.0, INF, outputs, nodes, tries, samples, classes, ("a note",))
    return replace(found, **words)  # type: ignore[arg-type]


TEXT = f"""\
net: results at 11.1 dB ± 0.6, 12 examples
  weights alone rounded: 13.0 dB; activations alone: no error
  a: 1.0 dB
  b: no error
  a note
where it goes (results with the node alone rounded, their gain with it in float; its own error):
    9.0 dB    +3.0 dB  {"a" * 30}…{"b" * 30} = nn.relu: own 20.0 dB, inherited 30.0 dB
                       its error: 60% weights, 40% clipping, 0% rounding; 0.1% of the elements clipped; \
49% of the grid used; dead channel 1; saturated channels 2, 3; outlying channels 1, 2, 3, 4, 5, 6 and 1 more
                       x = input: own no error, inherited 30.0 dB
  no error   no error  y = nn.relu: own 20.0 dB, inherited 30.0 dB
                       its error: 100% rounding
what to try (each alone, measured on these examples; methods on those that they were not fitted on):
   no error  {"a" * 30}…{"b" * 30}: weights of 8 bits    how
    -0.0 dB  y: {"w" * 60}    {"x" * 61}
right: 10 of 12 in float, 8 quantized; classes, the worst first:
      1      4 ->     2 of 5
      0      6 ->     6 of 7
examples, the worst first:
      3  7.1 dB  label 1  answer 1 -> 0
      0  no error"""


def test_the_text_says_where_accuracy_goes() -> None:
    printed = str(explanation()).splitlines()
    assert [line.rstrip() for line in printed] == [line.rstrip() for line in TEXT.splitlines()]


def test_the_text_leaves_out_what_there_is_nothing_of() -> None:
    found = explanation(outputs={"a": 1.0}, tries=(), classes=(), standard_error_db=NAN, notes=(), nodes=(), samples=())
    assert (
        str(found)
        == """\
net: results at 11.1 dB, 12 examples
  weights alone rounded: 13.0 dB; activations alone: no error
where it goes (results with the node alone rounded, their gain with it in float; its own error):
examples, the worst first:"""
    )


def test_the_text_shows_ten_of_each() -> None:
    one = explanation()
    node, trial, sample, of_class = one.nodes[1], one.tries[1], one.samples[1], one.classes[1]
    for count, more in ((10, []), (11, ["  ... and 1 more"])):
        found = explanation(nodes=(node,) * count, tries=(trial,) * count, samples=(sample,) * count)
        lines = str(replace(found, classes=(of_class,) * count)).splitlines()
        assert [line for line in lines if "more" in line] == more
        assert sum("x = input" in line for line in lines) == 10
        assert sum("w" * 60 in line for line in lines) == 10
        assert sum(line == "      0  no error" for line in lines) == 10
        assert sum("->" in line for line in lines) == 10
        assert f"right: {6 * count} of {7 * count} in float, {6 * count} quantized" in "\n".join(lines)


def test_a_name_of_60_letters_is_printed_whole() -> None:
    for name, printed in (("n" * 60, "n" * 60), ("n" * 61, "n" * 30 + "…" + "n" * 30)):
        text = str(explanation(tries=(Try(name, "what", "how", 1.0),)))
        assert f"+1.0 dB  {printed}: what" in text


def test_a_gain_is_the_difference_and_at_most_what_stands_for_no_error() -> None:
    assert gain_of(10.0, 12.5) == 2.5
    assert gain_of(10.0, INF) == 999.0
    assert gain_of(INF, INF) == gain_of(INF, 3.0) == 0.0


def test_the_json_has_everything_and_null_for_what_is_infinite() -> None:
    words = json.loads(explanation().to_json())
    assert [words[name] for name in ("examples", "sqnr_db", "standard_error_db", "weights_only_db")] == [
        *(12, 11.11, 0.55, 13.0)
    ]
    assert words["activations_only_db"] is None
    assert words["outputs"] == {"a": 1.0, "b": None}
    assert words["notes"] == ["a note"]
    first = words["nodes"][0]
    assert (first["name"], first["op"], first["value"], first["alone_db"], first["gain_db"]) == (
        *(LONG, "nn.relu", "%1", 9, 3.04),
    )
    assert (first["weights"], first["own_db"], first["grid"]["used"]) == (0.6, 20.0, 0.49)
    assert "node" not in first
    assert words["samples"][0] == {"number": 3, "sqnr_db": 7.06, "label": 1, "real_answer": 1, "answer": 0}
    assert words["classes"][1] == {"label": 0, "count": 7, "real_right": 6, "right": 6}
    assert words["tries"][0] == {"node": LONG, "what": "weights of 8 bits", "how": "how", "gain_db": 999.0}


# ---- the page


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each table of a page, its head first."""
    found = []
    for each in re.findall(r"<table>(.*?)</table>", text):
        rows = re.findall(r"<tr>(.*?)</tr>", each)
        found.append([re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows])
    return found


def test_the_page_has_what_the_text_has_in_tables(tmp_path: Path) -> None:
    explanation().to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert re.findall(r"<h[12]>(.*?)</h[12]>", text) == [
        "net: where accuracy goes",
        "What to try",
        "Where it goes",
        "Classes",
        "Examples, the worst first",
    ]
    tries, nodes, classes, samples = tables(text)
    assert tries[0] == ["gain", "node", "what", "how"]
    assert tries[1:] == [["no error", LONG, "weights of 8 bits", "how"], ["-0.0 dB", "y", "w" * 60, "x" * 61]]
    assert nodes[0] == ["alone", "gain in float", "node", "op", "own", "inherited", "what stands out"]
    assert nodes[1][:6] == ["9.0 dB", "+3.0 dB", LONG, "nn.relu", "20.0 dB", "30.0 dB"]
    assert nodes[1][6].startswith("its error: 60% weights")
    assert nodes[2] == ["", "", "x", "input", "no error", "30.0 dB", ""]
    assert nodes[3][6] == "its error: 100% rounding"
    assert classes == [["class", "right in float", "right", "examples"], ["1", "4", "2", "5"], ["0", "6", "6", "7"]]
    assert samples[0] == ["example", "SQNR", "label", "answer in float", "answer"]
    assert samples[1:] == [["3", "7.1 dB", "1", "1", "0"], ["0", "no error", "", "", ""]]
    assert "<p><b>11.1 dB ± 0.6</b> over 12 examples; with weights alone rounded" in text
    assert "13.0 dB, with activations alone no error.</p>" in text
    assert '<p class="note">a note</p>' in text
    assert "+3.0 dB in float" in text  # the ring of the picture
    assert text.count("<svg") == 2
    assert "<details" in text
    assert "default-src &#x27;none&#x27;" in text


def test_a_page_without_classes_has_none_and_50_examples_at_most(tmp_path: Path) -> None:
    sample = explanation().samples[1]
    found = explanation(classes=(), samples=(sample,) * 51, standard_error_db=NAN, tries=())
    found.to_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "Classes" not in text
    tries, _, samples = tables(text)
    assert len(tries) == 1
    assert len(samples) == 1 + 50
    assert "<b>11.1 dB</b>" in text


def test_a_large_graph_is_not_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for drawn, pictures in ((2, 2), (1, 1)):
        monkeypatch.setattr(page, "DRAWN", drawn)
        explanation().to_html(tmp_path / "page.html")
        assert (tmp_path / "page.html").read_text().count("<svg") == pictures


def test_the_rings_are_as_wide_as_the_gains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heats: list[dict[str, tuple[float, str]]] = []
    monkeypatch.setattr(page, "svg", lambda graph, heat: heats.append({node.op: of for node, of in heat.items()}) or "")
    charts: list[tuple[list[str], list[list[tuple[int, float]]]]] = []
    drawn = lambda title, series, y_title, words: charts.append((words, [each.points for each in series])) or ""  # noqa: E731
    monkeypatch.setattr(page, "chart", drawn)
    made = graph()
    mark, relu = made.nodes
    nodes = [NodeLoss("b", "nn.relu", made.value_names()[relu.result], relu, loss(), 1.0, 2.0)]
    nodes += [NodeLoss("a", "quant.fake_quant", made.value_names()[mark.result], mark, loss(own=5.0), 1.0, -1.0)]
    nodes += [NodeLoss("x", "input", made.value_names()[made.inputs[0]], None, loss(), None, None)]
    explanation(graph=made, nodes=tuple(nodes)).to_html(tmp_path / "page.html")
    assert heats[-1] == {"nn.relu": (1.0, "+2.0 dB in float"), "quant.fake_quant": (0.0, "-1.0 dB in float")}
    words, (own, total) = charts[-1]
    assert words == ["x", "a", "b"]  # in the order of the graph
    assert own == [(0, 20.0), (1, 5.0), (2, 20.0)]
    assert total == [(0, 10.0), (1, 10.0), (2, 10.0)]
    nodes[0] = replace(nodes[0], gain_db=1.0)
    nodes[1] = replace(nodes[1], gain_db=4.0)
    explanation(graph=made, nodes=tuple(nodes)).to_html(tmp_path / "page.html")
    assert {op: of for op, (of, _) in heats[-1].items()} == {"nn.relu": 0.25, "quant.fake_quant": 1.0}
    explanation(graph=made, nodes=tuple(replace(each, gain_db=0.0) for each in nodes)).to_html(tmp_path / "page.html")
    assert heats[-1] == {}  # nothing gains
    explanation(graph=made, nodes=(), tries=()).to_html(tmp_path / "page.html")
    assert heats[-1] == {}


# ---- sensitivities and plans


def sensitivity(measure: str = "sqnr") -> Sensitivity:
    score = Score(4, 20.0, 0.5, 0.01)
    rows = (
        Row("a", "nn.conv", "bits", ("a",), 10, 20, ("b",), (score, Score(8, INF, NAN, 0.0))),
        Row("b", "nn.relu", "activation_bits", ("b", "c"), 0, 0, (), (replace(score, bits=16, noise=0.5),)),
    )
    return Sensitivity("net", "litert", measure, 7, rows)


def test_the_table_of_a_sensitivity_has_the_most_sensitive_first() -> None:
    assert str(sensitivity()).splitlines() == [
        "net for litert: SQNR, dB, 7 examples",
        f"  {'':9} {'op':18}{'4 bits':>18}{'8 bits':>18}{'16 bits':>18}",
        f"  {'b result':9} {'nn.relu':18}{'':>18}{'':>18}{'20 ± 0.5':>18}",
        f"  {'a weights':9} {'nn.conv':18}{'20 ± 0.5':>18}{'no error':>18}{'':>18}",
    ]
    assert "added loss, 7 examples" in str(sensitivity("fisher"))
    assert str(replace(sensitivity(), rows=())).splitlines()[0] == "net for litert: SQNR, dB, 7 examples"


def test_the_chart_of_a_sensitivity_has_bars_of_two_standard_errors() -> None:
    found = sensitivity()
    four, sixteen = found._series(4), found._series(16)
    assert (list(four.points), list(four.errors)) == ([(0, 20.0)], [1.0])  # type: ignore[arg-type]
    assert list(sixteen.points) == [(1, 20.0)]
    assert not four.joined
    assert list(four.tips) == ["a weights, 4 bits: 20 ± 0.5"]  # type: ignore[arg-type]
    assert found.svg().count("b result") >= 1


def test_a_sensitivity_is_read_as_it_was_written() -> None:
    again = Sensitivity.from_json(sensitivity().to_json())
    assert again.rows[0].scores[0] == sensitivity().rows[0].scores[0]
    assert again.rows[1:] == sensitivity().rows[1:]
    infinite = again.rows[0].scores[1]
    assert (infinite.value, infinite.noise) == (INF, 0.0)
    assert np.isnan(infinite.standard_error)
    for text in ("", "[]", '{"rows": 3}', '{"rows": [{"scores": []}]}', '{"graph": "g"}'):
        with pytest.raises(InputError, match="this is no sensitivity"):
            Sensitivity.from_json(text)


def plans(measure: str = "sqnr") -> Front:
    chosen = (Chosen("a", "bits", ("a", "b[0]"), 4), Chosen("c", "bits", ("c",), 2), Chosen("d", "bits", ("d",), 4))
    more = (*chosen, Chosen("a", "activation_bits", ("a",), 8))
    return Front(measure, "bytes", (Plan(chosen, 1234.5, 0.01), Plan(more, 2000.0, 0.0)))


def test_a_front_has_a_line_for_each_plan() -> None:
    assert str(plans()).splitlines() == [
        f"  {'1,234':>16} bytes  {'20.0 dB':>10}  weights: 1 of 2 bits, 2 of 4 bits",
        f"  {'2,000':>16} bytes  {'no noise':>10}  weights: 1 of 2 bits, 2 of 4 bits; results: 1 of 8 bits",
    ]
    assert str(plans("fisher")).splitlines()[0].split()[2:3] == ["+0.01"]
    assert "added loss" in plans("fisher").svg()
    assert "SQNR, dB" in plans().svg()


def test_a_plan_is_worth_its_noise_in_decibels_and_a_noise_below_none_is_none() -> None:
    found = plans()
    assert [found.value(plan) for plan in found.plans] == [pytest.approx(20.0), INF]
    assert found.value(Plan((), 0.0, -0.5)) == INF
    assert plans("loss").value(Plan((), 0.0, -0.5)) == -0.5
    words = json.loads(found.to_json())
    assert [each["value"] for each in words["plans"]] == [pytest.approx(20.0), None]
    assert (words["measure"], words["unit"], words["plans"][0]["cost"]) == ("sqnr", "bytes", 1234.5)


def test_overrides_of_a_plan_name_all_paths_of_a_choice_with_all_its_words() -> None:
    assert plans().plans[1].overrides == {
        "a": {"bits": 4, "activation_bits": 8},
        "b[[]0]": {"bits": 4},
        "c": {"bits": 2},
        "d": {"bits": 4},
    }


def test_the_best_plan_within_a_budget_may_cost_all_of_it() -> None:
    found = plans()
    assert found.within(1234.5) is found.plans[0]
    assert found.within(1999.0) is found.plans[0]
    assert found.within(2000.0) is found.plans[1]
    with pytest.raises(InputError, match="no plan costs 1000 bytes or less") as raised:
        found.within(1000)
    assert raised.value.help == "the least is 1234.5"


@pytest.mark.parametrize(("alone", "gain"), [(9.0, None), (None, 3.0), (None, None)])
def test_a_node_of_which_one_thing_is_not_known_has_no_numbers_in_front(alone: float, gain: float) -> None:
    line = next(iter(node_lines(NodeLoss("a", "nn.relu", "%1", None, loss(), alone, gain))))
    assert line == f"{' ' * 19}  a = nn.relu: own 20.0 dB, inherited 30.0 dB"


def test_a_table_of_nothing_has_no_room_for_names() -> None:
    assert [*replace(sensitivity(), rows=()).lines()][1] == ("bold", f"   {'op':18}")
