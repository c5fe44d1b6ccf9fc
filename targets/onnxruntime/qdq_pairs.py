"""What ONNX Runtime's optimizer does to pairs of quantizing and dequantizing nodes before it makes ops on codes.

Each function edits a graph that was read node by node. Sources are the names of the runtime's transformers; what they
do was read off the models that it writes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qgraph.exporters.onnx_forms import ModelFacts, bias_params
from qgraph.ir import Graph, Node, QuantParams, Value
from qgraph.ir.types import integer_range
from qgraph.passes.rules.clamps import CLAMPS
from qgraph.targets.onnxruntime import kernels
from qgraph.targets.onnxruntime.dynamic import f32

QUANTIZE, DEQUANTIZE = "ort.QuantizeLinear", "ort.DequantizeLinear"
PROPAGATED = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Slice")
"""Ops through which the runtime takes a pair: not Flatten, Gather, Expand, Pad, Tile, Split, Concat, DepthToSpace."""


def nodes_of(graph: Graph, op: str) -> list[Node]:
    """The nodes of an op, as a list that stays while the graph is edited."""
    return [node for node in graph.nodes if node.op == op]


def only_user(value: Value, op: str) -> Node | None:
    """The one node of that op that reads a value, if nothing else does."""
    users = value.users if value.has_one_use else []
    return users[0] if users and users[0].op in op.split("|") else None


# ---- from "basic" on


def known_codes(graph: Graph, facts: ModelFacts) -> None:
    """Constants that are quantized are codes, unless the runtime has to compute them. Source: ConstantFolding."""
    for node in nodes_of(graph, QUANTIZE):
        (x,), type = node.inputs, node.result.type
        if x.is_constant and x not in facts.derived:
            codes = kernels.quantize(x.data, type.q, type.dtype)
            node.replace_with(graph.add_constant(codes, node.result.name or x.name, type.q))


def known_floats(graph: Graph) -> None:
    """Constant codes that are dequantized for an op on floats are constants of floats: the bits are the same."""
    for node in nodes_of(graph, DEQUANTIZE):
        (x,) = node.inputs
        if x.is_constant:
            node.replace_with(graph.add_constant(kernels.dequantize(x.data, x.type.q), node.result.name or x.name))


def joined_pairs(graph: Graph) -> None:
    """Two pairs behind each other are one, of the range that both have. Source: DoubleQDQPairsRemover."""
    for first in nodes_of(graph, QUANTIZE):
        second = None if first.erased else _pair_behind(first)
        while second is not None:
            _join(graph, first, second)
            second = _pair_behind(first)


def _pair_behind(first: Node) -> Node | None:
    """The QuantizeLinear of a pair that is behind the pair of this one, which nothing else reads."""
    back = only_user(first.result, DEQUANTIZE)
    second = None if back is None else only_user(back.result, QUANTIZE)
    if second is None or second.result.is_output or any(user.op != DEQUANTIZE for user in second.result.users):
        return None
    types = first.result.type, second.result.type
    alike = types[0].dtype == types[1].dtype and types[0].q.axis is None and types[1].q.axis is None
    return second if alike else None


def _join(graph: Graph, first: Node, second: Node) -> None:
    one, two = first.result.type.q, second.result.type.q
    if one != two:
        low, high = integer_range(first.result.type.dtype)
        ends = [[f32(each.scales[0]) * f32(end - each.zero_points[0]) for each in (one, two)] for end in (low, high)]
        least, most = max(ends[0]), min(ends[1])
        scale = f32(most - least) / f32(high - low)
        one = QuantParams.of(float(scale), int(np.rint(f32(low) - f32(least) / scale)))
        first.result.type = replace(first.result.type, quant=one)
    back = first.result.users[0]
    for user in second.result.users:
        graph.set_operands(user, [first.result])
    second.erase()
    back.erase()


def quantized_parameters(graph: Graph, facts: ModelFacts) -> None:
    """A float bias, and a float weight, of a layer between codes are quantized, too. Source: WeightBiasQuantization."""
    for node in [node for node in graph.nodes if node.op in ("nn.conv", "nn.conv_transpose", "nn.linear")]:
        x, w, *bias = node.operands
        layer = node.op != "nn.linear" or facts.made_by.get(node.result) == "Gemm"
        if not layer or x is None or w is None or not _is_dequantized(x) or not _is_requantized(node):
            continue
        if w.is_constant:
            w = _dequantized(graph, node, *_weight_codes(w))
        source = as_stored(w, facts)
        if not _is_dequantized(source):
            continue
        given = [x, w, *bias]
        if bias and bias[0] is not None and bias[0].is_constant:
            given[2] = _with_codes(graph, node, x, source, bias[0])
        graph.set_operands(node, given)


def products_with_sums(graph: Graph, made_by: dict[Value, str]) -> None:
    """A product of matrices and the sum with a vector behind it are one layer. Source: MatMulAddFusion."""
    for node in [node for node in graph.nodes if node.op == "nn.matmul" and made_by.get(node.result) == "MatMul"]:
        (x, w), add = node.inputs, only_user(node.result, "nn.add")
        if add is None or x.type.rank != 2 or w.type.rank != 2:
            continue
        bias = next(each for each in add.inputs if each is not node.result)
        columns = w.type.shape[1]
        if bias.type.shape == (1, columns):
            bias = _as_vector(graph, add, bias)
        if bias.type.shape != (columns,):
            made_by[node.result] = "Gemm" if bias.type.shape == (1, columns) else "MatMul"
            continue
        build = graph.insert_before(add)
        made = build.nn.linear(x, build.nn.transpose(w, perm=(1, 0)), bias)
        made_by[made] = "Gemm"
        add.replace_with(made)


def _as_vector(graph: Graph, add: Node, bias: Value) -> Value:
    """Dequantized constant codes [1, N] as [N]; what else there is as it was."""
    codes = bias.producer.operand(0) if _is_dequantized(bias) and bias.producer is not None else None
    if codes is None or not codes.is_constant or codes.type.q.axis is not None:
        return bias
    return _dequantized(graph, add, codes.data.reshape(-1), codes.name, codes.type.q)


def as_stored(w: Value, facts: ModelFacts) -> Value:
    """A weight as the model has it, which the reader may have transposed."""
    maker = w.producer
    return maker.operand(0) if maker is not None and maker.op == "nn.transpose" and w not in facts.made_by else w


def _is_dequantized(value: Value) -> bool:
    return value.producer is not None and value.producer.op == DEQUANTIZE


def _is_requantized(node: Node) -> bool:
    """Whether the result of a layer is quantized, maybe behind a relu or clip."""
    clamp = only_user(node.result, CLAMPS)
    return only_user(node.result if clamp is None else clamp.result, QUANTIZE) is not None


def _weight_codes(w: Value) -> tuple[np.ndarray, str, QuantParams]:
    """A weight in i8, by its least and largest value and 0."""
    low, high = min(f32(w.data.min()), f32(0)), max(f32(w.data.max()), f32(0))
    scale = f32(1) if low == high else f32(high - low) / f32(255)
    zero = int(np.rint(np.clip(f32(-128) - low / scale, f32(-128), f32(127))))
    quant = QuantParams.of(float(scale), zero)
    return kernels.quantize(w.data, quant, "i8"), w.name, quant


def _with_codes(graph: Graph, node: Node, x: Value, w: Value, bias: Value) -> Value:
    assert x.producer is not None
    assert w.producer is not None
    quant = bias_params(x.producer.operand(0).type.q, w.producer.operand(0).type.q)
    codes = np.clip(np.rint(bias.data / quant.scales).astype(np.float64), -(2.0**31), 2.0**31 - 1)
    return _dequantized(graph, node, codes.astype(np.int32), bias.name, quant)


def _dequantized(graph: Graph, node: Node, codes: np.ndarray, name: str, quant: QuantParams) -> Value:
    made: Value = graph.insert_before(node).ort.DequantizeLinear(graph.add_constant(codes, name, quant))
    return made


# ---- from "extended" on


def propagated_pairs(graph: Graph, facts: ModelFacts) -> None:
    """A pair of one scale is repeated behind what moves its floats, or before what moves floats to it.

    Source: QDQPropagationTransformer.
    """
    work = nodes_of(graph, DEQUANTIZE)
    for node in work:  # which grows
        quant = node.operand(0).type
        for user in node.result.users if quant.q.axis is None else ():
            readers = [each for each in user.results[0].users if each.op != QUANTIZE]
            if facts.made_by.get(user.results[0]) in PROPAGATED and (readers or user.result.is_output):
                work.append(_pair_after(graph, user, quant.dtype, quant.q))
    for node in reversed(nodes_of(graph, QUANTIZE)):
        _pair_before(graph, node, facts)


def _pair_after(graph: Graph, node: Node, dtype: str, quant: QuantParams) -> Node:
    """A new pair behind a node, for all that reads it but a QuantizeLinear; gives its DequantizeLinear."""
    build = graph.insert_after(node)
    codes = build.ort.QuantizeLinear(node.result, element=(dtype, quant))
    real = build.ort.DequantizeLinear(codes)
    kept = [user for user in node.result.users if user.op == QUANTIZE]
    graph.replace_uses(node.result, real, keep=kept)
    assert real.producer is not None
    return real.producer


def _pair_before(graph: Graph, quantize: Node, facts: ModelFacts) -> None:
    """New pairs before the nodes that move floats to a QuantizeLinear."""
    type, node = quantize.result.type, quantize.operand(0).producer
    while node is not None and type.q.axis is None:
        source = node.operand(0) if facts.made_by.get(node.results[0]) in PROPAGATED else None
        if source is None or not node.result.has_one_use or source.producer is None or _is_dequantized(source):
            return
        build = graph.insert_before(node)
        real = build.ort.DequantizeLinear(build.ort.QuantizeLinear(source, element=(type.dtype, type.quant)))
        graph.set_operands(node, [real, *node.operands[1:]])
        node = source.producer


def i8_as_u8(graph: Graph, facts: ModelFacts) -> None:
    """i8 codes that a QuantizeLinear makes and one node reads, dequantized: u8, zero points 128 higher.

    Source: QDQS8ToU8Transformer; before, each reader gets a DequantizeLinear of its own (EnsureUniqueDQForNodeUnit).
    """
    for node in nodes_of(graph, QUANTIZE):
        made, back = node.result, only_user(node.result, DEQUANTIZE)
        if made.type.dtype != "i8" or back is None or made.type.q.axis is not None:
            continue
        if back.result.has_one_use and facts.sized.isdisjoint((made, back.result)):
            quant = QuantParams.of(made.type.q.scales, made.type.q.zero_points + 128)
            made.type = replace(made.type, dtype="u8", quant=quant)
