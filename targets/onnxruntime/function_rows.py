"""Rows of functions of one value: by the runtime's own op, or by a table of what the function gives for each code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from qgraph.ir import Array, Builder, Element, Graph, Node, OpDef, TensorType, Value, op_def, op_names
from qgraph.ops import nn as _all_functions  # noqa: F401  for `op_names`
from qgraph.ops.nn.activation import ACTIVATIONS
from qgraph.ops.quant import is_known, unquantized
from qgraph.targets.correspondence import Call, Codec, Correspondence, Pair, Refusal
from qgraph.targets.onnxruntime import kernels

OTHERWISE = (
    *("nn.relu", "nn.relu6", "nn.clamp", "nn.sigmoid", "nn.leaky_relu", "nn.dropout"),
    *("nn.add", "nn.mul", "nn.where", "nn.cast"),
)
"""Functions that are not looked up."""


def function_table(op: str, words: dict[str, Any], x: TensorType, element: Element) -> Array:
    """The codes, [256] in the order of their bits, of an elementwise op of `nn` for each code of x; in float64.

    `words`: the op's "attrs", and its "operands", numbers, with None for x.
    """
    graph = Graph("function")
    codes = kernels.dequantize(kernels.codes(x.dtype), x.q).astype(np.float64)
    real = graph.add_input("x", TensorType(codes.shape))
    operands = [
        real if each is None else graph.add_constant(np.full(1, each, np.float32)) for each in words["operands"]
    ]
    attrs = {name: tuple(value) if isinstance(value, list) else value for name, value in words["attrs"].items()}
    node = Builder(graph).node(op, operands, attrs)
    arrays = [codes if value is real else value.data.astype(np.float64) for value in node.inputs]
    with np.errstate(all="ignore"):
        (made,) = op_def(op).evaluate(node, arrays)
        floats = made.astype(np.float32)
    assert element[1] is not None
    return kernels.quantize(floats, element[1], element[0])


def one_value(node: Node) -> Refusal | None:
    """What is looked up is a function of one value: nothing else is computed, constants are single numbers."""
    single = all(unquantized(value).data.size == 1 for value in node.inputs if is_known(value))
    if single and len({value for value in node.inputs if not is_known(value)}) == 1:
        return None
    return Refusal(f"the runtime has no integer form of {node.op} of two values")


def looked_up(row: Correspondence, call: Call) -> Value:
    """A Lookup in the table of the function; a constant of it is no activation, and not rounded."""
    node, build, x = call.node, call.build, call.xs[0]
    operands = [unquantized(value).data.item() if is_known(value) else None for value in node.inputs]
    words = {"attrs": node.attrs, "operands": operands}
    table = function_table(node.op, json.loads(json.dumps(words)), x.type, call.element)
    constant = build.constant(table, node.op.partition(".")[2], call.quant)
    made: Value = build.ort.Lookup(x, constant, function=node.op, arguments=json.dumps(words))
    return made


def function_of(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """The function that a Lookup is a table of."""
    words = json.loads(view.arguments)
    given = [
        operands[0] if each is None else build.constant(np.full(1, each, np.float32), "c") for each in words["operands"]
    ]
    return build.node(view.function, given, words["attrs"]).result


def not_its_table(view: Any) -> Refusal | None:
    """A table that is not the one that lowering would make of the function, or of none."""
    if not view.function:
        return Refusal("nn cannot carry a table of no function")
    element = view.result.type.dtype, view.result.type.quant
    table = function_table(view.function, json.loads(view.arguments), view.x.type, element)
    if view.table.is_constant and np.array_equal(table, view.table.data):
        return None
    return Refusal(f"{view.function} cannot carry a table of other elements")


def functions() -> list[str]:
    """The elementwise ops of `nn` on floats that are looked up where they are functions of one value."""
    defined = {name: op_def(name) for name in op_names("nn") if name not in OTHERWISE}
    return [name for name, each in defined.items() if each.traits.elementwise and _of_floats(each)]


def _of_floats(definition: OpDef) -> bool:
    patterns = [spec.pattern for spec in definition.operands] + [spec.pattern for spec in definition.results]
    return all(pattern.admits(TensorType((), "f32")) for pattern in patterns)


FUNCTIONS = (
    Correspondence(source="sigmoid", target="ort.QLinearSigmoid"),
    Correspondence(
        source="leaky_relu",
        target="ort.QLinearLeakyRelu",
        attrs={"negative_slope": Pair("alpha", down=lambda slope: float(np.float32(slope)))},
    ),
    *(
        Correspondence(
            source=name.partition(".")[2],
            target="ort.Lookup",
            lower=looked_up,
            when=one_value,
            of_computed=True,
            activations=ACTIVATIONS,
            raises=False,
        )
        for name in functions()
    ),
    Correspondence(
        source="lookup",
        target="ort.Lookup",
        lowers=False,
        codecs=(Codec(("function", "arguments")),),
        raised=function_of,
        refused=not_its_table,
    ),
)
