"""Which constants are trained: those of layers, but for what the graph says of some.

A weight, a bias or a gain is trained by itself. A front end that knows the model's parameters says what is otherwise: a
class token is one, though it is only moved; a convolution's kernel that the model keeps as a buffer is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate

from qgraph.ir.graph import Graph
from qgraph.ir.node import Node, Value
from qgraph.ir.op import OperandSpec, op_def
from qgraph.ir.traits import LEARNED

TRAINED = "trained"
"""The word of the metadata: JSON, name of a constant -> whether it is trained."""
_FOLDED = re.compile(r"\.folded(\.\d+)?$")


def source_name(name: str) -> str:
    """The name of the constant that a folded one was made from.

    >>> source_name("w.folded.2")
    'w'
    """
    return _FOLDED.sub("", name)


def declared(graph: Graph) -> dict[str, bool]:
    """What the graph says: name of a constant, before it was folded -> whether it is trained."""
    return dict(json.loads(graph.metadata.get(TRAINED, "{}")))


def declare(graph: Graph, trained: Mapping[str, bool]) -> None:
    """Say of constants whether they are trained; what the ops that read them say anyhow is left out."""
    known, said = declared(graph), {**declared(graph)}
    for name, is_so in trained.items():
        value = graph.constants.get(name)
        if value is not None and value.type.is_float and is_trained(value, known) != is_so:
            said[source_name(name)] = is_so
    if said:
        graph.metadata[TRAINED] = json.dumps(said)


def declare_summands(graph: Graph) -> None:
    """Say that arrays which are added, or multiplied by, are trained, numbers not (the 1 of 1 - z): where nobody knows
    what the parameters are."""
    arrays = [value for value in graph.constants.values() if value.data.size > 1]
    declare(graph, {value.name: True for value in arrays if any(spec.trained for spec in _specs_of(value))})


@contextmanager
def keeping_trained(graph: Graph) -> Iterator[None]:
    """Let what is trained stay so where a pass writes the ops that read it otherwise: a gain that is now a factor.

    Constants that are made in between are trained where they are named after one that is: w.negated after w.
    """
    said, known = declared(graph), {*graph.constants}
    before = {source_name(name) for name, value in graph.constants.items() if is_trained(value, said)}
    yield
    names = (
        (name, [name, source_name(name)] if name in known else [*accumulate(name.split("."), "{}.{}".format)])
        for name in graph.constants
    )
    declare(graph, {name: True for name, sources in names if not before.isdisjoint(sources)})


def is_trained(value: Value, said: Mapping[str, bool]) -> bool:
    """Whether a constant is trained, where the graph says this (`declared`)."""
    return value.type.is_float and said.get(source_name(value.name), _is_in_a_layer(value))


def _is_in_a_layer(value: Value) -> bool:
    """Whether a value is a weight, a bias or the like of some op, also behind its fake-quantization."""
    if any(spec.role in LEARNED for spec in _specs_of(value)):
        return True
    behind = (node.result for node in value.users if node.op == "quant.fake_quant" and node.operands[0] is value)
    return any(map(_is_in_a_layer, behind))


def _specs_of(value: Value) -> Iterable[OperandSpec]:
    return (spec for node in value.users for spec in _read_as(node, value))


def _read_as(node: Node, value: Value) -> list[OperandSpec]:
    definition = op_def(node.op)
    return [definition.spec_of(i) for i, operand in enumerate(node.operands) if operand is value]
