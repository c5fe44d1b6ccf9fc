"""Writing a `Model` as a .tosa file: equal models give equal bytes."""

from __future__ import annotations

import numpy as np

from qgraph.exporters.flat import Member, Record, write_root
from qgraph.exporters.tosa.model import Model, Operator, Tensor
from qgraph.exporters.tosa.schema import SCHEMA
from qgraph.exporters.tosa.storage import encode

REGION = "main"


def write(model: Model) -> bytes:
    """The bytes of a .tosa file that says what `model` says; raises `FileError` for what the format cannot hold."""
    from flatbuffers import Builder

    major, minor = model.version
    block: Record = {
        "name": REGION,
        "operators": [_operator(operator) for operator in model.operators],
        "tensors": [_tensor(tensor) for tensor in model.tensors.values()],
        "inputs": model.inputs,
        "outputs": model.outputs,
        "shapes": [_shape(name, values) for name, values in model.shapes.items()],
    }
    graph: Record = {
        "version": {"major": major, "minor": minor, "patch": 0, "draft": False},
        "regions": [{"name": REGION, "blocks": [block]}],
    }
    return write_root(Builder(1 << 16), SCHEMA, "TosaGraph", graph)


def _operator(operator: Operator) -> Record:
    return {
        "op": operator.name,
        "attribute": Member(f"{operator.name}:attribute", operator.attributes),
        "inputs": list(operator.inputs),
        "outputs": list(operator.outputs),
        "location": {"text": operator.location} if operator.location else None,
    }


def _tensor(tensor: Tensor) -> Record:
    return {
        "name": tensor.name,
        "shape": tensor.shape,
        "type": tensor.dtype,
        "data": None if tensor.data is None else encode(tensor.data, tensor.dtype),
    }


def _shape(name: str, values: tuple[int, ...]) -> Record:
    return {"name": name, "rank": len(values), "data": encode(np.array(values, np.int64), "i64")}
