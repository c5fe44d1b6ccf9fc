"""Untrusted bytes: a model or a `FileError`, after bounded work, and nothing else."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from qgraph.errors import FileError
from qgraph.exporters.flat import Record, write_root
from qgraph.exporters.tflite import Model, Operator, Quantization, Signature, SubGraph, Tensor, read, write
from qgraph.exporters.tflite.schema import SCHEMA


def small_model() -> Model:
    weight = Tensor(
        "w", "i8", (3, 4), np.arange(12, dtype=np.int8).reshape(3, 4), Quantization(np.ones(3, "f4"), np.zeros(3, "i8"))
    )
    tensors = [
        Tensor(
            "x", "i8", (1, 4), shape_signature=(-1, 4), quantization=Quantization(np.ones(1, "f4"), np.ones(1, "i8"))
        ),
        weight,
        Tensor("y", "i8", (1, 3)),
        Tensor("p", "i4", (3,), np.array([0x21, 0x03], np.uint8)),
    ]
    operators = [
        Operator("FULLY_CONNECTED", (0, 1, -1), (2,), {"fused_activation_function": "RELU"}),
        Operator("CUSTOM:mine", (2,), (2,), custom_options=b"abc", intermediates=(3,)),
    ]
    signature = Signature({"x": 0}, {"y": 2})
    return Model([SubGraph(tensors, operators, [0], [2])], "d", {"m": b"1234"}, [signature])


SMALL = write(small_model())


def survives(data: bytes) -> bool:
    """Whether the bytes read as a model; any error but FileError fails the test."""
    try:
        read(data)
    except FileError:
        return False
    return True


def test_a_file_cut_anywhere_is_an_error_or_lacks_only_padding() -> None:
    lengths = [length for length in range(len(SMALL)) if survives(SMALL[:length])]
    assert lengths == [] or min(lengths) > len(SMALL) - 16


def test_random_bytes_in_a_small_file_never_give_another_error() -> None:
    rng = np.random.default_rng(1)
    read_fine = 0
    for _ in range(2000):
        data = bytearray(SMALL)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(0, len(data))] = rng.integers(0, 256)
        read_fine += survives(bytes(data))
    assert 0 < read_fine < 2000


def test_every_byte_set_to_extremes_never_gives_another_error() -> None:
    for position in range(len(SMALL)):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            survives(SMALL[:position] + bytes([value]) + SMALL[position + 1 :])


def test_real_files_with_random_bytes_or_cut_never_give_another_error(assets: Path) -> None:
    rng = np.random.default_rng(2)
    for name in ("hello_world_int8", "simple_add_model", "mnist_lstm_int8"):
        data = (assets / "models/tflm" / f"{name}.tflite").read_bytes()
        for _ in range(200):
            survives(data[: rng.integers(0, len(data))])
            flipped = bytearray(data)
            for position in rng.integers(0, len(data), 8):
                flipped[position] ^= 1 << rng.integers(0, 8)
            survives(bytes(flipped))


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x00" * 8, b"\x89PNG\r\n\x1a\n", b"\x08\x00\x00\x00ONNX"])
def test_foreign_bytes_are_said_to_be_foreign(data: bytes) -> None:
    with pytest.raises(FileError, match=r"not a \.tflite file: bytes 4 to 7 are"):
        read(data)


def test_the_error_says_what_where_and_what_to_do() -> None:
    broken = struct.pack("<I4sI", 8, b"TFL3", 0x7FFFFFFF)
    with pytest.raises(FileError) as caught:
        read(broken)
    assert str(caught.value) == (
        "damaged .tflite file: 2 bytes at -2147483639 leave the 12 bytes of the file\n"
        "  part    Model\n"
        "  offset  -2147483639\n"
        "  help    copy or export the file again"
    )


def raw(**model: object) -> bytes:
    """A file made of records, past the checks of `write`."""
    from flatbuffers import Builder

    record: Record = {"version": 3, "buffers": [{}], **model}
    return write_root(Builder(1024), SCHEMA, "Model", record)


def subgraph(**fields: object) -> dict[str, object]:
    return {"subgraphs": [{"tensors": [{"name": "t", "shape": [2], "type": "f32", "buffer": 0, **fields}]}]}


FOUR = [{}, {"data": [0, 0, 0, 0]}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (raw(), "it has no subgraph"),
        (raw(version=2), "schema version 2; this reader knows version 3"),
        (raw(**subgraph(buffer=7)), "index 7, but there are 1"),
        (raw(**subgraph(shape=[-2])), "shape (-2,) has a negative dimension"),
        (raw(**subgraph(shape=[1] * 40)), "rank 40 is over 32"),
        (raw(**subgraph(sparsity={})), "tensor 't' is sparse"),
        (raw(**subgraph(external_buffer=1)), "tensor 't' is stored in another file"),
        (raw(buffers=FOUR, **subgraph(buffer=1)), "a constant of 4 bytes, but f32[2] takes 8"),
        (raw(**subgraph(quantization={"scale": [1.0, 2.0], "zero_point": [1]})), "2 scales, but 1 zero points"),
        (raw(buffers=[{}, {"offset": 64, "size": 10**9}], **subgraph(buffer=1)), "leave the"),
        (raw(operator_codes=[{"builtin_code": "ADD", "version": 0}], **subgraph()), "version 0 of ADD"),
        (raw(subgraphs=[{"inputs": [0]}]), "an index outside 0 to -1"),
        (raw(signature_defs=[{"subgraph_index": 3}], **subgraph()), "index 3, but there are 1"),
        (raw(metadata=[{"name": "m", "buffer": 9}], **subgraph()), "index 9, but there are 1"),
    ],
)
def test_contradictions_are_named(data: bytes, message: str) -> None:
    with pytest.raises(FileError) as caught:
        read(data)
    assert message in str(caught.value)


def test_constants_behind_the_tables_are_read_as_files_over_2_gb_store_them() -> None:
    head = raw(buffers=[{}, {"offset": 1 << 40, "size": 8}], **subgraph(buffer=1))
    place = (len(head) + 15) // 16 * 16
    data = head.replace(struct.pack("<Q", 1 << 40), struct.pack("<Q", place)).ljust(place, b"\0")
    tensor = read(data + np.array([1.5, -2], "<f4").tobytes()).subgraphs[0].tensors[0]
    assert tensor.data is not None
    assert tensor.data.tolist() == [1.5, -2.0]


def test_a_file_whose_tables_are_one_table_many_times_is_refused_soon() -> None:
    """9,000 entries that all lead to one subgraph with 1,000 tensors: 9 million tables in 0.06 MB."""
    data = bytearray(raw(subgraphs=[{"tensors": [{"name": "t"}] * 1000}], description="x" * 40_000))
    start = data.index(b"x" * 40_000)
    vector = start + (-start % 4)
    subgraphs = position_of_vector(data, "subgraphs")
    target = subgraphs + 4 + struct.unpack_from("<I", data, subgraphs + 4)[0]
    count = 9_000
    struct.pack_into("<I", data, vector, count)
    for i in range(count):
        place = vector + 4 + 4 * i
        struct.pack_into("<i", data, place, target - place)
    field = position_of_field(data, "subgraphs")
    struct.pack_into("<I", data, field, vector - field)
    with pytest.raises(FileError, match="its parts overlap"):
        read(bytes(data))


def position_of_field(data: bytes | bytearray, name: str) -> int:
    from qgraph.exporters.tflite.schema import TABLES

    table = struct.unpack_from("<I", data, 0)[0]
    vtable = table - struct.unpack_from("<i", data, table)[0]
    return int(table + struct.unpack_from("<H", data, vtable + 4 + 2 * TABLES["Model"][name].number)[0])


def position_of_vector(data: bytes | bytearray, name: str) -> int:
    field = position_of_field(data, name)
    return int(field + struct.unpack_from("<I", data, field)[0])
