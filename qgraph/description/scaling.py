"""How a real factor becomes operands of stages: a multiplier and shifts, a float, or thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.stages_rounding import round_floats
from qgraph.description.description import Settings
from qgraph.errors import LoweringError
from qgraph.ir import Array
from qgraph.targets.lowering import CALIBRATE

Factor = NDArray[np.float64]
"""[1], or [C] of each channel."""


def operands_of(factor: Factor, settings: Settings) -> dict[str, Array]:
    """The operands that stand for a factor, but for thresholds; raises LoweringError for one that the chip lacks."""
    form = settings.get("scale.form")
    if factor.min() <= 0 or factor.max() > settings.get("scale.largest"):
        wrong = factor.max() if factor.min() > 0 else factor.min()
        raise LoweringError(
            f"a factor of {wrong:.6g}, and there are those above 0 to {settings.get('scale.largest'):g}"
        )
    return FORMS[form](factor, settings)


def multiplied(factor: Factor, settings: Settings) -> dict[str, Array]:
    """factor = multiplier / 2**shift: the multiplier has `bits` bits."""
    bits, fixed = settings.get("scale.bits"), settings.get("scale.fixed_shift")
    if fixed:
        multiplier, exponent = _rounded(np.ldexp(factor, fixed), settings), np.full(factor.shape, bits - fixed)
    else:
        multiplier, exponent = _normalized(factor, bits, settings)
    if multiplier.max() >= 1 << bits:
        raise LoweringError(
            f"a factor of {factor.max():.6g} needs more than {bits} bits at a shift of {fixed}", help=CALIBRATE
        )
    multiplier, exponent = _within_shifts(factor, multiplier, exponent, settings)
    shifts = {"left_shift": np.maximum(exponent, 0), "right_shift": np.maximum(-exponent, 0)}
    return {"multiplier": multiplier, "shift": bits - exponent, "exponent": exponent, **shifts}


def _rounded(real: Factor, settings: Settings) -> NDArray[np.int64]:
    return round_floats(real, settings.get("scale.rounding")).astype(np.int64)


def _normalized(factor: Factor, bits: int, settings: Settings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A multiplier whose highest of `bits` bits is set, and the exponent e: factor = multiplier * 2**(e - bits).

    Exact: fractions have 53 bits.
    """
    fraction, wide = np.frexp(factor)
    exponent: NDArray[np.int64] = wide.astype(np.int64)
    first = settings.get("scale.first_bits")
    multiplier = _rounded(np.ldexp(fraction, first or bits), settings)
    if first > bits:
        multiplier = (multiplier + (1 << (first - bits - 1))) >> (first - bits)
    carried = multiplier >= 1 << bits
    return np.where(carried, multiplier >> 1, multiplier), exponent + carried


