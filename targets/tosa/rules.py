"""What is quantized for TOSA: activations of int8 (asymmetric) or int16 (symmetric), int8 weights per output channel
(symmetric), biases of int32."""

from __future__ import annotations

from dataclasses import replace

from qgraph.targets.rules import OpRule, QuantRules, QuantSpec, layer_rule

ACTIVATION = QuantSpec("i8", -128, 127)
WEIGHT = QuantSpec("i8", -127, 127, symmetric=True, axis=0, observer="min_max")
PER_TENSOR = replace(WEIGHT, axis=None)


def quant_rules(weights: str = "per-channel") -> QuantRules:
    """The rules; all results are rounded half up, as RESCALE with SINGLE_ROUND does."""
    weight = WEIGHT if weights == "per-channel" else PER_TENSOR
    return QuantRules(ACTIVATION, {"nn.conv": layer_rule(weight), "nn.linear": layer_rule(weight)}, "half_even")
