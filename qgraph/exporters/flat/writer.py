"""Writing FlatBuffers tables by a `Schema` with the builder of the `flatbuffers` package.

A record is a dict from field names to values; a field left out, None or equal to its default is not stored. Equal
records give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, Union

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters.flat.schema import SCALAR_DTYPES, Array, Field, Schema

if TYPE_CHECKING:
    from flatbuffers import Builder

_T = TypeVar("_T")

Record = Mapping[str, "Value"]
Value = Union[
    int,
    float,
    bool,
    str,
    None,
    Array,
    Sequence[int],
    Sequence[float],
    Sequence[str],
    Sequence[Record],
    Record,
    "Member",
]


class Member(tuple[str, Record]):
    """The member of a union: its table's name, and its record."""

    def __new__(cls, table: str, record: Record) -> Member:
        return super().__new__(cls, (table, record))


def write_root(builder: Builder, schema: Schema, table: str, record: Record) -> bytes:
    """The whole file with `record` as its root table."""
    position = _Writer(builder, schema).table(table, record)
    builder.Finish(position, file_identifier=schema.identifier)
    return bytes(builder.Output())


_SLOTS = {
    "bool": "Bool", "i8": "Int8", "u8": "Uint8", "i16": "Int16", "u16": "Uint16", "i32": "Int32", "u32": "Uint32",
    "i64": "Int64", "u64": "Uint64", "f32": "Float32", "f64": "Float64",
}  # fmt: skip


class _Writer:
    """A builder and the schema whose tables it holds."""

    def __init__(self, builder: Builder, schema: Schema) -> None:
        self.builder, self.schema = builder, schema

    def table(self, table: str, record: Record) -> int:
        """Append `record` and all that it holds; its position for the parent."""
        fields = self.schema.tables[table]
        if unknown := sorted(record.keys() - fields.keys()):
            known = ", ".join(fields) or "none"
            raise FileError(f"{table} has no field {', '.join(unknown)}", help=f"its fields are: {known}")
        given = [(fields[name], value) for name, value in record.items() if value is not None]
        children = {f.name: _CHILDREN[f.kind](self, table, f, value) for f, value in given if f.kind in _CHILDREN}
        self.builder.StartObject(max((f.number + 1 for f in fields.values()), default=0))
        for field, value in sorted(given, key=lambda entry: entry[0].number):
            if field.kind in _CHILDREN:
                if isinstance(value, Member):
                    number = self.schema.unions[field.type].index(value[0]) + 1
                    self.builder.PrependUint8Slot(field.number - 1, number, 0)
                self.builder.PrependUOffsetTRelativeSlot(field.number, children[field.name], 0)
            else:
                self._scalar(table, field, value)
        return int(self.builder.EndObject())

    def _scalar(self, table: str, field: Field, value: Value) -> None:
        number, default = self._stored(table, field, value), self._stored(table, field, field.default)
        slot = getattr(self.builder, f"Prepend{_SLOTS[field.storage]}Slot")
        slot(field.number, number, default)

    def _stored(self, table: str, field: Field, value: Value) -> int | float | bool:
        """The number that stands for `value` in the file, checked against the field's type."""
        where = (f"part    {table}.{field.name}",)
        if field.kind == "enum":
            names = self.schema.enums[field.type]
            if value not in names:
                raise FileError(f"{value!r} is no {field.type}", where=where, help=f"one of: {', '.join(names)}")
            return names.index(str(value))
        if not isinstance(value, int | float | np.generic):
            raise FileError(f"{value!r} is no {field.storage}", where=where, help="give a number")
        dtype = SCALAR_DTYPES[field.storage]
        if dtype.kind == "f":
            return float(value)
        if dtype.kind == "b":
            return bool(value)
        limits = np.iinfo(dtype.str)
        if not limits.min <= value <= limits.max or int(value) != value:
            raise FileError(
                f"{value} does not fit {field.storage}", where=where, help="the format cannot hold this value"
            )
        return int(value)

    def string(self, table: str, field: Field, value: Value) -> int:
        """Append a string."""
        return int(self.builder.CreateString(_as(str, table, field, value)))

    def vector(self, table: str, field: Field, value: Value) -> int:
        """Append a vector of scalars, aligned as the schema says."""
        dtype, given = SCALAR_DTYPES[field.type], np.asarray(value).reshape(-1)
        fits = given.dtype.kind in "biuf"
        array = np.ascontiguousarray(given.astype(dtype) if fits else [], dtype)
        if not fits or (dtype.kind in "iu" and not np.array_equal(array, given)):
            where = (f"part    {table}.{field.name}",)
            raise FileError(
                f"{value!r} does not fit {field.type}", where=where, help="the format cannot hold these values"
            )
        self.builder.Prep(self.schema.alignment.get((table, field.name), 4), array.nbytes)
        return int(self.builder.CreateNumpyVector(array.view(np.uint8) if dtype.kind == "b" else array))

    def strings(self, table: str, field: Field, value: Value) -> int:
        """Append a vector of strings."""
        return self._offsets([self.string(table, field, each) for each in _as(list, table, field, value)])

    def tables(self, table: str, field: Field, value: Value) -> int:
        """Append a vector of tables."""
        return self._offsets([self.table(field.type, record) for record in _as(list, table, field, value)])

    def _offsets(self, entries: Sequence[int]) -> int:
        self.builder.StartVector(4, len(entries), 4)
        for position in reversed(entries):
            self.builder.PrependUOffsetTRelative(position)
        return int(self.builder.EndVector())

    def nested(self, table: str, field: Field, value: Value) -> int:
        """Append a table."""
        return self.table(field.type, _as(dict, table, field, value))

    def member(self, table: str, field: Field, value: Value) -> int:
        """Append the member of a union."""
        name, record = _as(Member, table, field, value)
        return self.table(name, record)


def _as(kind: type[_T], table: str, field: Field, value: Value) -> _T:
    if not isinstance(value, kind):
        raise FileError(
            f"{value!r} is no {field.kind}", where=(f"part    {table}.{field.name}",), help="give another value"
        )
    return value


_CHILDREN: dict[str, Callable[[_Writer, str, Field, Value], int]] = {
    "string": _Writer.string,
    "strings": _Writer.strings,
    "vector": _Writer.vector,
    "tables": _Writer.tables,
    "table": _Writer.nested,
    "union": _Writer.member,
}
