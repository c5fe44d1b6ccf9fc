"""Ops that have no row, written by others with torch's own decompositions; all others stay as they are.

What reads parameters and numbers alone needs no row: the importer evaluates it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from qgraph.frontends.torch_nodes import functional_form
from qgraph.frontends.torch_ops import COMPLEX_ROWS, IGNORED, ROWS
from qgraph.frontends.torch_views import VIEWS

if TYPE_CHECKING:
    from torch.export import ExportedProgram

DEPTH = 4
"""How often what a decomposition makes is decomposed in turn."""


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """The program without the ops that have no row, as far as torch can write them by others."""
    import torch

    table: Any = None
    for _ in range(DEPTH):
        missing = {node.target for node in _computed(program) if _is_missing(node)}
        table = torch.export.default_decompositions() if missing and table is None else table
        chosen = {op: table[op] for op in missing if op in table}
        if not chosen:
            break
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes of torch's about its own internals
            program = program.run_decompositions(chosen)
    return program


def _computed(program: ExportedProgram) -> list[Any]:
    """The calls that depend on an input of the user's."""
    found = {node: None for node in program.graph.nodes if node.name in program.graph_signature.user_inputs}
    for node in program.graph.nodes:
        if node.op == "call_function" and any(each in found for each in node.all_input_nodes):
            found[node] = None
    return [node for node in found if node.op == "call_function"]


def _is_missing(node: Any) -> bool:
    if not hasattr(node.target, "_schema"):
        return False
    return not {str(node.target), str(functional_form(node.target))} & {*ROWS, *COMPLEX_ROWS, *VIEWS, *IGNORED}
