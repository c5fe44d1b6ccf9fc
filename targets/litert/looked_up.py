"""How `litert.lookup` stands in a file: CAST, ADD and GATHER; the metadata says that the three are one op, and of what.

codes = CAST(x) int32,  places = ADD(codes, 128),  result = GATHER(table, places)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from qgraph.errors import FileError
from qgraph.exporters import tflite
from qgraph.ir import Node, TensorType
from qgraph.ir.types import integer_range
from qgraph.targets.litert.rows import FUSED

if TYPE_CHECKING:
    from qgraph.targets.litert.file_writer import Writer

FUNCTIONS = "functions"
"""The word of the metadata: by the name of the result's tensor, function and arguments."""


def write_lookup(writer: Writer, node: Node, name: str) -> None:
    """Append the operators of a lookup, whose result has this name."""
    x, table = (writer.index[value] for value in node.inputs)
    plain = TensorType(node.result.type.shape, "i32")
    codes, places = (writer.add(f"{name}.{word}", plain, None) for word in ("codes", "places"))
    if writer.lowest < 0:
        writer.lowest = writer.add("lowest_code", TensorType((), "i32"), np.array(-integer_range("i8")[0], np.int32))
    result = writer.value(node.result, name)
    types: dict[str, tflite.Option] = {"in_data_type": node.operand(0).type.dtype, "out_data_type": plain.dtype}
    writer.operators += [
        tflite.Operator("CAST", (x,), (codes,), types),
        tflite.Operator("ADD", (codes, writer.lowest), (places,), {FUSED: "NONE"}),
        tflite.Operator("GATHER", (table, places), (result,), {"axis": 0, "batch_dims": 0}),
    ]
    said = [node.attrs["function"], node.attrs["arguments"]]
    writer.words.setdefault(FUNCTIONS, {})[writer.tensors[result].name] = said


class Found(NamedTuple):
    """A lookup in a file: its GATHER, what is looked up and where, and the attributes."""

    operator: tflite.Operator
    tensors: tuple[int, int]
    attrs: dict[str, Any]


def lookups_in(subgraph: tflite.SubGraph, words: Mapping[str, Any]) -> Sequence[tflite.Operator | Found]:
    """The operators of a file, with lookups for the three that each is."""
    said = words.get(FUNCTIONS, {})
    makers = {index: operator for operator in subgraph.operators for index in operator.outputs}
    found: dict[int, Found] = {}
    inner: set[int] = set()
    for operator in subgraph.operators:
        name = subgraph.tensors[operator.outputs[0]].name
        if name in said:
            add = makers[operator.inputs[1]]
            cast = makers[add.inputs[0]]
            if [each.name for each in (operator, add, cast)] != ["GATHER", "ADD", "CAST"]:
                raise FileError(f"tensor {name!r} is not what a table is looked up in")
            function, arguments = said[name]
            attrs = {"function": str(function), "arguments": str(arguments)}
            found[id(operator)] = Found(operator, (cast.inputs[0], operator.inputs[0]), attrs)
            inner |= {id(add), id(cast)}
    return [found.get(id(operator), operator) for operator in subgraph.operators if id(operator) not in inner]
