"""What is quantized for TOSA: activations of int8 (asymmetric), int8 weights per output channel (symmetric), biases of
int32."""

from __future__ import annotations

from dataclasses import replace

from qgraph.targets.rules import OpRule, QuantRules, QuantSpec, layer_rule
from qgraph.targets.tosa.value_rows import LOOKED_UP

ACTIVATION = QuantSpec("i8", -128, 127)
WEIGHT = QuantSpec("i8", -127, 127, symmetric=True, axis=0, observer="min_max")
PER_TENSOR = replace(WEIGHT, axis=None)

OWN = (*("add", "sub", "mul", "relu", "relu6", "clamp", "matmul", "mean", "sum", "embedding"),)
MOVED = ("max", "min", "expand", "slice", "max_pool", "reshape", "transpose")
RESULTS = {
    **dict.fromkeys(LOOKED_UP, OpRule(narrow=True, constants=False)),
    **{f"nn.{op}": OpRule() for op in OWN},
    **{f"nn.{op}": OpRule("same") for op in MOVED},
    **dict.fromkeys(("nn.maximum", "nn.minimum", "nn.pad", "nn.concat", "nn.where"), OpRule("join")),  # on one grid
    **dict.fromkeys(("nn.resize", "nn.avg_pool"), OpRule("shared")),
    "nn.softmax": OpRule("fixed", scale=1 / 256, zero_point=-128, narrow=True),
}


def quant_rules(weights: str = "per-channel") -> QuantRules:
    """The rules; floats are rounded half to even, as TOSA's CAST does."""
    weight = WEIGHT if weights == "per-channel" else PER_TENSOR
    layer, transposed = layer_rule(weight), layer_rule(replace(weight, axis=None if weight.axis is None else 1))
    own = {"nn.conv": layer, "nn.linear": layer, "nn.conv_transpose": transposed}
    return QuantRules(ACTIVATION, {**RESULTS, **own}, "half_even")
