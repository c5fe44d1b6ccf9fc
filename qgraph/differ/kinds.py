"""Kinds of ops across dialects: `nn.conv`, `litert.depthwise_conv_2d` and `ort.QLinearConv` are all "conv".

An op says its kind itself (`qgraph.ir.traits`); here stands what the differ does with some of them.
"""

from __future__ import annotations

from qgraph.ir import Node, traits_of

TRANSPARENT = frozenset(
    ("quantize", "rounding", "dequantize", "affine", "activation", "reshape", "transpose", "pad", "identity"),
)
"""Kinds that lowering adds, drops and fuses: the skeleton of a graph is what remains when values flow through them."""

_AFFINE_WITH_CONSTANT = frozenset(("add", "mul", "sub", "div"))


def kind_of_op(op: str) -> str:
    """The kind of an op.

    >>> [kind_of_op(op) for op in ("nn.conv", "litert.conv_2d", "ort.QLinearConv", "quant.conv_batch_norm")]
    ['conv', 'conv', 'conv', 'conv']
    >>> kind_of_op("ort.QLinearAdd"), kind_of_op("nn.softmax"), kind_of_op("mine.softmax")
    ('add', 'softmax', 'softmax')
    """
    return traits_of(op).kind


def node_kind(op: str, *, has_constant: bool) -> str:
    """The kind of a node: an addition or product with a constant scales and shifts, as a batch normalization does."""
    kind = kind_of_op(op)
    return "affine" if has_constant and kind in _AFFINE_WITH_CONSTANT else kind


def rounds_its_maker(node: Node) -> bool:
    """Whether a fake-quant says which grid the op before it gives its result, which no integer graph has a node for;
    others quantize an input, or requantize from one grid to another."""
    maker = node.operands[0].producer if node.results[0].type.is_float and node.operands[0] is not None else None
    while maker is not None and traits_of(maker.op).moves_data and maker.operands[0] is not None:
        maker = maker.operands[0].producer
    return maker is not None and traits_of(maker.op).kind != "quantize"
