"""A page's data: panes and links as plain dictionaries, which `model.js` reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

from qgraph.errors import InputError, QGraphError
from qgraph.ir import Graph, Node, QuantParams, TensorType, Value, op_def
from qgraph.ir.printer import format_attr
from qgraph.ir.types import format_scale
from qgraph.viewer.contents import Link, Number, Pane
from qgraph.viewer.families import FAMILIES, INPUT, OUTPUT, family_of
from qgraph.viewer.grouping import Group, module_tree
from qgraph.viewer.histogram import Histogram, histogram_of

CHANNELS = 64
"""Of longer lists of quantization parameters only so many entries go into the page."""

ELEMENTS = 8
"""Constants of up to so many elements are shown in full."""


class QuantData(TypedDict):
    """Quantization parameters as text; `count` and the range of the scales also count the channels left out."""

    scale: list[str]
    zero_point: list[int]
    axis: int | None
    count: int
    lowest: str
    highest: str


class ValueData(TypedDict):
    """A value: name, type without quantization parameters, and what is known of its elements (of few: all)."""

    name: str
    type: str
    quant: QuantData | None
    producer: int | None
    constant: bool
    elements: list[str]
    histogram: Histogram | None


class NodeData(TypedDict):
    """A box: a node, or an input or output of the graph. Operands and results are numbers of values."""

    op: str
    family: str
    operands: list[int | None]
    operand_names: list[str]
    results: list[int]
    attrs: dict[str, str]
    origins: list[tuple[str, str]]


class GroupData(TypedDict):
    """A module: its label, and its parts: numbers of nodes, groups."""

    label: str
    parts: list[int | GroupData]


class PaneData(TypedDict):
    """One pane."""

    title: str
    level: str
    metadata: dict[str, str]
    nodes: list[NodeData]
    values: list[ValueData]
    tree: GroupData


class LinkData(TypedDict):
    """One link; nodes by number; numbers that JSON does not have as the words that JavaScript's `Number` reads."""

    panes: tuple[int, int]
    before: list[int]
    after: list[int]
    kind: str
    details: list[str]
    numbers: dict[str, float | str | list[float | str] | None]


class PageData(TypedDict):
    """Everything that a page shows."""

    families: dict[str, str]  # family -> label
    title: str
    about: list[str]
    panes: list[PaneData]
    links: list[LinkData]


def page_data(panes: Sequence[Pane], links: Sequence[Link], title: str, about: Sequence[str]) -> PageData:
    """The data of a page; raises InputError for a link to a pane or node that is not shown."""
    numbers = [{node: number for number, node in enumerate(pane.graph.nodes)} for pane in panes]
    return PageData(
        families=FAMILIES,
        title=title,
        about=list(about),
        panes=[_PaneReader(pane).data() for pane in panes],
        links=[_link_data(link, numbers) for link in links],
    )


