"""RESCALE and CAST. Source: TOSA specification 1.0."""

from __future__ import annotations

import numpy as np

from qgraph.arith.tosa_scale import LONGEST, SHORTEST, apply_scale_16, apply_scale_32, fits_scale_32
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.targets.tosa.dialect.elements import check_rank, check_types, check_zero_point, unpredictable, wide, within
from qgraph.targets.tosa.rows import row

ROUNDINGS = ("SINGLE_ROUND", "INEXACT_ROUND", "DOUBLE_ROUND")
UNSIGNED = {"i8": np.uint8, "i16": np.uint16}


@op("tosa.rescale", kind="requantize", elementwise=True)
class Rescale:
    """RESCALE: (x - input_zp) * multiplier / 2**shift, rounded, + output_zp, within the result's storage.

    `multiplier` and `shift` have one element, or with `per_channel` one for each of the last axis. With `scale32`
    multipliers have 31 bits, else 15 bits. What is unsigned lies in the storage of the same width.
    """

    x: Operand = operand("i8|i16|i32|i48[...]")
    multiplier: Operand = operand("i16|i32[M]", role="parameter")
    shift: Operand = operand("i8[M]", role="parameter")
    result: Result = result("i8|i16|i32[...]", free=True)
    input_zp: int = attr(0)
    output_zp: int = attr(0)
    scale32: bool = attr(True)
    rounding_mode: str = attr("SINGLE_ROUND", choices=ROUNDINGS)
    per_channel: bool = attr(False)
    input_unsigned: bool = attr(False)
    output_unsigned: bool = attr(False)

    def infer(self) -> TensorType:
        name, x = "tosa.rescale", self.x.type
        check_rank(name, x, least=int(self.per_channel))
        channels = x.shape[-1] if self.per_channel else 1
        if self.multiplier.type.shape != (channels,):
            raise TypeMismatch(f"{name}: {self.multiplier.type} is not a multiplier for each of {channels}")
        if (self.multiplier.type.dtype == "i32") != self.scale32 or (self.scale32 and x.dtype == "i48"):
            raise TypeMismatch(f"{name} of {x} with scale32={self.scale32} has no multiplier {self.multiplier.type}")
        if self.rounding_mode == "DOUBLE_ROUND" and not self.scale32:
            raise TypeMismatch(f"{name}: DOUBLE_ROUND is of multipliers of 32 bits")
        return x

    def check(self) -> None:
        name, x, made = "tosa.rescale", self.x.type, self.result.type
        check_types(name, [f"{a} {b}" for a in ("i8", "i16", "i32", "i48") for b in ("i8", "i16", "i32")], x, made)
        wide_with_unsigned = made.dtype == "i32" and self.input_unsigned
        if (self.input_unsigned and self.output_unsigned) or wide_with_unsigned:
            raise TypeMismatch(f"{name} from unsigned {x} to {made} is not in TOSA")
        for unsigned, other, own in (
            (self.input_unsigned, made, x),
            (self.output_unsigned, x, made),
        ):
            if unsigned and (own.dtype not in UNSIGNED or other.dtype in ("i32", "i48")):
                raise TypeMismatch(f"{name} from {x} to {made} has no unsigned side")
        check_zero_point(name, self.input_zp, x, self.input_unsigned)
        check_zero_point(name, self.output_zp, made, self.output_unsigned)
        self._check_scale(name)

    def _check_scale(self, name: str) -> None:
        if not (self.multiplier.is_constant and self.shift.is_constant):
            raise TypeMismatch(f"{name}: multiplier and shift are not constants")
        multiplier, shift = self.multiplier.data, self.shift.data
        if multiplier.min() < 0 or shift.min() < SHORTEST or shift.max() > LONGEST:
            raise TypeMismatch(f"{name}: multipliers below 0, or shifts that are not {SHORTEST} to {LONGEST}")

    def evaluate(self, x: Array, multiplier: Array, shift: Array) -> Array:
        dtype = self.result.type.dtype
        if not self.per_channel:
            multiplier, shift = multiplier.reshape(()), shift.reshape(())
        value = x.view(UNSIGNED[self.x.type.dtype]) if self.input_unsigned else x
        value = wide(value) - self.input_zp
        if self.rounding_mode == "INEXACT_ROUND":
            made = inexact_scale(value, multiplier, shift)
        elif self.scale32:
            if not fits_scale_32(value, shift):
                raise unpredictable("tosa.rescale", "a value is not within 2**(shift - 1)")
            made = apply_scale_32(value, multiplier, shift, double_round=self.rounding_mode == "DOUBLE_ROUND")
        else:
            made = within("tosa.rescale", apply_scale_16(value, multiplier, shift), "i32").astype(np.int64)
        made += self.output_zp
        if self.output_unsigned:
            low, high = integer_range(dtype)
            return np.clip(made, 0, high - low).astype(UNSIGNED[dtype]).view(self.result.type.numpy)
        return np.clip(made, *integer_range(dtype)).astype(self.result.type.numpy)


def inexact_scale(value: Array, multiplier: Array, shift: Array) -> Array:
    """value * multiplier / 2**shift, computed in float32 and rounded half to even.

    The specification bounds the error alone; these are the bits of the reference model (tosa-tools 2026.8.0), compared
    with it. What leaves int32 is clipped to it.
    """
    product = value.astype(np.float32) * np.asarray(multiplier, np.float32)
    rounded = np.rint(np.ldexp(product, -np.asarray(shift, np.int32))).astype(np.float64)
    return np.clip(rounded, *integer_range("i32")).astype(np.int64)


CASTS = [f"{a} {b}" for a in ("bool", "i8", "i16", "i32") for b in ("bool", "i8", "i16", "i32") if a != b]


@op("tosa.cast", elementwise=True)
class Cast:
    """CAST: to fewer bits the low ones, to bool whether an integer is not 0."""

    x: Operand = operand("bool|i8|i16|i32[...]")
    result: Result = result("bool|i8|i16|i32[...]", free=True)

    def infer(self) -> TensorType:
        check_rank("tosa.cast", self.x.type)
        return self.x.type

    def check(self) -> None:
        check_types("tosa.cast", CASTS, self.x.type, self.result.type)

    def evaluate(self, x: Array) -> Array:
        return x != 0 if self.result.type.dtype == "bool" else x.astype(self.result.type.numpy)


row("tosa.rescale", "RESCALE", {"input_zp": "x", "output_zp": "result"})
row("tosa.cast", "CAST")
