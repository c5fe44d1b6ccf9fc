"""What ONNX Runtime's optimizer makes of a graph that was read node by node, as far as it changes a bit of a result.

    %1 = ort.DequantizeLinear(%x)         ->   %4 = ort.QLinearConv(%x, @w, @b)
    %2 = ort.DequantizeLinear(@w)
    %3 = nn.conv(%1, %2, @b dequantized)
    %4 = ort.QuantizeLinear(%3)

Below "extended" the runtime computes such groups in float. From there on an op on floats between dequantizing and
quantizing nodes is one on codes where `GROUPS` has a row for it, its result has no other reader, and its codes are of
types that the row takes. Before that, what `qdq_pairs` says happens to the pairs, and a relu or clip whose range is
that of the codes behind it goes away. Source: qdq_transformer/, measured (`tests/targets/onnxruntime`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.exporters.onnx_forms import ModelFacts, bias_params
from qgraph.ir import Builder, Graph, Node, QuantParams, Value
from qgraph.ir.types import integer_range
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.passes.rewriter import Declined, Match, Replacement, Rule, pattern, rewrite, rule
from qgraph.passes.rules.clamps import CLAMPS, node_bounds
from qgraph.targets.onnxruntime.eliminations import folded_pads, without_effect
from qgraph.targets.onnxruntime.qdq_pairs import (
    DEQUANTIZE,
    QUANTIZE,
    as_stored,
    i8_as_u8,
    joined_pairs,
    known_codes,
    known_floats,
    only_user,
    products_with_sums,
    propagated_pairs,
    quantized_parameters,
)
from qgraph.targets.onnxruntime.weight_only import refuse_weight_only
from qgraph.targets.onnxruntime.window_rows import extended_pads

NEAR = (1e-6, 1e-2)
"""By so much the scale of a bias may differ from x_scale * w_scale, and by this part of it, though it is read as that.
Source: ConvNodeGroupSelector."""
EPSILON = np.finfo(np.float32).eps
"""By so much a clip may cut into the range of the codes behind it. Source: ClipQuantFusion."""


@dataclass(frozen=True)
class Group:
    """What an op of `nn` between dequantizing and quantizing nodes becomes: the op on codes, and its attributes.

    `by_u8`: i8 activations stay in float. `layer`: the second operand is a weight, the third its bias. `floats`: what
    it becomes where its result is not quantized.
    """

    target: str
    attrs: Mapping[str, str] | Callable[[Node], dict[str, Any]] = lambda node: {}
    by_u8: bool = False
    layer: bool = False
    floats: str = ""

    def attributes(self, node: Node) -> dict[str, Any]:
        """The attributes of the op on codes."""
        if callable(self.attrs):
            return self.attrs(node)
        return {theirs: node.attrs[ours] for ours, theirs in self.attrs.items()}


def average(node: Node) -> dict[str, Any]:
    """The window of an average; padding that `ceil_mode` adds counts where padding does."""
    a = node.attrs
    counted = int(a["count_include_pad"])
    return {
        "kernel_shape": a["kernel"],
        "strides": a["stride"],
        "pads": extended_pads(node),
        "count_include_pad": counted,
    }


WINDOW = {"stride": "strides", "pads": "pads", "dilation": "dilations", "groups": "group"}
GROUPS = {
    "nn.conv": Group("ort.QLinearConv", WINDOW, by_u8=True, layer=True),
    "nn.linear": Group("ort.QGemm", layer=True, floats="ort.QGemm"),
    "nn.matmul": Group("ort.QLinearMatMul", by_u8=True, floats="ort.MatMulIntegerToFloat"),
    "nn.add": Group("ort.QLinearAdd"),
    "nn.mul": Group("ort.QLinearMul"),
    "nn.avg_pool": Group("ort.QLinearAveragePool", average),
    "ort.GlobalAveragePool": Group("ort.QLinearGlobalAveragePool"),
    "nn.sigmoid": Group("ort.QLinearSigmoid"),
    "nn.leaky_relu": Group(
        "ort.QLinearLeakyRelu", lambda node: {"alpha": float(np.float32(node.attrs["negative_slope"]))}
    ),
    "nn.softmax": Group("ort.QLinearSoftmax", {"axis": "axis"}),
    "nn.concat": Group("ort.QLinearConcat", {"axis": "axis"}),
    "nn.where": Group("ort.QLinearWhere"),
}
"""Op on floats -> what the runtime makes of it between codes."""
MOVING = "nn.reshape|nn.transpose|nn.slice|nn.max_pool"
"""Ops that move codes as they are."""


# ---- one group


def codes_of(value: Value | None) -> Value | None:
    """The codes of a value that a DequantizeLinear makes; None for any other."""
    maker = None if value is None else value.producer
    return maker.operand(0) if maker is not None and maker.op == DEQUANTIZE else None


def weight_codes(value: Value, build: Builder, facts: ModelFacts) -> Value | None:
    """The codes of a weight, behind whose DequantizeLinear the reader may have transposed it."""
    stored, maker = as_stored(value, facts), value.producer
    codes = codes_of(stored)
    return codes if codes is None or maker is None or stored is value else moved(maker, codes, build)


def moved(node: Node, x: Value, build: Builder) -> Value:
    """An op that moves elements, on codes; those of a constant are one."""
    if x.is_constant and node.op in ("nn.transpose", "nn.reshape"):
        quant, perm = x.type.q, node.attrs.get("perm", ())
        data = x.data.transpose(perm) if perm else x.data.reshape([int(size) for size in node.result.type.shape])
        turned = quant if quant.axis is None or not perm else replace(quant, axis=perm.index(quant.axis))
        return build.constant(np.ascontiguousarray(data), x.name, turned)
    if node.op == "nn.max_pool":
        a = node.attrs
        window = {"kernel_shape": a["kernel"], "strides": a["stride"], "dilations": a["dilation"]}
        return build.value("ort.MaxPool", [x], {**window, "pads": extended_pads(node)})
    return build.value(node.op, [x, *node.operands[1:]], dict(node.attrs))


def operands_of(group: Group, node: Node, build: Builder, facts: ModelFacts) -> Sequence[Value | None] | Declined:
    """The codes of a group's operands."""
    found: list[Value | None] = []
    for place, value in enumerate(node.operands):
        codes = value
        if value is not None and value.type.is_float:
            if codes_of(as_stored(value, facts)) in facts.narrow:
                return Declined(f"operand {place} has codes of less than a byte")
            codes = weight_codes(value, build, facts) if group.layer and place == 1 else codes_of(value)
            if codes is None:
                return Declined(f"operand {place} is not dequantized")
            if codes.type.q.axis is not None and not (place and (group.layer or node.op == "nn.matmul")):
                return Declined(f"operand {place} has scales along an axis")
        found.append(codes)
    x, w, bias = (*found, None, None)[:3]
    if not group.layer or x is None or w is None or bias is None:
        return found
    wanted = bias_params(x.type.q, w.type.q)
    if not bias.is_constant or bias.type.dtype != "i32" or bias.type.rank != 1:
        return Declined("the bias is no constant of int32")
    if node.op == "nn.conv" and not near(bias.type.q, wanted):
        return Declined("the bias has other scales than x_scale * w_scale")
    codes = bias if bias.type.quant == wanted else build.constant(bias.data, bias.name, wanted)
    return [x, w, codes]


