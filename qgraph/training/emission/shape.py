"""Pooling, means, and what moves elements."""

from __future__ import annotations

import operator

import torch
from torch import fx

from qgraph.ir import Node
from qgraph.training import shapes, windows
from qgraph.training.emission.emitter import Emitter
from qgraph.training.emission.rows import calls, emits

calls("nn.max_pool", windows.max_pool, "kernel", "stride", "pads", "dilation", "ceil_mode")
calls("nn.avg_pool", windows.avg_pool, "kernel", "stride", "pads", "ceil_mode", "count_include_pad")
calls("nn.mean", torch.mean, "axes", "keepdims")
calls("nn.reshape", shapes.reshape, "shape")
calls("nn.expand", shapes.expand, "shape")
calls("nn.transpose", torch.permute, "perm")
calls("nn.pad", windows.pad, "pads", "value")


@emits("nn.concat")
def _concat(at: Emitter, node: Node) -> fx.Node:
    return at.call(torch.cat, [list(at.operands(node)), node.attrs["axis"]])


@emits("nn.slice")
def _slice(at: Emitter, node: Node) -> fx.Node:
    a = node.attrs
    index = (*(slice(None),) * a["axis"], slice(a["start"], a["end"], a["step"]))
    return at.call(operator.getitem, [*at.operands(node), index])
