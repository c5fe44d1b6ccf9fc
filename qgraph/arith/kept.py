"""What is made of constants is made once, and kept as long as they live."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


def kept_with(count: int) -> Callable[[F], F]:
    """Decorator: make a result once for the first `count` arguments, objects that nobody writes to, and the others.

    Those that are None aside, the first ones are told apart by what they are and not by what they hold; a result is
    forgotten with any of them. The others are values: numbers, words, dtypes, arrays, tuples of such.
    """

    def decorate(make: F) -> F:
        kept: dict[tuple[int, ...], tuple[list[weakref.ref[Any]], dict[object, Any]]] = {}

        @functools.wraps(make)
        def found(*args: Any) -> Any:
            names = tuple(map(id, args[:count]))
            entry = kept.get(names)
            if entry is None:
                refs = [weakref.ref(each, lambda _: kept.pop(names, None)) for each in args[:count] if each is not None]
                entry = kept[names] = refs, {}
            key = tuple([_value(each) for each in args[count:]])
            made = entry[1].get(key)
            if made is None:
                made = entry[1][key] = make(*args)
            return made

        return cast("F", found)

    return decorate


def _value(argument: Any) -> object:
    """What tells an argument from others: an array's numbers."""
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.shape, argument.tobytes()
    return argument
