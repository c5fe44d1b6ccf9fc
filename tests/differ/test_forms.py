"""The forms of a diff: text, table, JSON with its schema, page; and the rules of --fail-on."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import qgraph
from qgraph.differ.rules import parse_rules
from qgraph.differ.text_form import stat_lines, text_lines
from qgraph.errors import InputError
from qgraph.ir import Graph, parse
from tests.differ.conftest import inputs_of
from tests.differ.variants import rescaled, strip

Levels = dict[tuple[str, str], Graph]
SCHEMA = json.loads((files("qgraph.differ") / "schema.json").read_text())

CHAIN = """graph @g level=float (%x: f32[N,4]) {
  %a: f32[N,4] = nn.relu6(%x) loc(first net.py:1)
  %b: f32[N,4] = nn.sigmoid(%a) loc(second net.py:2)
  %c: f32[N,4] = nn.tanh(%b) loc(third net.py:3)
  %d: f32[N,4] = nn.softmax(%c) {axis=1} loc(fourth net.py:4)
  return %d
}"""


def pair() -> qgraph.GraphDiff:
    return qgraph.diff(parse(CHAIN), parse(CHAIN.replace("nn.sigmoid", "nn.hard_sigmoid")))


def test_the_text_is_like_a_code_diff_with_context() -> None:
    assert str(pair()) == (
        "1 changed, 3 unchanged groups of nodes\n"
        "  %a: f32[N,4] = nn.relu6(%x)\n"
        "@@ changed: second  (net.py:2) @@\n"
        "- %b: f32[N,4] = nn.sigmoid(%a)\n"
        "+ %b: f32[N,4] = nn.hard_sigmoid(%a)\n"
        "~ op: nn.sigmoid -> nn.hard_sigmoid\n"
        "  %c: f32[N,4] = nn.tanh(%b)\n"
        "  %d: f32[N,4] = nn.softmax(%c) {axis=1}"
    )
    lines = [line for _, line in text_lines(pair(), context=0)]
    assert not [line for line in lines if line.startswith("  %")]
    assert len(list(text_lines(pair(), only=["added"]))) == 1
    assert [style for style, _ in text_lines(pair(), context=0)] == ["bold", "cyan", "red", "green", "yellow"]


def test_the_table_counts_kinds_and_ops() -> None:
    lines = [line.split() for _, line in stat_lines(pair())]
    assert ["changed", "1", "1", "1"] in lines
    assert ["nn.sigmoid", "1"] in lines


def test_json_follows_its_schema(levels: Levels) -> None:
    graph, lowered = levels["branches", "float"], levels["branches", "litert"]
    for a, b in ((graph, lowered), (lowered, strip(lowered)), (levels["branches", "litert-fq"], graph)):
        for inputs in (None, inputs_of("branches")):
            jsonschema.validate(json.loads(qgraph.diff(a, b, inputs=inputs).to_json()), SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": 1}, SCHEMA)


def test_a_page_is_written(levels: Levels, tmp_path: Path) -> None:
    diff = qgraph.diff(levels["branches", "float"], levels["branches", "litert"], inputs=inputs_of("branches"))
    diff.to_html(tmp_path / "diff.html")
    text = (tmp_path / "diff.html").read_text()
    assert "litert.conv_2d" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("rule", "broken"),
    [("any", 1), ("changed", 1), ("params", 1), ("added,removed", 0), ("bits", 0), ("constants attrs", 0)],
)
def test_rules_say_which_changes_count(levels: Levels, rule: str, broken: bool) -> None:
    graph = levels["branches", "litert"]
    copy = graph.clone()
    rescaled(copy.find("litert.conv_2d")[0])
    diff = qgraph.diff(graph, copy)
    assert any(rule.broken_by(diff) for rule in parse_rules(rule)) == broken
    assert not any(rule.broken_by(qgraph.diff(graph, graph)) for rule in parse_rules(rule))


def test_rules_about_numbers(levels: Levels) -> None:
    graph, lowered = levels["branches", "float"], levels["branches", "litert"]
    diff = qgraph.diff(graph, lowered, inputs=inputs_of("branches"))
    lowest = min(group.numbers.sqnr_db or np.inf for group in diff.groups if group.numbers is not None)
    assert parse_rules(f"numbers:sqnr<{lowest + 1:.2f}")[0].broken_by(diff)
    assert not parse_rules(f"numbers:sqnr<{lowest - 1:.2f}")[0].broken_by(diff)
    assert parse_rules("numbers:max_error>1e-9")[0].broken_by(diff)
    for wrong in ("numbers:sqnr", "numbers:snr<3", "same", "everything"):
        with pytest.raises(InputError, match="is not a rule"):
            parse_rules(wrong)
