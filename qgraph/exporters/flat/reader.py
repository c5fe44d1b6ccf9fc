"""Reading FlatBuffers tables by a `Schema`, every offset checked against the file.

The generated bindings follow any offset that a file gives; this reader raises `FileError` instead. Tables nest as the
schema nests (it has no cycle), so depth is bounded; as a hostile file may point many times at the same bytes, the total
that is decoded is bounded too, by a multiple of the file's length.

Source: FlatBuffers internals (binary format): little endian; u32 offsets forward; a table starts with an i32 that leads
back to its vtable; a vtable is u16 words: its size, the table's size, each field's place in the table (0 if absent).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters.flat.schema import SCALAR_DTYPES, Array, Field, Schema

Option = int | float | bool | str | list[int] | list[float]
"""The value of a field of an options table."""

_CODES = {"bool": "<?", "i8": "<b", "u8": "<B", "i16": "<h", "u16": "<H", "i32": "<i", "u32": "<I", "i64": "<q"}
FORMATS = {name: struct.Struct(code) for name, code in {**_CODES, "u64": "<Q", "f32": "<f", "f64": "<d"}.items()}

_DECODED_PER_BYTE = 4  # writers that share strings or vectors decode to a little more than the file's length
_DECODED_AT_LEAST = 1 << 16
_TABLE_COST = 8  # bytes: the least that a table takes in an honest file


def damaged(suffix: str, what: str, part: str, offset: int) -> FileError:
    """The error for a file of that suffix that contradicts itself."""
    where = (f"part    {part}", f"offset  {offset}")
    return FileError(f"damaged {suffix} file: {what}", where=where, help="copy or export the file again")


class FlatFile:
    """The bytes of a file and how many of them have been decoded so far."""

    def __init__(self, data: bytes | bytearray | memoryview, schema: Schema) -> None:
        self.schema = schema
        self.data = memoryview(data).cast("B").toreadonly()
        self._left = _DECODED_PER_BYTE * len(self.data) + _DECODED_AT_LEAST

    def damaged(self, what: str, part: str, offset: int) -> FileError:
        """The error for a file that contradicts itself."""
        return damaged(self.schema.suffix, what, part, offset)

    def check(self, start: int, size: int, part: str) -> None:
        """Raise unless `size` bytes from `start` lie within the file."""
        if start < 0 or start + size > len(self.data):
            raise self.damaged(f"{size} bytes at {start} leave the {len(self.data)} bytes of the file", part, start)

    def spend(self, size: int, part: str, offset: int) -> None:
        """Count decoded bytes; raise when they exceed what an honest file of this length holds."""
        self._left -= size
        if self._left < 0:
            raise self.damaged("its parts overlap: it decodes to far more than its length", part, offset)

    def scalar(self, storage: str, position: int, part: str) -> int | float | bool:
        """The scalar at `position`."""
        form = FORMATS[storage]
        self.check(position, form.size, part)
        value: int | float | bool = form.unpack_from(self.data, position)[0]
        return value

    def target(self, position: int, part: str) -> int:
        """Where the u32 offset at `position` leads."""
        offset = int(self.scalar("u32", position, part))
        if offset == 0:
            raise self.damaged("an offset of 0", part, position)
        return position + offset

    def vector(self, position: int, item_size: int, part: str) -> tuple[int, int]:
        """First element and length of the vector at `position`."""
        length = int(self.scalar("u32", position, part))
        self.check(position + 4, length * item_size, part)
        return position + 4, length

    def array(self, position: int, element: str, part: str) -> Array:
        """The vector of scalars at `position`, as a view of the file."""
        dtype = SCALAR_DTYPES[element]
        start, length = self.vector(position, dtype.itemsize, part)
        if element != "u8":  # bytes are never looked at one by one
            self.spend(length * dtype.itemsize, part, position)
        return np.frombuffer(self.data, dtype, length, start) if length else np.zeros(0, dtype)

    def text(self, position: int, part: str) -> str:
        """The string at `position`."""
        start, length = self.vector(position, 1, part)
        self.spend(length, part, position)
        try:
            return str(self.data[start : start + length], "utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged(f"a string that is not UTF-8 ({error.reason})", part, start) from None


class Table:
    """One table of a file; fields are read when asked for, by name. Absent fields give their defaults."""

    def __init__(self, file: FlatFile, name: str, position: int, part: str) -> None:
        self.file, self.name, self.position, self.part = file, name, position, part
        file.spend(_TABLE_COST, part, position)
        self._vtable = position - int(file.scalar("i32", position, part))
        self._vtable_size = int(file.scalar("u16", self._vtable, part))
        self._size = int(file.scalar("u16", self._vtable + 2, part))
        if self._vtable_size < 4 or self._vtable_size % 2 or self._size < 4:
            raise self.file.damaged(f"no table: sizes {self._vtable_size} and {self._size}", part, position)
        file.check(self._vtable, self._vtable_size, part)
        file.check(position, self._size, part)

    def integer(self, name: str) -> int:
        """The integer (or boolean) field."""
        return int(self._stored(self._field(name)))

    def enumerator(self, name: str) -> str:
        """The enumerator's name."""
        field = self._field(name)
        number, names = int(self._stored(field)), self.file.schema.enums[field.type]
        if not 0 <= number < len(names):
            raise self.file.damaged(
                f"{number} is no {field.type} (0 to {len(names) - 1})", self._path(name), self.position
            )
        return names[number]

    def text(self, name: str) -> str:
        """The string, "" if absent."""
        position = self._target(self._field(name))
        return "" if position is None else self.file.text(position, self._path(name))

    def array(self, name: str) -> Array:
        """The vector of scalars, empty if absent."""
        field = self._field(name)
        position = self._target(field)
        if position is None:
            return np.zeros(0, SCALAR_DTYPES[field.type])
        return self.file.array(position, field.type, self._path(name))

    def has(self, name: str) -> bool:
        """Whether the file gives the field."""
        return self._position(self._field(name).number, 1) is not None

    def table(self, name: str) -> Table | None:
        """The table in the field."""
        field = self._field(name)
        position = self._target(field)
        return None if position is None else Table(self.file, field.type, position, self._path(name))

    def tables(self, name: str) -> list[Table]:
        """The vector of tables, empty if absent."""
        field = self._field(name)
        position = self._target(field)
        if position is None:
            return []
        start, length = self.file.vector(position, 4, self._path(name))
        parts = ((start + 4 * i, f"{self._path(name)}[{i}]") for i in range(length))
        return [Table(self.file, field.type, self.file.target(place, part), part) for place, part in parts]

    def texts(self, name: str) -> list[str]:
        """The vector of strings, empty if absent."""
        position = self._target(self._field(name))
        if position is None:
            return []
        start, length = self.file.vector(position, 4, self._path(name))
        self.file.spend(4 * length, self._path(name), position)
        parts = ((start + 4 * i, f"{self._path(name)}[{i}]") for i in range(length))
        return [self.file.text(self.file.target(place, part), part) for place, part in parts]

    def member(self, name: str) -> Table | None:
        """The table in a union, None if there is none or it is newer than the schema's table here."""
        field = self._field(name)
        place = self._position(field.number - 1, 1)
        number = 0 if place is None else int(self.file.scalar("u8", place, self._path(name)))
        position = self._target(field) if 0 < number <= len(self.file.schema.unions[field.type]) else None
        if position is None:
            return None
        return Table(self.file, self.file.schema.unions[field.type][number - 1], position, self._path(name))

    def options(self) -> dict[str, Option]:
        """All fields of an options table by name, defaults filled in."""
        return {name: _DECODERS[field.kind](self, name) for name, field in self.file.schema.tables[self.name].items()}

    def number(self, name: str) -> int | float | bool:
        """The scalar field in its own Python type."""
        return self._stored(self._field(name))

    def items(self, name: str) -> list[int] | list[float]:
        """The vector of scalars as a list."""
        values: list[int] | list[float] = self.array(name).tolist()
        return values

    def _field(self, name: str) -> Field:
        return self.file.schema.tables[self.name][name]

    def _path(self, name: str) -> str:
        return f"{self.part}.{name}"

    def _position(self, number: int, size: int) -> int | None:
        entry = 4 + 2 * number
        if entry >= self._vtable_size:
            return None
        place = int(self.file.scalar("u16", self._vtable + entry, self.part))
        if place and not 4 <= place <= self._size - size:
            raise self.file.damaged(f"field {number} lies outside its {self.name}", self.part, self.position)
        return self.position + place if place else None

    def _stored(self, field: Field) -> int | float | bool:
        position = self._position(field.number, FORMATS[field.storage].size)
        if position is None:
            return (
                self.file.schema.enums[field.type].index(str(field.default))
                if field.kind == "enum"
                else _as_number(field.default)
            )
        return self.file.scalar(field.storage, position, self._path(field.name))

    def _target(self, field: Field) -> int | None:
        position = self._position(field.number, 4)
        return None if position is None else self.file.target(position, self._path(field.name))


def _as_number(default: int | float | bool | str) -> int | float | bool:
    return 0 if isinstance(default, str) else default


_DECODERS: dict[str, Callable[[Table, str], Option]] = {
    "scalar": Table.number,
    "enum": Table.enumerator,
    "string": Table.text,
    "vector": Table.items,
}


def root(data: bytes | bytearray | memoryview, table: str, schema: Schema) -> Table:
    """The root table of a file, whose identifier stands at byte 4."""
    file = FlatFile(data, schema)
    found = bytes(file.data[4:8])
    if found != schema.identifier:
        raise FileError(
            f"not a {schema.suffix} file: bytes 4 to 7 are {found!r}, not {schema.identifier!r}",
            where=("offset  4",),
            help=f"give {schema.wanted}; other formats have other suffixes",
        )
    return Table(file, table, file.target(0, "root"), table)
