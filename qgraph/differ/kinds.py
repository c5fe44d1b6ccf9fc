"""Kinds of ops across dialects: `nn.conv`, `litert.depthwise_conv_2d` and `ort.QLinearConv` are all "conv".

A kind follows from the words of the op's own name, so that a new target or a user's dialect needs no row here: the
first word of `WORDS` that the name contains decides, and a name that contains none is a kind of its own.
"""

from __future__ import annotations

from functools import cache

WORDS = (
    ("dequant", "dequantize"),
    ("fakequant", "quantize"),
    ("quantize", "quantize"),
    ("rescale", "quantize"),
    ("conv", "conv"),
    ("gemm", "linear"),
    ("matmul", "linear"),
    ("fullyconnected", "linear"),
    ("linear", "linear"),
    ("batchnorm", "affine"),
    ("scaleshift", "affine"),
    ("relu", "activation"),
    ("clip", "activation"),
    ("clamp", "activation"),
    ("hardswish", "activation"),
    ("maxpool", "max_pool"),
    ("averagepool", "mean"),
    ("avgpool", "mean"),
    ("mean", "mean"),
    ("concat", "concat"),
    ("flatten", "reshape"),
    ("squeeze", "reshape"),
    ("reshape", "reshape"),
    ("transpose", "transpose"),
    ("pad", "pad"),
    ("dropout", "identity"),
    ("identity", "identity"),
)
"""(word, kind): a kind is what the first word says that stands in an op's name without its dialect."""

TRANSPARENT = frozenset(
    ("quantize", "dequantize", "affine", "activation", "reshape", "transpose", "pad", "identity"),
)
"""Kinds that lowering adds, drops and fuses: the skeleton of a graph is what remains when values flow through them."""

COMMUTATIVE = frozenset(("add", "mul", "maximum", "minimum"))
"""Kinds whose operands have no order."""

_AFFINE_WITH_CONSTANT = frozenset(("add", "mul", "sub", "div"))


@cache
def kind_of_op(op: str) -> str:
    """The kind of an op by its name.

    >>> [kind_of_op(op) for op in ("nn.conv", "litert.conv_2d", "ort.QLinearConv", "quant.conv_batch_norm")]
    ['conv', 'conv', 'conv', 'conv']
    >>> kind_of_op("ort.QLinearAdd"), kind_of_op("tosa.rescale"), kind_of_op("nn.softmax")
    ('add', 'quantize', 'softmax')
    """
    name = op.rpartition(".")[2].replace("_", "").lower().removeprefix("qlinear")
    return next((kind for word, kind in WORDS if word in name), name)


def node_kind(op: str, *, has_constant: bool) -> str:
    """The kind of a node: an addition or product with a constant scales and shifts, as a batch normalization does."""
    kind = kind_of_op(op)
    return "affine" if has_constant and kind in _AFFINE_WITH_CONSTANT else kind
