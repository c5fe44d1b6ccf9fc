"""Sizes of traced values: integers, and products of the symbols that torch.export gives to dynamic dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qgraph.errors import TypeMismatch
from qgraph.ir.types import Dim, dim_product


class Dims:
    """Names for torch's symbols: "N" for the first, and for others that had its size in the example; then "N2"..."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._sizes: dict[int, str] = {}  # in the example -> name

    def of(self, sizes: Sequence[Any]) -> tuple[Dim, ...]:
        """A traced shape; raises TypeMismatch for a size that is no product, such as N - 1."""
        return tuple(size if isinstance(size, int) else self._dim(size) for size in sizes)

    def _dim(self, size: Any) -> Dim:
        expression = size.node.expr
        parts: list[Dim] = []
        for base, power in expression.as_powers_dict().items():
            count = int(power) if power.is_Integer and power > 0 else 0
            if not count or not (base.is_Symbol or (base.is_Integer and base > 0)):
                raise TypeMismatch(f"the size {self._readable(expression)} is not a product of symbols and integers")
            parts += [self._name(base, size) if base.is_Symbol else int(base)] * count
        return dim_product(parts)

    def _readable(self, expression: Any) -> str:
        text = str(expression)
        for symbol, name in self._names.items():
            text = text.replace(symbol, name)
        return text

    def _name(self, symbol: Any, size: Any) -> str:
        if str(symbol) not in self._names:
            env = size.node.shape_env  # torch renamed the table after 2.8
            hint = int((env.backed_var_to_val if hasattr(env, "backed_var_to_val") else env.var_to_val)[symbol])
            known = len(set(self._names.values()))
            self._names[str(symbol)] = self._sizes.setdefault(hint, f"N{known + 1}" if known else "N")
        return self._names[str(symbol)]
