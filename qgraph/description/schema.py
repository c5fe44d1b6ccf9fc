"""The tables of a description and their keys, each said once: meaning, kind, default.

Tables marked `per_op` may stand again under an op, `[ops.add.scale]`, and there change single keys for that op.
Any key may be "unknown": what needs it is refused, with the words "the source does not say".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qgraph.description.expressions import Expression
from qgraph.description.kinds import ACCUMULATOR as SUMS
from qgraph.description.kinds import (
    EXPRESSION,
    FLAG,
    INTEGERS,
    ORDER,
    RANGE,
    ROUNDING,
    SIZES,
    STAGES,
    TEXT,
    TEXTS,
    Kind,
    number,
    whole,
    width,
    word,
)

UNKNOWN = "unknown"
"""The value of a key that the sources do not say."""
REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One key of a table. `default`: its value where a description has none, `REQUIRED` for one that has to be there;
    `example`: what the template shows."""

    name: str
    kind: Kind
    meaning: str
    default: Any = REQUIRED
    example: str = ""


@dataclass(frozen=True)
class Table:
    """One table; `open`: keys of any name, all of one kind (`keys` has that one)."""

    name: str
    meaning: str
    keys: tuple[Key, ...]
    per_op: bool = False
    open: bool = False

    def key(self, name: str) -> Key | None:
        """The key of that name, None where there is none."""
        return self.keys[0] if self.open else next((key for key in self.keys if key.name == name), None)


LEVELS = ("proven", "simulator", "read", "documented", UNKNOWN)
"""What the claim that a description is exact rests on, the best first."""
IN_ZERO_POINT = ("subtracted", "folded", "kept")

