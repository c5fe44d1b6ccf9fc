"""What is quantized for a described chip, and how."""

from __future__ import annotations

from qgraph.arith.stages_widths import Width
from qgraph.description.description import Description, Settings
from qgraph.ops.npu.storage import storage_of
from qgraph.targets.lookups import functions
from qgraph.targets.rules import OpRule, QuantRules, QuantSpec, layer_rule

OTHERWISE = (
    *("nn.add", "nn.sub", "nn.mul", "nn.maximum", "nn.minimum", "nn.where", "nn.cast", "nn.dropout", "nn.detach"),
    *("nn.relu", "nn.relu6", "nn.clamp"),
)
"""Functions that are not looked up."""


def width_of(description: Description, key: str) -> Width:
    """The width that a key says."""
    found = Width.parse(description.get(key))
    assert found is not None
    return found


def quantizer(name: str, scale: str) -> str:
    """The quantizer of that name for scales of a kind."""
    return f"{name}:power_of_two" if scale == "power_of_two" else name


def activation_spec(description: Description) -> QuantSpec:
    """How activations are quantized."""
    width = width_of(description, "activation.storage")
    dtype = storage_of(width.low, width.high)
    assert dtype is not None
    low = width.low + (width.signed and description.get("activation.narrow"))
    observer = quantizer("moving_average", description.get("activation.scale"))
    if description.get("activation.zero_point"):
        return QuantSpec(dtype, low, width.high, observer=observer)
    return QuantSpec(dtype, low, width.high, symmetric=True, observer=observer)


def weight_spec(description: Description) -> QuantSpec:
    """How weights are quantized."""
    width, codes = width_of(description, "weight.storage"), sorted({*description.get("weight.codes")})
    low, high = width.low + (width.signed and description.get("weight.narrow")), width.high
    if codes:
        low, high = codes[0], codes[-1]
    axis = 0 if description.get("weight.per_channel") else None
    dtype = storage_of(low, high, ("i8", "i16"))
    assert dtype is not None
    observer = quantizer("min_max", description.get("weight.scale"))
    return QuantSpec(dtype, low, high, symmetric=True, axis=axis, observer=observer)


def quant_rules(description: Description) -> QuantRules:
    """The rules of a described chip; raises Unsaid where its sources do not say how it quantizes."""
    layer = layer_rule(weight_spec(description))
    ops = {f"nn.{name}": layer for name in ("conv", "linear")}
    for settings in description.ops():
        if settings.supported:
            ops.update(
                dict.fromkeys(
                    (f"nn.{name}" for name in settings.kind.sources if f"nn.{name}" not in ops), rule_of(settings)
                )
            )
    if description.op("table").supported:
        ops.update(dict.fromkeys(functions(OTHERWISE), OpRule(narrow=True, constants=False)))
    return QuantRules(activation_spec(description), ops, description.get("activation.input_rounding"))


def rule_of(settings: Settings) -> OpRule:
    """How the result of an op gets its parameters."""
    name = settings.kind.name
    if name in ("reshape", "transpose", "slice", "expand", "max_pool"):
        return OpRule("same")
    if name in ("concat", "pad") or (settings.kind.key("equal_scales") and settings.get("equal_scales")):
        return OpRule("join")
    if settings.kind.key("grid") and settings.get("grid") == "input":
        return OpRule("shared")
    return OpRule()
