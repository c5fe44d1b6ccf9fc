"""The IR: graphs of typed values, op definitions, text, verifier and `.qg` files."""

from qgraph.ir.builder import Builder, Element
from qgraph.ir.collector import collector_paused
from qgraph.ir.graph import IO_LAYOUT, RESULTS, Graph
from qgraph.ir.node import Attr, Node, Value
from qgraph.ir.node_view import NodeView
from qgraph.ir.op import OpDef, Operand, Result, attr, kept_by_node, op, op_def, op_names, operand, result, traits_of
from qgraph.ir.origin import Origin
from qgraph.ir.parser import parse
from qgraph.ir.states import State, data_inputs, data_outputs, set_states, states_of
from qgraph.ir.types import Array, Dim, QuantParams, Shape, TensorType
from qgraph.ir.verifier import verify_graph

__all__ = [
    "IO_LAYOUT",
    "RESULTS",
    "Array",
    "Attr",
    "Builder",
    "Dim",
    "Element",
    "Graph",
    "Node",
    "NodeView",
    "OpDef",
    "Operand",
    "Origin",
    "QuantParams",
    "Result",
    "Shape",
    "State",
    "TensorType",
    "Value",
    "attr",
    "collector_paused",
    "data_inputs",
    "data_outputs",
    "kept_by_node",
    "op",
    "op_def",
    "op_names",
    "operand",
    "parse",
    "result",
    "set_states",
    "states_of",
    "traits_of",
    "verify_graph",
]
