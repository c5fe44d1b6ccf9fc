"""What ONNX Runtime's CPU kernels quantize: activations and weights of 8 bits, these per output channel; int32 bias."""

from __future__ import annotations

from dataclasses import replace

from qgraph.errors import InputError
from qgraph.targets.rules import OpRule, QuantRules, QuantSpec, layer_rule

ACTIVATIONS = {"u8": QuantSpec("u8", 0, 255), "i8": QuantSpec("i8", -128, 127)}
"""Option `activations`. u8 is the default: with it x86 runs its fast kernels."""

WEIGHTS = {
    "pair-safe": QuantSpec("i8", -127, 127, symmetric=True, axis=0, observer="pair_safe"),
    "u8": QuantSpec("u8", 1, 255, symmetric=True, zero_point=128, axis=0, observer="min_max"),
    "full-range": QuantSpec("i8", -127, 127, symmetric=True, axis=0, observer="min_max"),
}
"""Option `weights`. Under u8 activations full-range s8 may saturate on x86 without VNNI; the others do not."""

RESULTS = {
    **dict.fromkeys(("nn.add", "nn.mul", "nn.matmul", "nn.where", "nn.concat"), OpRule()),
    "nn.relu": OpRule(),
    "nn.relu6": OpRule(),
    "nn.clamp": OpRule(),
    **dict.fromkeys(("nn.max_pool", "nn.reshape", "nn.transpose", "nn.slice", "nn.expand"), OpRule("same")),
    **dict.fromkeys(("nn.gather", "nn.gather_elements", "nn.index", "nn.max", "nn.min"), OpRule("same")),
    "nn.pad": OpRule("join"),
    "nn.resize": OpRule("shared"),  # what lies between two codes is rounded to one
    # QLinearConcat and QLinearWhere requantize each operand from a scale of its own
    "nn.avg_pool": OpRule(),  # both mean kernels requantize
    "nn.mean": OpRule(),
}


def quant_rules(activations: str = "u8", weights: str = "pair-safe") -> QuantRules:
    """The rules; QuantizeLinear rounds half to even. Raises InputError for a pair of types that has no kernel."""
    if (activations, weights) == ("i8", "u8"):
        raise InputError(
            "ONNX Runtime has no kernel for i8 activations with u8 weights",
            help='use activations="u8", or weights of i8',
        )
    layer = layer_rule(WEIGHTS[weights])
    transposed = layer_rule(replace(WEIGHTS[weights], axis=1))
    layers = {"nn.conv": layer, "nn.linear": layer, "nn.conv_transpose": transposed}
    return QuantRules(ACTIVATIONS[activations], {**layers, **RESULTS}, "half_even")
