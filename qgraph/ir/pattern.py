"""Patterns of types in op definitions: "f[N, C, *S]", "i8|u8[N, H, W, C]", "any[...]".

The element is `f` (a float), `q` (an integer with quantization parameters), `any`, or dtype names joined by "|"; a
trailing "q" ("i8q") asks for quantization parameters. Letters stand for sizes and unify over all operands and results
of one node; `*S` stands for any number of sizes; `...` admits any shape; a primed letter (`H'`) is not compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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

    def match(self, type: TensorType, letters: dict[str, object], what: str, *, element: bool = True) -> None:
        """Compare a type; binds new letters, and raises TypeMismatch that begins with `what`."""
        if element and not any(_element_matches(pattern, type) for pattern in self.elements):
            raise TypeMismatch(f"{what} is {type}, expected {self.text}")
        if self.dims is None:
            return
        for letter, size in self._assign(type, what):
            if letter.endswith("'"):
                continue
            if letter.isdigit():
                letters.setdefault(letter, int(letter))
            bound = letters.setdefault(letter, size)
            if bound != size:
                raise TypeMismatch(f"{what} is {type}: {letter} is {size} there, {bound} elsewhere")

    def _assign(self, type: TensorType, what: str) -> list[tuple[str, Dim | tuple[Dim, ...]]]:
        dims = self.dims or ()
        spread = next((i for i, dim in enumerate(dims) if dim.startswith("*")), None)
        if spread is None:
            if len(dims) != type.rank:
                raise TypeMismatch(f"{what} is {type}, expected {self.text} (rank {len(dims)})")
            return list(zip(dims, type.shape, strict=True))
        after = len(dims) - spread - 1
        if type.rank < len(dims) - 1:
            raise TypeMismatch(f"{what} is {type}, expected {self.text} (rank {len(dims) - 1} or more)")
        end = type.rank - after
        return [
            *zip(dims[:spread], type.shape[:spread], strict=True),
            (dims[spread], type.shape[spread:end]),
            *zip(dims[spread + 1 :], type.shape[end:], strict=True),
        ]


def _element_matches(pattern: str, type: TensorType) -> bool:
    if pattern == "any":
        return True
    if pattern == "f":
        return type.is_float
    if pattern == "q":
        return type.quant is not None
    if pattern.endswith("q"):
        return type.dtype == pattern[:-1] and type.quant is not None
    return type.dtype == pattern
