from __future__ import annotations

from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qgraph.arith import stages as stages_module
from qgraph.arith.stages import Program, StageError
from qgraph.arith.stages_grammar import FORMS
from qgraph.arith.stages_rounding import ROUNDINGS, divide, round_floats, shift_right
from qgraph.arith.stages_widths import MODES
from tests.arith.plain_stages import Machine, fitted, rounded

TIE_TABLE = {  # what twice the value is, to the results in the order floor, toward_zero, half_up, half_away, half_even
    1: (0, 0, 1, 1, 0),
    3: (1, 1, 2, 2, 2),
    -1: (-1, 0, 0, -1, 0),
    -3: (-2, -1, -1, -2, -2),
    5: (2, 2, 3, 3, 2),
}
INTEGERS = st.one_of(
    st.integers(-300, 300),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 31).flatmap(lambda n: st.sampled_from([(1 << n) + d for d in (-1, 0, 1)])),
    st.integers(0, 31).flatmap(lambda n: st.sampled_from([-(1 << n) + d for d in (0, 1)])),
)
ROUNDING = st.sampled_from(ROUNDINGS)
NAMES = ("a", "b", "n")  # two integers and a shift


@pytest.mark.parametrize("doubled", TIE_TABLE)
def test_ties_go_where_the_table_says(doubled: int) -> None:
    modes = ("floor", "toward_zero", "half_up", "half_away", "half_even")
    for rounding, expected in zip(modes, TIE_TABLE[doubled], strict=True):
        assert shift_right(np.array([doubled]), 1, rounding)[0] == expected
        assert divide(np.array([doubled]), 2, rounding)[0] == expected
        assert round_floats(np.array([doubled / 2]), rounding)[0] == expected
        assert round_floats(np.array([doubled / 2], np.float32), rounding)[0] == expected


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_shifts_and_divisions_of_all_small_integers_follow_the_definitions(rounding: str) -> None:
    value = np.arange(-600, 600)
    for amount in range(11):
        expected = [rounded(Fraction(int(v), 2**amount), rounding) for v in value]
        assert shift_right(value, amount, rounding).tolist() == expected
    for divisor in range(1, 50):
        expected = [rounded(Fraction(int(v), divisor), rounding) for v in value]
        assert divide(value, divisor, rounding).tolist() == expected


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 63), ROUNDING)
def test_a_shift_is_exact_up_to_the_last_bit_of_int64(value: int, amount: int, rounding: str) -> None:
    expected = rounded(Fraction(value, 2**amount), rounding)
    assert shift_right(np.array([value]), np.array([amount]), rounding)[0] == expected
    assert shift_right(np.array([value], object), np.array([amount], object), rounding)[0] == expected


@pytest.mark.parametrize("amount", [1, 31, 32, 62, 63])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_shift_is_exact_beside_each_tie_and_at_the_ends_of_int64(amount: int, rounding: str) -> None:
    near = {(k << (amount - 1)) + d for k in range(-3, 4) for d in (-1, 0, 1)} | {-(2**63), 2**63 - 1}
    values = sorted(v for v in near if -(2**63) <= v < 2**63)
    expected = [rounded(Fraction(v, 2**amount), rounding) for v in values]
    assert shift_right(np.array(values), amount, rounding).tolist() == expected


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**62), ROUNDING)
def test_a_division_is_exact_up_to_the_last_bit_of_int64(value: int, divisor: int, rounding: str) -> None:
    assert divide(np.array([value]), divisor, rounding)[0] == rounded(Fraction(value, divisor), rounding)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_floats_beside_each_tie_are_rounded_by_the_definitions(kind: type[np.floating], rounding: str) -> None:
    ties = np.concatenate([np.arange(0, 300) + 0.5, np.arange(0, 300), 2.0 ** np.arange(-60, 60)]).astype(kind)
    x = np.concatenate([ties, np.nextafter(ties, kind(0)), np.nextafter(ties, kind(np.inf))])
    x = np.concatenate([x, -x])
    assert round_floats(x, rounding).tolist() == [rounded(Fraction(float(v)), rounding) for v in x]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", ["s1", "s2", "s8", "u1", "u4", "u16", "s20", "s34", "s48", "u63", "s63", "s64"])
