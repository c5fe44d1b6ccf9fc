"""The .tosa format: what is written reads back, and untrusted bytes give a model or a `FileError`."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.errors import FileError
from qgraph.exporters.tosa import Model, Operator, Tensor, read, write
from qgraph.exporters.tosa.storage import decode, encode


def model() -> Model:
    weight = np.arange(-8, 8, dtype=np.int8).reshape(2, 2, 2, 2)
    tensors = [
        Tensor("x", "i8", (1, 4, 4, 2)),
        Tensor("w", "i4", (2, 2, 2, 2), weight),
        Tensor("b", "i32", (2,), np.array([5, -(2**31)], np.int32)),
        Tensor("zero", "i8", (1,), np.zeros(1, np.int8)),
        Tensor("wide", "i48", (2,), np.array([2**47 - 1, -(2**47)])),
        Tensor("y", "i32", (1, 3, 3, 2)),
        Tensor("z", "i32", (18,)),
    ]
    made = [Operator("CONST", (), (name,)) for name in ("w", "b", "zero", "wide")]
    attributes = {"pad": [0, 0, 0, 0], "stride": [1, 1], "dilation": [1, 1], "local_bound": False, "acc_type": "i32"}
    made += [
        Operator("CONV2D", ("x", "w", "b", "zero", "zero"), ("y",), attributes, "here"),
        Operator("CONST_SHAPE", (), ("flat",)),
        Operator("RESHAPE", ("y", "flat"), ("z",)),
    ]
    return Model({tensor.name: tensor for tensor in tensors}, made, ["x"], ["z"], {"flat": (18,)})


def test_what_is_written_reads_back() -> None:
    written, back = model(), read(write(model()))
    assert back.operators == written.operators
    assert (back.inputs, back.outputs, back.shapes, back.version) == (["x"], ["z"], {"flat": (18,)}, (1, 0))
    for name, tensor in written.tensors.items():
        other = back.tensors[name]
        assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape)
        assert (tensor.data is None) == (other.data is None)
        assert tensor.data is None or other.data is None or np.array_equal(tensor.data, other.data)


def test_equal_models_give_equal_bytes() -> None:
    assert write(model()) == write(model())


@pytest.mark.parametrize(("dtype", "low", "high"), [("i4", -8, 7), ("i48", -(2**47), 2**47 - 1), ("i16", -5, 9)])
def test_packed_elements_come_back(dtype: str, low: int, high: int) -> None:
    values = np.random.default_rng(0).integers(low, high, 13, endpoint=True)
    values[:2] = low, high
    assert np.array_equal(decode(encode(values, dtype), dtype, (13,)), values)


def test_damaged_bytes_give_a_model_or_an_error() -> None:
    data, rng = write(model()), np.random.default_rng(0)
    outcomes = set()
    for _ in range(1500):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            broken[place] = rng.integers(0, 256)
        try:
            read(broken)
            outcomes.add("read")
        except FileError:
            outcomes.add("refused")
    for end in range(0, len(data), 7):
        with pytest.raises(FileError):
            read(data[:end])
    assert outcomes == {"read", "refused"}


def test_floats_are_refused_by_name() -> None:
    broken = write(Model({"x": Tensor("x", "f32", (2,))}, [], ["x"], ["x"]))
    with pytest.raises(FileError, match="tensor 'x' is of type f32: qgraph reads the integer profile"):
        read(broken)
