"""Values of attributes as the types that an op's definition declares."""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import partial
from types import NoneType

import numpy as np

Coercer = Callable[[object], typing.Any]
"""Gives the value as the declared type (lists become tuples, NumPy scalars Python's), or `WRONG`."""

WRONG = object()
"""What a `Coercer` gives for a value that is not of its type."""


def coercer(hint: object) -> Coercer:
    """The coercer of a type annotation: a scalar, a tuple, a union such as `int | None`."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return _list_coercer(arguments[0]) if arguments[-1] is Ellipsis else _tuple_coercer(arguments)
    if arguments:
        return _union_coercer([coercer(argument) for argument in arguments])
    return partial(_scalar, NoneType if hint is None else typing.cast(type, hint))


def _scalar(kind: type, value: object) -> object:
    if value.__class__ is kind:
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) and kind is not bool:
        return WRONG
    if kind is float and isinstance(value, int):
        return float(value)
    return value if isinstance(value, kind) else WRONG


def _union_coercer(options: list[Coercer]) -> Coercer:
    def coerce(value: object) -> object:
        for option in options:
            made = option(value)
            if made is not WRONG:
                return made
        return WRONG

    return coerce


def _list_coercer(kind: object) -> Coercer:
    item, exact = coercer(kind), {kind}

    def coerce(value: object) -> object:
        if value.__class__ is tuple and {*map(type, value)} <= exact:
            return value
        items = tuple(map(item, value)) if isinstance(value, (list, tuple)) else (WRONG,)
        return WRONG if WRONG in items else items

    return coerce


def _tuple_coercer(kinds: tuple[object, ...]) -> Coercer:
    items = [coercer(kind) for kind in kinds]

    def coerce(value: object) -> object:
        if not isinstance(value, (list, tuple)) or len(value) != len(items):
            return WRONG
        made = tuple(item(element) for item, element in zip(items, value, strict=True))
        return WRONG if WRONG in made else made

    return coerce