TARGET = Table(
    "target",
    "What is described, and how sure it is.",
    (
        Key("name", TEXT, "The target's name: letters, digits and -.", example='"my-npu"'),
        Key("summary", TEXT, "One line.", "", '"My NPU, int8"'),
        Key(
            "inherits", TEXT, "A description that this one changes key by key: a shipped one, or a file beside it.", ""
        ),
        Key(
            "sources",
            TEXTS,
            "What it was made of: documents, code with its commit.",
            (),
            '["datasheet 1.2, section 4"]',
        ),
        Key(
            "evidence",
            word(*LEVELS),
            "What the claim rests on: a run of the real thing or its own simulator, byte for "
            "byte (proven); somebody's simulator that was compared; code that was read; a document.",
            UNKNOWN,
        ),
        Key("oracle", TEXT, "What it was compared with, where it was.", ""),
        Key("notes", TEXT, "What differs from chip to chip, what is open.", ""),
    ),
)
ACTIVATION = Table(
    "activation",
    "How activations are quantized.",
    (
        Key("storage", width(16), "Integers that hold them.", "s8"),
        Key("narrow", FLAG, "The lowest code of a signed storage is left out.", False),
        Key("zero_point", FLAG, "They have a zero point; else 0 stands for 0.", True),
        Key("scale", word("any", "power_of_two"), "Which scales they may have.", "any"),
        Key(
            "input_rounding",
            word("half_even", "half_away"),
            "How the host rounds the floats that come in.",
            "half_even",
        ),
    ),
)
WEIGHT = Table(
    "weight",
    "How weights are quantized: symmetric, without a zero point.",
    (
        Key("storage", width(8), "Integers that hold them.", "s8"),
        Key("narrow", FLAG, "The lowest code is left out, so that the range is symmetric.", True),
        Key(
            "codes",
            INTEGERS,
            "A code book: the only integers that there are, in a row, such as [-1, 0, 1]; empty: all of the storage.",
            (),
        ),
        Key("per_channel", FLAG, "One scale for each output channel; else one for the weight.", True),
        Key("scale", word("any", "power_of_two"), "Which scales they may have.", "any"),
    ),
)
BIAS = Table(
    "bias",
    "How the biases of layers are stored. A bias is where the accumulator begins, unless a stage adds it.",
    (
        Key("storage", width(64), "Integers that hold it.", "s32"),
        Key("scale", EXPRESSION, "What one step of it is worth.", Expression("input_scale * weight_scale")),
        Key("rounding", ROUNDING, "How it is rounded to whole steps.", "half_even"),
        Key(
            "out_of_range", word("refuse", "saturate"), "What becomes of one that the storage does not hold.", "refuse"
        ),
    ),
    per_op=True,
)
ACCUMULATOR = Table(
    "accumulator",
    "Where products are added up.",
    (
        Key(
            "width",
            SUMS,
            'Bits and what happens beyond them: "s32" (proved never to happen), "s32 wrap", '
            '"s34 saturate each 16", "s20 saturate at end".',
            "s32",
        ),
        Key("order", ORDER, 'The order in which products are added, where it matters: "ky kx c".', ""),
        Key("product", STAGES, "What is done to every product before it is added.", ()),
        Key(
            "zero_point",
            word(*IN_ZERO_POINT),
            "Where the input's zero point goes: subtracted from every element; "
            "folded into the bias; or kept, so that stages take care of it. Pads are the zero point.",
            "subtracted",
        ),
    ),
    per_op=True,
)
SCALE = Table(
    "scale",
    "How the real factor of an op (`factor`) becomes operands of its stages.",
    (
        Key(
            "form",
            word("multiplier", "shift", "float32", "float64", "thresholds"),
            "multiplier: operands `multiplier`, "
            "`shift` (right, in all), `left_shift` and `right_shift` (of what is beyond `bits`), so that factor = "
            "multiplier / 2**shift. shift: a power of two, `shift`, `left_shift`, `right_shift`. float32, float64: "
            "`scale`. thresholds: `thresholds`, [channels, codes - 1], with the bias in them.",
            "multiplier",
        ),
        Key("arithmetic", word("float64", "float32"), "In what the factor is computed from float32 scales.", "float64"),
        Key("bits", whole(1, 62), "Bits of the multiplier, without a sign.", 31),
        Key(
            "rounding",
            ROUNDING,
            "How the multiplier is rounded to so many bits; of thresholds, how the real result is rounded to a code.",
            "half_away",
        ),
        Key(
            "first_bits",
            whole(0, 62),
            "Bits to which the multiplier is rounded first, then half up to `bits`; 0: directly.",
            0,
        ),
        Key(
            "fixed_shift",
            whole(0, 62),
            "One shift for all multipliers, which then have fewer bits; 0: each its own.",
            0,
        ),
        Key("shift", RANGE, "Shifts that there are, of `shift`.", (-63, 62)),
        Key(
            "too_small",
            word("refuse", "zero", "shorten"),
            "What a factor becomes that would need a longer shift: multiplier 0, or one of fewer bits.",
            "refuse",
        ),
        Key("too_large", word("refuse", "largest"), "What a factor becomes that would need a shorter shift.", "refuse"),
        Key("largest", number(), "Factors above this are refused.", 2.0**31),
    ),
    per_op=True,
)
CONSTANTS = Table(
    "constants",
    "Further operands of stages: a name and an expression over the names of the op and of its factor's operands.",
    (Key("NAME", EXPRESSION, "A constant.", None, '"1 << (shift - 1)"'),),
    per_op=True,
    open=True,
)
REQUANTIZE = Table(
    "requantize",
    "From accumulators to the codes of the result, stage by stage.",
    (
        Key(
            "stages",
            STAGES,
            "The stages. Beside the operands of the factor they know `bias`, `input_zero_point`, "
            "`output_zero_point`, `low` and `high` (the lowest and highest code of the result, with its activation), "
            "`weight_sum`, `count` and the [constants].",
            None,
            '["add bias", "multiply multiplier", "shift right shift half_up", "add output_zero_point", '
            '"clamp low high"]',
        ),
        Key("second", STAGES, "Stages of the second operand of an add, sub or mul, before it is `second`.", ()),
    ),
    per_op=True,
)
LIMITS = Table(
    "limits",
    "What the chip cannot do: refused when a graph is prepared, by node.",
    (
        Key("kernels", SIZES, "Sides that a kernel may have; empty: any.", (), "[1, 3]"),
        Key("strides", SIZES, "Strides; empty: any.", ()),
        Key("dilations", SIZES, "Dilations; empty: any.", ()),
        Key("square", FLAG, "Kernels are square.", False),
        Key("groups", FLAG, "Convolutions may have groups (depthwise ones are an op of their own).", True),
        Key("input_channels_multiple_of", whole(1), "Input channels come in blocks of so many.", 1),
        Key("output_channels_multiple_of", whole(1), "Output channels come in blocks of so many.", 1),
        Key("most_channels", whole(1), "Channels at most.", 2**31),
        Key("most_elements", whole(1), "Elements of a window at most.", 2**16 - 1),
        Key("most_height", whole(1), "Rows at most.", 2**31),
        Key("most_width", whole(1), "Columns at most.", 2**31),
    ),
    per_op=True,
)
MEMORY = Table(
    "memory",
    "For the cost report.",
    (
        Key("weight_bytes", whole(0), "Bytes for weights; 0: not said.", 0),
        Key("activation_bytes", whole(0), "Bytes for activations; 0: not said.", 0),
        Key("bytes_per_cycle", number(), "From and to outer memory.", None),
    ),
)
THROUGHPUT = Table(
    "throughput",
    "For the cost report.",
    (
        Key("macs_per_cycle", number(), "Multiply-accumulates.", None),
        Key("elements_per_cycle", number(), "Elements of an elementwise op.", None),
        Key("clock_mhz", number(), "Clock.", None),
    ),
)

TABLES = (*(TARGET, ACTIVATION, WEIGHT, BIAS, ACCUMULATOR, SCALE, CONSTANTS, REQUANTIZE, LIMITS, MEMORY, THROUGHPUT),)
PER_OP = tuple(table for table in TABLES if table.per_op)


def table_named(name: str) -> Table | None:
    """The table of that name, None where there is none."""
    return next((table for table in TABLES if table.name == name), None)
