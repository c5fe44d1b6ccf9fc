"""The pieces of C programs by hand: memory, numbers, names, and moves as loops."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from qgraph.errors import UnsupportedOp
from qgraph.exporters.c99 import Program, ctext
from qgraph.exporters.c99.arena import Life, place
from qgraph.ir import TensorType
from qgraph.targets.c_moves import MOST_BOXES, OWN, SOURCE_BITS, Box, _boxes, _copy, _digits, _look_up, _loops, _merged
from qgraph.targets.c_moves import _with_sources as with_sources

# ---- memory


@pytest.mark.parametrize(
    ("lives", "offsets", "used"),
    [
        ([], [], 0),
        ([Life(1, 0, 0)], [0], 8),
        ([Life(8, 0, 1), Life(8, 1, 2)], [0, 8], 16),  # both in step 1
        ([Life(8, 0, 1), Life(8, 2, 2)], [0, 0], 8),
        ([Life(8, 2, 2), Life(16, 0, 2)], [16, 0], 24),  # the largest first
        ([Life(9, 0, 2), Life(8, 0, 0), Life(8, 1, 1)], [0, 16, 16], 24),
        ([Life(32, 0, 0), Life(24, 0, 1), Life(20, 2, 2), Life(17, 1, 1)], [0, 32, 0, 0], 56),
        ([Life(8, 0, 3), Life(24, 0, 1), Life(16, 2, 3)], [24, 0, 0], 32),
        (
            [Life(24, 0, 0), Life(16, 0, 1), Life(16, 1, 1), Life(16, 1, 1)],
            [0, 24, 0, 40],
            56,
        ),  # 8 bytes are left at 16
        ([Life(24, 0, 0), Life(16, 0, 1), Life(16, 1, 1), Life(8, 1, 1)], [0, 24, 0, 16], 40),
    ],
)
def test_each_value_lies_at_the_lowest_place_that_is_free(lives: list[Life], offsets: list[int], used: int) -> None:
    found = place(lives)
    taken = {
        (step, byte)
        for life, at in zip(lives, found[0], strict=True)
        for step in range(life.first, life.last + 1)
        for byte in range(at, at + life.size)
    }
    assert len(taken) == sum(life.size * (life.last + 1 - life.first) for life in lives)
    assert found == (offsets, used)


def test_a_block_has_the_name_of_its_type_and_values_lie_in_it() -> None:
    program = Program()
    program.step("one")
    a, b = program.value("a", "int8", 5), program.value("b", "uint8", 3)
    program.value("c", "int32", 0)
    program.step("two")
    program.needed(a)
    program.needed("no array")
    program.value("d", "int32", 3)
    program.value("e", "int8", 9)
    assert program.memory() == (
        ["static int8_t int8_arena[24];", "static int32_t int32_arena[4];"],
        [
            "int8_t *const v_a = int8_arena + 16;",
            "uint8_t *const v_b = (uint8_t *)(int8_arena);",
            "int8_t *const v_e = int8_arena;",
            "int32_t *const v_c = int32_arena;",
            "int32_t *const v_d = int32_arena;",
        ],
        40,
    )
    assert (a, b, program.value("a", "int8", 1)) == ("v_a", "v_b", "v_a_2")


@pytest.mark.parametrize(
    ("word", "block", "elements"),
    [
        *[("int8", "int8", 8), ("uint16", "int16", 4), ("int32", "int32", 4), ("int64", "int64", 3)],
        *[("float", "float", 4), ("double", "double", 3), ("uint8", "int8", 8), ("int16", "int16", 4)],
    ],
)
def test_three_elements_take_whole_words_of_eight_bytes(word: str, block: str, elements: int) -> None:
    program = Program()
    program.step("one")
    program.value("a", word, 3)
    (text,), _, used = program.memory()
    assert text == f"static {ctext.type_name(block)} {block}_arena[{elements}];"
    assert used == (24 if block in ("int64", "double") else 16 if block in ("int32", "float") else 8)


def test_equal_constants_are_one_and_their_bytes_count_once() -> None:
    program = Program()
    assert program.constant("a", np.int8([1, 2])) == "k_a"
    assert program.constant("b", np.int8([1, 2])) == "k_a"
    assert program.constant("b", np.uint8([1, 2])) == "k_b"
    assert program.constant_bytes == 4
    assert program.struct("s", "qg_t", [1, "k_a"]) == program.struct("t", "qg_t", [1, "k_a"]) == "k_s"
    assert program.struct("t", "qg_u", [1, "k_a"]) == "k_t"
    assert program._texts[2:] == ["static const qg_t k_s = {1, k_a};", "static const qg_u k_t = {1, k_a};"]


def test_a_program_declares_what_it_takes_and_what_it_keeps() -> None:
    program = Program()
    assert program.parameter("x", "int8", 4, "i8[4]", given=True) == "x"
    assert program.parameter("y", "float", 2, "f32[2]", given=False) == "y"
    assert program.state("h", np.int16([7, 8, 9])) == "state_h"
    program.step("nothing")
    program.step("a */ step")
    program.call("f", "x", 3)
    program.check("g(y)")
    source, header, used = program.source("net")
    assert used == 6
    assert "#define MODEL_ARENA_BYTES 6\n" in header
    assert "int model_run(const int8_t *x, float *y);" in header
    assert " * x: int8_t i8[4]\n * y: float f32[2]\n" in header
    assert "void model_reset(void);" in header
    assert "static int16_t state_h[3];" in source
    assert "    memcpy(state_h, k_first_h, sizeof state_h);" in source
    assert "    /* a * / step */\n    f(x, 3);\n    if (g(y) != 0) { return 1; }\n\n    return 0;\n}\n" in source
    empty = Program()
    empty.step("nothing")
    source, header, used = empty.source("net")
    assert used == 0
    assert "model_reset" not in source + header
    assert "int model_run(void)" in header


# ---- numbers and names


def test_arrays_of_numbers_are_broken_into_lines() -> None:
    assert ctext.array("a", np.zeros(0, np.int8)) == "static const int8_t a[1] = {\n    0,\n};"
    lines = ctext.array("a", np.full(30, 12, np.int8)).split("\n")
    assert [len(line) for line in lines[1:-1]] == [3 + 28 * 4, 3 + 2 * 4]
    assert lines[0] == "static const int8_t a[30] = {"
    exact = ctext.array("a", np.int8([12] * 28 + [5, 5])).split("\n")
    assert [len(line) for line in exact[1:-1]] == [118, 6]  # as many as fit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(2**31 - 1, "2147483647"), (-(2**31) + 1, "-2147483647"), (-(2**31) - 1, "INT64_C(-2147483649)")],
        *[
            (np.float64(2), "2.0"),
            (np.float32(1e10), "10000000000.0f"),
            (True, "1"),
            (np.int64(2**62), f"INT64_C({2**62})"),
        ],
    ],
)
def test_numbers_are_of_their_type(value: object, text: str) -> None:
    assert ctext.literal(value) == text


def test_words_are_those_of_storage() -> None:
    words = {each: ctext.word(TensorType((1,), each)) for each in ("i4", "i8", "u8", "bool", "f32", "i64")}
    assert words == {"i4": "int8", "i8": "int8", "u8": "uint8", "bool": "uint8", "f32": "float", "i64": "int64"}
    assert [ctext.type_name(each) for each in ("float", "double", "int8")] == ["float", "double", "int8_t"]
    assert [ctext.word_of(np.zeros(1, each)) for each in (np.float32, np.bool_, np.int16)] == [
        "float",
        "uint8",
        "int16",
    ]


def test_numbers_taken_are_passed_over() -> None:
    assert ctext.identifier("x", ("x", "x_2", "x_3")) == "x_4"
    assert ctext.identifier("_a_") == "a"
    assert ctext.identifier("a" * 39 + "bc") == "a" * 38 + "bc"


# ---- moves


@pytest.mark.parametrize(
    ("dtype", "digits"),
    [
        ("bool", (0, 2)),
        ("i8", (-128, 256)),
        ("u8", (0, 256)),
        ("i16", (-32768, 65536)),
        ("i32", (0, 2**24)),
        ("f32", (0, 2**24)),
    ],
)
def test_digits_are_what_a_storage_holds(dtype: str, digits: tuple[int, int]) -> None:
    assert _digits(TensorType((1,), dtype)) == digits


def places(*rows: list[int]) -> NDArray[np.int64]:
    return np.array(rows, np.int64)


def boxes(found: NDArray[np.int64], own: NDArray[np.int8] | None = None) -> list[Box]:
    return list(_boxes(found, np.zeros(found.shape, np.int8) if own is None else own))


def test_a_source_is_told_by_the_bits_above() -> None:
    starts = np.array([0, 3, 5])
    found = with_sources(np.array([0, 2, 3, OWN, 4]), starts)
    assert found.tolist() == [
        1 << SOURCE_BITS,
        (1 << SOURCE_BITS) + 2,
        (2 << SOURCE_BITS) + 3,
        OWN,
        (2 << SOURCE_BITS) + 4,
    ]


def test_what_is_regular_is_one_box() -> None:
    assert boxes(places([0, 1, 2], [3, 4, 5])) == [Box((0, 0), (2, 3), 0, (3, 1))]
    assert boxes(places([5, 4], [3, 2], [1, 0])) == [Box((0, 0), (3, 2), 5, (-2, -1))]
    assert boxes(places([7])) == [Box((0, 0), (1, 1), 7, (0, 0))]
    assert boxes(places([4, 4])) == [Box((0, 0), (1, 2), 4, (0, 0))]
    assert boxes(np.zeros((0, 3), np.int64)) == []


def test_a_move_is_cut_where_it_goes_on_in_another_way() -> None:
    joined = with_sources(places([0, 1, 6], [2, 3, 7]), np.array([0, 4, 6, 8]))
    one, three = 1 << SOURCE_BITS, 3 << SOURCE_BITS
    assert boxes(joined) == [Box((0, 0), (2, 2), one, (2, 1)), Box((0, 2), (2, 1), three + 6, (1, 0))]
    assert boxes(places([0, 1, 5, 6])) == [Box((0, 0), (1, 2), 0, (0, 1)), Box((0, 2), (1, 2), 5, (0, 1))]
    assert boxes(places([0, 1], [2, 3], [8, 9])) == [Box((0, 0), (2, 2), 0, (2, 1)), Box((2, 0), (1, 2), 8, (0, 1))]
    crossed = boxes(places([0, 1], [1, 0]))
    assert crossed == [Box((0, 0), (1, 2), 0, (0, 1)), Box((1, 0), (1, 2), 1, (0, -1))]


def test_numbers_of_the_ops_own_are_boxes_of_one_number() -> None:
    padded = places([OWN, 0, 1, OWN], [OWN, 2, 3, OWN])
    own = np.int8([[5, 0, 0, 6], [5, 0, 0, 6]])
    assert boxes(padded, own) == [
        Box((0, 0), (2, 1), OWN, ()),
        Box((0, 1), (2, 2), 0, (2, 1)),
        Box((0, 3), (2, 1), OWN, ()),
    ]
    assert boxes(places([OWN, OWN]), np.int8([[5, 5]])) == [Box((0, 0), (1, 2), OWN, ())]
    assert len(boxes(places([OWN, OWN]), np.int8([[5, 6]]))) == 2


def test_loops_that_go_on_alike_are_one() -> None:
    assert _merged([(2, 12, 12), (3, 4, 4), (4, 1, 1)]) == [(24, 1, 1)]
    assert _merged([(2, 12, 12), (1, 7, 9), (3, 4, 8), (4, 1, 2)]) == [(2, 12, 12), (12, 1, 2)]
    assert _merged([(2, 4, 8), (4, 1, 1)]) == [(2, 4, 8), (4, 1, 1)]
    assert _merged([(2, 8, 4), (4, 1, 1)]) == [(2, 8, 4), (4, 1, 1)]
    assert _merged([(1, 5, 5)]) == []


class Written:
    """In the place of an emission: it keeps the lines, and names arrays as they are."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.program = self
        self.made: list[NDArray[np.generic]] = []

    def line(self, *lines: str) -> None:
        self.lines += lines

    def of(self, value: str) -> str:
        return value

    def constant(self, name: str, data: NDArray[np.generic]) -> str:
        self.made.append(data)
        return f"k_{name}"


