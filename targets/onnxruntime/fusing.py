"""What ONNX Runtime's optimizer makes of a graph that was read node by node, as far as it changes a bit of a result.

    %1 = ort.DequantizeLinear(%x)         ->   %4 = ort.QLinearConv(%x, @w, @b)
    %2 = ort.DequantizeLinear(@w)
    %3 = nn.conv(%1, %2, @b dequantized)
    %4 = ort.QuantizeLinear(%3)

Below "extended" the runtime computes such groups in float. From there on an op on floats between dequantizing and
quantizing nodes is one on codes where `GROUPS` has a row for it, its result has no other reader, and its codes are of
types that the row takes. Before that, i8 codes that one node makes and one reads become u8, and a relu or clip whose
range is that of the codes behind it goes away. Source: qdq_transformer/, measured (`tests/targets/onnxruntime`).
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
from qgraph.passes.rewriter import Declined, Match, Replacement, pattern, rewrite, rule
from qgraph.passes.rules.clamps import CLAMPS, node_bounds
from qgraph.targets.onnxruntime import kernels
from qgraph.targets.onnxruntime.window_rows import extended_pads

QUANTIZE, DEQUANTIZE = "ort.QuantizeLinear", "ort.DequantizeLinear"
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
    "nn.mean": Group("ort.QLinearGlobalAveragePool"),
    "nn.sigmoid": Group("ort.QLinearSigmoid"),
    "nn.leaky_relu": Group("ort.QLinearLeakyRelu", {"negative_slope": "alpha"}),
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


def weight_codes(value: Value, build: Builder) -> Value | None:
    """The codes of a weight, maybe transposed behind its DequantizeLinear."""
    maker = value.producer
    if maker is None or maker.op != "nn.transpose":
        return codes_of(value)
    codes = codes_of(maker.operand(0))
    if codes is None or not codes.is_constant:
        return codes and build.nn.transpose(codes, perm=maker.attrs["perm"])
    quant, perm = codes.type.q, maker.attrs["perm"]
    turned = quant if quant.axis is None else replace(quant, axis=perm.index(quant.axis))
    return build.constant(np.ascontiguousarray(codes.data.transpose(perm)), codes.name, turned)


def operands_of(group: Group, node: Node, build: Builder) -> Sequence[Value | None] | Declined:
    """The codes of a group's operands."""
    found: list[Value | None] = []
    for place, value in enumerate(node.operands):
        codes = value
        if value is not None and value.type.is_float:
            codes = weight_codes(value, build) if group.layer and place == 1 else codes_of(value)
            if codes is None:
                return Declined(f"operand {place} is not dequantized")
            if codes.type.q.axis is not None and not (place and (group.layer or node.op == "nn.matmul")):
                return Declined(f"operand {place} has scales along an axis")
        found.append(codes)
    x, w, bias = (*found, None, None)[:3]
    if not group.layer or x is None or w is None or bias is None:
        return found
    fits = bias.is_constant and bias.type.quant == bias_params(x.type.q, w.type.q)
    return found if fits else Declined("the bias has other scales than x_scale * w_scale")


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


def spatial_mean(node: Node) -> bool:
    """Whether a mean is GlobalAveragePool's."""
    return bool(node.attrs["keepdims"]) and sorted(node.attrs["axes"]) == [*range(2, node.operand(0).type.rank)]


def made_of(group: Group, node: Node, build: Builder, element: tuple[str, QuantParams | None]) -> Replacement:
    """The op on codes of a group whose result is of an element type."""
    if node.attrs.get("activation", "none") != "none":
        return Declined("it carries an activation")
    if node.op == "nn.mean" and not spatial_mean(node):
        return Declined("it is no mean over all spatial dimensions")
    found = operands_of(group, node, build)
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


