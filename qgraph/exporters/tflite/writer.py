"""Writing a `Model` as a .tflite file: equal models give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters.flat import Member, Record, write_root
from qgraph.exporters.tflite.enums import OPERATORS
from qgraph.exporters.tflite.model import Model, Operator, Quantization, Signature, SubGraph, Tensor
from qgraph.exporters.tflite.schema import FIELD_OF_UNION, OPTIONS_OF, SCHEMA, SCHEMA_VERSION
from qgraph.exporters.tflite.storage import NUMPY_OF, numpy_dtype, stored_bytes
from qgraph.exporters.tflite.versions import lowest_version

MAX_BYTES = 2**31 - 1  # the longest that a FlatBuffers file may be
MAX_SHORT_CODE = 127  # what stands for greater operator numbers in the field of one byte that old readers see

_Buffers = dict[bytes | None, int]  # contents -> number; None is buffer 0, which has none
_Codes = dict[tuple[str, int], int]  # operator's name and version -> number


def write(model: Model) -> bytes:
    """The bytes of a .tflite file that says what `model` says.

    Buffer 0 is empty, constants are aligned to 16 bytes, equal ones are stored once, operator codes are shared. Raises
    `FileError` for what the format cannot hold.
    """
    from flatbuffers import Builder

    buffers: _Buffers = {None: 0}
    codes: _Codes = {}
    record: Record = {
        "version": SCHEMA_VERSION,
        "subgraphs": [_subgraph(subgraph, codes, buffers) for subgraph in model.subgraphs],
        "description": model.description,
        "metadata": [{"name": name, "buffer": _number(buffers, data)} for name, data in model.metadata.items()] or None,
        "signature_defs": [_signature(signature, model.subgraphs) for signature in model.signatures] or None,
        "operator_codes": [_operator_code(name, version) for name, version in codes],
        "buffers": [{} if data is None else {"data": np.frombuffer(data, np.uint8)} for data in buffers],
    }
    size = sum(len(data) for data in buffers if data)
    if not model.subgraphs or size > MAX_BYTES:
        what = f"{len(model.subgraphs)} subgraphs and {size} bytes of constants"
        raise FileError(what, help=f"a .tflite file holds at least 1 subgraph and at most {MAX_BYTES} bytes")
    return write_root(Builder(size + size // 8 + 4096), SCHEMA, "Model", record)


def _number(buffers: _Buffers, data: bytes | None) -> int:
    return buffers.setdefault(data, len(buffers))


def _operator_code(name: str, version: int) -> Record:
    builtin, _, custom = name.partition(":")
    return {
        "deprecated_builtin_code": min(OPERATORS.index(builtin), MAX_SHORT_CODE),
        "custom_code": custom or None,
        "version": version,
        "builtin_code": builtin,
    }


def _subgraph(subgraph: SubGraph, codes: _Codes, buffers: _Buffers) -> Record:
    count = len(subgraph.tensors)
    _check_indices(subgraph.inputs, count, f"inputs of subgraph {subgraph.name!r}")
    _check_indices(subgraph.outputs, count, f"outputs of subgraph {subgraph.name!r}")
    return {
        "tensors": [_tensor(tensor, buffers) for tensor in subgraph.tensors],
        "inputs": subgraph.inputs,
        "outputs": subgraph.outputs,
        "operators": [_operator(operator, subgraph.tensors, codes) for operator in subgraph.operators],
        "name": subgraph.name or None,
    }


def _check_indices(indices: Iterable[int], count: int, what: str, lowest: int = 0) -> None:
    wrong = [index for index in indices if not lowest <= index < count]
    if wrong:
        raise FileError(f"{what}: no tensor {wrong[0]}", help=f"tensor indices are {lowest} to {count - 1}")


def _tensor(tensor: Tensor, buffers: _Buffers) -> Record:
    return {
        "shape": tensor.shape,
        "type": tensor.dtype,
        "buffer": _number(buffers, _stored(tensor)),
        "name": tensor.name,
        "quantization": _quantization(tensor.quantization, tensor.name),
        "is_variable": tensor.is_variable,
        "shape_signature": tensor.shape_signature,
        "has_rank": tensor.has_rank,
    }


def _stored(tensor: Tensor) -> bytes | None:
    """The constant as the bytes of its buffer, None if the tensor has none."""
    if tensor.data is None:
        return None
    dtype, size = numpy_dtype(tensor.dtype), stored_bytes(tensor.dtype, tensor.shape)
    shape_matters = tensor.dtype in NUMPY_OF
    if tensor.data.dtype != dtype or size not in (None, tensor.data.nbytes):
        given = f"{tensor.data.dtype}{list(tensor.data.shape)}"
        raise FileError(
            f"tensor {tensor.name!r} is {tensor.dtype}{list(tensor.shape)}, its data {given}",
            help=f"give {dtype}{list(tensor.shape)}" if shape_matters else "give the stored bytes (pack narrow types)",
        )
    return tensor.data.tobytes()


def _quantization(parameters: Quantization | None, tensor: str) -> Record | None:
    if parameters is None:
        return None
    if parameters.details or parameters.scale.size != parameters.zero_point.size:
        scheme = parameters.details or f"{parameters.scale.size} scales, {parameters.zero_point.size} zero points"
        help = "give one scale and one zero point per tensor or per index of an axis"
        raise FileError(f"tensor {tensor!r}: its quantization cannot be written: {scheme}", help=help)
    return {
        "scale": parameters.scale,
        "zero_point": parameters.zero_point,
        "quantized_dimension": parameters.axis,
    }


def _operator(operator: Operator, tensors: list[Tensor], codes: _Codes) -> Record:
    if operator.name not in OPERATORS and not operator.name.startswith("CUSTOM:"):
        raise FileError(
            f"no operator {operator.name!r}", help='a name of the schema ("CONV_2D"), or "CUSTOM:" and a name'
        )
    _check_indices(operator.inputs, len(tensors), f"inputs of {operator.name}", lowest=-1)
    _check_indices(operator.outputs, len(tensors), f"outputs of {operator.name}")
    _check_indices(operator.intermediates, len(tensors), f"intermediates of {operator.name}", lowest=-1)
    code = operator.name, operator.version or lowest_version(operator, tensors)
    return {
        "opcode_index": codes.setdefault(code, len(codes)),
        "inputs": operator.inputs,
        "outputs": operator.outputs,
        **_options(operator),
        "custom_options": np.frombuffer(operator.custom_options, np.uint8) if operator.custom_options else None,
        "mutating_variable_inputs": operator.mutating_variable_inputs or None,
        "intermediates": operator.intermediates or None,
    }


def _options(operator: Operator) -> dict[str, Member]:
    """The field with the operator's options table, if it has one; empty vectors are left out of it."""
    union, table = OPTIONS_OF.get(operator.name, ("", ""))
    if table and not operator.options_omitted:
        stored = {name: value for name, value in operator.options.items() if value != []}
        return {FIELD_OF_UNION[union]: Member(table, stored)}
    if operator.options:
        help = "give it none (custom operators: custom_options)"
        raise FileError(f"{operator.name} has no options table: {', '.join(operator.options)}", help=help)
    return {}


def _signature(signature: Signature, subgraphs: list[SubGraph]) -> Record:
    if not 0 <= signature.subgraph < len(subgraphs):
        raise FileError(
            f"signature {signature.key!r}: no subgraph {signature.subgraph}", help="give a subgraph's index"
        )
    named = (*signature.inputs.values(), *signature.outputs.values())
    _check_indices(named, len(subgraphs[signature.subgraph].tensors), f"signature {signature.key!r}")
    return {
        "inputs": [{"name": name, "tensor_index": index} for name, index in signature.inputs.items()],
        "outputs": [{"name": name, "tensor_index": index} for name, index in signature.outputs.items()],
        "signature_key": signature.key,
        "subgraph_index": signature.subgraph,
    }
