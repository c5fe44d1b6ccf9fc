"""Programs of stages against what somebody's own code gave, row for row: `tests/descriptions/oracles` recorded it.

Among the rows are both sides of each rounding step, ties, and the ends of every width.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qgraph.arith.narrow_accumulator import AccumulatorRule, narrow_convolve
from qgraph.arith.stages import Program
from tests.descriptions.golden import Case, load

DOUBLE = ("shift left left_shift to s32 wrap", "multiply multiplier", "shift right 31 half_up")
DOUBLE = (*DOUBLE, "shift right right_shift half_away")
SINGLE = ("multiply multiplier", "shift right shift half_up to s32 wrap")
CLAMPED = ("add output_zero_point", "clamp -128 127")
TIMES = ("subtract input_zero_point", "keep a", "take second", "subtract second_zero_point", "multiply a")


def added(requantized: tuple[str, ...]) -> tuple[str, ...]:
    """TFLite's sum: both operands rescaled with 20 more bits, added, rescaled."""

    def named(name: str) -> list[str]:
        words = {word: f"{name}_{word}" for word in ("right_shift", "shift", "multiplier")} | {"left_shift": "0"}
        return [re.sub(r"(?<=[a-z] )\w*(shift|multiplier)(?= |$)", lambda m: words[m[0]], s) for s in requantized]

    first = ("subtract input_zero_point", "shift left 20", *named("input"), "keep a")
    second = ("take second", "subtract second_zero_point", "shift left 20", *named("second"), "add a")
    return (*first, *second, *named("output"), *CLAMPED)


AVERAGE = ("divide count half_away", "clamp -128 127")
WIDE = ("multiply multiplier", "shift right shift half_up to s32 wrap")
X_SHIFTED = ("multiply multiplier", "shift right shift half_away to s32 saturate")
OPERAND = ("take operand", "shift left operand_shift to s32 saturate", "keep o", "take x")
Y_SHIFTED = "shift right shift half_away to s32 saturate"
CONVERTED = ("subtract offset", "multiply scale")
NVDLA = {
    "x_sum": (*OPERAND, "add o", *X_SHIFTED),
    "x_maximum": (*OPERAND, "maximum o", *X_SHIFTED),
    "x_relu": (*OPERAND, "add o", *X_SHIFTED, "maximum 0"),
    "x_prelu": (
        *OPERAND,
        "add o",
        "keep b",
        "multiply multiplier where negative",
        "shift right shift half_away to s32 saturate where b < 0",
        "wrap s32",
    ),  # what is bypassed is cut to 32 bits
    "y_sum": ("multiply multiplier", Y_SHIFTED, "add operand to s32 saturate"),
    "y_prelu": ("multiply multiplier where negative", f"{Y_SHIFTED} where x < 0", "add operand to s32 saturate"),
    "operand": (*CONVERTED, "shift right shift half_away to s32 saturate"),
    "output_s8": (*CONVERTED, "shift right shift half_away to s17 saturate", "saturate s8"),
    "output_s16": (*CONVERTED, "shift right shift half_away to s17 saturate", "saturate s16"),
}


def normalized(width: str, codes: int) -> tuple[str, ...]:
    return (
        f"multiply kappa to {width} wrap",
        f"add lambda to {width} wrap",
        "shift right shift floor to s32 wrap",
        f"clamp 0 {codes}",
    )


def pulp(width: str) -> dict[str, tuple[str, ...]]:
    return {
        **{f"bn_u{bits}": normalized(width, (1 << bits) - 1) for bits in (8, 4, 2)},
        "plain_u8": ("multiply multiplier to s32 wrap", "shift right shift floor to s16 wrap", "clamp 0 255"),
        "add_u8": (
            "multiply input_multiplier",
            "keep a",
            "take second",
            "multiply second_multiplier",
            "add a",
            "wrap u32",
            "shift right shift floor to u16 wrap",
            "minimum 255",
        ),
    }


def esp(rounding: str, bits: int) -> tuple[str, ...]:
    saturated = "s32" if bits == 32 else "s64"
    return (f"shift right shift {rounding} negative left to {saturated} saturate",)


