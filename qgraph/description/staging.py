"""Nodes of `npu.stages`: the stages of an op with the operands that they name, and the range that they end in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qgraph.arith.stages import Program
from qgraph.description.description import FORM_NAMES, Settings
from qgraph.description.scaling import known_factor, operands_of, thresholds
from qgraph.errors import LoweringError
from qgraph.ir import Array, Attr, Element, QuantParams, Value
from qgraph.ir.types import integer_range
from qgraph.ops.npu.storage import ACCUMULATORS, storage_of
from qgraph.targets.lowering import Lowering

Ends = tuple[Array, Array]
"""The least and the greatest integers that a value has, [1] or [C] each."""
OPERANDS = ("i8", "u8", "i16", "u16", "i32", "i48", "i64")


@dataclass
class Staging:
    """What the stages of one node know.

    `x`: the accumulators, or codes, and their `ends`. `scales`: real numbers that expressions name. `integers`: arrays
    that stages name; `seconds`: computed values that they name, with their ends.
    """

    lowering: Lowering
    settings: Settings
    x: Value
    ends: Ends
    scales: Mapping[str, Any] = field(default_factory=dict)
    integers: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, tuple[Value, Ends]] = field(default_factory=dict)

    def made(self, stages: Sequence[str], element: Element | None, what: str = "stages") -> tuple[Value, Ends]:
        """The value behind the stages, and its ends; `element`: its storage, None for the narrowest accumulator.

        Raises LoweringError where the stages need what there is not, or end in more than the storage holds.
        """
        settings = self.settings
        program = Program.parse(stages, where=(f"key     [ops.{settings.kind.name}.requantize] {what}",))
        known = self._known(program.names)
        ranges = {**known, **{name: ends for name, (_, ends) in self.seconds.items()}}
        steps = program.ranges(self.ends, {name: ranges[name] for name in program.names})
        ends = (steps[-1].low, steps[-1].high) if steps else self.ends
        least, most = int(np.min(ends[0])), int(np.max(ends[1]))
        made = element or (storage_of(least, most, tuple(ACCUMULATORS.split("|"))) or "i64", None)
        low, high = integer_range(made[0])
        if least < low or most > high:
            raise LoweringError(
                f"the {what} of {settings.kind.name} end within {least} to {most}, and the result is a {made[0]}",
                help=f"let them end in `clamp low high`, or a width: [ops.{settings.kind.name}.requantize] {what}",
            )
        others = [
            self.seconds[name][0] if name in self.seconds else self._constant(name, known[name])
            for name in program.names
        ]
        attrs: dict[str, Attr] = {"stages": tuple(stages), "names": program.names}
        value = self.lowering.build.node("npu.stages", [self.x, *others], attrs, element=made).result
        self.lowering.clamped[value] = max(low, least), min(high, most)
        return value, ends

    def _constant(self, name: str, data: Any) -> Value:
        array = np.atleast_1d(np.asarray(data))
        if array.dtype.kind == "f":
            return self.lowering.build.constant(array, name)
        dtype = storage_of(int(array.min(initial=0)), int(array.max(initial=0)), ("i32", "i48", "i64")) or "i64"
        stored = array.astype(np.int32 if dtype == "i32" else np.int64)
        return self.lowering.build.constant(stored, name, None, dtype)

    def _known(self, names: Sequence[str]) -> dict[str, Any]:
        """The operands that are no computed values, of those names at least."""
        found: dict[str, Any] = {"bias": 0, "weight_sum": 0, "count": 1, **self.integers}
        settings = self.settings
        wanted = settings.read_by(names)
        for prefix, expression in settings.factors.items():
            if not any(f"{prefix}{name}" in wanted for name in FORM_NAMES[settings.get("scale.form")]):
                continue
            factor = known_factor(expression, self._real(found), settings.get("scale.arithmetic"))
            found |= {f"{prefix}{name}": array for name, array in operands_of(factor, settings).items()}
            if f"{prefix}thresholds" in names:
                found[f"{prefix}thresholds"] = self._thresholds(factor, found, "bias" in names)
        for name, constant in settings.constants.items():
            if name in wanted:
                found[name] = constant.evaluate({**self._real(found), **found})
        return found

    def _real(self, found: Mapping[str, Any]) -> dict[str, Any]:
        ones = {
            "input_scale": 1.0,
            "weight_scale": 1.0,
            "second_scale": 1.0,
            "output_scale": 1.0,
            "channels": 1,
            "window": 1,
        }
        return {**ones, "count": found["count"], **self.scales}

    def _thresholds(self, factor: Array, found: Mapping[str, Any], bias_apart: bool) -> Array:
        bias = np.zeros(1, np.int64) if bias_apart else np.atleast_1d(np.asarray(found["bias"]))
        codes, zero = (int(found["low"]), int(found["high"])), int(np.max(found["output_zero_point"]))
        return thresholds(factor, bias, codes, zero, self.settings.get("scale.rounding"))


def ends_of(lowering: Lowering, x: Value) -> Ends:
    """Between which codes a value lies."""
    low, high = lowering.clamped.get(x, integer_range(x.type.dtype))
    if x.is_constant:
        low, high = int(x.data.min()), int(x.data.max())
    return np.array([low]), np.array([high])


def zero_point(quant: QuantParams) -> int:
    """The zero point of an activation."""
    return int(quant.zero_points[0])