@rule(pattern(QUANTIZE, pattern("|".join(GROUPS), bind="node"), bind="quantize"))
def fuse_quantized(match: Match, build: Builder) -> Replacement:
    """An op on floats between codes."""
    node, quantize = match.nodes["node"], match.nodes["quantize"]
    type = quantize.result.type
    if not node.result.has_one_use:
        return Declined("its result is read elsewhere too")
    if type.q.axis is not None:
        return Declined("its result has scales along an axis")
    return made_of(GROUPS[node.op], node, build, (type.dtype, type.quant))


@rule(pattern("nn.linear|nn.matmul", bind="node"))
def fuse_into_floats(match: Match, build: Builder) -> Replacement:
    """A product of codes whose result is not quantized."""
    node = match.nodes["node"]
    if any(user.op == QUANTIZE for user in node.result.users):
        return Declined("its result is quantized")
    return made_of(GROUPS[node.op], node, build, ("f32", None))


@rule(pattern(QUANTIZE, pattern(MOVING, pattern(DEQUANTIZE, "x"), bind="node"), bind="quantize"))
def move_codes(match: Match, build: Builder) -> Replacement:
    """What only moves elements, between equal scales, moves codes."""
    node, x, made = match.nodes["node"], match.values["x"], match.nodes["quantize"].result.type
    if (x.type.dtype, x.type.quant) != (made.dtype, made.quant) or x.type.q.axis is not None:
        return Declined("the scales are not equal")
    return on_codes(node, x, build)


def on_codes(node: Node, x: Value, build: Builder) -> Value:
    """An op that moves elements, on codes."""
    if node.op == "nn.max_pool":
        a = node.attrs
        window = {"kernel_shape": a["kernel"], "strides": a["stride"], "dilations": a["dilation"]}
        return build.value("ort.MaxPool", [x], {**window, "pads": extended_pads(node)})
    return build.value(node.op, [x, *node.operands[1:]], dict(node.attrs))


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


def known_codes(graph: Graph, facts: ModelFacts) -> None:
    """Constants that are quantized are constant codes, unless the runtime has to compute them."""
    for node in [node for node in graph.nodes if node.op == QUANTIZE]:
        (x,), type = node.inputs, node.result.type
        if x.is_constant and x not in facts.derived:
            codes = kernels.quantize(x.data, type.q, type.dtype)
            node.replace_with(graph.add_constant(codes, node.result.name or x.name, type.q))


def i8_as_u8(graph: Graph, facts: ModelFacts) -> None:
    """i8 codes that a QuantizeLinear makes and one node reads, dequantized: u8, zero points 128 higher.

    Source: QDQS8ToU8Transformer; before, each reader gets a DequantizeLinear of its own (EnsureUniqueDQForNodeUnit).
    """
    for node in [node for node in graph.nodes if node.op == QUANTIZE]:
        made = node.result
        if made.type.dtype != "i8" or not made.has_one_use or [user.op for user in made.users] != [DEQUANTIZE]:
            continue
        real = made.users[0].result
        if made.type.q.axis is None and real.has_one_use and facts.sized.isdisjoint((made, real)):
            quant = QuantParams.of(made.type.q.scales, made.type.q.zero_points + 128)
            made.type = replace(made.type, dtype="u8", quant=quant)


def nothing(graph: Graph, facts: ModelFacts) -> None:
    """The graph as it was read."""


def fuse(graph: Graph, facts: ModelFacts) -> None:
    """Ops on codes of what computes between codes."""
    known_codes(graph, facts)
    i8_as_u8(graph, facts)
    rewrite(graph, [drop_clamp])
    rewrite(graph, [move_codes, fuse_quantized, fuse_into_floats])
    erase_dead_code(graph)
    graph.drop_unused_constants()


OPTIMIZATIONS: Mapping[str, Callable[[Graph, ModelFacts], None]] = {
    "all": fuse,
    "extended": fuse,
    "basic": nothing,
    "disabled": nothing,
}
"""Level -> what it does to a graph that was read node by node."""
