"""Fake-quantization, and the layers with a live batch normalization."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qgraph.calibration.bounds import bounded_by
from qgraph.errors import UnsupportedOp
from qgraph.ir import Node
from qgraph.ops.quant import maker_of
from qgraph.quantizers.rounding import get_rounding
from qgraph.training.emission.elementwise import POLES
from qgraph.training.emission.emitter import Emitter, is_weight
from qgraph.training.emission.layers import WINDOW
from qgraph.training.emission.rows import emits, floats
from qgraph.training.layers import ConvBatchNorm, LinearBatchNorm
from qgraph.training.observers import ActivationQuantizer, BiasQuantizer, WeightQuantizer


@emits("quant.conv_batch_norm")
def _conv_batch_norm(at: Emitter, node: Node) -> fx.Node:
    window = tuple(node.attrs[name] for name in WINDOW)
    make = lambda: ConvBatchNorm(*_layer_settings(node), window)  # noqa: E731
    return at.activated(node, at.call_module(node, make, at.live_operands(node), words=at.words(node)))


@emits("quant.linear_batch_norm")
def _linear_batch_norm(at: Emitter, node: Node) -> fx.Node:
    make = lambda: LinearBatchNorm(*_layer_settings(node))  # noqa: E731
    return at.activated(node, at.call_module(node, make, at.live_operands(node), words=at.words(node)))


def _layer_settings(node: Node) -> tuple[WeightQuantizer, float, float]:
    """The weight's quantizer, eps, momentum."""
    per_channel = node.operand(7).data.size == node.operand(1).data.shape[0]
    quantizer = WeightQuantizer(_range(node), 0 if per_channel else None, str(node.attrs["observer"]))
    return (quantizer, *floats(node, "eps", "momentum"))  # type: ignore[return-value]  # two numbers


def _range(node: Node) -> tuple[int, int]:
    low, high = node.attrs["range"]
    return int(low), int(high)


@emits("quant.fake_quant")
def _fake_quant(at: Emitter, node: Node) -> fx.Node:
    a = node.attrs
    settings = _settings(node)
    parameters = node.operand(1)
    key = key_of_quantizer(node)
    if is_weight(node):
        if a["rounding"] != "half_even":
            raise UnsupportedOp(f"a weight with rounding {a['rounding']} cannot be trained", where=node.where)
        constants = [*at.operands(node, 3), *at.biases_beside(node)]
        return at.call_module(node, lambda: WeightQuantizer(*settings), constants, key)
    get_rounding(str(a["rounding"]))  # before torch.compile comes to it
    first = key not in at.observed
    at.observed.add(key)
    x, _, _, source = at.operands(node, 4)
    args: list[Any] = [x, at.raw(parameters), at.raw(node.operand(2)), source, a["rounding"], first]
    return at.call_module(node, lambda: activation_quantizer(node), args, key, at.words(node) | _bound(at, node))


def _bound(at: Emitter, node: Node) -> dict[str, Any]:
    """The word for what bounds the scale in training; none where nothing does."""
    found = bounded_by(node)
    return {} if found is None else {"bound": (found[0], at.raw(found[1]))}


def _settings(node: Node) -> tuple[tuple[int, int], int | None, str]:
    """Range, axis and observer of a fake-quant."""
    axis = node.attrs["axis"]
    return _range(node), None if axis is None else int(axis), str(node.attrs["observer"])


def key_of_quantizer(node: Node) -> str:
    """The key of the module that a fake-quant calls: one for all that share their parameters."""
    return f"{is_weight(node)} {node.operand(1).name} {_settings(node)}"


def activation_quantizer(node: Node) -> ActivationQuantizer:
    """The module of a fake-quantized activation, which begins with the scale of the graph."""
    parameters, zero_point = node.operand(1), node.operand(2)
    symmetric, has_pole = bool(node.attrs["symmetric"]), any(map(_has_pole, parameters.users))
    made = ActivationQuantizer(parameters.data.size, *_settings(node), symmetric, has_pole)
    if made.quantizer.own:
        made.begin(*(torch.from_numpy(value.data.copy()) for value in (parameters, zero_point)))
    return made


def _has_pole(node: Node) -> bool:
    """Whether a fake-quant, or another node with its parameters, reads what may be infinite, or is computed of such
    floats."""
    waiting, seen = [node.operand(0)], {node.operand(0)}
    for value in waiting:  # which grow
        maker = maker_of(value)
        if maker is None or maker.op == "quant.fake_quant":
            continue
        if maker.op in POLES:
            return True
        waiting += [each for each in dict.fromkeys(maker.inputs) if each not in seen]
        seen.update(maker.inputs)
    return False


@emits("quant.fake_quant_bias")
def _fake_quant_bias(at: Emitter, node: Node) -> fx.Node:
    return at.call_module(node, BiasQuantizer, at.operands(node))