def copied(box: Box, shape: tuple[int, ...], own: int = 0) -> list[str]:
    written = Written()
    _copy(written, "y", shape, box, ["a", "b"], np.array([0, 6, 10]), np.full(shape, own, np.int8))  # type: ignore[arg-type]
    return written.lines


def test_a_box_is_loops_around_a_copy_of_what_lies_together() -> None:
    one, two = 1 << SOURCE_BITS, 2 << SOURCE_BITS
    assert copied(Box((0, 0), (2, 3), one, (3, 1)), (2, 3)) == ["memcpy(y + 0, a + 0, sizeof(*y) * 6);"]
    assert copied(Box((1, 2), (2, 2), two + 7, (2, 1)), (4, 5)) == [
        "for (int qg_i0 = 0; qg_i0 < 2; ++qg_i0) {",
        "    memcpy(y + 7 + qg_i0 * 5, b + 1 + qg_i0 * 2, sizeof(*y) * 2);",
        "}",
    ]
    assert copied(Box((0, 1), (2, 2), one + 3, (0, -1)), (2, 4)) == [
        "for (int qg_i0 = 0; qg_i0 < 2; ++qg_i0) {",
        "    for (int qg_i1 = 0; qg_i1 < 2; ++qg_i1) {",
        "        y[1 + qg_i0 * 4 + qg_i1 * 1] = a[3 + qg_i1 * -1];",
        "    }",
        "}",
    ]
    assert copied(Box((1, 3), (1, 1), two + 9, (0, 0)), (2, 4)) == ["y[7] = b[3];"]
    assert copied(Box((0, 2), (2, 1), OWN, ()), (2, 3), own=-5) == [
        "for (int qg_i0 = 0; qg_i0 < 2; ++qg_i0) {",
        "    y[2 + qg_i0 * 3] = -5;",
        "}",
    ]


def test_a_loop_that_stands_still_has_no_offset() -> None:
    written = Written()
    _loops(written, [(3, 0, 2)], lambda y, x: f"f({y!r}, {x!r})")  # type: ignore[arg-type]
    assert written.lines[1:] == ["    f('', 'qg_i0 * 2')", "}"]


@pytest.mark.parametrize(("count", "dtype"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.int32)])
def test_a_table_of_places_is_as_narrow_as_they_allow(count: int, dtype: type) -> None:
    written, index = Written(), places([3, 1, 0])
    _look_up(written, ["a"], "y", index, [count])  # type: ignore[arg-type, list-item]
    assert written.lines == ["for (int qg_i = 0; qg_i < 3; ++qg_i) { y[qg_i] = a[k_places[qg_i]]; }"]
    assert written.made[0].dtype == dtype
    assert written.made[0].tolist() == [3, 1, 0]


def test_a_table_of_places_is_of_one_source_alone() -> None:
    for moved, index in ((["a", "b"], places([0])), (["a"], places([0, OWN]))):
        with pytest.raises(UnsupportedOp, match=f"no regular form of up to {MOST_BOXES} boxes"):
            _look_up(Written(), moved, "y", index, [4])  # type: ignore[arg-type]
