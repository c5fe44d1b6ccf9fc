"""Writing FlatBuffers tables by `schema.TABLES` with the builder of the `flatbuffers` package.

A record is a dict from field names to values; a field left out, None or equal to its default is not stored. Equal
records give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, Union

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters.tflite.enums import ENUMS
from qgraph.exporters.tflite.schema import TABLES, UNIONS, Field
from qgraph.exporters.tflite.storage import NUMPY_OF, Array

if TYPE_CHECKING:
    from flatbuffers import Builder

_T = TypeVar("_T")

Record = Mapping[str, "Value"]
Value = Union[int, float, bool, str, None, Array, Sequence[int], Sequence[float], Sequence[Record], Record, "Member"]

VECTOR_ALIGNMENT = {("Buffer", "data"): 16}  # the schema's force_align, so that constants can be used in place


class Member(tuple[str, Record]):
    """The member of a union: its table's name, and its record."""

    def __new__(cls, table: str, record: Record) -> Member:
        return super().__new__(cls, (table, record))


def write_root(builder: Builder, table: str, record: Record, identifier: bytes) -> bytes:
    """The whole file with `record` as its root table."""
    builder.Finish(write_table(builder, table, record), file_identifier=identifier)
    return bytes(builder.Output())


def write_table(builder: Builder, table: str, record: Record) -> int:
    """Append `record` and all that it holds; its position for the parent."""
    fields = TABLES[table]
    if unknown := sorted(record.keys() - fields.keys()):
        known = ", ".join(fields) or "none"
        raise FileError(f"{table} has no field {', '.join(unknown)}", help=f"its fields are: {known}")
    given = [(fields[name], value) for name, value in record.items() if value is not None]
    children = {f.name: _write_child(builder, table, f, value) for f, value in given if f.kind in _CHILDREN}
    builder.StartObject(max((f.number + 1 for f in fields.values()), default=0))
    for field, value in sorted(given, key=lambda entry: entry[0].number):
        if field.kind in _CHILDREN:
            if isinstance(value, Member):
                builder.PrependUint8Slot(field.number - 1, UNIONS[field.type].index(value[0]) + 1, 0)
            builder.PrependUOffsetTRelativeSlot(field.number, children[field.name], 0)
        else:
            _write_scalar(builder, table, field, value)
    return int(builder.EndObject())


def _write_scalar(builder: Builder, table: str, field: Field, value: Value) -> None:
    number, default = _stored(table, field, value), _stored(table, field, field.default)
    slot = getattr(builder, f"Prepend{_SLOTS[field.storage]}Slot")
    slot(field.number, number, default)


_SLOTS = {
    "bool": "Bool", "i8": "Int8", "u8": "Uint8", "i16": "Int16", "u16": "Uint16", "i32": "Int32", "u32": "Uint32",
    "i64": "Int64", "u64": "Uint64", "f32": "Float32", "f64": "Float64",
}  # fmt: skip


def _stored(table: str, field: Field, value: Value) -> int | float | bool:
    """The number that stands for `value` in the file, checked against the field's type."""
    where = (f"part    {table}.{field.name}",)
    if field.kind == "enum":
        names = ENUMS[field.type]
        if value not in names:
            raise FileError(f"{value!r} is no {field.type}", where=where, help=f"one of: {', '.join(names)}")
        return names.index(str(value))
    if not isinstance(value, int | float | np.generic):
        raise FileError(f"{value!r} is no {field.storage}", where=where, help="give a number")
    dtype = NUMPY_OF[field.storage]
    if dtype.kind == "f":
        return float(value)
    if dtype.kind == "b":
        return bool(value)
    limits = np.iinfo(dtype.str)
    if not limits.min <= value <= limits.max or int(value) != value:
        raise FileError(f"{value} does not fit {field.storage}", where=where, help="the format cannot hold this value")
    return int(value)


def _write_child(builder: Builder, table: str, field: Field, value: Value) -> int:
    return _CHILDREN[field.kind](builder, table, field, value)


def _as(kind: type[_T], table: str, field: Field, value: Value) -> _T:
    if not isinstance(value, kind):
        raise FileError(
            f"{value!r} is no {field.kind}", where=(f"part    {table}.{field.name}",), help="give another value"
        )
    return value


def _write_string(builder: Builder, table: str, field: Field, value: Value) -> int:
    return int(builder.CreateString(_as(str, table, field, value)))


def _write_vector(builder: Builder, table: str, field: Field, value: Value) -> int:
    dtype, given = NUMPY_OF[field.type], np.asarray(value).reshape(-1)
    fits = given.dtype.kind in "biuf"
    array = np.ascontiguousarray(given.astype(dtype) if fits else [], dtype)
    if not fits or (dtype.kind in "iu" and not np.array_equal(array, given)):
        where = (f"part    {table}.{field.name}",)
        raise FileError(f"{value!r} does not fit {field.type}", where=where, help="the format cannot hold these values")
    builder.Prep(VECTOR_ALIGNMENT.get((table, field.name), 4), array.nbytes)
    return int(builder.CreateNumpyVector(array.view(np.uint8) if dtype.kind == "b" else array))


def _write_tables(builder: Builder, table: str, field: Field, value: Value) -> int:
    entries = [write_table(builder, field.type, record) for record in _as(list, table, field, value)]
    builder.StartVector(4, len(entries), 4)
    for position in reversed(entries):
        builder.PrependUOffsetTRelative(position)
    return int(builder.EndVector())


def _write_nested(builder: Builder, table: str, field: Field, value: Value) -> int:
    return write_table(builder, field.type, _as(dict, table, field, value))


def _write_member(builder: Builder, table: str, field: Field, value: Value) -> int:
    name, record = _as(Member, table, field, value)
    return write_table(builder, name, record)


_CHILDREN: dict[str, Callable[[Builder, str, Field, Value], int]] = {
    "string": _write_string,
    "vector": _write_vector,
    "tables": _write_tables,
    "table": _write_nested,
    "union": _write_member,
}
