"""Functions of one element, or of two, and dropout."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn
from torch.nn import functional as F

from qgraph.ir import Node
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


@emits("nn.dropout")
def _dropout(at: Emitter, node: Node) -> fx.Node:
    return at.call_module(node, lambda: nn.Dropout(float(node.attrs["p"])), at.operands(node))
