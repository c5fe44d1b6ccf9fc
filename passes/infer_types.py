"""Infer the types of all values again, after sizes were bound: shapes with symbolic dimensions become known ones.

    infer-types{N=8 T=S}

    graph @g (%x: f32[N,4], %y: f32[T,2])                       graph @g (%x: f32[8,4], %y: f32[S,2])
      %1: f32[N,4] = nn.relu(%x)                         ->       %1: f32[8,4] = nn.relu(%x)

Each option is a symbolic dimension and the size, or the other symbol, that takes its place. Without options the types
of results are inferred again as they are. Raises InputError for a symbol that no input has. Exact bit for bit.
"""

from __future__ import annotations

from dataclasses import replace

from qgraph.errors import InputError, TypeMismatch
from qgraph.ir import Dim, Graph, Node, op_def
from qgraph.ir.types import dim_product
from qgraph.passes.engine.registry import graph_pass


@graph_pass(exact="bits")
def infer_types(graph: Graph, /, **sizes: str) -> None:
    symbols = {name for value in graph.inputs for dim in value.type.shape for name in _symbols(dim)}
    bound: dict[str, Dim] = {}
    for name, size in sizes.items():
        if name not in symbols:
            raise InputError(
                f"no input has a dimension {name}", help=f"they have {', '.join(sorted(symbols)) or 'none'}"
            )
        if not (size.isidentifier() or (size.isdigit() and int(size) > 0)):
            raise InputError(f"{name}={size} is not a size", help=f"give a positive number or a symbol: {name}=8")
        bound[name] = int(size) if size.isdigit() else size
    for value in graph.inputs:
        value.type = value.type.with_shape([_bind(dim, bound) for dim in value.type.shape])
    for node in graph.nodes:
        infer_results(node)


def infer_results(node: Node) -> None:
    """Infer the types of a node's results again; raises TypeMismatch where its operands do not fit it any more."""
    definition = op_def(node.op)
    try:
        types = definition.infer(node.operands, definition.complete(node.attrs))
    except TypeMismatch as error:
        raise TypeMismatch(error.what, where=node.where, help="the sizes do not fit this node") from None
    for spec, value, type in zip(definition.result_specs(len(types)), node.results, types, strict=True):
        value.type = replace(type, dtype=value.type.dtype, quant=value.type.quant) if spec.free else type


def _symbols(dim: Dim) -> list[str]:
    return [word for word in str(dim).split("*") if not word.isdigit()]


def _bind(dim: Dim, bound: dict[str, Dim]) -> Dim:
    if isinstance(dim, int):
        return dim
    return dim_product([int(word) if word.isdigit() else bound.get(word, word) for word in dim.split("*")])
