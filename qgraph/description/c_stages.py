"""Programs of stages in C99: one statement, or a few, for each stage, in int64 or the float type that it computes in.

Sums, products and shifts to the left are those of unsigned integers, so that what a width drops afterwards may leave
int64; everything else stays within it, as `Program.ranges` has proved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from qgraph.arith.stages import Program, Stage
from qgraph.arith.stages_conditions import VALUE, Comparison
from qgraph.arith.stages_widths import Overflow
from qgraph.arith.stages_words import (
    Arithmetic,
    Clamp,
    Convert,
    Divide,
    Fit,
    Keep,
    Operand,
    Round,
    ShiftLeft,
    ShiftRight,
    Sign,
    Table,
    Take,
    Threshold,
    Word,
)
from qgraph.errors import UnsupportedOp
from qgraph.exporters.c99 import ctext

C_KINDS = {"integer": "int64_t", "float32": "float", "float64": "double"}
SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*"}
RELATIONS = {"maximum": ">", "minimum": "<"}
TIES_UP = {
    "half_up": "1",
    "half_down": "0",
    "half_away": "({s} >= 0)",
    "half_to_zero": "({s} < 0)",
    "half_even": "(({f} & 1) != 0)",
}
"""Whether a tie goes up, of a dividend s and the floor f of its quotient."""
TIES_AWAY = {"half_up": "{v} > 0", "half_down": "{v} < 0", "half_away": "1", "half_to_zero": "0"}
"""Whether a tie of a float goes away from zero."""
WHOLE = {"floor": "floor", "ceil": "ceil", "toward_zero": "trunc", "half_even": "rint", "half_away": "round"}
"""Roundings that C's library has, in the default mode of rounding."""


@dataclass
class Writer:
    """A program becoming the body of a loop. `operands`: name -> an expression of its element; `arrays`: name -> the
    expression of where a table begins, or the thresholds of the present channel, and how many there are."""

    operands: Mapping[str, str]
    arrays: Mapping[str, tuple[str, int]]
    lines: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def write(self, program: Program, x: str) -> str:
        """Write the stages of an x in int64; gives the name of the result."""
        value, kind = "qg_v0", "integer"
        self.lines.append(f"int64_t qg_v0 = {x};")
        self.kept["x"], self.kinds["x"] = value, kind
        for stage in program.stages:
            value, kind = self._stage(stage, value, kind)
        return value

    def _stage(self, stage: Stage, v: str, kind: str) -> tuple[str, str]:
        word = stage.word
        if isinstance(word, Keep):
            self.kept[word.name], self.kinds[word.name] = v, kind
            return v, kind
        after = self.kinds.get(word.name, kind) if isinstance(word, Take) else word.gives(kind)
        made = f"qg_v{stage.number}"
        start = v if stage.condition is not None else "0"
        self.lines.append(f"{C_KINDS[after]} {made} = {start};")
        body = list(WRITERS[type(word)](self, word, v, made, kind))
        if stage.overflow is not None:
            body += fitted(stage.overflow, made)
        if stage.condition is None:
            self.lines += ["{", *(f"    {line}" for line in body), "}"]
        else:
            holds = " && ".join(self._comparison(each, v, kind) for each in stage.condition.comparisons)
            self.lines += [f"if ({holds}) {{", *(f"    {line}" for line in body), "}"]
        return made, after

    def _comparison(self, comparison: Comparison, v: str, kind: str) -> str:
        left = v if comparison.name == VALUE else self.read(comparison.name, "integer")
        return f"({left} {comparison.relation} {self.read(comparison.operand, kind)})"

    def read(self, operand: Operand, kind: str) -> str:
        """An operand as an expression of the type in which the value is."""
        if not isinstance(operand, str):
            number = np.float32(operand) if kind == "float32" else np.float64(operand) if kind != "integer" else operand
            return f"({C_KINDS[kind]}){ctext.literal(number)}" if kind == "integer" else ctext.literal(number)
        return f"(({C_KINDS[kind]}){self.kept.get(operand) or self.operands[operand]})"


Lines = list[str]


