"""Reading a .tosa file, trusted or not, into a `Model`.

Whatever the bytes are, the result is a `Model` whose names and sizes are consistent, or a `FileError`.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters.flat import Array, Table, root
from qgraph.exporters.flat.reader import damaged as damaged_file
from qgraph.exporters.tosa.model import Model, Operator, Tensor
from qgraph.exporters.tosa.schema import SCHEMA
from qgraph.exporters.tosa.storage import ALIGNMENT, decode, stored_bytes

damaged = partial(damaged_file, SCHEMA.suffix)

MAX_RANK = 32  # NumPy 1 stops here, TOSA without a level too
INTEGERS = ("bool", "i4", "i8", "i16", "i32", "i48", "i64")
"""Element types of the integer profile and its extensions; files with others are refused by name."""


def read(data: bytes | bytearray | memoryview) -> Model:
    """The model in the bytes of a .tosa file.

    Raises `FileError` for anything that is no such file, is damaged, has control flow or several blocks, or element
    types that are not integers.
    """
    graph = root(data, "TosaGraph", SCHEMA)
    version = _version(graph.table("version"), graph)
    regions = graph.tables("regions")
    blocks = [block for region in regions for block in region.tables("blocks")]
    if len(blocks) != 1:
        raise FileError(
            f"a .tosa file of {len(blocks)} blocks; one is read",
            where=("part    TosaGraph.regions",),
            help="qgraph reads files without control flow",
        )
    return _block(blocks[0], version)


def _version(table: Table | None, graph: Table) -> tuple[int, int]:
    if table is None:
        raise damaged("it has no version", "TosaGraph.version", graph.position)
    version = table.integer("major"), table.integer("minor")
    if version[0] != 1:
        raise FileError(
            f"TOSA version {version[0]}.{version[1]}; this reader knows version 1",
            where=("part    TosaGraph.version",),
            help="convert the model with a current converter",
        )
    return version


def _block(table: Table, version: tuple[int, int]) -> Model:
    tensors: dict[str, Tensor] = {}
    for entry in table.tables("tensors"):
        tensor = _tensor(entry)
        if tensor.name in tensors:
            raise damaged(f"two tensors are called {tensor.name!r}", entry.part, entry.position)
        tensors[tensor.name] = tensor
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in table.tables("shapes"):
        name = entry.text("name")
        if name in shapes or name in tensors:
            raise damaged(f"two values are called {name!r}", entry.part, entry.position)
        shapes[name] = _shape_values(entry)
    known = tensors.keys() | shapes.keys()
    return Model(
        tensors=tensors,
        operators=[_operator(entry, known) for entry in table.tables("operators")],
        inputs=_names(table, "inputs", tensors.keys()),
        outputs=_names(table, "outputs", known),
        shapes=shapes,
        version=version,
    )


def _names(table: Table, name: str, known: Collection[str]) -> list[str]:
    given = table.texts(name)
    unknown = [each for each in given if each not in known]
    if unknown:
        raise damaged(f"there is no tensor {unknown[0]!r}", f"{table.part}.{name}", table.position)
    return given


def _tensor(table: Table) -> Tensor:
    name, dtype = table.text("name"), table.enumerator("type")
    shape = tuple(table.array("shape").tolist())
    if dtype not in INTEGERS:
        raise FileError(
            f"tensor {name!r} is of type {dtype}: qgraph reads the integer profile of TOSA",
            where=(f"part    {table.part}.type",),
            help=f"types: {', '.join(INTEGERS)}",
        )
    if table.integer("variable") or table.integer("is_unranked") or table.integer("offset") > 1:
        raise FileError(
            f"tensor {name!r} is a variable, without a rank, or stored outside of the tables",
            where=(f"part    {table.part}",),
            help="qgraph reads constants and values of known rank",
        )
    if len(shape) > MAX_RANK or min(shape, default=1) < 1:
        raise FileError(f"tensor {name!r} has the shape {list(shape)}: sizes are 1 or more, rank at most {MAX_RANK}")
    data = _constant(table, dtype, shape) if table.has("data") and table.array("data").size else None
    return Tensor(name, dtype, shape, data)


def _constant(table: Table, dtype: str, shape: tuple[int, ...]) -> Array:
    data, needed = table.array("data"), stored_bytes(dtype, shape)
    if not needed <= data.size < needed + ALIGNMENT:
        what = f"a constant of {data.size} bytes, but {dtype}{list(shape)} takes {needed}"
        raise damaged(what, f"{table.part}.data", table.position)
    return decode(data, dtype, shape)


def _shape_values(table: Table) -> tuple[int, ...]:
    data, rank = table.array("data"), table.integer("rank")
    if rank > 2 * MAX_RANK or not 8 * rank <= data.size <= 8 * rank + ALIGNMENT:
        raise damaged(f"a shape of rank {rank} in {data.size} bytes", f"{table.part}.data", table.position)
    return tuple(np.frombuffer(data.tobytes(), "<i8", rank).tolist())


def _operator(table: Table, known: Collection[str]) -> Operator:
    name = table.enumerator("op")
    attribute = table.member("attribute")
    if attribute is not None and attribute.name != f"{name}:attribute":
        raise damaged(f"{name} with the attribute of another operator", f"{table.part}.attribute", table.position)
    location = table.table("location")
    return Operator(
        name,
        tuple(_names(table, "inputs", known)),
        tuple(_names(table, "outputs", known)),
        attribute.options() if attribute is not None else {},
        location.text("text") if location is not None else "",
    )
