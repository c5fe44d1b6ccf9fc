"""Functions of one element, or of two, and dropout."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from qgraph.ir import Node
from qgraph.training import functions
from qgraph.training.emission.emitter import Emitter
from qgraph.training.emission.rows import calls, emits

calls("nn.add", operator.add)
calls("nn.sub", operator.sub)
calls("nn.mul", operator.mul)
calls("nn.relu", F.relu)
calls("nn.relu6", F.relu6)
calls("nn.clamp", torch.clamp, "min", "max")
calls("nn.leaky_relu", F.leaky_relu, "negative_slope")
calls("nn.hard_swish", F.hardswish)
calls("nn.hard_sigmoid", F.hardsigmoid)
calls("nn.sigmoid", torch.sigmoid)
calls("nn.tanh", torch.tanh)
calls("nn.softmax", torch.softmax, "axis")
calls("nn.log_softmax", torch.log_softmax, "axis")
calls("nn.prelu", F.prelu)
calls("nn.elu", functions.elu, "alpha", "scale", "input_scale")
calls("nn.softplus", F.softplus, "beta", "threshold")
calls("nn.mish", F.mish)
calls("nn.softsign", F.softsign)
calls("nn.hard_shrink", F.hardshrink, "bound")
calls("nn.soft_shrink", F.softshrink, "bound")
calls("nn.log_sigmoid", F.logsigmoid)
calls("nn.exp", torch.exp)
calls("nn.abs", torch.abs)
calls("nn.sign", torch.sign)
calls("nn.sin", torch.sin)
calls("nn.cos", torch.cos)
calls("nn.atan", torch.atan)
calls("nn.erf", torch.erf)
calls("nn.floor", torch.floor)
calls("nn.ceil", torch.ceil)
calls("nn.round", torch.round)
calls("nn.floor_div", functions.floor_div)
calls("nn.remainder", torch.remainder)
calls("nn.maximum", torch.maximum)
calls("nn.minimum", torch.minimum)
calls("nn.equal", torch.eq)
calls("nn.not_equal", torch.ne)
calls("nn.less", torch.lt)
calls("nn.less_equal", torch.le)
calls("nn.logical_and", torch.logical_and)
calls("nn.logical_or", torch.logical_or)
calls("nn.logical_xor", torch.logical_xor)
calls("nn.logical_not", torch.logical_not)
calls("nn.where", torch.where)


POLES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "nn.log": (torch.log, functions.log),
    "nn.sqrt": (torch.sqrt, functions.sqrt),
    "nn.rsqrt": (torch.rsqrt, functions.rsqrt),
    "nn.div": (torch.div, functions.div),
    "nn.pow": (torch.pow, functions.power),
}
"""Ops whose slope has a pole at 0: in float, and with the 0 that fake-quantized values meet."""


@emits(*POLES)
def _with_pole(at: Emitter, node: Node) -> fx.Node:
    return at.activated(node, at.call(POLES[node.op][at.graph.level == "fake_quant"], at.operands(node)))


@emits("nn.gelu")
def _gelu(at: Emitter, node: Node) -> fx.Node:
    return at.call(F.gelu, at.operands(node), {"approximate": node.attrs["approximate"]})


@emits("nn.cast")
def _cast(at: Emitter, node: Node) -> fx.Node:
    name = "bool" if node.attrs["dtype"] == "bool" else str(node.result.type.numpy)
    return at.call(torch.Tensor.to, [*at.operands(node), getattr(torch, name)])


calls("nn.detach", torch.Tensor.detach)


@emits("nn.dropout")
def _dropout(at: Emitter, node: Node) -> fx.Node:
    return at.call_module(node, lambda: nn.Dropout(float(node.attrs["p"])), at.operands(node))