CONVERTED_STORE = ("convert float32", "multiply scale", "round half_even to s8 saturate")
LOADED = ("convert float32", "multiply {0}_scale", "round half_even to s8 saturate")
GEMMINI = {
    "store": CONVERTED_STORE,
    "load": CONVERTED_STORE,
    "shift": ("shift right shift half_even",),
    "add": (
        *tuple(stage.format("input") for stage in LOADED),
        "keep a",
        "take second",
        *(stage.format("second") for stage in LOADED),
        "add a",
        *tuple(stage.format("output") for stage in LOADED),
    ),
}
QUANTIZATIONS = {
    "AP_TRN": "floor",
    "AP_RND": "half_up",
    "AP_RND_ZERO": "half_to_zero",
    "AP_RND_MIN_INF": "half_down",
    "AP_RND_INF": "half_away",
    "AP_RND_CONV": "half_even",
    "AP_TRN_ZERO": "toward_zero",
}
OVERFLOWS = {
    "AP_WRAP": "wrap",
    "AP_SAT": "saturate",
    "AP_SAT_ZERO": "saturate to zero",
    "AP_SAT_SYM": "saturate symmetric",
}
PRODUCTS = ("multiply w0", "keep a", "take x1", "multiply w1", "add a", "keep b", "take bias", "multiply 128", "add b")
LAYER = (*PRODUCTS, "shift right shift half_up negative left", "saturate s8")
# what is floored, and one step towards the sign where half to even would have gone up
ROUNDED = ("keep v", "shift right shift floor", "keep f", "take v", "shift right shift half_even")
BANKER = (*ROUNDED, "negate where v < 0", "add f where v < 0", "add f where v < 0")
SECOND = "1073741824 where shift > 31 and"
DOUBLE_ROUND = ("multiply multiplier", f"add {SECOND} x >= 0", f"subtract {SECOND} x < 0", "shift right shift half_up")
SUM = ("multiply input_multiplier", "keep a", "take second", "multiply second_multiplier", "add a")
PROGRAMS: dict[str, dict[str, tuple[str, ...]]] = {
    "cmsis-nn": {
        "requantize": DOUBLE,
        "requantize_wide": WIDE,
        "multiply": (*TIMES, *DOUBLE, *CLAMPED),
        "add": added(DOUBLE),
        "average": AVERAGE,
    },
    "cmsis-nn-single": {
        "requantize": SINGLE,
        "requantize_wide": WIDE,
        "multiply": (*TIMES, *SINGLE, *CLAMPED),
        "add": added(SINGLE),
        "average": AVERAGE,
    },
    "nvdla": NVDLA,
    "pulp-nn": pulp("s32"),
    "pulp-nn-64bit": pulp("s64"),
    "esp-dl": {f"{r}_s{bits}": esp(r, bits) for r in ("half_up", "half_even") for bits in (32, 64)},
    "gemmini": GEMMINI,
    "ap_fixed": {
        f"{q}_{o}": (f"shift right 16 {rounding} to s8 {overflow}",)
        for q, rounding in QUANTIZATIONS.items()
        for o, overflow in OVERFLOWS.items()
    },
}
PROGRAMS |= {
    "qonnx": {
        "threshold": ("threshold thresholds", "subtract 4"),
        "average": ("shift right shift floor",),
        # the clamp comes before the rounding, in whole steps of the result, so that it is one of the exact sum
        "trunc_floor": ("clamp lowest highest", "shift right shift floor"),
        "trunc_round": ("clamp lowest highest", "shift right shift half_even"),
        "trunc_ceil": ("clamp lowest highest", "shift right shift ceil"),
    },
    "nemo": {
        "requantize": ("multiply multiplier", "shift right shift floor"),
        "add": (
            "multiply input_multiplier",
            "keep a",
            "take second",
            "multiply second_multiplier",
            "add a",
            "shift right shift floor",
        ),
        "average": ("multiply 8", "shift right 5 floor"),  # requantization factor 8: D = 32, round(D / 4) = 8
    },
    "max78000": {
        "layer": LAYER,
        "layer_relu": (*LAYER, "maximum 0"),
        "layer_abs": (*LAYER, "absolute", "minimum 127"),
        "average": ("divide 4 toward_zero",),
        "average_rounded": ("divide 4 half_away", "saturate s8"),
        "add": ("add second", "saturate s8"),
    },
    "tosa": {
        "single_32": ("multiply multiplier", "shift right shift half_up"),
        "double_32": DOUBLE_ROUND,
        "single_16": ("multiply multiplier", "shift right shift half_up"),
        "average": ("multiply 1073741825", "shift right 32 half_up", "saturate s8"),  # ((2**30 + 1) << 2) // 4
        "table_16": ("add 32768", "interpolate table 7"),
    },
    "k210": {
        "banker": BANKER,
        "half_up": ("shift right shift half_up",),
    },
    "esp-ppq": {
        "s3": ("shift right shift half_up", "saturate s8"),
        "p4": ("shift right shift half_even", "saturate s8"),
        "weights": ("shift right shift half_to_zero", "saturate s8"),
    },
}
EXCEPTIONS = {  # x, operands, what the oracle gave, what the program gives
    # the macro takes the next integer from x - 1 in float32, which rounds -16.99999905 to -17; the circuit does not
    ("gemmini", "store"): [[-15999999, 897988541, -17, -16], [15999999, 897988541, 17, 16]],
}
FURTHER: dict[str, Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]] = {  # operands made of the columns
    "max78000": lambda known: {"shift": 7 - known["output_shift"]} if "output_shift" in known else {},
    "tosa": lambda known: {} if known else {"table": np.arange(513) ** 2 % 997 - 300},
    "qonnx": lambda known: qonnx_operands(known),
}


