"""Sizes of traced values: integers, and products of the symbols that torch.export gives to dynamic dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qgraph.errors import TypeMismatch
from qgraph.ir.types import Dim, dim_product


class Dims:
    """Names for torch's symbols: "N" for a batch, and for others that had its size in the example; then "N2"...

    A symbol that is first met behind the batch, such as a length, is "T", "T2"...
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._sizes: dict[tuple[str, int], str] = {}  # first letter, size in the example -> name

    def of(self, sizes: Sequence[Any]) -> tuple[Dim, ...]:
        """A traced shape; raises TypeMismatch for a size that is no product, such as N - 1."""
        return tuple(
            size if isinstance(size, int) else self._dim(size, "T" if i else "N") for i, size in enumerate(sizes)
        )

    def _dim(self, size: Any, letter: str) -> Dim:
        expression = size.node.expr
        parts: list[Dim] = []
        for base, power in expression.as_powers_dict().items():
            count = int(power) if power.is_Integer and power > 0 else 0
            if not count or not (base.is_Symbol or (base.is_Integer and base > 0)):
                raise TypeMismatch(f"the size {self._readable(expression)} is not a product of symbols and integers")
            parts += [self._name(base, size, letter) if base.is_Symbol else int(base)] * count
        return dim_product(parts)

    def _readable(self, expression: Any) -> str:
        text = str(expression)
        for symbol, name in self._names.items():
            text = text.replace(symbol, name)
        return text

    def _name(self, symbol: Any, size: Any, letter: str) -> str:
        if str(symbol) not in self._names:
            env = size.node.shape_env  # torch renamed the table after 2.8
            hint = int((env.backed_var_to_val if hasattr(env, "backed_var_to_val") else env.var_to_val)[symbol])
            known = len({name for name in self._names.values() if name[0] == letter})
            name = self._sizes.setdefault((letter, hint), f"{letter}{known + 1}" if known else letter)
            self._names[str(symbol)] = name
        return self._names[str(symbol)]