class _PaneReader:
    """Numbers the values of one graph in the order in which they are met."""

    def __init__(self, pane: Pane) -> None:
        self._pane = pane
        self._numbers: dict[Value, int] = {}
        self._values: list[ValueData] = []
        self._unnamed = 0

    def data(self) -> PaneData:
        graph = self._pane.graph
        count = len(graph)
        inputs = [self._boundary(INPUT, [], [self._value(v, count + i)]) for i, v in enumerate(graph.inputs)]
        nodes = [self._node(node, number) for number, node in enumerate(graph.nodes)]
        outputs = [self._boundary(OUTPUT, [self._value(value)], []) for value in graph.outputs]
        return PaneData(
            title=self._pane.title,
            level=graph.level,
            metadata=dict(graph.metadata),
            nodes=[*nodes, *inputs, *outputs],
            values=self._values,
            tree=_with_boundary(module_tree(graph), count, graph),
        )

    def _boundary(self, op: str, operands: list[int | None], results: list[int]) -> NodeData:
        names = ["value"] * len(operands)
        return NodeData(
            op=op, family=family_of(op), operands=operands, operand_names=names, results=results, attrs={}, origins=[]
        )

    def _node(self, node: Node, number: int) -> NodeData:
        operands = [None if value is None else self._value(value) for value in node.operands]
        return NodeData(
            op=node.op,
            family=family_of(node.op),
            operands=operands,
            operand_names=_operand_names(node),
            results=[self._value(value, number) for value in node.results],
            attrs={key: format_attr(value) for key, value in node.attrs.items() if value is not None},
            origins=[(origin.path, f"{origin.file}:{origin.line}" if origin.file else "") for origin in node.origins],
        )

    def _value(self, value: Value, producer: int | None = None) -> int:
        if value not in self._numbers:
            self._numbers[value] = len(self._values)
            self._values.append(self._value_data(value, producer))
        return self._numbers[value]

    def _value_data(self, value: Value, producer: int | None) -> ValueData:
        seen = value.data if value.is_constant else (self._pane.histograms or {}).get(value)
        few = value.is_constant and value.data.size <= ELEMENTS
        return ValueData(
            name=self._name(value),
            type=str(TensorType(value.type.shape, value.type.dtype)),
            quant=_quant_data(value.type.quant),
            producer=producer,
            constant=value.is_constant,
            elements=[str(item) for item in value.data.reshape(-1)] if few else [],
            histogram=None if seen is None or few else histogram_of(seen),
        )

    def _name(self, value: Value) -> str:
        """As the graph's text has it: `@` before constants, unnamed results numbered in order."""
        if value.name:
            return f"{'@' if value.is_constant else '%'}{value.name}"
        self._unnamed += 1
        return f"%{self._unnamed}"


def _operand_names(node: Node) -> list[str]:
    """The names of a node's operands by its op's definition, numbers where there is none."""
    try:
        specs = op_def(node.op).operands
    except QGraphError:
        specs = ()
    names = [spec.name for spec in specs]
    if names and specs[-1].variadic:
        last = names.pop()
        names += [f"{last}[{i}]" for i in range(len(node.operands) - len(names))]
    return [names[i] if i < len(names) else str(i) for i in range(len(node.operands))]


def _quant_data(quant: QuantParams | None) -> QuantData | None:
    if quant is None:
        return None
    return QuantData(
        scale=[format_scale(scale) for scale in quant.scale[:CHANNELS]],
        zero_point=list(quant.zero_point[:CHANNELS]),
        axis=quant.axis,
        count=len(quant.scale),
        lowest=format_scale(min(quant.scale)),
        highest=format_scale(max(quant.scale)),
    )


def _with_boundary(tree: Group, count: int, graph: Graph) -> GroupData:
    """The tree with the graph's inputs first and its outputs last."""
    data = _group_data(tree)
    inputs, outputs = len(graph.inputs), len(graph.outputs)
    data["parts"] = [
        *range(count, count + inputs),
        *data["parts"],
        *range(count + inputs, count + inputs + outputs),
    ]
    return data


def _group_data(group: Group) -> GroupData:
    parts = [part if isinstance(part, int) else _group_data(part) for part in group.parts]
    return GroupData(label=group.label, parts=parts)


def _link_data(link: Link, numbers: Sequence[Mapping[Node, int]]) -> LinkData:
    if not all(0 <= pane < len(numbers) for pane in link.panes):
        raise InputError(f"a link connects panes {link.panes}, but there are {len(numbers)}")
    before, after = (numbers[pane] for pane in link.panes)
    try:
        return LinkData(
            panes=link.panes,
            before=[before[node] for node in link.before],
            after=[after[node] for node in link.after],
            kind=link.kind,
            details=list(link.details),
            numbers={key: _number(value) for key, value in link.numbers.items()},
        )
    except KeyError as missing:
        raise InputError(f"a link names a node that is in neither pane: {missing.args[0]!r}") from None


def _number(value: Number) -> float | str | list[float | str] | None:
    if value is None:
        return None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return _finite(value)


def _finite(value: float) -> float | str:
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
