"""Products of floats with dequantized constants: from "extended" on the runtime makes them MatMulNBits.

That op quantizes the floats, too, by blocks of them, and adds the blocks in an order of the machine: its bits are not
known here, and not near those of the product in float. Source: DQMatMulToMatMulNBits and its selector, measured.
"""

from __future__ import annotations

from qgraph.errors import UnsupportedOp
from qgraph.exporters.onnx_forms import ModelFacts
from qgraph.ir import Graph, Node, Value
from qgraph.targets.onnxruntime.qdq_pairs import DEQUANTIZE, QUANTIZE, as_stored

BLOCKS = "ort.DequantizeWith"
MOVED = ("nn.transpose", "nn.reshape", QUANTIZE, DEQUANTIZE)
"""What may be between the constant and the last DequantizeLinear."""


def refuse_weight_only(graph: Graph, facts: ModelFacts) -> None:
    """Raise UnsupportedOp, naming them all, for the products whose weight alone is in codes."""
    found = [node for node in graph.nodes if node.op in ("nn.matmul", "nn.linear") and _is_weight_only(node, facts)]
    if found:
        raise UnsupportedOp(
            f"{len(found)} products of floats with a dequantized weight are MatMulNBits in onnxruntime at this level "
            "of optimization, whose arithmetic is not known here",
            where=tuple(line for node in found for line in node.where),
            help='give optimization="basic": there the runtime, and qgraph, dequantize the weight and compute in float',
        )


def _is_weight_only(node: Node, facts: ModelFacts) -> bool:
    x, w = node.inputs[:2]
    stored = as_stored(w, facts)
    if (node.op == "nn.linear" and stored is w) or w.type.rank != 2 or _is_dequantized(x) or _is_scaled(x, facts):
        return False
    if any(user.op == QUANTIZE for user in node.result.users) or not stored.has_one_use:
        return False
    return _is_dequantized(stored) and _is_by_column(stored) and _is_known(stored)


def _is_dequantized(value: Value) -> bool:
    return value.producer is not None and value.producer.op in (DEQUANTIZE, BLOCKS)


def _is_scaled(x: Value, facts: ModelFacts) -> bool:
    """Whether x carries the alpha of a Gemm, with which the runtime leaves it as it is."""
    return x.producer is not None and x.producer.op == "nn.mul" and x not in facts.made_by


def _is_by_column(w: Value) -> bool:
    """Whether the codes of w [K, N] have one scale, one for each column, or one for each block of K."""
    maker = w.producer
    assert maker is not None
    if maker.op == BLOCKS:
        return bool(maker.attrs.get("block_size")) and maker.attrs["axis"] % 2 == 0
    quant = maker.operand(0).type.quant
    return maker.operand(0).type.dtype in ("u8", "i8") and quant is not None and quant.axis in (None, 1)


def _is_known(w: Value) -> bool:
    """Whether w is a constant of which nothing else reads the codes."""
    value = w
    while value.producer is not None and value.producer.op in (*MOVED, BLOCKS) and value.has_one_use:
        value = value.producer.operand(0)
    return value.is_constant and value.has_one_use
