"""The tables of a FlatBuffers format as data: which field has which number, type and default.

One row a table. The position of a field in its row is its number in the file; `-` is a number no longer in use; a union
takes two numbers (the member's number, then the member). A scalar without `=` has the default 0; vectors, strings and
tables have none. Tables of a union that have no row have no fields.

    Tensor shape:[i32] type:TensorType buffer:u32 name:string inputs:[string] quantization:QuantizationParameters
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Kind = Literal["scalar", "enum", "string", "strings", "vector", "table", "tables", "union"]

SCALAR_DTYPES: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(code)
    for name, code in {
        "bool": "?", "i8": "i1", "u8": "u1", "i16": "<i2", "u16": "<u2", "i32": "<i4", "u32": "<u4", "i64": "<i8",
        "u64": "<u8", "f32": "<f4", "f64": "<f8",
    }.items()
}  # fmt: skip


def names(text: str) -> tuple[str, ...]:
    """The words of `text`."""
    return tuple(text.split())


@dataclass(frozen=True)
class Field:
    """One field of a table.

    `type` names the scalar, the enumeration, the element of a vector, the table or the union; `storage` is the scalar
    that a scalar or an enumeration is stored as. A union's `number` is the member's; its type has the one before.
    """

    number: int
    name: str
    kind: Kind
    type: str
    storage: str = ""
    default: int | float | bool | str = 0


@dataclass(frozen=True)
class Schema:
    """A format: its suffix and identifier, what a file of it is called, its tables, unions and enumerations.

    Members of a union count from 1, 0 means that there is none; enumerators count from 0. `alignment`: bytes, of
    vectors that have a force_align, by (table, field).
    """

    suffix: str
    identifier: bytes
    wanted: str
    tables: Mapping[str, Mapping[str, Field]]
    unions: Mapping[str, tuple[str, ...]]
    enums: Mapping[str, tuple[str, ...]]
    alignment: Mapping[tuple[str, str], int] = field(default_factory=dict)


Names = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Rows:
    """Reads the rows of a format, which has these unions and enumerations; `enum_storage`: how each of these is stored,
    by default as i8."""

    unions: Names
    enums: Names
    enum_storage: Mapping[str, str]

    def tables(self, text: str) -> dict[str, dict[str, Field]]:
        """The tables of rows as the module says."""
        rows = text.strip().replace("\n    ", " ").splitlines()
        empty: dict[str, dict[str, Field]] = {member: {} for members in self.unions.values() for member in members}
        return {**empty, **{name: self._fields(row) for name, *row in (line.split() for line in rows)}}

    def _fields(self, row: list[str]) -> dict[str, Field]:
        fields: dict[str, Field] = {}
        number = 0
        for entry in row:
            name, _, rest = entry.partition(":")
            type_name, _, default = rest.partition("=")
            kind, element = self._kind(type_name)
            number += kind == "union"
            if kind in ("scalar", "enum"):
                storage = self.enum_storage.get(element, "i8") if kind == "enum" else element
                fields[name] = Field(number, name, kind, element, storage, self._default(kind, element, default))
            elif name != "-":
                fields[name] = Field(number, name, kind, element)
            number += 1
        return fields

    def _kind(self, type_name: str) -> tuple[Kind, str]:
        if type_name.startswith("["):
            element = type_name[1:-1]
            return ("vector" if element in SCALAR_DTYPES else "strings" if element == "string" else "tables"), element
        known = (("scalar", SCALAR_DTYPES), ("enum", self.enums), ("union", self.unions), ("string", ("string",)))
        for kind, members in known:
            if type_name in members:
                return kind, type_name  # type: ignore[return-value]  # the first column holds members of Kind
        return "table", type_name

    def _default(self, kind: Kind, type_name: str, text: str) -> int | float | bool | str:
        if kind == "enum":
            return text or self.enums[type_name][0]
        if type_name == "bool":
            return text == "true"
        return float(text or 0) if type_name.startswith("f") else int(text or 0)
