"""What LiteRT quantizes: activations of int8 (asymmetric) or int16 (symmetric), int8 weights per output channel
(symmetric), biases of int32, or of int64 beside int16."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from qgraph.ir import Node
from qgraph.ops.fine import gives_places, is_soft_cap
from qgraph.ops.nn.sequence_lstm import GATES
from qgraph.targets.litert import cells as cells  # its quantizer is there with the rules
from qgraph.targets.litert.function_rows import LOOKED_UP
from qgraph.targets.litert.plain_rows import of_condition
from qgraph.targets.rules import OpRule, QuantRules, QuantSpec, Rounding, layer_rule, of_mean

ACTIVATION = QuantSpec("i8", -128, 127)
WIDE = QuantSpec("i16", -(2**15), 2**15 - 1, symmetric=True)
WEIGHT = QuantSpec("i8", -127, 127, symmetric=True, axis=0, observer="min_max")  # narrow: LiteRT 8-bit specification
PER_TENSOR = QuantSpec("i8", -127, 127, symmetric=True, observer="min_max")

CELL = QuantSpec("i16", -(2**15), 2**15 - 1, symmetric=True, observer="cell")
LSTM = OpRule(
    narrow=True,
    weights={f"{of}_{gate}": PER_TENSOR for of in "wr" for gate in GATES},
    biases={f"b_{gate}": ("x", f"w_{gate}") for gate in GATES},
    inner={"cells": CELL},
)
"""Of an LSTM in one kernel, which has no scales per channel, and no form of 16 bits."""

RESULTS = {
    **dict.fromkeys(LOOKED_UP, OpRule(narrow=True, constants=False)),
    "nn.add": OpRule(),
    "nn.relu": OpRule(),
    "nn.relu6": OpRule(),
    **dict.fromkeys(("nn.sub", "nn.mul", "nn.clamp"), OpRule()),
    **dict.fromkeys(("nn.abs", "nn.matmul", "nn.embedding", "nn.sqrt", "nn.rsqrt"), OpRule()),
    "nn.hard_swish": OpRule(narrow=True),
    **dict.fromkeys(("nn.max", "nn.min", "nn.gather", "nn.gather_elements"), OpRule("same")),
    **dict.fromkeys(("nn.expand", "nn.index", "nn.topk"), OpRule("same")),
    "nn.where": OpRule("join"),  # SELECT_V2 moves integers
    "nn.cast": OpRule("fixed", scale=1.0, wide=(1.0, 0), holds=of_condition),  # 0 and 1
    **dict.fromkeys(("nn.maximum", "nn.minimum"), OpRule("join")),  # they compare integers
    "nn.resize": OpRule("shared"),
    "nn.grid_sample": OpRule("shared", finely=(1,)),  # the places, of which 8 bits are too coarse
    "nn.softmax": OpRule("fixed", scale=1 / 256, zero_point=-128, wide=(2.0**-15, 0)),  # LiteRT refuses others
    "nn.sigmoid": OpRule("fixed", scale=1 / 256, zero_point=-128, wide=(2.0**-15, 0)),
    "nn.tanh": OpRule("fixed", scale=1 / 128, wide=(2.0**-15, 0)),
    "nn.slice": OpRule("same"),
    "nn.max_pool": OpRule("same"),
    "nn.reshape": OpRule("same"),
    "nn.transpose": OpRule("same"),
    "nn.pad": OpRule("join"),
    "nn.concat": OpRule("join"),  # LiteRT refuses other parameters for max-pool and (int8) concatenation
    "nn.avg_pool": OpRule("shared", rounding=of_mean("half_away_code")),
}


LARGEST_COUNT = 2**15
"""Elements from which a mean of 16 bits may leave int32."""
FINE = ("nn.add", "nn.sub", "nn.mul", "nn.clamp", "nn.mean", "nn.sqrt", "nn.rsqrt", "nn.softmax", "nn.concat")


OF_PLACES = ("nn.matmul", "nn.expand")
"""Ops that may be of 16 bits where they make places to sample at."""


def fine_in_16(node: Node) -> bool:
    """Whether an op may be of 16 bits between others: those that normalizations are made of, a softmax, a soft cap."""
    if node.op in OF_PLACES:
        return gives_places(node.results[0])
    if node.op == "nn.tanh":
        return is_soft_cap(node)
    sizes = [node.operand(0).type.shape[axis] for axis in node.attrs["axes"]] if node.op == "nn.mean" else []
    return node.op in FINE and math.prod(n if isinstance(n, int) else LARGEST_COUNT for n in sizes) < LARGEST_COUNT


def of_slope(word: str) -> Callable[[Node], str]:
    """The rounding of `nn.leaky_relu`, whose slope the word is told; below zero is not below zero where it is not
    positive."""

    def rounding(node: Node) -> str:
        slope = float(np.float32(node.attrs["negative_slope"]))
        return f"{word}:{slope}" if slope > 0 else "half_even"

    return rounding


ROUNDINGS: Mapping[str, Rounding] = {
    "nn.mean": of_mean("mean_double_rounding"),
    "nn.leaky_relu": of_slope("leaky_double_rounding"),
}
"""Of results with parameters of their own, by the reference kernels."""


def quant_rules(
    rounding: str,
    weights: str = "per-channel",
    roundings: Mapping[str, Rounding] = ROUNDINGS,
    requantizing: str = "double_rounding",
    activations: str = "i8",
    lstm: str = "",
) -> QuantRules:
    """The rules; `rounding` and `requantizing`: how the family's QUANTIZE rounds floats and integers; `roundings`: how
    its other ops do; `lstm`: "steps", or one op, where activations have 8 bits."""
    weight = WEIGHT if weights == "per-channel" else PER_TENSOR
    layer, transposed = layer_rule(weight), layer_rule(replace(weight, axis=None if weight.axis is None else 1))
    own = {
        **{"nn.conv": layer, "nn.linear": layer, "nn.conv_transpose": transposed},
        **{op: OpRule(rounding=word) for op, word in roundings.items()},
        **({"nn.sequence_lstm": LSTM} if lstm != "steps" and activations == "i8" else {}),
    }
    return QuantRules(
        ACTIVATION, {**RESULTS, **own}, rounding, requantizing, WIDE, activations == "i16", "double_rounding"
    )
