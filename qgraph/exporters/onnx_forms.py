"""How an op on integers is one ONNX node: said once, on the op, for who writes and who reads.

@op("ort.QLinearConv", kind="conv")
class QLinearConv:
    onnx = NodeForm((X, W, Y, BIAS), float_op="Conv", window=True)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from qgraph.ir import Builder, QuantParams, Value, op_def, op_names

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Slot:
    """One operand of a dialect op, or one attribute, among a node's inputs.

    "quantized": operand with its scale and zero point behind it (QOperator form). "plain": operand alone. "result":
    scale and zero point of the result. "rest": all operands, each quantized. "integers": the attribute as an int64
    list. "code": the attribute as an integer of the operand's type. `axis`: along which a scale may
    differ, maybe as attributes say.
    """

    kind: Literal["quantized", "plain", "result", "rest", "integers", "code"]
    index: int = 0
    attr: str = ""
    axis: int | Callable[[dict[str, Any]], int] | None = None


X, W, BIAS = Slot("quantized", 0), Slot("quantized", 1, axis=0), Slot("plain", 2)
B = Slot("quantized", 1)
ALONE, Y = Slot("plain", 0), Slot("result")


Make = Callable[["Sequence[Value | None]", "dict[str, Any]"], "Sequence[Value]"]
"""Builds the dialect's op of operands and attributes."""


@dataclass(frozen=True)
class NodeForm:
    """One dialect op: its inputs in order, its op in the QDQ form, and attributes that are always the same.

    All attributes of the dialect's op that no slot holds are ONNX attributes of the same name. `window`: those are of a
    window, for which ONNX has several ways to write. `by_axis`: the node says the axis of the scales by an attribute.
    `floats`: the dialect's op serves on floats, too, instead of the one of `nn`.
    `read(node, build, operands, attrs, make)`: what is built of a node (`qgraph.frontends.onnx_node`) that may say more
    than the dialect's op.
    """

    slots: tuple[Slot, ...]
    float_op: str = ""  # "" where both forms have the same node
    fixed: Mapping[str, int] = field(default_factory=dict)
    float_fixed: Mapping[str, int] = field(default_factory=dict)
    domain: str = ""
    name: str = ""  # of the ONNX op, where it is not that of the dialect's
    window: bool = False
    by_axis: bool = False
    floats: bool = False
    read: Callable[[Any, Builder, list[Value | None], dict[str, Any], Make], Sequence[Value]] | None = None

    @property
    def slot_attrs(self) -> frozenset[str]:
        """Names of the attributes that are inputs."""
        return frozenset(slot.attr for slot in self.slots if slot.attr)


@dataclass(frozen=True)
class ModelFacts:
    """What a model says and the graph that was read of it does not, by values of the graph.

    `sized`: of which the model reads sizes that are open. `derived`: constants of the graph that follow from such
    sizes, which a runtime computes anew in each run. `made_by`: the ONNX op whose result a value is; what is between
    the ops that a row made is not there. `written`: the node of the model itself. `narrow`: constants of codes of less
    than a byte.
    """

    sized: frozenset[Value] = frozenset()
    derived: frozenset[Value] = frozenset()
    made_by: dict[Value, str] = field(default_factory=dict)
    written: Mapping[Value, Any] = field(default_factory=dict)
    narrow: frozenset[Value] = frozenset()


@cache
def forms_of(dialect: str) -> Mapping[str, NodeForm]:
    """Op of the dialect -> its form, for those that are one ONNX node."""
    found = {op: getattr(op_def(op).cls, "onnx", None) for op in op_names(dialect)}
    return {op: form for op, form in found.items() if form is not None}


@cache
def ops_of(dialect: str) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """Domain and name of an ONNX op -> the dialect's ops, of which those come first that share its name."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for op, form in sorted(forms_of(dialect).items(), key=lambda each: each[1].name):
        key = (form.domain, form.name or op.partition(".")[2])
        found[key] = (*found.get(key, ()), op)
    return found


def bias_params(x: QuantParams, w: QuantParams) -> QuantParams:
    """What an int32 bias means: its scale is x_scale * w_scale, which no file states."""
    scale = x.scales[0] * w.scales
    return QuantParams.of(scale, 0, None if w.axis is None else 0)
