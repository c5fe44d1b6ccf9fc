"""Graphs as text that `qgraph.ir.parser` reads back to an equal graph.

    graph @block level=float (%x: f32[N,16,8,8]) {
      const @b: f32[2] = [0.5, 1.0]
      const @w: f32[32,16,3,3]
      %1: f32[N,32,8,8] = nn.conv(%x, @w) {stride=[1,1]} loc(conv net.py:12)
      return %1
    }

The data of a large constant, @w, travel apart: in the `.qg` file, or as `parse(text, constants=...)`. Quantization
parameters of more than four channels stand above the graph, `quant #1 = <...>`, and print as `i8<#1>`. A result that
has a name of its own returns as `return boxes=%1`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import numpy as np

from qgraph.ir.graph import Graph
from qgraph.ir.node import RETURN, Attr, Node, Value
from qgraph.ir.types import QuantParams, TensorType, format_element, format_scale

INLINE = 16
"""Constants of up to so many elements print with their data."""
LONGEST = 80
"""Characters of a word of the metadata that are shown to people."""
ALIAS = 4
"""Quantization parameters of more channels than this print as an alias."""

_BARE_NAME = re.compile(r"[A-Za-z_$/][\w$/.:\-]*")
_BARE_WORD = re.compile(r"[A-Za-z_][\w\-]*")


def print_graph(graph: Graph, inline: int = INLINE, brief: bool = False) -> str:
    """The whole graph; `inline`: how many elements a constant may have to be printed with its data.

    `brief`: for people alone. Long lists of quantization parameters stand behind the graph, summed up.
    """
    return "\n".join(_lines(graph, inline, brief)) + "\n"


def print_node(node: Node) -> str:
    """One node on a line, as in the graph's text but without `loc`."""
    return _node_text(node, ValueNames(node.graph), _Aliases())


def print_nodes(graph: Graph) -> dict[Node, str]:
    """The line of every node, in one walk; a long list of quantization parameters prints as in the graph's text."""
    text = node_printer(graph)
    return {node: text(node) for node in graph.nodes}


def node_printer(graph: Graph) -> Callable[[Node], str]:
    """`print_node` for many nodes of a graph: values are numbered once, so it holds until the graph changes."""
    names, aliases = ValueNames(graph), _Aliases()
    return lambda node: _node_text(node, names, aliases)


class ValueNames:
    """Text names of values: their own, or a running number for unnamed results."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._numbers: dict[Value, int] | None = None

    def __call__(self, value: Value | None) -> str:
        if value is None:
            return "none"
        if value.name:
            return f"{'@' if value.is_constant else '%'}{quoted_name(value.name)}"
        if self._numbers is None:
            unnamed = (value for node in self._graph.nodes for value in node.results if not value.name)
            self._numbers = {value: number for number, value in enumerate(unnamed, 1)}
        return f"%{self._numbers.get(value, '?')}"


class _Aliases:
    """Numbers for long lists of quantization parameters."""

    def __init__(self) -> None:
        self.numbers: dict[QuantParams, int] = {}
        self._texts: dict[TensorType, str] = {}

    def __call__(self, type: TensorType) -> str:
        text = self._texts.get(type)
        if text is None:
            text = self._texts[type] = self._text(type)
        return text

    def _text(self, type: TensorType) -> str:
        if type.quant is None or len(type.quant.scale) <= ALIAS:
            return str(type)
        number = self.numbers.setdefault(type.quant, len(self.numbers) + 1)
        return f"{type.dtype}<#{number}>[{','.join(map(str, type.shape))}]"


def _lines(graph: Graph, inline: int, brief: bool) -> Iterator[str]:
    names, aliases = ValueNames(graph), _Aliases()
    said = (
        (key, value[:LONGEST] + "..." if brief and len(value) > LONGEST else value)
        for key, value in graph.metadata.items()
    )
    words = "".join(f"{key}={format_word(value)} " for key, value in said)
    inputs = ", ".join(f"{names(value)}: {aliases(value.type)}" for value in graph.inputs)
    body = [
        f"  const {names(value)}: {aliases(value.type)}{_data(value, inline)}" for value in graph.constants.values()
    ]
    for node in graph.nodes:
        loc = f" loc({', '.join(map(str, node.origins))})" if node.origins else ""
        body.append(f"  {_node_text(node, names, aliases)}{loc}")
    if not brief:
        yield from (f"quant #{number} = {format_element('', quant)}" for quant, number in aliases.numbers.items())
    yield f"graph @{quoted_name(graph.name)} level={graph.level} {words}({inputs}) {{"
    yield from body
    yield f"  {_return_text(graph, names)}".rstrip()
    yield "}"
    if brief:
        yield from (f"// #{number}: {_summary(quant)}" for quant, number in aliases.numbers.items())


def _shortened(word: str) -> str:
    return word if len(word) <= LONGEST else f"{word[:LONGEST]}..."


def _summary(quant: QuantParams) -> str:
    low, high = (format_scale(scale) for scale in (min(quant.scale), max(quant.scale)))
    zeros = sorted({*quant.zero_point})
    zero = f"zero point {zeros[0]}" if len(zeros) == 1 else f"zero points {zeros[0]} to {zeros[-1]}"
    return f"{len(quant.scale)} scales along axis {quant.axis}, {low} to {high}, {zero}"


def _node_text(node: Node, names: ValueNames, aliases: _Aliases) -> str:
    results = ", ".join(f"{names(value)}: {aliases(value.type)}" for value in node.results)
    operands = ", ".join(map(names, node.operands))
    if node.op == RETURN:
        return _return_text(node.graph, names)
    given = ", ".join(f"{key}={format_attr(value)}" for key, value in node.attrs.items() if value is not None)
    return f"{results} = {node.op}({operands})" + (f" {{{given}}}" if given else "")


def _return_text(graph: Graph, names: ValueNames) -> str:
    """The outputs, those with a name given to them as `name=%value`."""
    given = (f"{quoted_name(name)}=" if name else "" for name in graph.given_output_names)
    return "return " + ", ".join(f"{name}{names(value)}" for name, value in zip(given, graph.outputs, strict=True))


def _data(value: Value, inline: int) -> str:
    data = value.data
    if data.size > inline:
        return ""
    scalar = data.ndim == 0
    items = [_element(item) for item in data.reshape(-1)]
    return f" = {items[0]}" if scalar else f" = [{', '.join(items)}]"


def _element(item: np.generic) -> str:
    return str(item).lower() if isinstance(item, np.bool_) else str(item)


def format_attr(value: Attr) -> str:
    """An attribute's value: a JSON-like scalar, or a list without blanks."""
    if isinstance(value, tuple):
        return f"[{','.join(map(format_attr, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, str) else repr(value)


def format_word(value: str) -> str:
    """A word of the graph's metadata, quoted where it is more than a word."""
    return value if _BARE_WORD.fullmatch(value) else json.dumps(value)


def quoted_name(name: str) -> str:
    """A name, quoted where it could be mistaken for something else."""
    return name if _BARE_NAME.fullmatch(name) else json.dumps(name)
