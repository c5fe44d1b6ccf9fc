"""Arithmetic of sizes of which some are symbolic, as exporters write it between a Shape and a Reshape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qgraph.ir.types import Dim, dim_factors, dim_product


def product(a: Dim, b: Dim) -> Dim:
    """a * b.

    >>> product("N", 4)
    'N*4'
    """
    return dim_product([a, b])


def quotient(a: Dim, b: Dim) -> Dim | None:
    """a / b where it is an integer for every size of the symbols, else None.

    >>> quotient("N*8", "N"), quotient("N*8", 2), quotient("N", 2)
    (8, 'N*4', None)
    """
    (count, symbols), (divisor, less) = dim_factors(a), dim_factors(b)
    left = [*symbols]
    for symbol in less:
        if symbol not in left:
            return None
        left.remove(symbol)
    return dim_product([*left, count // divisor]) if divisor and count % divisor == 0 else None


def equal(a: Dim, b: Dim) -> bool | None:
    """Whether two sizes are equal; None where that is open. A symbolic one is no negative number."""
    if a == b:
        return True
    numbers = [each for each in (a, b) if isinstance(each, int)]
    return False if len(numbers) == 2 or (numbers and numbers[0] < 0) else None


ARITHMETIC: Mapping[str, Callable[[Dim, Dim], Dim | None]] = {"Mul": product, "Div": quotient, "Equal": equal}
"""ONNX op -> what it gives of two sizes, None where that is not known."""
