"""Rows of functions that LiteRT, or a family of its kernels, has no op for: a table of what they give for each code."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array
from qgraph.ir.types import integer_range
from qgraph.targets.correspondence import Call, Refusal
from qgraph.targets.lookups import Lookups

OTHERWISE = (
    *("nn.add", "nn.sub", "nn.mul", "nn.maximum", "nn.minimum", "nn.where", "nn.cast", "nn.dropout", "nn.detach"),
    *("nn.relu", "nn.relu6", "nn.clamp", "nn.leaky_relu", "nn.abs", "nn.sigmoid", "nn.tanh", "nn.hard_swish"),
    *("nn.hard_sigmoid", "nn.soft_shrink"),
)
"""Functions that are not looked up: they have an op on every family, or are made of such, of 16 bits too."""


def ascending(dtype: str) -> Array:
    """Every code, the lowest first."""
    low, high = integer_range(dtype)
    return np.arange(low, high + 1)


def narrow(call: Call) -> Refusal | None:
    """Codes of 8 bits, and a result of such."""
    if call.xs[0].type.dtype == call.element[0] == "i8":
        return None
    return Refusal(f"{call.node.op} is a table of 256 codes, and 16 bits have more", "let it have 8 bits")


LOOKUPS = Lookups("litert.lookup", ascending)
FUNCTIONS = LOOKUPS.rows(OTHERWISE, limits=narrow)
LOOKED_UP = tuple(f"nn.{row.source}" for row in FUNCTIONS if row.lowers)