def fitted(overflow: Overflow, v: str) -> Lines:
    """An int64 brought into a width."""
    width, mode = overflow.width, overflow.mode
    if width.bits == 64:
        return []
    low, high = (f"INT64_C({end})" for end in (width.low, width.high))
    if mode == "wrap":
        unused = 64 - width.bits
        shifted = f"(int64_t)((uint64_t){v} << {unused})"
        return [f"{v} = {shifted} >> {unused};" if width.signed else f"{v} = {v} & {high};"]
    if mode == "saturate to zero":
        return [f"{v} = {v} < {low} || {v} > {high} ? 0 : {v};"]
    least = f"INT64_C({overflow.range[0]})"
    return [f"{v} = {v} < {least} ? {least} : {v} > {high} ? {high} : {v};"]


def _arithmetic(c: Writer, word: Arithmetic, v: str, t: str, kind: str) -> Lines:
    o = c.read(word.operand, kind)
    if word.word in RELATIONS:
        return [f"{t} = {v} {RELATIONS[word.word]} {o} ? {v} : {o};"]
    symbol = SYMBOLS[word.word]
    if kind != "integer":
        return [f"{t} = {v} {symbol} {o};"]
    return [f"{t} = (int64_t)((uint64_t){v} {symbol} (uint64_t){o});"]


def _clamp(c: Writer, word: Clamp, v: str, t: str, kind: str) -> Lines:
    low, high = c.read(word.low, kind), c.read(word.high, kind)
    return [f"{t} = {v} > {low} ? {v} : {low};", f"{t} = {t} < {high} ? {t} : {high};"]


def _sign(c: Writer, word: Sign, v: str, t: str, kind: str) -> Lines:
    negative = f"-{v}" if kind != "integer" else f"(int64_t)(0 - (uint64_t){v})"
    return [f"{t} = {negative};"] if word.word == "negate" else [f"{t} = {v} < 0 ? {negative} : {v};"]


def _amount(c: Writer, operand: Operand) -> str:
    return f"(int){c.read(operand, 'integer')}"


def _shift_left(c: Writer, word: ShiftLeft, v: str, t: str, kind: str) -> Lines:
    return [f"{t} = (int64_t)((uint64_t){v} << {_amount(c, word.amount)});"]


def _shift_right(c: Writer, word: ShiftRight, v: str, t: str, kind: str) -> Lines:
    lines = [f"const int qg_n = {_amount(c, word.amount)};"]
    if word.negative_left:
        lines += [
            f"const int64_t qg_s = qg_n < 0 ? (int64_t)((uint64_t){v} << -qg_n) : {v};",
            "const int qg_m = qg_n < 0 ? 0 : qg_n;",
        ]
    else:
        lines += [f"const int64_t qg_s = {v};", "const int qg_m = qg_n;"]
    if word.rounding == "floor":
        return [*lines, f"{t} = qg_s >> qg_m;"]
    lines += [
        "const int64_t qg_f = qg_s >> qg_m;",
        "const uint64_t qg_r = (uint64_t)qg_s - ((uint64_t)qg_f << qg_m);",
    ]
    if word.rounding not in ("ceil", "toward_zero"):
        lines.append("const uint64_t qg_h = (uint64_t)1 << (qg_m > 0 ? qg_m - 1 : 0);")
    return [*lines, f"{t} = qg_f + ({_goes_up(word.rounding, '1')});"]


def _goes_up(rounding: str, even: str) -> str:
    """Whether a quotient of floor qg_f, remainder qg_r and half qg_h goes up; `even`: whether there are ties."""
    if rounding == "ceil":
        return "qg_r > 0"
    if rounding == "toward_zero":
        return "qg_r > 0 && qg_s < 0"
    tie = TIES_UP[rounding].format(s="qg_s", f="qg_f")
    tie = tie if even == "1" else f"(!{even} || {tie})"
    return f"qg_r > qg_h || (qg_r == qg_h && {tie})"


