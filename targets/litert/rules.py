"""What LiteRT quantizes: int8 activations (asymmetric), int8 weights per output channel (symmetric), int32 bias."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from qgraph.ir import Node
from qgraph.targets.rules import OpRule, QuantRules, QuantSpec, layer_rule, of_mean

ACTIVATION = QuantSpec("i8", -128, 127)
WEIGHT = QuantSpec("i8", -127, 127, symmetric=True, axis=0, observer="min_max")  # narrow: LiteRT 8-bit specification
PER_TENSOR = QuantSpec("i8", -127, 127, symmetric=True, observer="min_max")

RESULTS = {
    "nn.add": OpRule(),
    "nn.relu": OpRule(),
    "nn.relu6": OpRule(),
    **dict.fromkeys(("nn.sub", "nn.mul", "nn.clamp", "nn.leaky_relu", "nn.hard_swish"), OpRule()),
    "nn.softmax": OpRule("fixed", scale=1 / 256, zero_point=-128),  # LiteRT refuses other parameters of these
    "nn.sigmoid": OpRule("fixed", scale=1 / 256, zero_point=-128),
    "nn.tanh": OpRule("fixed", scale=1 / 128),
    "nn.slice": OpRule("same"),
    "nn.max_pool": OpRule("same"),
    "nn.reshape": OpRule("same"),
    "nn.transpose": OpRule("same"),
    "nn.pad": OpRule("join"),
    "nn.concat": OpRule("join"),  # LiteRT refuses other parameters for max-pool and (int8) concatenation
    "nn.avg_pool": OpRule("shared", rounding=of_mean("half_away_code")),
}


@functools.cache
def _mean(word: str) -> Callable[[Node], str]:
    """The rounding of `nn.mean`: AVERAGE_POOL_2D's where it is spatial, else that of the family's MEAN."""

    def rounding(node: Node) -> str:
        spatial = node.operand(0).type.rank == 4 and sorted(node.attrs["axes"]) == [2, 3]
        return of_mean("half_away_code" if spatial else word)(node)

    return rounding


def quant_rules(
    rounding: str, weights: str = "per-channel", mean: str = "half_away_twice", requantizing: str = "double_rounding"
) -> QuantRules:
    """The rules; `rounding` and `requantizing` say how the family's QUANTIZE rounds floats and integers, `mean` how its
    MEAN rounds."""
    weight = WEIGHT if weights == "per-channel" else PER_TENSOR
    layer, transposed = layer_rule(weight), layer_rule(replace(weight, axis=None if weight.axis is None else 1))
    own = {
        **{"nn.conv": layer, "nn.linear": layer, "nn.conv_transpose": transposed},
        "nn.mean": OpRule("shared", rounding=_mean(mean)),
    }
    return QuantRules(ACTIVATION, {**RESULTS, **own}, rounding, requantizing)
