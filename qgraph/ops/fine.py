"""What of a graph needs finer grids than those of 8 bits, whatever the target is."""

from __future__ import annotations

from qgraph.ir import Node, Value, op_def
from qgraph.ops.quant import is_known


def is_soft_cap(node: Node) -> bool:
    """Whether a node is the tanh of `cap * tanh(x / cap)`: products with numbers are all that read it."""
    users = node.results[0].users if node.op == "nn.tanh" else []
    return bool(users) and all(user.op == "nn.mul" and any(map(is_known, user.inputs)) for user in users)


def gives_places(value: Value) -> bool:
    """Whether a value, maybe behind ops that move its elements, is where a `nn.grid_sample` samples."""
    return any(
        (user.op == "nn.grid_sample" and user.operand(1) is value)
        or (op_def(user.op).traits.moves_data and gives_places(user.result))
        for user in value.users
    )
