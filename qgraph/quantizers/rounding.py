"""How a target rounds: a word in `quant.fake_quant`, and the registry that finds what it means.

    @rounding("half_even")          # the word; fields of the class are its numbers: "half_away_code:4"
    class HalfEven(Rounding):
        ...

Words that one target alone has are registered in its folder, as quantizers are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from qgraph.arith.rounding import round_half_away, round_half_even
from qgraph.errors import InputError
from qgraph.ir import Array
from qgraph.quantizers.registry import load_all

if TYPE_CHECKING:
    from torch import Tensor

REAL = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")
"""A positive float as `repr` writes it."""
BELOW_HALF = 0.49999997
"""The largest float32 below one half; see `qgraph.arith.rounding.round_half_away`."""


@dataclass(frozen=True)
class Rounding:
    """From reals to codes, in NumPy and, with the same bits and in the same order, in torch.

    scale, zero and source broadcast against x, in its dtype. Codes are not clamped yet. The tensor is a new one.
    """

    name: ClassVar[str] = ""
    needs_source: ClassVar[bool] = False  # whether x lies on a grid whose scale, `source`, matters

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        """The codes of x."""
        raise NotImplementedError

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        """`codes` in torch."""
        raise NotImplementedError


@dataclass(frozen=True)
class OfMean(Rounding):
    """How a target rounds the mean of `count` integers.

    The mean is taken to a multiple of 1/count of a step first, so that a tie is one whatever float sums have made of
    it.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a mean of {self.count} integers")

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        count = x.dtype.type(self.count)
        return np.asarray(self.of_steps(round_half_even(x / scale * count) / count, zero))

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        import torch

        count = torch.full((), self.count, dtype=x.dtype, device=x.device)  # CUDA multiplies by a number's reciprocal
        return self.of_torch_steps((x / scale).mul_(count).round_().div_(count), zero)

    def of_steps(self, steps: Array, zero: Array) -> Array:
        """The codes of steps above the zero point."""
        raise NotImplementedError

    def of_torch_steps(self, steps: Tensor, zero: Tensor) -> Tensor:
        """`of_steps` in torch; may write into `steps`."""
        raise NotImplementedError


_CLASSES: dict[str, type[Rounding]] = {}
_KNOWN: dict[str, Rounding] = {}  # a plain dictionary: torch.compile reads it
T = TypeVar("T", bound=type[Rounding])


def rounding(word: str) -> Callable[[T], T]:
    """Class decorator: register a rounding under its word."""

    def register(cls: T) -> T:
        cls.name = word
        _CLASSES[word] = cls
        return cls

    return register


def roundings() -> dict[str, type[Rounding]]:
    """All words, sorted, and their classes."""
    load_all()
    return dict(sorted(_CLASSES.items()))


def get_rounding(text: str) -> Rounding:
    """The rounding that a text says, "half_even" or "half_away_code:4"; raises InputError where there is none."""
    if text not in _KNOWN:
        _KNOWN[text] = _parsed(text)
    return _KNOWN[text]


def _parsed(text: str) -> Rounding:
    word, *numbers = text.split(":")
    cls = _CLASSES.get(word) or roundings().get(word)
    kinds = [field.type for field in fields(cls)] if cls is not None else []
    if cls is None or len(numbers) != len(kinds) or not all(map(_fits, numbers, kinds)):
        forms = (":".join((name, *(["N"] * len(fields(each))))) for name, each in roundings().items())
        raise InputError(f"rounding={text!r} is not one of {', '.join(forms)}")
    try:
        return cls(
            *(int(number) if kind == "int" else float(number) for number, kind in zip(numbers, kinds, strict=True))
        )
    except ValueError as error:
        raise InputError(f"rounding={text!r}: {error}") from None


def _fits(number: str, kind: object) -> bool:
    """Whether a text is a number of a field's kind, "int" or "float"."""
    return number.isdecimal() if kind == "int" else REAL.fullmatch(number) is not None


@rounding("half_even")
class HalfEven(Rounding):
    """rint(x / scale): ONNX Runtime, and the default."""

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        quotient = np.asarray(x / scale)
        return np.add(np.rint(quotient, out=quotient), zero, out=quotient)  # in place: weights may be large

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        return (x / scale).round_().add_(zero)


@rounding("half_away")
class HalfAway(Rounding):
    """round(x / scale), ties away from zero: C's `round`."""

    def codes(self, x: Array, scale: Array, zero: Array, source: Array | None = None) -> Array:
        return np.asarray(round_half_away(x / scale) + zero)

    def torch_codes(self, x: Tensor, scale: Tensor, zero: Tensor, source: Tensor | None = None) -> Tensor:
        return torch_half_away(x / scale).add_(zero)


def torch_half_away(quotient: Tensor) -> Tensor:
    """`round_half_away` of a float32 tensor, in place; raises InputError for float64."""
    import torch

    if quotient.dtype == torch.float64:
        raise InputError("half_away rounding trains in float32 only")
    return quotient.add_(torch.copysign(torch.full_like(quotient, BELOW_HALF), quotient)).trunc_()
