"""Layers."""

from __future__ import annotations

from torch import fx
from torch.nn import functional as F

from qgraph.ir import Node
from qgraph.training import windows
from qgraph.training.emission.emitter import Emitter
from qgraph.training.emission.rows import calls, emits, floats
from qgraph.training.layers import BatchNorm

WINDOW = ("stride", "pads", "dilation", "groups")

calls("nn.linear", F.linear)
calls("nn.conv", windows.convolve, *WINDOW)
calls("nn.conv_transpose", windows.convolve_transposed, *WINDOW, "output_padding")


@emits("nn.batch_norm")
def _batch_norm(at: Emitter, node: Node) -> fx.Node:
    eps, momentum = floats(node, "eps", "momentum")
    return at.activated(
        node, at.call_module(node, lambda: BatchNorm(eps, momentum), [*at.operands(node), at.counter(node)])
    )
