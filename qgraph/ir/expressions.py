"""Which constants of a graph are made of others, and how: parts and functions of parameters, which stay tied to them.

A word of the metadata says it, JSON: the name of a constant -> how it is made. That is the name of a constant, a number
of a dtype, or an op with its operands, which are made likewise, and its attributes:

    {"queries": ["nn.slice", ["in_proj"], {"axis": 0, "start": 0, "end": 8, "step": 1}],
     "scale.negated": ["nn.mul", ["scale", {"f32": -1.0}], {}]}
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

DERIVED = "derived"
"""The word of the metadata."""
Expression = Any
"""A name, None for an operand that is absent, {dtype: number}, or [op, operands, attributes]."""


@lru_cache(maxsize=16)
def _read(text: str) -> Mapping[str, Expression]:
    return dict(json.loads(text))


def expressions(metadata: Mapping[str, str]) -> Mapping[str, Expression]:
    """How constants are made, by their names."""
    return _read(metadata[DERIVED]) if DERIVED in metadata else {}


def set_expressions(metadata: dict[str, str], made: Mapping[str, Expression]) -> None:
    """Write the word; without it where no constant is made of others."""
    metadata.pop(DERIVED, None)
    if made:
        metadata[DERIVED] = json.dumps(made)


def sources(expression: Expression) -> Iterator[str]:
    """The names of the constants that an expression reads."""
    if isinstance(expression, str):
        yield expression
    elif isinstance(expression, list):
        for operand in expression[1]:
            yield from sources(operand)


def forget_others(metadata: dict[str, str], used: Collection[str]) -> set[str]:
    """Forget how constants are made that are not used; returns what the others are made of."""
    known = expressions(metadata)
    left = {name: made for name, made in known.items() if name in used}
    if len(left) < len(known):
        set_expressions(metadata, left)
    return {name for made in left.values() for name in sources(made)}