def _within_shifts(
    factor: Factor, multiplier: NDArray[np.int64], exponent: NDArray[np.int64], settings: Settings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Multiplier and exponent with a shift that the chip has."""
    bits, (shortest, longest) = settings.get("scale.bits"), settings.get("scale.shift")
    shift = bits - exponent
    if (shift > longest).any():
        how = settings.get("scale.too_small")
        if how == "refuse":
            raise _no_shift(factor[np.broadcast_to(shift > longest, factor.shape)].min(), shift.max(), settings)
        shorter = multiplier >> np.clip(shift - longest, 0, 63) if how == "shorten" else np.zeros_like(multiplier)
        beyond = shift > longest
        multiplier = np.where(beyond, shorter, multiplier)
        exponent = np.where(beyond, bits - longest if how == "shorten" else 0, exponent)
        shift = bits - exponent
    if (shift < shortest).any():
        if settings.get("scale.too_large") == "refuse":
            raise _no_shift(factor[np.broadcast_to(shift < shortest, factor.shape)].max(), shift.min(), settings)
        multiplier = np.where(shift < shortest, (1 << bits) - 1, multiplier)
        exponent = np.where(shift < shortest, bits - shortest, exponent)
    return multiplier, exponent


def _no_shift(factor: float, shift: int, settings: Settings) -> LoweringError:
    low, high = settings.get("scale.shift")
    name = settings.description.name
    return LoweringError(
        f"a factor of {factor:.6g} needs a shift of {shift}, {name} has {low} to {high}", help=CALIBRATE
    )


def shifted(factor: Factor, settings: Settings) -> dict[str, Array]:
    """factor = 1 / 2**shift."""
    fraction, exponent = np.frexp(factor)
    if (fraction != 0.5).any():
        odd = factor[fraction != 0.5][0]
        raise LoweringError(
            f"a factor of {odd:.6g} is no power of two, and {settings.description.name} shifts alone",
            help="quantize with scales that are powers of two: [activation] scale, [weight] scale",
        )
    shift = 1 - exponent.astype(np.int64)
    low, high = settings.get("scale.shift")
    if shift.min() < low or shift.max() > high:
        wrong = int(shift.min() if shift.min() < low else shift.max())
        raise _no_shift(2.0**-wrong, wrong, settings)
    return {"shift": shift, "left_shift": np.maximum(-shift, 0), "right_shift": np.maximum(shift, 0)}


FORMS: Mapping[str, Callable[[Factor, Settings], dict[str, Array]]] = {
    "multiplier": multiplied,
    "shift": shifted,
    "float32": lambda factor, settings: {"scale": factor.astype(np.float32)},
    "float64": lambda factor, settings: {"scale": factor},
    "thresholds": lambda factor, settings: {},
}

TIES_GO_UP: Mapping[str, Callable[[int], bool]] = {
    "half_up": lambda j: True,
    "half_down": lambda j: False,
    "half_away": lambda j: j > 0,
    "half_to_zero": lambda j: j <= 0,
    "half_even": lambda j: j % 2 == 0,
}
"""Rounding -> whether j - 1/2 becomes j."""


def thresholds(
    factor: Factor, bias: Array, codes: tuple[int, int], zero_point: int, rounding: str
) -> NDArray[np.int64]:
    """From which accumulator on each code is reached, [C, codes - 1]: that of code low + 1 + t in column t.

    The code is round((acc + bias) * factor) + zero_point within `codes`; exact, by fractions. factor, bias: [1] or [C].
    """
    factor, bias = np.broadcast_arrays(factor, bias.astype(np.int64))
    low, high = codes
    made = np.empty((factor.size, high - low), np.int64)
    for channel in range(factor.size):
        step = Fraction(float(factor[channel]))
        for place, code in enumerate(range(low + 1, high + 1)):
            made[channel, place] = _first(code - zero_point, step, rounding) - int(bias[channel])
    return made


def _first(code: int, step: Fraction, rounding: str) -> int:
    """The least integer whose product with the step is rounded to `code` or more."""
    bound, reached = _bound(code, rounding)
    quotient = bound / step
    return (
        -((-quotient.numerator) // quotient.denominator) if reached else quotient.numerator // quotient.denominator + 1
    )


def _bound(code: int, rounding: str) -> tuple[Fraction, bool]:
    """From which real number on, itself included or not, a rounding gives `code` or more."""
    if rounding == "floor" or (rounding == "toward_zero" and code > 0):
        return Fraction(code), True
    if rounding in ("ceil", "toward_zero"):
        return Fraction(code - 1), False
    return Fraction(2 * code - 1, 2), TIES_GO_UP[rounding](code)


def known_factor(expression: Any, scales: Mapping[str, Any], arithmetic: str) -> Factor:
    """A factor in float64, computed in `arithmetic`, of float32 scales and numbers by name."""
    dtype = np.float32 if arithmetic == "float32" else np.float64
    known = {
        name: np.asarray(value).astype(dtype) if name.endswith("_scale") else value for name, value in scales.items()
    }
    return np.atleast_1d(np.asarray(expression.evaluate(known), np.float64))
