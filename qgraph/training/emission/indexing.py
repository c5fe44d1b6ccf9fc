"""Elements by their indices."""

from __future__ import annotations

from torch import fx
from torch.nn import functional as F

from qgraph.ir import Node
from qgraph.training import functions
from qgraph.training.emission.emitter import Emitter
from qgraph.training.emission.rows import calls, emits

calls("nn.embedding", F.embedding)
calls("nn.embedding_bag", functions.embedding_bag, "mode", "padding")
calls("nn.gather", functions.gather, "axis")
calls("nn.gather_elements", functions.gather_elements, "axis")
calls("nn.scatter_elements", functions.scatter_elements, "axis", "reduce")
calls("nn.arange", functions.arange, "axis", "start", "step")


@emits("nn.index")
def _index(at: Emitter, node: Node) -> fx.Node:
    x, *indices = at.operands(node)
    return at.call(functions.index, [x, node.attrs["axes"], *indices])