def qonnx_operands(known: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if "t0" in known:
        return {"thresholds": np.stack([known[f"t{i}"] for i in range(7)], axis=1)}
    if "shift" in known:
        low = -(1 << (known["bits"] - 1)) << known["shift"]
        return {"lowest": low, "highest": -low - (1 << known["shift"])}
    return {"shift": 10 - known["bits"]}


DENSE = [
    ("dense_default", "s12 wrap", ("shift right 4 floor to s12 wrap",), ("shift right 1 floor to s8 wrap",)),
    (
        "dense_rounded",
        "s12 saturate each 1",
        ("shift right 4 half_up to s12 saturate",),
        ("shift right 1 half_even to s8 saturate",),
    ),
]
CASES = [(oracle, case) for oracle, programs in PROGRAMS.items() for case in programs]


def operands_of(oracle: str, recorded: Case) -> dict[str, NDArray[Any]]:
    """The operands of a case; what is called bits is a float32, and a shift is in all where only the right one is."""
    operands: dict[str, NDArray[Any]] = {}
    for name, column in recorded.operands.items():
        if name.endswith("_bits"):
            operands[name.removesuffix("_bits")] = column.astype(np.uint32).view(np.float32)
        else:
            operands[name] = column
        operands.setdefault(name.replace("right_shift", "shift"), column + 31 * name.endswith("_right_shift"))
    return operands | FURTHER.get(oracle, lambda _: {})(operands)


def differing(made: NDArray[Any], recorded: Case) -> NDArray[Any]:
    return np.stack([*recorded.columns.values(), recorded.y, made], axis=1)[made != recorded.y]


@pytest.mark.parametrize(("oracle", "case"), CASES)
def test_a_program_gives_what_the_oracle_gave(oracle: str, case: str) -> None:
    recorded = load(oracle)[case]
    made = Program.parse(PROGRAMS[oracle][case]).apply(recorded.x, operands_of(oracle, recorded))
    assert len(recorded.y) > 250
    assert differing(made, recorded).tolist() == EXCEPTIONS.get((oracle, case), [])


@pytest.mark.parametrize(("case", "accumulator", "product", "result"), DENSE)
def test_products_that_are_cast_before_they_are_added_give_what_hls4ml_types_give(
    case: str, accumulator: str, product: tuple[str, ...], result: tuple[str, ...]
) -> None:
    recorded = load("ap_fixed")[case]
    columns = np.stack(list(recorded.columns.values()), axis=1)
    x, w, bias = columns[:, :4].astype(np.int8), columns[:, 4:8].astype(np.int8), columns[:, 8]
    rule = AccumulatorRule.parse(accumulator, product=product)
    layout: dict[str, Any] = {"stride": (1, 1), "pads": (0, 0, 0, 0), "dilation": (1, 1), "groups": len(x)}
    acc = narrow_convolve(x.reshape(1, 1, 1, -1), w.reshape(len(w), 1, 1, 4), rule, **layout, bias=bias)
    assert np.array_equal(Program.parse(result).apply(acc.reshape(-1), {}), recorded.y)
