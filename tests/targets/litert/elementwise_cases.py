"""All cases of ops of one or two operands, of reductions and of SOFTMAX, by name."""

from __future__ import annotations

from functools import partial

from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, groups
from tests.targets.litert.test_binary import all_pairs, binary, by_shifts, small_sum
from tests.targets.litert.test_functions import function, requantizing, root
from tests.targets.litert.test_quantize import between
from tests.targets.litert.test_reductions import mean, total
from tests.targets.litert.test_softmax import l2_normalization, softmax

OF_ARM = {
    **{f"mul {x}": partial(binary, name="mul", storage=x) for x in ("i8", "u8")},
    **{f"hard_swish {x}": partial(function, name="hard_swish", storage=x) for x in ("i8", "u8")},
    **{f"softmax {x}": partial(softmax, storage=x) for x in ("i8", "u8")},
    "mean": mean,
    "sum": total,
    "mul of all pairs": partial(all_pairs, name="mul", storage="i8"),
}
"""Ops that 64-bit ARM computes in its own way."""

OTHERS = {
    **{f"{op} {x}": partial(binary, name=op, storage=x) for op in ("add", "sub") for x in ("i8", "u8", "i16")},
    **{f"{op} i8": partial(binary, name=op, storage="i8") for op in ("squared_difference", "prelu", "maximum")},
    "mul i16": partial(binary, name="mul", storage="i16"),
    **{
        f"{op} {x}": partial(requantizing, name=op, storage=x)
        for op in ("relu", "relu6", "leaky_relu")
        for x in ("i8", "u8", "i16")
    },
    **{f"{op} {x}": partial(function, name=op, storage=x) for op in ("logistic", "tanh") for x in ("i8", "u8", "i16")},
    **{f"{op} i8": partial(function, name=op, storage="i8") for op in ("gelu", "exp", "log", "elu")},
    **{f"{op} by shifts": partial(by_shifts, name=op) for op in ("add", "sub")},
    **{f"{op} with a fine result": partial(small_sum, name=op) for op in ("add", "sub")},
    **{f"{op} i8": partial(root, name=op, storage="i8") for op in ("sqrt", "rsqrt")},
    "softmax i16": partial(softmax, storage="i16"),
    "l2_normalization": partial(l2_normalization, storage="i8"),
    **{
        f"quantize {x} to {y}": partial(between, x=x, y=y)
        for x, y in [("f32", "i8"), ("f32", "i16"), ("i8", "i8"), ("i8", "u8"), ("i16", "i8"), ("i16", "i16")]
    },
}


def check(families: Families, name: str, count: int) -> None:
    """Compare `count` cases of that name; fewer where each has 65,536 elements."""
    case = {**OF_ARM, **OTHERS}[name]

    def make(cases: Cases) -> None:
        case(cases)

    size = 12 if "pairs" in name else 25
    for cases in groups(count // 10 if "pairs" in name or "i16" in name else count, make, 91, size=size):
        cases.check(families)
