"""Tensors that are known when a file is read, though an operator makes them.

Converters write shapes as programs, SHAPE, STRIDED_SLICE, PACK, and then RESHAPE; and weights of half precision as
DEQUANTIZE of a constant. Where the batch is open its size is -1, as RESHAPE writes it: it can be moved, not computed
with, and whoever needs it makes the file be read with the sizes that it states.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters import tflite
from qgraph.ir import Array, Graph
from qgraph.ir.op import op_def
from qgraph.targets.litert.file_reader import Reader, node_parts
from qgraph.targets.litert.rows import BY_OPERATOR

ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": lambda a, b: np.asarray(a + b),
    "MUL": lambda a, b: np.asarray(a * b),
    "REDUCE_PROD": lambda x, axes: np.asarray(x.prod(axis=tuple(axes.reshape(-1).tolist()))),
    "SUB": lambda a, b: np.asarray(a - b),
}
"""Operators on integers that shapes are computed with."""


def learn(reader: Reader, operator: tflite.Operator) -> bool:
    """Whether the operator's result is known; the reader knows it then."""
    if len(operator.outputs) != 1:
        return False
    data = _known(reader, operator)
    if data is None:
        return False
    (index,) = operator.outputs
    tensor = reader.subgraph.tensors[index]
    if index in reader.values or reader.is_known(index):
        raise FileError(f"tensor {tensor.name!r} is made twice")
    reader.known[index] = data.astype(reader.type(index).numpy)
    return True


def _known(reader: Reader, operator: tflite.Operator) -> Array | None:
    inputs = [index for index in operator.inputs if index >= 0]
    if operator.name == "SHAPE" and len(inputs) == 1:
        shape = reader.value(inputs[0]).type.shape
        return np.array([-1 if isinstance(size, str) else size for size in shape], np.int64)
    if not inputs or not all(reader.is_known(index) for index in inputs):
        return None
    if operator.name == "DEQUANTIZE" and reader.data(inputs[0]).dtype == np.float16:
        return reader.data(inputs[0])
    if not any(index in reader.known for index in inputs):
        return None
    row = BY_OPERATOR.get(operator.name)
    if row is not None and op_def(row.op).traits.moves_data:
        return _moved(reader, operator)
    return _computed(reader, operator, inputs) if operator.name in ARITHMETIC else None


def _moved(reader: Reader, operator: tflite.Operator) -> Array:
    """The result of an operator that moves elements, by its op."""
    apart = Reader(reader.subgraph, reader.words, Graph("apart", "integer"), known=reader.known)
    for index in set(operator.inputs) & reader.known.keys():
        apart.values[index] = apart.graph.add_constant(reader.known[index])
    op, operands, attrs = node_parts(apart, operator)
    definition = op_def(op)
    arrays = [None if value is None else value.data for value in operands]
    definition.infer(operands, attrs)
    view = definition.bind(operands, attrs)
    kernel = getattr(view, "moved", view.evaluate)  # where `evaluate` compares the parameters of a result
    return np.asarray(kernel(*definition.grouped(arrays)))


def _computed(reader: Reader, operator: tflite.Operator, inputs: list[int]) -> Array | None:
    arrays = [reader.data(index) for index in inputs]
    if len(arrays) != 2 or any(array.dtype.kind != "i" for array in arrays):
        return None
    if any((reader.known[index] < 0).any() for index in inputs if index in reader.known):
        raise FileError(f"{operator.name} computes with the size of an open batch")
    return ARITHMETIC[operator.name](*arrays)
