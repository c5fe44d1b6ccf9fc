"""Quantization rules: what a target quantizes, and how. Data only; `insert-fake-quant` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class QuantSpec:
    """How one kind of value is quantized.

    `dtype` stores integers within `quant_min`..`quant_max` (inclusive). Symmetric ones have the fixed `zero_point`;
    `axis` asks for a scale per index of that axis; `observer` names how the scale follows from what was seen.
    """

    dtype: str
    quant_min: int
    quant_max: int
    symmetric: bool = False
    zero_point: int = 0
    axis: int | None = None
    observer: Literal["min_max", "moving_average", "pair_safe", "fixed"] = "moving_average"


ResultRule = Literal["own", "shared", "same", "fixed"]
"""How an op's result gets its parameters: its own; those of its operands, and it must be rounded to them ("shared": a
mean); those of its operands, on whose grid it already lies ("same": max-pool, reshape, concat); or those that the
target's op always has ("fixed": softmax)."""


@dataclass(frozen=True)
class OpRule:
    """What is quantized around one op: its activations always; its weight (operand 1) and bias where `weight` is
    given."""

    result: ResultRule = "own"
    weight: QuantSpec | None = None
    scale: float = 0.0  # where the result is "fixed"
    zero_point: int = 0


@dataclass(frozen=True)
class QuantRules:
    """All rules of a target. `input_rounding` says how it quantizes a float (a key of `qgraph.ops.quant.ROUNDING`)."""

    activation: QuantSpec
    ops: Mapping[str, OpRule]
    input_rounding: str
