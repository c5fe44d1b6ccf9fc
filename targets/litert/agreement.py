"""What the families compute differently, in words, and what to change where they have to agree.

`ARITHMETIC` tells of the reference kernels; each other family's kernels say in their docstring what they do. Measured
with ai-edge-litert 2.3.0 and tflite-micro 0.dev20261023; the formulas stand at the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

from qgraph.ir import Graph, Node
from qgraph.runtimes import Processor
from qgraph.targets.litert.rows import BY_OP

ARITHMETIC: dict[str, str] = {
    "litert.conv_2d": "a fixed-point multiplier, rounded twice",
    "litert.depthwise_conv_2d": "a fixed-point multiplier, rounded twice",
    "litert.transpose_conv": "a fixed-point multiplier, rounded twice",
    "litert.fully_connected": "the accumulator times a float64 scale, rounded half away from zero",
    "litert.batch_matmul": "a fixed-point multiplier from a float32 product of scales, rounded twice",
    "litert.add": "both operands scaled to 20 more bits by fixed-point multipliers, each rounded twice",
    "litert.sub": "both operands scaled to 20 more bits by fixed-point multipliers, each rounded twice",
    "litert.mul": "a fixed-point multiplier formed in float32, rounded twice",
    "litert.quantize": "floats divided by the scale, half away from zero; integers by a multiplier, rounded twice",
    "litert.mean": "a fixed-point multiplier divided by the count, rounded twice",
    "litert.sum": "takes int8 for uint8 (a defect)",
    "litert.logistic": "a table of the float function, half away from zero",
    "litert.tanh": "a table of the float function, half away from zero",
    "litert.softmax": "fixed-point exponential and reciprocal",
    "litert.leaky_relu": "fixed-point multipliers formed in float32, rounded twice",
    "litert.prelu": "fixed-point multipliers formed in float32, rounded twice",
    "litert.relu": "a fixed-point multiplier formed in float32, rounded twice",
    "litert.relu6": "a fixed-point multiplier formed in float32, rounded twice",
    "litert.resize_bilinear": "weights of 10 bits from fixed-point positions",
    "litert.unidirectional_sequence_lstm": "multipliers formed in float32, fixed-point sigmoid and tanh",
}

_LAYERS = "run LiteRT with its reference kernels (OpResolverType.BUILTIN_REF): on {0} they agree with TFLite Micro"
ADVICE: dict[str, str] = {
    "litert.conv_2d": _LAYERS.format("convolutions"),
    "litert.depthwise_conv_2d": _LAYERS.format("convolutions"),
    "litert.transpose_conv": _LAYERS.format("transposed convolutions"),
    "litert.add": _LAYERS.format("ADD"),
    "litert.sub": _LAYERS.format("SUB"),
    "litert.mean": "write a mean over all of height and width as AVERAGE_POOL_2D: on it all families agree; "
    "other means agree between LiteRT's reference kernels and TFLite Micro",
    "litert.fully_connected": "no two families agree on FULLY_CONNECTED: as CONV_2D with a kernel of 1 LiteRT's "
    "reference kernels and TFLite Micro do",
    "litert.softmax": "leave SOFTMAX out of the file and compare its operand: the largest class is the same; "
    "LiteRT's reference kernels and TFLite Micro agree on it",
    "litert.logistic": "HARD_SWISH and RELU6 agree on all families of one processor; LOGISTIC does not",
    "litert.tanh": "clamp (RELU_N1_TO_1) instead of TANH, where the model allows it",
    "litert.quantize": "leave QUANTIZE out: give integers, quantized by one rule on the host",
    "litert.mul": "scales for which s1 * s2 / s_out is exact in float32 (powers of two) agree on MUL",
    "litert.leaky_relu": "a slope and scales that are powers of two agree on LEAKY_RELU",
    "litert.resize_bilinear": "RESIZE_NEAREST_NEIGHBOR agrees on all families",
    "litert.sum": "MEAN (with the result's scale multiplied by the count) instead of SUM",
}


def float_notes(graph: Graph, processor: Processor) -> Sequence[str]:
    """What `verify` says of a graph of integers with ops on floats in it."""
    ops = sorted({node.op for node in graph.nodes if not _is_exact(node, graph.target)})
    notes = [f"floats of {', '.join(ops)}: their last digits may differ from the runtime's"] if ops else []
    return (*notes, *([graph.metadata["hybrid"]] if "hybrid" in graph.metadata else []))


def _is_exact(node: Node, target: str) -> bool:
    row = BY_OP.get(node.op)
    if row is None or row.exact_on is None or target in row.exact_on:
        return True
    return bool(row.beyond_delegate) and node.operand(0).type.rank >= row.beyond_delegate


def mark_hybrid(graph: Graph) -> None:
    """Let the metadata word `hybrid` say how many ops on floats have an integer weight."""
    ops_on_floats = [node for node in graph.nodes if node.op in BY_OP and BY_OP[node.op].integers]
    count = sum(any(value.type.quant is not None for value in node.inputs) for node in ops_on_floats)
    if count:
        graph.metadata["hybrid"] = f"{count} layers have integer weights: runtimes quantize their activations too"
