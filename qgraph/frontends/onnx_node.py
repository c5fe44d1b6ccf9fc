"""A node of an ONNX model as the rows of `onnx_ops` read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array, Value

if TYPE_CHECKING:
    import onnx

    from qgraph.frontends.onnx_float import Reader


class OnnxNode:
    """A node of the model as its row reads it: operands, parameters and attributes, which it pops."""

    def __init__(self, proto: onnx.NodeProto, reader: Reader) -> None:
        import onnx

        self.op: str = proto.op_type
        self.domain: str = proto.domain
        self.name: str = proto.name or proto.output[0]
        self.inputs = list(proto.input)
        self.outputs = list(proto.output)
        self.proto = proto
        self.reader = reader
        self.is_defined = True  # whether ONNX's own definition may stand for what the row refuses
        self.seen: set[int] = set()  # the inputs that the row has asked for
        self.attrs: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}

    def has(self, index: int) -> bool:
        """Whether input number `index` is there."""
        self.seen.add(index)
        return index < len(self.inputs) and self.inputs[index] != ""

    def operand(self, index: int) -> Value:
        """Input number `index` as a value of the graph."""
        self.seen.add(index)
        return self.reader.value(self.inputs[index])

    def operands(self) -> list[Value]:
        """All inputs as values of the graph."""
        return [self.operand(index) for index in range(len(self.inputs))]

    def unseen(self) -> list[str]:
        """The inputs that the row has not asked for."""
        return [name for index, name in enumerate(self.inputs) if name and index not in self.seen]

    def optional(self, index: int) -> Value | None:
        """Input number `index`, None where it is absent."""
        return self.operand(index) if self.has(index) else None

    def known(self, index: int) -> Array | None:
        """The data of input number `index`, None for a value that is not constant."""
        return self.reader.arrays.get(self.inputs[index]) if self.has(index) else None

    def attr(self, name: str, default: Any) -> Any:
        """An attribute: lists as tuples, words as strings, numbers as the shortest decimal of their float32."""
        value = self.attrs.pop(name, default)
        if isinstance(value, float):
            return shortest(value)
        return value.decode() if isinstance(value, bytes) else tuple(value) if isinstance(value, list) else value

    def expect(self, name: str, expected: Any) -> None:
        """Refuse the node where an attribute has another value than the one that `nn` knows."""
        value = self.attr(name, expected)
        if value != expected:
            raise self.unsupported(f"{name}={value!r} is not supported, only {expected!r}")

    def integers(self, name: str, index: int, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """A list of integers: an attribute, as in old opsets, or a constant input."""
        if name in self.attrs:
            return tuple(self.attr(name, ()))
        if not self.has(index):
            return None if default is None else tuple(default)
        data = self.known(index)
        if data is None:
            raise self.unsupported(f"its input {name} is computed while the model runs")
        return tuple(int(item) for item in data.reshape(-1))

    def number(self, name: str, index: int, default: float) -> float:
        """A number: an attribute, as in old opsets, or a constant input; as the shortest decimal of its precision."""
        if name in self.attrs or not self.has(index):
            return float(self.attr(name, default))
        data = self.reader.numbers.get(self.inputs[index], self.known(index))
        if data is None or data.size != 1:
            raise self.unsupported(f"its input {name} is not one constant number")
        return float(str(data.reshape(-1)[0]))

    def tensor(self, proto: onnx.TensorProto) -> Array:
        """The data of a tensor among the attributes."""
        import onnx

        return onnx.numpy_helper.to_array(proto)

    def unsupported(self, why: str) -> UnsupportedOp:
        """The error that names this node."""
        domain = f"{self.domain}." if self.domain else ""
        where = f"node    {', '.join(self.outputs)} = {domain}{self.op}({', '.join(self.inputs)})"
        return UnsupportedOp(f"ONNX node {self.name!r}: {domain}{self.op}: {why}", where=(where,))


def shortest(value: float) -> float:
    """The shortest decimal that reads as the same float32: 1e-05 for the 9.999999747378752e-06 of a file."""
    return float(str(np.float32(value)))
