"""Read the text that `qgraph.ir.printer` writes. One statement a line; `//` begins a comment line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

import numpy as np

from qgraph.errors import ParseError, QGraphError
from qgraph.ir.collector import collector_paused
from qgraph.ir.graph import Graph
from qgraph.ir.node import Attr, Scalar, Value
from qgraph.ir.op import op_def
from qgraph.ir.origin import Origin, parse_origins
from qgraph.ir.types import NUMPY_DTYPE, Array, Dim, QuantParams, TensorType

Constants = Graph | Mapping[str, Array]
"""Where the data of constants come from that the text names only."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NAME = rf"(?:{_QUOTED}|[\w$/.:\-]+)"
_TYPE = r"\w+(?:<[^>]*>)?\[[^\]]*\]"
_HEADER = re.compile(rf"graph\s+@({_NAME})\s+((?:\w+=(?:{_QUOTED}|[\w\-]+)\s*)*)\((.*)\)\s*\{{")
_WORD = re.compile(rf"(\w+)=({_QUOTED}|[\w\-]+)")
_TYPED = re.compile(rf"\s*([%@]{_NAME}):\s*({_TYPE})\s*")
_NODE = re.compile(
    rf"(.*?)\s=\s([\w.]+)\(((?:[^()\"]|{_QUOTED})*)\)\s*(?:\{{((?:[^{{}}\"]|{_QUOTED})*)\}})?\s*(?:loc\((.*)\))?"
)
_OPERAND = re.compile(rf"\s*(none|[%@]{_NAME})\s*(?:,|$)")
_OUTPUT = re.compile(rf"\s*(?:({_NAME})=)?([%@]{_NAME})\s*(?:,|$)")
_ATTR = re.compile(rf"\s*(\w+)=(\[(?:[^\]\"]|{_QUOTED})*\]|{_QUOTED}|[^\s,]+)\s*(?:,|$)")
_ELEMENT = re.compile(r"(\w+)(?:<(?:#(\d+)|([^;>]*)(?:;axis=(\d+))?)>)?\[([^\]]*)\]")
_CONST = re.compile(rf"@({_NAME}):\s*({_TYPE})\s*(?:=\s*(\[[^\]]*\]|[^,\s]+))?\s*(?:,|$)")


def parse(text: str, constants: Constants | None = None) -> Graph:
    """The graph that the text describes.

    `constants` gives the data of the constants that the text names without data: a graph, or arrays by name.
    Raises ParseError with the line's number and text.
    """
    with collector_paused():
        return _parsed(text, _Parser(constants))


def _parsed(text: str, parser: _Parser) -> Graph:
    number = 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("//"):
            continue
        try:
            parser.statement(stripped)
        except QGraphError as error:
            raise ParseError(error.what, where=(*error.where, f"line {number}: {stripped}"), help=error.help) from None
    if parser.graph is None or not parser.closed:
        raise ParseError(
            "the text ends before the graph does", where=(f"after line {number}",), help="a graph ends with }"
        )
    return parser.graph