def near(bias: QuantParams, wanted: QuantParams) -> bool:
    """Whether the scales of a bias may stand for x_scale * w_scale; those of a QGemm are not looked at."""
    far = np.abs(bias.scales - wanted.scales) > NEAR[0] + NEAR[1] * np.abs(wanted.scales)
    return not far.any() and not bias.zero_points.any()


def declined_types(group: Group, node: Node, found: Sequence[Value | None], made: str) -> str:
    """Why the runtime leaves a group of these types in float; "" where it does not."""
    dtypes = [value.type.dtype for value in found if value is not None and value.type.quant is not None]
    if group.layer or node.op == "nn.matmul":
        wanted = [dtypes[0], made] if made != "f32" else [dtypes[0]]
        if "i8" in dtypes[:1] and (group.by_u8 or dtypes[1] == "u8"):
            return "i8 activations stay in float"
    else:
        wanted = [*dtypes, made]
    if len({*wanted}) > 1:
        return f"codes of {', '.join(sorted({*wanted}))} do not go together"
    return "" if wanted[0] in ("u8", "i8") else f"codes of {wanted[0]} stay in float"


def made_of(node: Node, build: Builder, element: tuple[str, QuantParams | None], facts: ModelFacts) -> Replacement:
    """The op on codes of a group whose result is of an element type."""
    group = GROUPS[node.op]
    if node.attrs.get("activation", "none") != "none":
        return Declined("it carries an activation")
    if node.op == "nn.linear" and facts.made_by.get(node.result) != "Gemm":
        return Declined("it is a product, and a sum, of which only the codes of the first are known")
    if node.op == "nn.matmul" and facts.made_by.get(node.result) == "Gemm":
        return Declined("it becomes a layer on floats, with the sum behind it")
    found = operands_of(group, node, build, facts)
    if isinstance(found, Declined):
        return found
    reason = declined_types(group, node, found, element[0])
    if reason:
        return Declined(reason)
    target, given = group.target, [*found]
    if target == "ort.QLinearMatMul" and element[0] == "f32":
        target, given = group.floats, scales_beside(given, build)
    try:
        return build.value(target, given, group.attributes(node), element=element)
    except TypeMismatch as error:
        return Declined(error.what)