def test_a_width_is_kept_as_the_mode_says(width: str, mode: str) -> None:
    low, high = (-(1 << (int(width[1:]) - 1)), (1 << (int(width[1:]) - 1)) - 1)
    near = {end + d for end in (low, high, 2 * low, 2 * high, 0, 3 * high) for d in (-2, -1, 0, 1, 2)}
    values = sorted({v for v in near if -(2**63) <= v < 2**63} | {-(2**63), 2**63 - 1})
    words = mode.split()
    program = Program.parse([" ".join([words[0], width, *words[1:]])])
    expected = [fitted(v, width, mode) for v in values]
    assert program.apply(np.array(values), {}).tolist() == expected
    assert Program.parse([f"add 0 to {width} {mode}"]).apply(np.array(values), {}).tolist() == expected


def integer_stages() -> st.SearchStrategy[str]:
    operand = st.one_of(st.sampled_from(["a", "b", "x"]), st.integers(-(2**20), 2**20).map(str))
    width = st.tuples(st.sampled_from("su"), st.integers(1, 63)).map(lambda w: f"{w[0]}{w[1]}")
    amount = st.one_of(st.just("n"), st.integers(0, 40).map(str))
    modes = st.sampled_from(list(MODES))
    arithmetic = st.tuples(st.sampled_from(["add", "subtract", "multiply", "maximum", "minimum"]), operand).map(
        " ".join
    )
    fits = st.tuples(modes, width).map(lambda f: " ".join([f[0].split()[0], f[1], *f[0].split()[1:]]))
    shifts = st.tuples(st.just("shift right"), amount, ROUNDING).map(" ".join)
    words = st.one_of(
        arithmetic,
        arithmetic,
        fits,
        shifts,
        st.sampled_from(["negate", "absolute", "take a", "take x"]),
        st.tuples(operand, operand).map(lambda o: f"clamp {o[0]} {o[1]}"),
        st.integers(0, 30).map(lambda n: f"shift left {n}"),
        st.tuples(st.just("shift right"), st.integers(-20, 40).map(str), ROUNDING, st.just("negative left")).map(
            " ".join
        ),
        st.tuples(st.just("divide"), st.integers(1, 1000).map(str), ROUNDING).map(" ".join),
    )
    suffixed = st.tuples(words, width, modes).map(lambda t: t[0] if t[0][:4] == "keep" else f"{t[0]} to {t[1]} {t[2]}")
    named = st.sampled_from(["negative", "positive", "not negative", "not positive"])
    compared = st.tuples(
        st.sampled_from(["value", "a", "x", "n"]), st.sampled_from(["<", ">", ">=", "<=", "=="]), operand
    )
    conditions = st.lists(st.one_of(named, compared.map(" ".join)), min_size=1, max_size=2).map(" and ".join)
    stages = st.one_of(words, suffixed)
    return st.one_of(
        stages, st.tuples(stages, conditions).map(lambda t: t[0] if t[0][:4] == "keep" else " where ".join(t))
    )