class _Parser:
    def __init__(self, constants: Constants | None) -> None:
        self.graph: Graph | None = None
        self.closed = False
        self._data = (
            {n: v.data for n, v in constants.constants.items()} if isinstance(constants, Graph) else constants or {}
        )
        self._values: dict[str, Value | None] = {"none": None}
        self._quants: dict[str, QuantParams] = {}
        self._types: dict[str, TensorType] = {}  # what nodes have in common is read once and shared
        self._attrs: dict[tuple[object, ...], dict[str, Attr]] = {}
        self._origins: dict[str, tuple[Origin, ...]] = {}

    def statement(self, line: str) -> None:
        if self.closed:
            raise ParseError("there is text after the end of the graph")
        if line.startswith("quant #"):
            self._alias(line)
        elif self.graph is None:
            self.graph = self._header(line)
        elif line == "}":
            self.closed = True
        elif line.startswith("const "):
            self._constants(line[6:])
        elif line == "return" or line.startswith("return "):
            self._outputs(self.graph, line[6:])
        else:
            self._node(line)

    def _header(self, line: str) -> Graph:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise ParseError(
                "this is not the header of a graph", help="it reads: graph @name level=float (%x: f32[N,3]) {"
            )
        words = {key: _unquote(value) for key, value in _WORD.findall(match[2])}
        graph = Graph(_unquote(match[1]), words.pop("level", "float"), words)
        for name, type in _typed_list(match[3]):
            self._define(_key(name), graph.add_input(_unquote(name[1:]), self._type(type)))
        return graph

    def _alias(self, line: str) -> None:
        match = re.fullmatch(r"quant #(\d+) = <([^;>]*)(?:;axis=(\d+))?>", line)
        if match is None:
            raise ParseError(
                "this is not an alias of quantization parameters", help="it reads: quant #1 = <0.5:0,0.25:0;axis=0>"
            )
        self._quants[match[1]] = _quant(match[2], match[3])

    def _constants(self, text: str) -> None:
        position = 0
        while position < len(text):
            match = _CONST.match(text, position)
            if match is None:
                raise ParseError("this is not a constant", help="it reads: const @name: f32[2] = [0.5, 1.0]")
            position = match.end()
            while position < len(text) and text[position] == " ":
                position += 1
            self._define(_key(f"@{match[1]}"), self._constant(_unquote(match[1]), self._type(match[2]), match[3]))

    def _constant(self, name: str, type: TensorType, literal: str | None) -> Value:
        if any(isinstance(dim, str) for dim in type.shape):
            raise ParseError(f"a constant has no symbolic dimension: @{name} is {type}")
        data = self._lookup(name) if literal is None else _literal(literal, type)
        if data.shape != type.shape or data.dtype != type.numpy:
            raise ParseError(f"@{name} is declared {type}, but its data are {data.dtype}{list(data.shape)}")
        if name in self._graph.constants:
            raise ParseError(f"@{name} is defined twice")
        return self._graph.add_constant(data, name, type.quant, type.dtype)

    def _lookup(self, name: str) -> Array:
        if name not in self._data:
            raise ParseError(
                f"the data of @{name} are not in the text", help="give them: parse(text, constants=graph or arrays)"
            )
        return self._data[name]

    def _node(self, line: str) -> None:
        match = _NODE.fullmatch(line)
        if match is None:
            raise ParseError(
                "this is not a node", help="it reads: %1: f32[N,4] = nn.relu(%x) {attr=1} loc(path file.py:1)"
            )
        results = _typed_list(match[1])
        operands = self._operands(match[3])
        node = self._graph.insert(
            match[2],
            operands,
            self._completed(match[2], match[4] or "", operands),
            [self._type(type) for _, type in results],
            origins=self._located(match[5]) if match[5] else (),
            names=["" if name[1:].isdigit() else _unquote(name[1:]) for name, _ in results],
        )
        for (name, _), value in zip(results, node.results, strict=True):
            self._define(_key(name), value)

    def _completed(self, op: str, text: str, operands: list[Value | None]) -> dict[str, Attr]:
        """All attributes of a node; they depend on its operands by their ranks."""
        key = (op, text, *(None if value is None else len(value.type.shape) for value in operands))
        if key not in self._attrs:
            self._attrs[key] = op_def(op).complete(_attrs(text), operands)
        return self._attrs[key]

    def _located(self, text: str) -> tuple[Origin, ...]:
        if text not in self._origins:
            self._origins[text] = parse_origins(text)
        return self._origins[text]

    @property
    def _graph(self) -> Graph:
        assert self.graph is not None  # statement() has made it
        return self.graph

    def _define(self, name: str, value: Value) -> None:
        if name in self._values:
            raise ParseError(f"{name} is defined twice")
        self._values[name] = value

    def _outputs(self, graph: Graph, text: str) -> None:
        outputs, names, position = [], [], 0
        while position < len(text.rstrip()):
            match = _OUTPUT.match(text, position)
            if match is None:
                raise ParseError(f"these are not outputs: {text.strip()}", help="they read: %1, scores=%2")
            position = match.end()
            names.append(_unquote(match[1] or ""))
            outputs += self._operands(match[2])
        graph.set_outputs([value for value in outputs if value is not None], names)

    def _operands(self, text: str) -> list[Value | None]:
        values = self._values
        names = [name.strip() for name in text.split(",")]
        if '"' not in text and all(name in values for name in names):
            return [values[name] for name in names]
        operands: list[Value | None] = []
        position = 0
        while position < len(text.rstrip()):
            match = _OPERAND.match(text, position)
            if match is None:
                raise ParseError(f"these are not operands: {text.strip()}")
            position = match.end()
            key = _key(match[1])
            if key not in values:
                raise ParseError(f"{match[1]} is not defined before its use")
            operands.append(values[key])
        return operands

    def _type(self, text: str) -> TensorType:
        if text not in self._types:
            self._types[text] = self._parse_type(text)
        return self._types[text]

    def _parse_type(self, text: str) -> TensorType:
        match = _ELEMENT.fullmatch(text)
        if match is None or match[1] not in NUMPY_DTYPE:
            raise ParseError(f"{text} is not a type", help="it reads: f32[N,3,8,8] or i8<0.5:3>[N,8,8,3]")
        quant = None
        if match[2]:
            if match[2] not in self._quants:
                raise ParseError(f"there is no alias #{match[2]}")
            quant = self._quants[match[2]]
        elif match[3] is not None:
            quant = _quant(match[3], match[4])
        return TensorType(tuple(_dim(size) for size in match[5].split(",") if size.strip()), match[1], quant)


