"""What translation validation compares, by how much, and what it names: without a pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qgraph.errors import ValidationError
from qgraph.interpreter.samples import sample_inputs
from qgraph.ir import Array, Graph, parse
from qgraph.passes.engine.log import Log
from qgraph.passes.engine.validation import (
    _close,
    _close_numbers,
    _computed,
    _difference,
    _overflows,
    _same_bits,
    validate,
    widened,
)

ROUNDED, SHARP = 2.0**-12, 2.0**-32
"""Of the largest value on the way: what rounding to float32 may do, and what it may do in float64."""
PLACEHOLDER_SCALE = 1 / 16
F32, NAN, INF = np.float32, np.nan, np.inf


def scaled(constant: float, more: str = "", inputs: str = "%x: f32[N,2]") -> Graph:
    return parse(f"""graph @g level=float ({inputs}) {{
      const @c: f32[1,2] = [{constant!r}, 1.0]
      %1: f32[N,2] = nn.relu(%x) loc(first m.py:1)
      %2: f32[N,2] = nn.mul(%1, @c) loc(second m.py:2)
      %y: f32[N,2] = nn.add(%2, %1) loc(third m.py:3)
      return %y{more}
    }}""")


def same(before: Graph, after: Graph, exact: str) -> bool:
    try:
        assert validate(before, after, exact)  # type: ignore[arg-type]
    except ValidationError:
        return False
    return True


def test_every_bit_counts_where_a_pass_says_so() -> None:
    following = float(np.nextafter(F32(0.75), F32(1)))
    assert same(scaled(0.75), scaled(0.75), "bits")
    assert not same(scaled(0.75), scaled(following), "bits")
    assert same(scaled(0.75), scaled(following), "real")


@pytest.mark.parametrize(("size", "expected"), [(0.9, True), (1.1, False)])
def test_a_difference_is_measured_against_the_largest_value_on_the_way(size: float, expected: bool) -> None:
    """Of 1000 times a constant of 0.75 the sum is 1750: constants may be off by as much as float32 rounding does."""
    assert same(scaled(0.75), scaled(0.75 + size * 1.75 * ROUNDED), "real") == expected

    def again(graph: Graph) -> None:
        value = graph.constants["c"]
        data = value.data + np.array([[size * 1.75 * SHARP, 0]])
        graph.replace_uses(value, graph.add_constant(data, "other"))

    try:
        assert validate(scaled(0.75), scaled(0.75), "real", None, again)
        found = True
    except ValidationError:
        found = False
    assert found == expected


def test_what_says_nothing_of_its_exactness_is_not_compared() -> None:
    assert validate(scaled(0.75), scaled(3.0), "no") is False


OTHERS: dict[str, Graph] = {
    "another name": parse(str(scaled(1.0)).replace("%x", "%z")),
    "another dtype": parse(str(scaled(1.0)).replace("f32", "f64")),
    "one input more": scaled(1.0, inputs="%x: f32[N,2], %z: f32[N,2]"),
    "one output more": scaled(1.0, ", %1"),
    "another rank": parse("graph @g level=float (%x: f32[N,2,2]) {\n  %1: f32[N,2,2] = nn.relu(%x)\n  return %1\n}"),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("exact", ["bits", "real"])
def test_graphs_with_other_inputs_or_outputs_are_not_compared(other: str, exact: str) -> None:
    assert validate(scaled(1.0), OTHERS[other], exact) is False  # type: ignore[arg-type]
    assert validate(OTHERS[other], scaled(1.0), exact) is False  # type: ignore[arg-type]


def test_a_size_that_was_bound_in_between_is_compared_and_a_graph_without_inputs_is_not() -> None:
    bound = parse(str(scaled(1.0)).replace("N", "4"))
    assert validate(scaled(1.0), bound, "bits") is True
    with pytest.raises(ValidationError) as caught:
        validate(scaled(1.0), parse(str(scaled(2.0)).replace("N", "4")), "bits")
    (batches,) = (array.shape for array in caught.value.inputs.values())
    assert batches[0] % 4 == 0, "whole batches"
    with pytest.raises(ValidationError) as caught:
        validate(scaled(1.0), scaled(2.0), "bits")
    groups = [sample_inputs(scaled(1.0), 6, symbol_size=3)["x"][first::3][:2] for first in range(3)]
    assert np.array_equal(caught.value.inputs["x"], groups[0]), "those of like magnitude together"
    constant = parse("graph @g level=float () {\n  const @c: f32[2] = 1.0\n  %1: f32[2] = nn.relu(@c)\n  return %1\n}")
    assert validate(constant, constant, "bits") is False


def test_where_one_input_has_a_fixed_batch_all_are_run_whole() -> None:
    text = """graph @g level=float (%x: f32[N,2], %y: f32[4,2]) {
      const @c: f32[1,2] = 1.0
      %1: f32[N,2] = nn.relu(%x)
      %2: f32[4,2] = nn.mul(%y, @c)
      return %1, %2
    }"""
    with pytest.raises(ValidationError) as caught:
        validate(parse(text), parse(text.replace("= 1.0", "= 2.0")), "bits")
    assert len(caught.value.inputs["y"]) % 4 == 0


def test_channels_that_a_pass_has_moved_are_moved_back() -> None:
    first = parse("""graph @g level=float (%x: f32[N,2,3,4]) {
      const @c: f32[2,1,1] = [1.0, 2.0]
      %1: f32[N,2,3,4] = nn.mul(%x, @c)
      return %1
    }""")
    last = parse("""graph @g level=float io_layout=NHWC (%x: f32[N,3,4,2]) {
      const @c: f32[1,1,2] = [1.0, 2.0]
      %1: f32[N,3,4,2] = nn.mul(%x, @c)
      return %1
    }""")
    wrong = parse(str(last).replace("[1.0, 2.0]", "[2.0, 1.0]"))
    for before, after in ((first, last), (last, first)):
        assert same(before, after, "bits")
        assert same(before, after, "real")
    for before, after in ((first, wrong), (wrong, first)):
        assert not same(before, after, "bits")


def test_the_message_tells_output_place_numbers_node_rule_and_inputs() -> None:
    before, after = scaled(0.75), scaled(0.25)
    log = Log(makers={after.nodes[1]: "spoil (rules.py:3)", after.nodes[2]: "other"})  # type: ignore[dict-item]
    with pytest.raises(ValidationError) as caught:
        validate(before, after, "bits", log)
    inputs = caught.value.inputs
    row = int(np.argmax(inputs["x"][:, 0]))
    largest = float(inputs["x"][row, 0])
    assert str(caught.value) == (
        f"it changes what the graph computes: %y[{row}, 0] was {F32(largest * 1.75):.9g}, and is "
        f"{F32(largest * 1.25):.9g}\n"
        '  node    %2: f32[N,2] = nn.mul(%1, @c) {activation="none"}\n'
        "  origin  second  (m.py:2)\n"
        "  rule    spoil (rules.py:3)\n"
        f"  inputs  %x float32[{len(inputs['x'])}, 2], random with seed 0"
    )
    with pytest.raises(ValidationError) as caught:
        validate(before, after, "bits")
    assert not any("rule" in line for line in caught.value.where)
    assert caught.value.where[0].startswith("node    %2")


def test_an_output_without_a_name_is_called_output_and_the_first_that_differs_is_told() -> None:
    before = scaled(0.75, ", %1, %2")
    after = parse(str(before).replace("nn.relu(%x)", "nn.relu6(%x)").replace("%y", "%9"))
    with pytest.raises(ValidationError, match=r"graph computes: %output\[") as caught:
        validate(before, after, "real")
    assert caught.value.where[:2] == ("node    %1: f64[N,2] = nn.relu6(%x)", "origin  first  (m.py:1)")


@pytest.mark.parametrize(
    ("a", "b", "index", "before", "after"),
    [
        ([1, 2, 3], [1, 5, 4], (1,), 2, 5),
        ([[1, 2], [3, 4]], [[1, 2], [9, 4]], (1, 0), 3, 9),
        ([1, NAN, 3], [9, 2, 3], (1,), NAN, 2),
        ([1, 2], [1, 2, 3], (), 2, 3),
        ([-5, 2], [1, -2], (0,), -5, 1),
        ([5, -2], [4, 2], (1,), -2, 2),
    ],
)
def test_the_largest_difference_is_told(
    a: list[float], b: list[float], index: tuple[int, ...], before: float, after: float
) -> None:
    found = _difference("y", np.array(a, F32), np.array(b, F32))
    assert (found.output, found.index) == ("y", index)
    np.testing.assert_equal([found.before, found.after], [before, after])


@pytest.mark.parametrize(
    ("judge", "a", "b", "expected"),
    [
        (_same_bits, [1.0, NAN], [1.0, NAN], True),
        (_same_bits, [1.0], [np.nextafter(F32(1), F32(2))], False),
        (_close(0.5), [1.0, 2.0], [1.5, 1.5], True),
        (_close(0.5), [1.0], [1.625], False),
        (_close(0.5), [NAN, INF], [NAN, INF], True),
        (_close(0.5), [NAN], [1.0], False),
        (_close_numbers(0.5), [NAN, 1.0], [1.0, 1.5], True),
        (_close_numbers(0.5), [NAN, 1.0], [1.0, 2.0], False),
        (_close_numbers(0.5), [1.0], [NAN], False),
        (_close_numbers(0.5), [1.0], [1.0, 1.0], False),
        (_close(0.5), [INF], [-INF], False),
        (_close(0.5), [1.0], [1.0, 1.0], False),
        (_close(0.5), [1e9], [1e9 + 512], False),
    ],
)
def test_what_counts_as_the_same(
    judge: Callable[[Array, Array], bool], a: list[float], b: list[float], expected: bool
) -> None:
    assert judge(np.array(a, F32), np.array(b, F32)) == expected


def test_bits_of_another_type_are_others_and_integers_are_compared_too() -> None:
    assert not _same_bits(np.zeros(2, F32), np.zeros(2))
    assert _same_bits(np.arange(3), np.arange(3))
    assert not _same_bits(np.arange(3), np.arange(3) + 1)


def test_a_graph_is_widened_with_placeholders_for_what_is_not_calibrated() -> None:
    graph = parse("""graph @g level=fake_quant (%x: f32[N,2]) {
      const @s: f32[1] = [nan], @z: i32[1] = 3, @t: f32[2] = [0.5, nan]
      %1: f32[N,2] = quant.fake_quant(%x, @s, @z)
      %2: i32[N,2] = nn.cast(%1) {dtype="i32"}
      %3: f32[N,2] = nn.cast(%2) {dtype="f32"}
      return %1, %3
    }""")
    wide = widened(graph)
    assert str(wide.inputs[0].type) == "f64[N,2]"
    assert str(wide.nodes[0].result.type) == "f64[N,2]"
    assert PLACEHOLDER_SCALE > 0
    assert wide.constants["s"].data.tolist() == [PLACEHOLDER_SCALE]
    assert wide.constants["s"].data.dtype == np.float64
    assert wide.constants["t"].data.tolist() == [0.5, PLACEHOLDER_SCALE]
    assert wide.constants["z"].data.dtype == np.int32
    assert wide.nodes[0].operand(1) is wide.constants["s"]
    assert [(str(node.result.type), node.attrs["dtype"]) for node in wide.nodes[1:]] == [
        ("i32[N,2]", "i32"),
        ("f64[N,2]", "f64"),
    ]
    assert graph.inputs[0].type.dtype == "f32"


@pytest.mark.parametrize(("values", "expected"), [([0.5, 0.25], 1.0), ([3.0, -7.0], 14.0), ([INF, 2.0], 4.0)])
def test_the_largest_magnitude_is_at_least_one_and_finite(values: list[float], expected: float) -> None:
    graph = parse("""graph @g level=float (%x: f32[1,2]) {
      %1: f32[1,2] = nn.add(%x, %x)
      return %1
    }""")
    outputs, results, largest = _computed(graph, {"x": np.array([values], F32)})
    assert largest == expected
    assert list(results) == [graph.outputs[0]]
    assert np.array_equal(outputs[0], np.array([values], F32) * 2)


@pytest.mark.parametrize(
    ("x", "constant", "expected"), [(3e38, 2.0, True), (2.0, 2.0, False), (2.0, INF, False), (INF, 2.0, False)]
)
def test_an_overflow_is_an_infinity_that_is_made_of_finite_numbers(x: float, constant: float, expected: bool) -> None:
    graph = parse(f"""graph @g level=float (%x: f32[N,1]) {{
      const @c: f32[1,1] = [[{constant}]], @one: i64[1,1] = [[1]]
      %1: f32[N,1] = nn.add(%x, %x)
      %2: f32[N,1] = nn.mul(%1, @c)
      return %2
    }}""")
    with np.errstate(all="ignore"):
        doubled = np.full((2, 1), x, F32) * 2
        results = {graph.inputs[0]: np.full((2, 1), x, F32), graph.nodes[0].result: doubled}
        results[graph.nodes[1].result] = doubled * F32(constant)
    assert _overflows(graph, results) == expected


def test_an_output_that_no_node_makes_is_told_without_one() -> None:
    before = parse("graph @g level=float (%x: f32[N,2]) {\n  %1: f32[N,2] = nn.relu(%x)\n  return %1\n}")
    after = parse("graph @g level=float (%x: f32[N,2]) {\n  return %x\n}")
    with pytest.raises(ValidationError, match="it changes what the graph computes: %x") as caught:
        validate(before, after, "real")
    assert [line.split()[0] for line in caught.value.where] == ["inputs"]


MASKED = """graph @g level=float (%x: f32[N,T,2], %seen: bool[N,T], %ids: i64[N,T]) {
  const @words: f32[9,2] = [0.5,1.0,-0.5,2.0,0.25,1.5,-1.0,3.0,-2.0,0.75,1.25,-0.25,2.5,-1.5,0.125,-3.0,1.75,0.375]
  %1: f32[N,T] = nn.cast(%seen) {dtype="f32"}
  %2: f32[N,T,1] = nn.reshape(%1) {shape=[-2,-3,1]}
  %3: f32[N,T,2] = nn.gather(@words, %ids) {axis=0}
  %4: f32[N,T,2] = nn.add(%x, %3)
  %5: f32[N,T,2] = nn.mul(%4, %2)
  return %5
}"""


def test_masks_and_ids_beside_floats_are_of_one_batch_and_are_seen_by_the_check() -> None:
    """As many examples of each, booleans of both kinds, and ids of more than one word."""
    graph = parse(MASKED)
    assert validate(graph, parse(MASKED), "real") is True
    inputs = sample_inputs(graph, 6, symbol_size=3)
    assert {array.shape[:2] for array in inputs.values()} == {(11, 3)}
    assert [len(np.unique(inputs[name])) for name in ("seen", "ids")] == [2, 2], "the smaller size of the table is 2"
    assert set(inputs["seen"].sum(1)) == {1, 2}, "no example is masked as a whole, or not at all"
    for right, wrong in ((" = [0.5,1.0,", " = [0.5,1.25,"), ("nn.mul(%4, %2)", "nn.add(%4, %2)")):
        with pytest.raises(ValidationError):
            validate(graph, parse(MASKED.replace(right, wrong)), "real")


def test_where_the_batch_is_not_first_sizes_still_agree() -> None:
    graph = parse("""graph @g level=float (%x: f32[T,N,2], %ids: i64[N,T]) {
      %1: f32[N,T] = nn.cast(%ids) {dtype="f32"}
      %2: f32[T,N] = nn.transpose(%1) {perm=[1,0]}
      %3: f32[T,N,1] = nn.reshape(%2) {shape=[-2,-3,1]}
      %4: f32[T,N,2] = nn.add(%x, %3)
      return %4
    }""")
    assert validate(graph, graph.clone(), "real") is True


def test_a_result_that_is_an_index_along_the_batch_alone_has_examples() -> None:
    graph = parse("""graph @g level=float (%ids: i64[N,2]) {
      %1: i64[N] = nn.arange(%ids) {axis=0, start=0, step=1}
      return %1
    }""")
    assert validate(graph, graph.clone(), "bits") is True