@settings(max_examples=400)
@given(
    st.lists(integer_stages(), min_size=1, max_size=6),
    st.lists(INTEGERS, min_size=1, max_size=8),
    st.lists(st.tuples(INTEGERS, INTEGERS, st.integers(0, 40)), min_size=2, max_size=2),
)
def test_programs_give_what_python_integers_give_and_stay_within_their_ranges(
    stages: list[str], values: list[int], channels: list[tuple[int, int, int]]
) -> None:
    program = Program.parse(stages)
    operands = {name: np.array([c[i] for c in channels]) for i, name in enumerate(NAMES)}
    x = np.repeat(np.array(values)[:, None], 2, axis=1)
    try:
        ranges = program.ranges((min(values), max(values)), operands)
    except StageError:
        assume(False)
    made = program.apply(x, operands)
    with mock.patch.object(stages_module, "WORTH_ROWS", 1):
        assert np.array_equal(program.apply(x, operands), made)
    expected = [[Machine(v, dict(zip(NAMES, c, strict=True))).run(stages) for c in channels] for v in values]
    assert made.tolist() == expected
    for prefix, bound in enumerate(ranges, 1):
        after = Program.parse(stages[:prefix]).apply(x, operands)
        assert np.all((bound.low <= after) & (after <= bound.high))


