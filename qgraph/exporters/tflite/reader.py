"""Reading a .tflite file, trusted or not, into a `Model`.

Whatever the bytes are, the result is a `Model` whose indices, sizes and names are consistent, or a `FileError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters.flat import Array, FlatFile, Table, root
from qgraph.exporters.flat.reader import damaged as damaged_file
from qgraph.exporters.tflite.enums import OPERATORS
from qgraph.exporters.tflite.model import (
    Model,
    Operator,
    Quantization,
    Signature,
    SubGraph,
    Tensor,
)
from qgraph.exporters.tflite.schema import FIELD_OF_UNION, OPTIONS_OF, SCHEMA, SCHEMA_VERSION
from qgraph.exporters.tflite.storage import NUMPY_OF, stored_bytes

damaged = partial(damaged_file, SCHEMA.suffix)

MAX_RANK = 32  # NumPy 1 stops here; LiteRT's kernels stop at 8

_UNREADABLE = {
    "sparsity": ("sparse", "densify the model where it was made"),
    "external_buffer": ("stored in another file", "export the model with its weights inside"),
}


def read(data: bytes | bytearray | memoryview) -> Model:
    """The model in the bytes of a .tflite file.

    Constants are read-only views of `data`, so keep it unchanged.
    Raises `FileError` for anything that is no such file, is damaged, or keeps constants where `Model` cannot.
    """
    model = root(data, "Model", SCHEMA)
    version = model.integer("version")
    if version != SCHEMA_VERSION:
        raise FileError(
            f".tflite schema version {version}; this reader knows version {SCHEMA_VERSION}",
            where=("part    Model.version",),
            help="convert the model with a current converter",
        )
    buffers = [_buffer(table) for table in model.tables("buffers")]
    codes = [_operator_code(table) for table in model.tables("operator_codes")]
    subgraphs = [_subgraph(table, codes, buffers) for table in model.tables("subgraphs")]
    if not subgraphs:
        raise damaged("it has no subgraph", "Model.subgraphs", model.position)
    return Model(
        subgraphs=subgraphs,
        description=model.text("description"),
        metadata=dict(_metadata(table, buffers) for table in model.tables("metadata")),
        signatures=[_signature(table, subgraphs) for table in model.tables("signature_defs")],
        version=version,
    )


def _buffer(table: Table) -> Array | None:
    """Bytes of a buffer, None if it has none; they may lie behind the tables (files over 2 GB)."""
    if table.has("data"):
        return table.array("data")
    return _outside(table.file, table.integer("offset"), table.integer("size"), table.part)


def _outside(file: FlatFile, offset: int, size: int, part: str) -> Array | None:
    if offset <= 1:  # the schema's mark for "not used"
        return None
    file.check(offset, size, part)
    return np.frombuffer(file.data, np.uint8, size, offset) if size else np.zeros(0, np.uint8)


def _operator_code(table: Table) -> tuple[str, int]:
    """Name and version of an operator code; numbers over 126 stand in `builtin_code`, which old files lack."""
    number = max(table.integer("deprecated_builtin_code"), table.integer("builtin_code"))
    if not 0 <= number < len(OPERATORS):
        raise FileError(
            f"operator number {number} is unknown",
            where=(f"part    {table.part}",),
            help=f"the operators of this schema are 0 to {len(OPERATORS) - 1}; the file is damaged or newer",
        )
    name, version = OPERATORS[number], table.integer("version")
    if version < 1:
        raise damaged(f"version {version} of {name}; versions count from 1", f"{table.part}.version", table.position)
    return f"CUSTOM:{table.text('custom_code')}" if name == "CUSTOM" else name, version


def _subgraph(table: Table, codes: list[tuple[str, int]], buffers: list[Array | None]) -> SubGraph:
    tensors = [_tensor(entry, buffers) for entry in table.tables("tensors")]
    return SubGraph(
        tensors=tensors,
        operators=[_operator(entry, codes, len(tensors)) for entry in table.tables("operators")],
        inputs=list(_indices(table, "inputs", len(tensors))),
        outputs=list(_indices(table, "outputs", len(tensors))),
        name=table.text("name"),
    )


def _indices(table: Table, name: str, count: int, lowest: int = 0) -> tuple[int, ...]:
    values = table.array(name)
    if values.size and not (lowest <= int(values.min()) and int(values.max()) < count):
        raise damaged(f"an index outside {lowest} to {count - 1}", f"{table.part}.{name}", table.position)
    return tuple(values.tolist())


def _index(table: Table, name: str, count: int) -> int:
    value = table.integer(name)
    if not 0 <= value < count:
        raise damaged(f"index {value}, but there are {count}", f"{table.part}.{name}", table.position)
    return value


def _tensor(table: Table, buffers: list[Array | None]) -> Tensor:
    name, dtype, shape = table.text("name"), table.enumerator("type"), _shape(table, "shape")
    for field, (what, remedy) in _UNREADABLE.items():
        if table.has(field) and (field == "sparsity" or table.integer(field)):
            raise FileError(f"tensor {name!r} is {what}", where=(f"part    {table.part}.{field}",), help=remedy)
    if min(shape, default=0) < 0:
        raise damaged(f"shape {shape} has a negative dimension", f"{table.part}.shape", table.position)
    number = table.integer("buffer")
    stored = buffers[_index(table, "buffer", len(buffers))] if number else None
    return Tensor(
        name=name,
        dtype=dtype,
        shape=shape,
        data=_constant(table, stored, dtype, shape),
        quantization=_quantization(table.table("quantization")),
        shape_signature=_shape(table, "shape_signature") or None,
        is_variable=bool(table.integer("is_variable")),
        has_rank=bool(table.integer("has_rank")),
    )


def _shape(table: Table, name: str) -> tuple[int, ...]:
    values = table.array(name)
    if values.size > MAX_RANK:
        raise damaged(f"rank {values.size} is over {MAX_RANK}", f"{table.part}.{name}", table.position)
    return tuple(values.tolist())


def _constant(table: Table, stored: Array | None, dtype: str, shape: tuple[int, ...]) -> Array | None:
    """The constant in `stored`; no bytes mean no constant, unless the shape has no elements."""
    needed = stored_bytes(dtype, shape)
    if stored is None or (stored.size == 0 and needed != 0):
        return None
    if needed is not None and needed != stored.size:
        what = f"a constant of {stored.size} bytes, but {dtype}{list(shape)} takes {needed}"
        raise damaged(what, f"{table.part}.buffer", table.position)
    return stored.view(NUMPY_OF[dtype]).reshape(shape) if dtype in NUMPY_OF else stored


def _quantization(table: Table | None) -> Quantization | None:
    """Scale and zero point; None where there is no scale, as in float models that record ranges only."""
    if table is None:
        return None
    details = table.member("details")
    scale, zero_point = table.array("scale").astype(np.float32), table.array("zero_point").astype(np.int64)
    if scale.size == 0 and details is None:
        return None
    if zero_point.size not in (0, scale.size):
        what = f"{scale.size} scales, but {zero_point.size} zero points"
        raise damaged(what, f"{table.part}.zero_point", table.position)
    if zero_point.size == 0:
        zero_point = np.zeros(scale.size, np.int64)
    return Quantization(scale, zero_point, table.integer("quantized_dimension"), details.name if details else "")


def _operator(table: Table, codes: list[tuple[str, int]], tensors: int) -> Operator:
    name, version = codes[_index(table, "opcode_index", len(codes))]
    union, member = OPTIONS_OF.get(name, ("", ""))
    options = table.member(FIELD_OF_UNION[union]) if union else None
    if options is not None and options.name != member:
        options = None  # as the runtime takes it: not this operator's options
    return Operator(
        name=name,
        inputs=_indices(table, "inputs", tensors, lowest=-1),
        outputs=_indices(table, "outputs", tensors),
        options=options.options() if options else {},
        version=version,
        intermediates=_indices(table, "intermediates", tensors, lowest=-1),
        mutating_variable_inputs=tuple(table.array("mutating_variable_inputs").tolist()),
        custom_options=_custom_options(table),
        options_omitted=bool(member) and options is None,
    )


def _custom_options(table: Table) -> bytes:
    large = _outside(
        table.file,
        table.integer("large_custom_options_offset"),
        table.integer("large_custom_options_size"),
        f"{table.part}.large_custom_options_offset",
    )
    return (table.array("custom_options") if large is None else large).tobytes()


def _metadata(table: Table, buffers: list[Array | None]) -> tuple[str, bytes]:
    data = buffers[_index(table, "buffer", len(buffers))]
    return table.text("name"), b"" if data is None else data.tobytes()


def _signature(table: Table, subgraphs: list[SubGraph]) -> Signature:
    subgraph = _index(table, "subgraph_index", len(subgraphs))
    count = len(subgraphs[subgraph].tensors)

    def named(entries: Iterable[Table]) -> dict[str, int]:
        return {entry.text("name"): _index(entry, "tensor_index", count) for entry in entries}

    key = table.text("signature_key")
    return Signature(named(table.tables("inputs")), named(table.tables("outputs")), key, subgraph)
