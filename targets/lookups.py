"""Functions of one value as tables: what an elementwise op of `nn` gives for each of 256 codes, rounded once.

A target has one `Lookups`: its op that looks up, and the order of codes in its tables. Rows are made of it for every
function that the target has no better op for; `refused` admits only tables that lowering would make, so that raised
functions are lowered to the same integers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qgraph.ir import Array, Builder, Element, Graph, Node, OpDef, TensorType, Value, op_def, op_names
from qgraph.ir.types import integer_range
from qgraph.ops import nn as _all_functions  # noqa: F401  for `op_names`
from qgraph.ops.nn.activation import ACTIVATIONS
from qgraph.ops.quant import is_known, quantize, unquantized
from qgraph.targets.correspondence import Call, Codec, Correspondence, Refusal


@dataclass(frozen=True)
class Lookups:
    """Tables of a target: the op of its dialect, and every code of a storage type of 8 bits in a table's order.

    The op reads x and the table, and has as attributes the `function` and its `arguments` (JSON).
    """

    op: str
    codes: Callable[[str], Array]

    def table(self, op: str, words: dict[str, Any], x: TensorType, element: Element) -> Array:
        """The codes, [256], that an elementwise op of `nn` gives for each code of x; computed in float64.

        `words`: the op's "attrs", and its "operands", numbers, with None for x.
        """
        (dtype, quant), graph = element, Graph("function")
        assert quant is not None
        steps = self.codes(x.dtype).astype(np.float32) - np.float32(x.q.zero_points[0])
        values = (steps * x.q.scales[0]).astype(np.float64)
        real = graph.add_input("x", TensorType(values.shape))
        operands = [
            real if each is None else graph.add_constant(np.full(1, each, np.float32)) for each in words["operands"]
        ]
        attrs = {name: tuple(value) if isinstance(value, list) else value for name, value in words["attrs"].items()}
        node = Builder(graph).node(op, operands, attrs)
        arrays = [values if value is real else value.data.astype(np.float64) for value in node.inputs]
        with np.errstate(all="ignore"):
            (made,) = op_def(op).evaluate(node, arrays)
            floats = made.astype(np.float32)
        made = quantize(floats, quant.scales, quant.zero_points, integer_range(dtype), None)
        return made.astype(TensorType((), dtype).numpy)

    def lower(self, row: Correspondence, call: Call) -> Value:
        """The op with the table of the function; a constant of it is no activation, and not rounded."""
        node, build, x = call.node, call.build, call.xs[0]
        operands = [unquantized(value).data.item() if is_known(value) else None for value in node.inputs]
        words = {"attrs": node.attrs, "operands": operands}
        table = self.table(node.op, json.loads(json.dumps(words)), x.type, call.element)
        constant = build.constant(table, node.op.partition(".")[2], call.quant)
        return build.node(self.op, [x, constant], {"function": node.op, "arguments": json.dumps(words)}).result

    def refused(self, view: Any) -> Refusal | None:
        """A table that is not the one that lowering would make of the function, or of none."""
        if not view.function:
            return Refusal("nn cannot carry a table of no function")
        element = view.result.type.dtype, view.result.type.quant
        table = self.table(view.function, json.loads(view.arguments), view.x.type, element)
        if view.table.is_constant and np.array_equal(table, view.table.data):
            return None
        return Refusal(f"{view.function} cannot carry a table of other elements")

    def rows(
        self, otherwise: Collection[str], limits: Callable[[Call], Refusal | None] = lambda call: None
    ) -> tuple[Correspondence, ...]:
        """The rows of all functions but those that are lowered `otherwise`, and the one that raises them."""
        lowering = (
            Correspondence(
                source=name.partition(".")[2],
                target=self.op,
                lower=self.lower,
                when=one_value,
                limits=limits,
                of_computed=True,
                activations=ACTIVATIONS,
                raises=False,
            )
            for name in functions(otherwise)
        )
        raising = Correspondence(
            source="lookup",
            target=self.op,
            lowers=False,
            codecs=(Codec(("function", "arguments")),),
            raised=function_of,
            refused=self.refused,
        )
        return (*lowering, raising)


def one_value(node: Node) -> Refusal | None:
    """What is looked up is a function of one value: nothing else is computed, constants are single numbers."""
    single = all(unquantized(value).data.size == 1 for value in node.inputs if is_known(value))
    if single and len({value for value in node.inputs if not is_known(value)}) == 1:
        return None
    return Refusal(f"the runtime has no integer form of {node.op} of two values")


def function_of(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """The function that an op looks up."""
    words = json.loads(view.arguments)
    given = [
        operands[0] if each is None else build.constant(np.full(1, each, np.float32), "c") for each in words["operands"]
    ]
    return build.node(view.function, given, words["attrs"]).result


def functions(otherwise: Collection[str]) -> list[str]:
    """The elementwise ops of `nn` on floats, which may be functions of one value, but those that are lowered
    `otherwise`."""
    defined = {name: op_def(name) for name in op_names("nn") if name not in otherwise}
    return [name for name, each in defined.items() if each.traits.elementwise and _of_floats(each)]


def _of_floats(definition: OpDef) -> bool:
    patterns = [spec.pattern for spec in definition.operands] + [spec.pattern for spec in definition.results]
    return all(pattern.admits(TensorType((), "f32")) for pattern in patterns)
