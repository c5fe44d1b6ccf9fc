"""Patterns of types in op definitions: "f[N, C, *S]", "i8|u8[N, H, W, C]", "any[...]".

The element is `f` (a float), `q` (an integer with quantization parameters), `any`, or dtype names joined by "|"; a
trailing "q" ("i8q") asks for quantization parameters. Letters stand for sizes and unify over all operands and results
of one node; `*S` stands for any number of sizes; `...` admits any shape; a primed letter (`H'`) is not compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property

from qgraph.errors import TypeMismatch
from qgraph.ir.types import NUMPY_DTYPE, Dim, TensorType


@dataclass(frozen=True)
class TypePattern:
    """A pattern, parsed."""

    text: str
    elements: tuple[str, ...]
    dims: tuple[str, ...] | None  # None: any shape

    @staticmethod
    def parse(text: str) -> TypePattern:
        """Read a pattern; raises ValueError for a malformed one (a mistake in an op's definition)."""
        match = re.fullmatch(r"([\w|]+)\[(.*)\]", text)
        if match is None:
            raise ValueError(f"malformed type pattern {text!r}")
        elements = tuple(match[1].split("|"))
        for element in elements:
            if element not in ("f", "q", "any") and element.removesuffix("q") not in NUMPY_DTYPE:
                raise ValueError(f"unknown element {element!r} in type pattern {text!r}")
        dims = (
            None if match[2].strip() == "..." else tuple(part.strip() for part in match[2].split(",") if part.strip())
        )
        return TypePattern(text, elements, dims)

    @cached_property
    def _letters(self) -> tuple[tuple[str, ...], str | None, tuple[str, ...]]:
        """The letters before the `*S`, the `*S` (None where there is none), and those behind it."""
        dims = self.dims or ()
        spread = next((i for i, dim in enumerate(dims) if dim.startswith("*")), None)
        return (dims, None, ()) if spread is None else (dims[:spread], dims[spread], dims[spread + 1 :])

    def axis(self, letter: str) -> int | None:
        """The dimension of a letter, primed or not: from the front, or negative from the back behind a `*S`."""
        before, _, behind = self._letters
        for letters, offset in ((before, 0), (behind, -len(behind))):
            for place, found in enumerate(letters):
                if found.rstrip("'") == letter:
                    return place + offset
        return None

    def admits(self, type: TensorType) -> bool:
        """Whether the element of the type is one of the pattern's."""
        return _admits(self.elements, type.dtype, type.quant is not None)

    def match(self, type: TensorType, letters: dict[str, object], what: str, *, element: bool = True) -> None:
        """Compare a type; binds new letters, and raises TypeMismatch that begins with `what`."""
        if element and not _admits(self.elements, type.dtype, type.quant is not None):
            raise TypeMismatch(f"{what} is {type}, expected {self.text}")
        if self.dims is None:
            return
        for letter, size in self._assigned(type, what):
            if letter[-1] == "'":
                continue
            bound = int(letter) if letter[0].isdigit() else letters.setdefault(letter, size)
            if bound != size:
                raise TypeMismatch(f"{what} is {type}: {letter} is {size} there, {bound} elsewhere")

    def _assigned(self, type: TensorType, what: str) -> Iterable[tuple[str, Dim | tuple[Dim, ...]]]:
        before, spread, behind = self._letters
        shape = type.shape
        fixed = len(before) + len(behind)
        if len(shape) < fixed or (spread is None and len(shape) > fixed):
            rank = fixed if spread is None else f"{fixed} or more"
            raise TypeMismatch(f"{what} is {type}, expected {self.text} (rank {rank})")
        if spread is None:
            return zip(before, shape, strict=True)
        end = len(shape) - len(behind)
        middle = (spread, shape[len(before) : end])
        return [*zip(before, shape[: len(before)], strict=True), middle, *zip(behind, shape[end:], strict=True)]


@cache
def _admits(elements: tuple[str, ...], dtype: str, quantized: bool) -> bool:
    return any(_element_matches(element, dtype, quantized) for element in elements)


def _element_matches(element: str, dtype: str, quantized: bool) -> bool:
    if element == "any":
        return True
    if element == "f":
        return dtype.startswith("f")
    if element == "q":
        return quantized
    return dtype == element.removesuffix("q") and (quantized or not element.endswith("q"))
