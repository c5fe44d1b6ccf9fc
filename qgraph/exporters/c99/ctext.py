"""Values as C: types, literals, constant arrays, identifiers."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from qgraph.ir import TensorType

C_TYPES = {
    **{
        "i4": "int8",
        "i8": "int8",
        "u8": "uint8",
        "i16": "int16",
        "u16": "uint16",
        "i32": "int32",
        "i48": "int64",
        "i64": "int64",
    },
    **{"f32": "float", "f64": "double", "bool": "uint8"},
}
"""Storage of qgraph -> the word of its C type."""
RESERVED = re.compile(
    "auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for|goto|if|inline|int|long|register|"
    "restrict|return|short|signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile|while|main|size_t|"
    r"u?int\d+_t|memcpy|memset|roundf?|rintf?|\w+_arena|(qg|model)_\w*|[A-Z_][A-Z0-9_]{2,}"
)
"""Keywords, and what files use: types, functions, blocks of memory, and macros, which are written in capitals."""
WIDTH = 116
LONGEST = 40
"""Characters of a name that are kept, the last ones."""


def word(type: TensorType) -> str:
    """The word of a type's storage: int8, uint8, float."""
    return C_TYPES[type.dtype]


def type_name(word: str) -> str:
    """The C type that a word names."""
    return word if word in ("float", "double") else f"{word}_t"


def word_of(array: NDArray[np.generic]) -> str:
    """The word of an array's storage."""
    return {"float32": "float", "float64": "double", "bool": "uint8"}.get(array.dtype.name, array.dtype.name)


def literal(value: object) -> str:
    """A number as a C expression of its own type."""
    if isinstance(value, (np.float32, np.float64)):
        if not np.isfinite(value):
            return "NAN" if np.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
        text = repr(float(value))  # the digits of the double say the float too
        text = text if re.search("[.e]", text) else f"{text}.0"
        return f"{text}f" if isinstance(value, np.float32) else text
    number = int(value)  # type: ignore[call-overload]  # an integer of NumPy or Python
    if number == -(2**31):
        return "INT32_MIN"
    if number == -(2**63):
        return "INT64_MIN"
    return f"INT64_C({number})" if not -(2**31) <= number < 2**31 else str(number)


def call(function: str, *arguments: object) -> str:
    """A call; arguments are expressions or numbers."""
    given = (each if isinstance(each, str) else literal(each) for each in arguments)
    return f"{function}({', '.join(given)})"


def comment(text: str) -> str:
    """A text as it may stand in a comment."""
    return text.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/").replace("\n", " ")


def array(name: str, data: NDArray[np.generic]) -> str:
    """The definition of a constant array."""
    values = [literal(value) for value in data.reshape(-1)] or ["0"]
    return f"static const {type_name(word_of(data))} {name}[{len(values)}] = {{\n{_lines(values)}\n}};"


def _lines(values: Iterable[str]) -> str:
    lines, line = [], "   "
    for value in values:
        if len(line) + len(value) > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {value},"
    return "\n".join([*lines, line])


def identifier(name: str, taken: Iterable[str] = ()) -> str:
    """A C identifier that says a name, and is none of those taken."""
    base = re.sub(r"\W", "_", name, flags=re.ASCII)[-LONGEST:].strip("_") or "value"
    base = f"v{base}" if base[0].isdigit() or RESERVED.fullmatch(base) else base
    known, number, found = set(taken), 1, base
    while found in known:
        number += 1
        found = f"{base}_{number}"
    return found
