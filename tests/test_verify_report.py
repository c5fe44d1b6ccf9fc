"""What a verification says: its text and its JSON, and what counts as a difference."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qgraph.ir import Array
from qgraph.verification import NodeReport, OutputReport, Verification
from qgraph.verification.verify_runtime import _difference

SAME = Verification("litert", "LiteRT 2.3", "x86_64", 3, (OutputReport("a", 30, 0, 0.0), OutputReport("b", 6, 0, 0.0)))
NODES = (
    NodeReport("%1 = litert.relu(%x)", ("act",), 30, 0, 0.0),
    NodeReport("%2 = litert.add(%1, %1)", ("add", "more"), 30, 2, 1.0),
    NodeReport("%3 = litert.relu(%2)", ("last",), 30, 4, 3.0),
)
DIFFERENT = Verification(
    "litert", "LiteRT 2.3", "x86_64", 3, (OutputReport("a", 30, 4, 3.0), SAME.outputs[1]), NODES, ("a note",)
)


def test_where_all_is_the_same_little_is_said() -> None:
    assert SAME.bit_exact
    assert str(SAME) == (
        "bit-exact: 0 of 36 output elements differ over 3 samples\n"
        "  runtime    litert: LiteRT 2.3\n"
        "  processor  x86_64\n"
        "  output     a: 0 of 30 differ\n"
        "  output     b: 0 of 6 differ"
    )


def test_a_difference_is_told_from_the_output_to_the_first_node() -> None:
    assert not DIFFERENT.bit_exact
    assert DIFFERENT.first_difference is NODES[1]
    assert str(DIFFERENT) == (
        "NOT bit-exact: 4 of 36 output elements differ over 3 samples\n"
        "  runtime    litert: LiteRT 2.3\n"
        "  processor  x86_64\n"
        "  output     a: 4 of 30 differ, by up to 3\n"
        "  output     b: 0 of 6 differ\n"
        "  nodes      3 results: 6 of 90 elements differ\n"
        "  first      %2 = litert.add(%1, %1)\n"
        "             from add\n"
        "             from more\n"
        "             2 of 30 differ, by up to 1\n"
        "  note       a note"
    )


def test_a_node_that_differs_is_no_bit_exactness_though_outputs_agree() -> None:
    report = Verification("litert", "LiteRT 2.3", "x86_64", 3, SAME.outputs, NODES)
    assert report.mismatches == 0
    assert not report.bit_exact


def test_json_holds_what_the_text_holds() -> None:
    words = json.loads(DIFFERENT.to_json())
    assert words["bit_exact"] is False
    assert words["first_difference"]["node"] == NODES[1].node
    assert words["outputs"][0] == {"name": "a", "compared": 30, "mismatches": 4, "largest": 3.0}
    assert len(words["nodes"]) == 3
    assert json.loads(SAME.to_json())["first_difference"] is None


I8, F32, NAN = np.int8, np.float32, np.float32("nan")
OTHER_NAN = np.array([0x7FC00001], np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs", "mismatches", "largest"),
    [
        (np.array([1, 2, 3], I8), np.array([1, 2, 3], I8), 0, 0.0),
        (np.array([1, -128, 3], I8), np.array([1, 127, 4], I8), 2, 255.0),
        (np.array([0.0, 1.0], F32), np.array([-0.0, 1.5], F32), 2, 0.5),
        (np.array([NAN, 1.0], F32), np.array([NAN, 1.0], F32), 0, 0.0),
        (np.array([NAN], F32), OTHER_NAN, 1, 0.0),
        (np.array([1, 2], I8), np.array([[1, 3]], I8), 2, np.inf),
        (np.array([1, 2], I8), np.array([1, 2], np.uint8), 2, np.inf),
        (np.zeros((2, 3), F32)[:, ::2], np.zeros((2, 2), F32), 0, 0.0),
    ],
)
def test_elements_differ_where_a_bit_differs(ours: Array, theirs: Array, mismatches: int, largest: float) -> None:
    assert _difference([(ours, theirs)]) == (ours.size, mismatches, largest)


def test_differences_add_up_over_batches() -> None:
    pairs = [(np.array([1, 2], I8), np.array([1, 7], I8)), (np.array([1, 2, 3], I8), np.array([2, 2, 3], I8))]
    assert _difference(pairs) == (5, 2, 5.0)
    shapes = (np.array([1], I8), np.array([[1]], I8))
    assert _difference([shapes, *pairs]) == (6, 3, float("inf"))