def _divide(c: Writer, word: Divide, v: str, t: str, kind: str) -> Lines:
    o = c.read(word.divisor, kind)
    if word.rounding is None:
        return [f"{t} = {v} / {o};"]
    lines = [
        f"const int64_t qg_d = {o}, qg_s = {v};",
        "const int64_t qg_f = qg_s / qg_d - (qg_s % qg_d < 0 ? 1 : 0);",
    ]
    if word.rounding == "floor":
        return [*lines, f"{t} = qg_f;"]
    lines.append("const uint64_t qg_r = (uint64_t)(qg_s - qg_f * qg_d);")
    if word.rounding not in ("ceil", "toward_zero"):
        lines.append("const uint64_t qg_h = (uint64_t)(qg_d / 2 + qg_d % 2);")
    return [*lines, f"{t} = qg_f + ({_goes_up(word.rounding, '(qg_d % 2 == 0)')});"]


def _fit(c: Writer, word: Fit, v: str, t: str, kind: str) -> Lines:
    return [f"{t} = {v};", *fitted(word.overflow, t)]


def _convert(c: Writer, word: Convert, v: str, t: str, kind: str) -> Lines:
    return [f"{t} = ({C_KINDS[word.kind]}){v};"]


def _round(c: Writer, word: Round, v: str, t: str, kind: str) -> Lines:
    type, suffix = C_KINDS[kind], "f" if kind == "float32" else ""
    if word.rounding in WHOLE:
        lines = [f"const {type} qg_w = {WHOLE[word.rounding]}{suffix}({v});"]
    else:
        away = TIES_AWAY[word.rounding].format(v=v)
        lines = [
            f"const {type} qg_z = trunc{suffix}({v}), qg_r = fabs{suffix}({v} - qg_z);",
            f"const int qg_a = qg_r > 0.5{suffix} || (qg_r == 0.5{suffix} && {away});",
            f"const {type} qg_w = qg_z + ({type})(qg_a ? ({v} < 0 ? -1 : 1) : 0);",
        ]
    dtype = np.float32 if kind == "float32" else np.float64
    low, high = dtype(-(2.0**63)), np.nextafter(dtype(2.0**63), dtype(0))
    ends = ctext.literal(low), ctext.literal(high)
    return [*lines, f"{t} = (int64_t)(qg_w < {ends[0]} ? {ends[0]} : qg_w > {ends[1]} ? {ends[1]} : qg_w);"]


def _threshold(c: Writer, word: Threshold, v: str, t: str, kind: str) -> Lines:
    array, count = c.arrays[word.name]
    return [f"for (int qg_t = 0; qg_t < {count}; ++qg_t) {{ {t} += ({array})[qg_t] <= {v}; }}"]


def _table(c: Writer, word: Table, v: str, t: str, kind: str) -> Lines:
    array, bits = c.arrays[word.name][0], word.fraction_bits
    if not bits:
        return [f"{t} = ({array})[{v}];"]
    return [
        f"const int64_t qg_n = {v} >> {bits}, qg_r = {v} - qg_n * (INT64_C(1) << {bits});",
        f"const int64_t qg_a = ({array})[qg_n], qg_b = ({array})[qg_n + 1];",
        f"{t} = qg_a * (INT64_C(1) << {bits}) + (qg_b - qg_a) * qg_r;",
    ]


def _take(c: Writer, word: Take, v: str, t: str, kind: str) -> Lines:
    return [f"(void){v};", f"{t} = {c.read(word.name, c.kinds.get(word.name, kind))};"]


WRITERS: Mapping[type[Word], Callable[..., Lines]] = {
    **{Arithmetic: _arithmetic, Clamp: _clamp, Sign: _sign, ShiftLeft: _shift_left, ShiftRight: _shift_right},
    **{Divide: _divide, Fit: _fit, Convert: _convert, Round: _round, Threshold: _threshold, Table: _table, Take: _take},
}
"""What each kind of word becomes: (writer, word, value, name of the result, kind of the value) -> statements."""


def check_written(program: Program) -> None:
    """Raise UnsupportedOp for a word that has no form in C."""
    for stage in program.stages:
        if not isinstance(stage.word, Keep) and type(stage.word) not in WRITERS:
            raise UnsupportedOp(f"C has no form for the stage {stage.text!r}")
