"""Other people's files: what the reader says is what the runtime says, and a rewritten file computes the same."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from qgraph.exporters.tflite import Model, Tensor, lowest_version, read, write
from qgraph.exporters.tflite.enums import OPERATORS

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs qgraph-compiler[litert]")

MODELS = Path(os.environ.get("QGRAPH_ASSETS", "/nonexistent")) / "models"
FILES = sorted(str(path.relative_to(MODELS)) for path in MODELS.glob("**/*.tflite"))
NUMPY = {"f32": np.float32, "i8": np.int8, "u8": np.uint8, "i16": np.int16, "i32": np.int32, "i64": np.int64}

pytestmark = pytest.mark.skipif(not FILES, reason="needs the environment variable QGRAPH_ASSETS: a folder with models/")
every_file = pytest.mark.parametrize("file", FILES)


@cache
def loaded(file: str) -> tuple[bytes, Model]:
    data = (MODELS / file).read_bytes()
    return data, read(data)


def engine(data: bytes) -> object:
    kernels = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return interpreter.Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kernels)


@every_file
def test_tensors_are_those_of_the_runtime(file: str) -> None:
    data, model = loaded(file)
    subgraph, runtime = model.subgraphs[0], engine(data)
    details = runtime.get_tensor_details()
    assert len(subgraph.tensors) == len(details)
    for tensor, detail in zip(subgraph.tensors, details, strict=True):
        assert (tensor.name, NUMPY[tensor.dtype]) == (detail["name"], detail["dtype"])
        assert tensor.shape == tuple(detail["shape"])
        assert (tensor.shape_signature or tensor.shape) == tuple(detail["shape_signature"])
        same_quantization(tensor, detail["quantization_parameters"])
        if tensor.data is not None:
            assert np.array_equal(tensor.data, runtime.get_tensor(detail["index"]), equal_nan=tensor.dtype == "f32")
    assert subgraph.inputs == [detail["index"] for detail in runtime.get_input_details()]
    assert subgraph.outputs == [detail["index"] for detail in runtime.get_output_details()]


def same_quantization(tensor: Tensor, theirs: dict[str, npt.NDArray[np.generic]]) -> None:
    if tensor.quantization is None:
        assert theirs["scales"].size == 0
        return
    assert np.array_equal(tensor.quantization.scale, theirs["scales"])
    assert np.array_equal(tensor.quantization.zero_point, theirs["zero_points"])
    assert tensor.quantization.axis == theirs["quantized_dimension"]


@every_file
def test_operators_are_those_of_the_runtime(file: str) -> None:
    data, model = loaded(file)
    details = engine(data)._get_ops_details()
    operators = model.subgraphs[0].operators
    assert [operator.name for operator in operators] == [detail["op_name"] for detail in details]
    for operator, detail in zip(operators, details, strict=True):
        assert list(operator.inputs) == list(detail["inputs"])
        assert list(operator.outputs) == list(detail["outputs"])


@every_file
def test_writing_what_was_read_gives_an_equal_model_and_the_same_bytes_again(file: str) -> None:
    _, model = loaded(file)
    written = write(model)
    assert read(written) == model
    assert write(read(written)) == written


@pytest.mark.parametrize("file", [file for file in FILES if "scrambled" not in file])  # LiteRT's SVDF crashes on it
def test_a_rewritten_file_computes_the_same(file: str) -> None:
    data, model = loaded(file)
    assert all(np.array_equal(a, b) for a, b in zip(outputs(data), outputs(write(model)), strict=True))


def outputs(data: bytes) -> list[npt.NDArray[np.generic]]:
    runtime, rng = engine(data), np.random.default_rng(7)
    runtime.allocate_tensors()
    shapes = [tuple(detail["shape"]) for detail in runtime.get_output_details()]
    for detail in runtime.get_input_details():
        runtime.set_tensor(detail["index"], random_input(detail, shapes[0], rng))
    runtime.invoke()
    return [runtime.get_tensor(detail["index"]) for detail in runtime.get_output_details()]


def random_input(
    detail: dict[str, object], output: tuple[int, ...], rng: np.random.Generator
) -> npt.NDArray[np.generic]:
    if detail["dtype"] == np.int32 and tuple(detail["shape"]) == (4,):  # TRANSPOSE_CONV's output shape
        return np.array(output, np.int32)
    if detail["dtype"] == np.float32:
        return rng.normal(size=detail["shape"]).astype(np.float32)
    limits = np.iinfo(detail["dtype"])
    return rng.integers(limits.min, limits.max, detail["shape"], detail["dtype"], endpoint=True)


@every_file
def test_versions_of_int8_operators_are_those_of_the_converter(file: str) -> None:
    """Of files from TensorFlow's converter; for int16 operators its versions differ from the runtime's own rules."""
    _, model = loaded(file)
    tensors = model.subgraphs[0].tensors
    for operator in model.subgraphs[0].operators:
        int8 = any(tensors[i].dtype == "i8" for i in operator.inputs[:1])
        if int8 and model.description == "MLIR Converted." and not file.startswith("litert/"):
            assert operator.version == lowest_version(operator, tensors), operator.name
    assert all(op.name in OPERATORS for op in model.subgraphs[0].operators)
