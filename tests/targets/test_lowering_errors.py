"""What lowering says of a graph that is not ready to be lowered."""

from __future__ import annotations

import pytest

import qgraph
from qgraph.errors import LoweringError, NotCalibrated, QGraphError
from qgraph.passes import lower
from qgraph.targets import get
from qgraph.targets.lowering import Lowering

HEAD = """graph @g level=fake_quant target=litert (%x: f32[N,4], %y: f32[N,4]) {
  const @s: f32[1] = 0.25, @z: i32[1] = 3, @nan: f32[1] = [nan], @k: f32[1,4] = 0.5
"""
X, Y = (f"  %{n}: f32[N,4] = quant.fake_quant(%{v}, @s, @z) loc({v} m.py:{n})\n" for n, v in ((1, "x"), (2, "y")))


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (X + "  return %1\n}", LoweringError, "input %y is not used"),
        (X + "  return %1, %y\n}", LoweringError, "input %y is not used"),
        (
            X + "  %2: f32[N,4] = nn.add(%1, %y)\n  return %2\n}",
            LoweringError,
            "input %y is not fake-quantized",
        ),
        (X + Y + "  return %1, %2, @k\n}", LoweringError, "output 2 is not computed from an input"),
        (
            X.replace("@s", "@nan") + Y.replace("@s", "@nan") + "  return %1, %2\n}",
            NotCalibrated,
            "values without a scale: 2, the first is %x",
        ),
    ],
)
def test_what_is_missing_is_said(body: str, error: type[QGraphError], message: str) -> None:
    graph = qgraph.parse(HEAD + body)
    with pytest.raises(error) as caught:
        Lowering(graph, get("litert"), "integer").run()
    assert message in str(caught.value)
    assert caught.value.help


def test_an_io_that_there_is_not_is_refused() -> None:
    with pytest.raises(QGraphError, match="io='codes' is not a choice"):
        lower(qgraph.parse(HEAD + X + Y + "  return %1, %2\n}"), target="litert", io="codes")


def test_names_of_results_are_kept_where_they_were_given_and_made_where_not() -> None:
    graph = qgraph.parse(HEAD + X + Y + "  return %1\n}".replace("%1", "a=%1, %2"))
    for io in ("integer", "float"):
        lowered = lower(graph, target="litert", io=io)
        assert lowered.output_names == ["a", "output_1"]
        assert [value.type.dtype for value in (*lowered.inputs, *lowered.outputs)] == (
            ["i8"] * 4 if io == "integer" else ["f32"] * 4
        )
    one = lower(qgraph.parse(HEAD.replace(", %y: f32[N,4]", "") + X + "  return %1\n}"), target="litert", io="float")
    assert one.output_names == ["output"]
    assert one.metadata["io"] == "float"