def scales_beside(codes: Sequence[Value | None], build: Builder) -> list[Value | None]:
    """Operands of MatMulIntegerToFloat: codes, scales, zero points."""
    a, b = codes
    assert a is not None
    assert b is not None
    scales = [build.constant(each.type.q.scales.reshape(_shape(each)), "scale") for each in (a, b)]
    zeros = [
        build.constant(each.type.q.zero_points.astype(each.type.numpy).reshape(_shape(each)), "zero_point")
        for each in (a, b)
    ]
    return [a, b, *scales, *zeros]


def _shape(codes: Value) -> tuple[int, ...]:
    return () if codes.type.q.axis is None else (-1,)


def fuse_groups(facts: ModelFacts) -> list[Rule]:
    """The rules for ops on floats between codes, and for products of codes whose result is not quantized."""

    @rule(pattern(QUANTIZE, pattern("|".join(GROUPS), bind="node"), bind="quantize"))
    def fuse_quantized(match: Match, build: Builder) -> Replacement:
        node, quantize = match.nodes["node"], match.nodes["quantize"]
        type = quantize.result.type
        if not node.result.has_one_use:
            return Declined("its result is read elsewhere too")
        if type.q.axis is not None:
            return Declined("its result has scales along an axis")
        return made_of(node, build, (type.dtype, type.quant), facts)

    @rule(pattern("nn.linear|nn.matmul", bind="node"))
    def fuse_into_floats(match: Match, build: Builder) -> Replacement:
        node = match.nodes["node"]
        clamp = only_user(node.result, CLAMPS)
        if any(user.op == QUANTIZE for user in node.result.users):
            return Declined("its result is quantized")
        if clamp is not None and clamp.result.has_one_use and not clamp.result.is_output:
            return Declined("a relu or clip behind it would have to go away")
        return made_of(node, build, ("f32", None), facts)

    return [fuse_quantized, fuse_into_floats]


@rule(pattern(QUANTIZE, pattern(MOVING, pattern(DEQUANTIZE, "x"), bind="node"), bind="quantize"))
def move_codes(match: Match, build: Builder) -> Replacement:
    """What only moves elements, between equal scales, moves codes."""
    node, x, made = match.nodes["node"], match.values["x"], match.nodes["quantize"].result.type
    if (x.type.dtype, x.type.quant) != (made.dtype, made.quant) or x.type.q.axis is not None:
        return Declined("the scales are not equal")
    return moved(node, x, build)


# ---- what goes before


@rule(pattern(QUANTIZE, pattern(CLAMPS, "x", bind="clamp"), bind="quantize"))
def drop_clamp(match: Match, build: Builder) -> Replacement:
    """A relu or clip that cuts nothing off that the codes behind it have."""
    type, (low, high) = match.nodes["quantize"].result.type, node_bounds(match.nodes["clamp"])
    if not match.nodes["clamp"].result.has_one_use or type.q.axis is not None:
        return Declined("its result is read elsewhere too")
    scale, zero = np.float32(type.q.scales[0]), np.float32(type.q.zero_points[0])
    ends = [scale * (np.float32(end) - zero) for end in integer_range(type.dtype)]
    relu = match.nodes["clamp"].op == "nn.relu"
    if (ends[0] != 0) if relu else (np.float32(low) - ends[0] > EPSILON or ends[1] - np.float32(high) > EPSILON):
        return Declined("it cuts off what the codes reach")
    return build.value(QUANTIZE, [match.values["x"]], {}, element=(type.dtype, type.quant))


def nothing(graph: Graph, facts: ModelFacts) -> None:
    """The graph as it was read."""


def simplify(graph: Graph, facts: ModelFacts) -> None:
    """Parameters in codes, and pairs joined, also those with an op between that does nothing."""
    without_effect(graph, facts)
    folded_pads(graph, facts)
    known_codes(graph, facts)
    joined_pairs(graph)
    propagated_pairs(graph, facts)
    products_with_sums(graph, facts.made_by)
    quantized_parameters(graph, facts)
    erase_dead_code(graph)
    graph.drop_unused_constants()


def fuse(graph: Graph, facts: ModelFacts) -> None:
    """Ops on codes of what computes between codes."""
    simplify(graph, facts)
    i8_as_u8(graph, facts)
    rewrite(graph, [drop_clamp])
    rewrite(graph, [move_codes, *fuse_groups(facts)])
    refuse_weight_only(graph, facts)
    known_floats(graph)
    erase_dead_code(graph)
    graph.drop_unused_constants()


OPTIMIZATIONS: Mapping[str, Callable[[Graph, ModelFacts], None]] = {
    "all": fuse,
    "extended": fuse,
    "basic": simplify,
    "disabled": nothing,
}
"""Level -> what it does to a graph that was read node by node."""
