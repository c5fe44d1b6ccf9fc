"""Quantization rules: what a target quantizes, and how. Data only; `insert-fake-quant` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Fixed = tuple[float, int]
"""Scale and zero point that a target's op always gives its result."""


@dataclass(frozen=True)
class QuantSpec:
    """How one kind of value is quantized.

    `dtype` stores integers within `quant_min`..`quant_max` (inclusive). Symmetric ones have the fixed `zero_point`;
    `axis` asks for a scale per index of that axis; `observer` names the quantizer (`qgraph.quantizers`): how
    the scale follows from what was seen.
    """

    dtype: str
    quant_min: int
    quant_max: int
    symmetric: bool = False
    zero_point: int = 0
    axis: int | None = None
    observer: str = "moving_average"

    def holds(self, number: float, grid: Fixed) -> bool:
        """Whether a number lies on a grid of this type, or at most half a step beside its ends."""
        scale, zero_point = grid
        return self.quant_min - 0.5 <= number / scale + zero_point <= self.quant_max + 0.5


ResultRule = Literal["own", "shared", "same", "fixed", "join"]
"""How an op's result gets its parameters.

own: its own. same: those of its operand, on whose grid it already lies, since only integers move (max-pool, reshape).
shared: those of its operand, to which it is rounded (LiteRT's mean). fixed: those that the target's op always has
(softmax). join: its own, and its operands have to have the same (a concat where the target's op requantizes nothing, a
pad with a number); see `qgraph.targets.grids`.
"""


@dataclass(frozen=True)
class OpRule:
    """What is quantized around one op: its activations always; its weight (operand 1) and bias where `weight` is
    given."""

    result: ResultRule = "own"
    weight: QuantSpec | None = None
    scale: float = 0.0  # where the result is "fixed"
    zero_point: int = 0

    @property
    def fixed(self) -> Fixed | None:
        """The grid of a "fixed" result."""
        return (self.scale, self.zero_point) if self.result == "fixed" else None


@dataclass(frozen=True)
class QuantRules:
    """All rules of a target. `input_rounding` says how it quantizes a float (a key of `qgraph.ops.quant.ROUNDING`)."""

    activation: QuantSpec
    ops: Mapping[str, OpRule]
    input_rounding: str