@settings(max_examples=200)
@given(integer_stages(), st.integers(-60, 60), st.integers(0, 60), st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_the_range_of_one_stage_is_met_at_both_ends(stage: str, low: int, length: int, ab: tuple[int, int]) -> None:
    assume("and" not in stage and "x" not in stage.split())  # a range knows no ties between a condition and another
    assume("take" not in stage and "to zero" not in stage)
    operands = {"a": [ab[0]], "b": [ab[1]], "n": [3]}
    program = Program.parse([stage])
    bound = program.ranges((low, low + length), operands)[0]
    made = program.apply(np.arange(low, low + length + 1)[:, None], operands)
    wraps = "wrap" in stage  # between the ends of a torn interval there are only some of the values
    assert (made.min() >= bound.low[0]) if wraps else (made.min() == bound.low[0])
    assert (made.max() <= bound.high[0]) if wraps else (made.max() == bound.high[0])


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_float_stages_round_where_ieee_does(kind: str, rounding: str) -> None:
    stages = [f"convert {kind}", "multiply scale", "add 0.5", "divide 3", f"round {rounding} to s8 saturate"]
    generator = np.random.default_rng(0)
    near = [s * (2**24 + d) for s in (1, -1, 3, 7, 2**30, 2**37) for d in range(-3, 4)]
    x = np.array([*near, *generator.integers(-(2**40), 2**40, 100), *range(-50, 50)])
    for scale in (0.1, 1.5, 1e-6, 2.0**-20):
        operand = np.array(scale, kind)
        expected = [Machine(int(v), {"scale": Fraction(float(operand))}).run(stages) for v in x]
        program = Program.parse(stages)
        assert program.apply(x, {"scale": operand}, np.int8).tolist() == expected
        bound = program.ranges((int(x.min()), int(x.max())), {"scale": operand})
        assert [bound[-1].low[0], bound[-1].high[0]] == [min(expected), max(expected)]


def test_an_integer_becomes_a_float_in_one_rounding() -> None:
    value = 2**54 + 2**30 + 1  # by way of float64 it would become a tie of float32, and go to the even one
    assert Program.parse(["convert float32"]).apply(np.array([value]), {}, np.float32)[0] == 2**54 + 2**31
    assert Program.parse(["convert float32"]).ranges((value, value), {})[0].high[0] == 2**54 + 2**31


def test_thresholds_count_those_that_are_not_above_the_value() -> None:
    program = Program.parse(["threshold t", "subtract 2"])
    thresholds = np.array([[-3, 0, 0, 5], [1, 2, 3, 4]])
    x = np.array([[-4, 0], [-3, 1], [0, 3], [5, 9]])
    assert program.apply(x, {"t": thresholds}).tolist() == [[-2, -2], [-1, -1], [1, 1], [2, 2]]
    assert program.apply(x[:, :1], {"t": thresholds[0]}).tolist() == [[-2], [-1], [1], [2]]
    bound = program.ranges((-3, 2), {"t": thresholds})[0]
    assert (bound.low.tolist(), bound.high.tolist()) == ([1, 0], [3, 2])


def test_tables_are_read_at_the_value_and_between_entries() -> None:
    table = np.array([0, 10, -20, 5], np.int8)
    assert Program.parse(["table t"]).apply(np.array([3, 0]), {"t": table}).tolist() == [5, 0]
    between = Program.parse(["interpolate t 2"])
    assert between.apply(np.arange(12), {"t": table}).tolist() == [0, 10, 20, 30, 40, 10, -20, -50, -80, -55, -30, -5]
    bound = between.ranges((1, 9), {"t": table})[0]
    assert (bound.low[0], bound.high[0]) == (-80, 40)


def test_two_tables_may_serve_two_parts_of_the_values() -> None:
    program = Program.parse(["keep v", "table low where v < 4", "subtract 4 where v >= 4", "table high where v >= 4"])
    operands = {"low": np.array([5, 6, 7, 8]), "high": np.array([50, 60])}
    assert program.apply(np.array([0, 3, 4, 5]), operands).tolist() == [5, 8, 50, 60]


def test_kept_values_join_again() -> None:
    program = Program.parse(["multiply 3", "keep a", "take y", "multiply 5 to s8 wrap", "add a"])
    assert program.names == ("y",)
    assert program.apply(np.array([1, 2]), {"y": np.array([10, 100], np.int8)}).tolist() == [53, -6]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_its_formula(form: str) -> None:
    places = {"OPERAND": "a", "NAME": "t", "ROUNDING": "floor", "WIDTH": "s8", "FLOAT": "float64", "BITS": "7"}
    text = " ".join(places.get(word, word) for word in form.split())
    before = ["convert float32"] if form in ("round ROUNDING", "divide OPERAND") else []
    assert "= " in Program.parse([*before, text]).words()


@pytest.mark.parametrize(
    "stages",
    [
        ("add bias to s32 wrap", "multiply m", "shift right n half_away", "keep a", "take y", "multiply 3", "add a"),
        ("keep a", "multiply m to s24 wrap", "take a where negative", "shift right n half_even", "saturate s8"),
        ("take y", "add x", "shift right 3 half_to_zero", "saturate s8 to zero", "clamp low 90"),
        ("absolute", "minimum 255", "table t", "subtract bias", "shift left 2", "shift right n ceil", "wrap u8"),
        ("convert float32", "multiply scale", "round half_even to s8 saturate", "add y"),
        ("shift right m toward_zero where m > 20", "shift right n floor", "maximum low", "divide 7 half_up"),
    ],
)
@pytest.mark.parametrize("shape", [(3, 50, 7), (2, 9000, 2), (70000, 1), (1, 20000)])
def test_long_rows_give_what_single_values_give(stages: tuple[str, ...], shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(3)
    x, y = generator.integers(-(2**20), 2**20, shape).astype(np.int32), generator.integers(-128, 128, shape)
    channels = shape[-1]
    operands = {
        "bias": generator.integers(-(2**18), 2**18, channels).astype(np.int32),
        "m": generator.integers(1, 30, channels),
        "n": np.full(1, 9) if channels == 2 else generator.integers(0, 12, channels),
        "low": np.array(-100),
        "t": generator.integers(-128, 128, 256).astype(np.int8),
        "y": y.astype(np.int8),
        "scale": np.float32(0.0007),
    }
    program = Program.parse(stages)
    made = program.apply(x, operands, np.int32)
    with mock.patch.object(stages_module, "WORTH_ROWS", x.size + 1):
        assert np.array_equal(made, program.apply(x, operands, np.int32))


ERRORS: dict[str, tuple[list[str], str]] = {
    "an unknown word": (
        ["add 1", "scale 3"],
        'stage 2 "scale 3": "scale" is not the first word of a stage\n  help    allowed: add, subtract, multiply, '
        "maximum, minimum, negate, absolute, clamp, shift, divide, saturate, wrap, convert, round, threshold, table, "
        "interpolate, keep, take",
    ),
    "a wrong rounding": (
        ["divide 3 half"],
        'stage 1 "divide 3 half": "half" does not fit there\n  help    allowed: divide OPERAND ROUNDING | divide '
        "OPERAND; ROUNDING: floor, ceil, toward_zero, half_up, half_down, half_away, half_to_zero, half_even",
    ),
    "a wrong width": (
        ["add bias to s65 wrap"],
        'stage 1 "add bias to s65 wrap": "to s65 wrap" is not a width and a mode\n  help    allowed: to WIDTH MODE, '
        "with WIDTH s1 to s64 or u1 to u63 and MODE one of saturate, saturate symmetric, saturate to zero, wrap",
    ),
    "a name for two values": (
        ["keep x"],
        'stage 1 "keep x": x has a value already\n  help    allowed: keep NAME, a name that is new',
    ),
    "a conditional name": (
        ["keep a where negative"],
        'stage 1 "keep a where negative": it keeps the value as it is, everywhere\n  help    allowed: keep NAME',
    ),
    "a float that is treated as an integer": (
        ["convert float32", "saturate s8"],
        'stage 2 "saturate s8": it takes an integer and the value is of float32; `round ROUNDING` makes an integer of '
        "it",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_stage_that_is_none_is_refused_with_what_is_allowed(case: str) -> None:
    stages, message = ERRORS[case]
    with pytest.raises(StageError) as caught:
        Program.parse(stages)
    assert str(caught.value) == message


REFUSED: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "a sum of 65 bits": (["multiply m"], {"m": 2**60}, "the value may need 70 bits"),
    "a shift too far": (["shift right n floor"], {"n": [1, 64]}, "shifts are from 0 to 63, and n is 1 to 64"),
    "a negative shift": (["shift right n floor"], {"n": -1}, "end the stage with `negative left`"),
    "a float operand": (["add m"], {"m": 0.5}, "m is a float and the value an integer"),
    "a divisor of 0": (["divide n floor"], {"n": 0}, "divisors are positive"),
    "a value beside the table": (["table t"], {"t": np.zeros(256)}, "t has 256 entries, for values from 0 to 255"),
    "unsorted thresholds": (["threshold t"], {"t": [2, 1]}, "thresholds are [T] or [C, T] and ascend"),
    "a float beyond float32": (
        ["convert float32", "multiply m", "multiply m"],
        {"m": np.float32(1e30)},
        "the value may be too large for a float",
    ),
    "a float beyond int64": (["convert float32", "multiply m", "round floor"], {"m": 1e30}, "may need"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_operands_or_ranges_do_not_admit_is_refused(case: str) -> None:
    stages, operands, message = REFUSED[case]
    with pytest.raises(StageError) as caught:
        Program.parse(stages, where=("chip.toml:3",)).ranges((-256, 256), operands)
    assert message in str(caught.value)
    assert str(caught.value).splitlines()[1] == "  chip.toml:3"


def test_a_product_beyond_int64_may_wrap_but_not_saturate() -> None:
    operands = {"m": 2**40 + 12345}
    wraps = Program.parse(["multiply m to s32 wrap"])
    wraps.ranges((-(2**40), 2**40), operands)
    x = 2**40 - 987654321
    assert wraps.apply(np.array([x]), operands)[0] == fitted(x * (2**40 + 12345), "s32", "wrap")
    with pytest.raises(StageError, match="82 bits"):
        Program.parse(["multiply m to s32 saturate"]).ranges((-(2**40), 2**40), operands)


def test_amounts_where_the_stage_does_not_act_are_free() -> None:
    program = Program.parse(["shift right n half_up where n > 0", "shift left m where n <= 0"])
    operands = {"n": np.array([-3, 2]), "m": np.array([3, -2])}
    program.ranges((-9, 9), operands)
    assert program.apply(np.array([[6, 6]]), operands).tolist() == [[48, 2]]
