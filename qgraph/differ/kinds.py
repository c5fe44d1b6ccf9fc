"""Kinds of ops across dialects: `nn.conv`, `litert.depthwise_conv_2d` and `ort.QLinearConv` are all "conv".

An op says its kind itself (`qgraph.ir.traits`); here stands what the differ does with some of them.
"""

from __future__ import annotations

from qgraph.ir import traits_of

TRANSPARENT = frozenset(
    ("quantize", "dequantize", "affine", "activation", "reshape", "transpose", "pad", "identity"),
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
