"""`qgraph ops` says of each op and target what `prepare` then does."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import qgraph
from qgraph import targets
from qgraph.cli.app import app
from qgraph.cli.op_listing import WORDS, front_end, on_target
from qgraph.errors import LoweringError
from qgraph.ir import Builder, Graph, TensorType, op_def, op_names
from qgraph.ir.op import REQUIRED

RUN = CliRunner()
ALONE = [
    op
    for op in op_names("nn")
    if op_def(op).traits.elementwise
    and not op_def(op).traits.acts_in_training
    and len(op_def(op).operands) == 1
    and all(spec.default is not REQUIRED for spec in op_def(op).attrs.values())
    and op_def(op).operands[0].pattern.text.startswith("f")
]
"""Functions of one value that need no attributes."""


@pytest.mark.parametrize("target", targets.coded_names())
@pytest.mark.parametrize("op", ALONE)
def test_what_the_listing_says_is_what_prepare_does(op: str, target: str) -> None:
    graph = Graph("one")
    x = graph.add_input("x", TensorType(("N", 4, 4, 4)))
    graph.set_outputs(Builder(graph).node(op, [x], {}).results)
    word, refusal = on_target(op, targets.get(target)), ""
    try:
        qgraph.prepare(graph, target)
    except LoweringError as error:
        refusal = str(error)
    if word == "integers":
        assert not refusal
    elif word == "by ops":  # one of the ops that it is written by may be refused, with the reason
        assert f"cannot lower {op}" not in refusal
    else:
        assert "cannot lower" in refusal or "has no" in refusal
    if word == "float":
        qgraph.prepare(graph, target, fallback="float")


def test_every_op_has_a_word_for_every_target() -> None:
    listed = json.loads(RUN.invoke(app, ["ops", "--json"]).stdout)
    assert [*listed] == op_names("nn")
    assert all([*row] == targets.coded_names() and {*row.values()} <= {*WORDS} for row in listed.values())


def test_one_op_is_told_with_its_operands_and_ways() -> None:
    told = RUN.invoke(app, ["ops", "lstm"]).stdout
    for words in ("nn.lstm", "operand    r: weight", "attribute  reverse: bool", "by         nn.linear, nn.sigmoid"):
        assert words in told


def test_front_ends_list_what_they_read() -> None:
    assert "aten.conv2d.default" in front_end("torch")
    assert "aten.reshape.default" in front_end("torch")
    assert RUN.invoke(app, ["ops", "onnx"]).stdout.split() == front_end("onnx")


def test_an_op_that_there_is_not_is_an_error() -> None:
    result = RUN.invoke(app, ["ops", "nope"])
    assert result.exit_code != 0
    assert "there is no op 'nn.nope'" in str(result.exception)