def _typed_list(text: str) -> list[tuple[str, str]]:
    """(name with its sigil, type), as written, of each `%name: type` in a comma-separated list."""
    found, position = [], 0
    while position < len(text.rstrip()):
        match = _TYPED.match(text, position)
        if match is None:
            raise ParseError(f"this is not a typed value: {text[position:].strip()}", help="it reads: %name: f32[N,3]")
        found.append((match[1], match[2]))
        position = match.end() + (text[match.end() : match.end() + 1] == ",")
    return found


def _key(name: str) -> str:
    """What a written name stands for: quotes do not count, but of digits (`%1` is a number, `%"1"` a name)."""
    return name if name[1] != '"' or name[2:-1].isdigit() else name[0] + _unquote(name[1:])


def _quant(pairs: str, axis: str | None) -> QuantParams:
    try:
        split = [pair.rsplit(":", 1) for pair in pairs.split(",")]
        return QuantParams.of(
            [float(s) for s, _ in split], [int(z) for _, z in split], None if axis is None else int(axis)
        )
    except ValueError:
        raise ParseError(
            f"<{pairs}> are not quantization parameters", help="they read: <scale:zero_point,...;axis=0>"
        ) from None


def _dim(text: str) -> Dim:
    text = text.strip()
    return int(text) if text.isdigit() else text


def _literal(text: str, type: TensorType) -> Array:
    shape = tuple(int(d) for d in type.shape)
    size = math.prod(shape)
    items = [item for item in text.strip("[]").split(",") if item.strip()] if text.startswith("[") else [text] * size
    if len(items) != size:
        raise ParseError(f"{len(items)} elements are given for {type}")
    try:
        if type.dtype == "bool":
            return np.array([{"true": True, "false": False}[item.strip()] for item in items], np.bool_).reshape(shape)
        convert = float if type.is_float else int
        return np.array([convert(item) for item in items], type.numpy).reshape(shape)
    except (ValueError, KeyError, OverflowError):
        raise ParseError(f"{text} are not elements of {type}") from None


def _attrs(text: str) -> dict[str, Attr]:
    attrs: dict[str, Attr] = {}
    position = 0
    while position < len(text.rstrip()):
        match = _ATTR.match(text, position)
        if match is None:
            raise ParseError(
                f"these are not attributes: {{{text}}}", help='they read: {stride=[1,1], activation="relu"}'
            )
        position = match.end()
        attrs[match[1]] = _attr(match[2])
    return attrs


def _attr(text: str) -> Attr:
    if text.startswith("["):
        inside = re.findall(rf"{_QUOTED}|[^\s,]+", text[1:-1])
        return tuple(_scalar(item) for item in inside)
    return _scalar(text)


def _scalar(text: str) -> Scalar:
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"'):
        return _unquote(text)
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ParseError(f"{text} is not a value of an attribute", help="words stand in quotes") from None


def _unquote(text: str) -> str:
    try:
        return str(json.loads(text)) if text.startswith('"') else text
    except ValueError:
        raise ParseError(f"{text} is not a quoted name") from None
