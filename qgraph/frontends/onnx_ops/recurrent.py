"""Recurrent layers: each direction is a node of its own; time comes second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgraph.exporters.onnx_rows.recurrent import GATES
from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops.rows import reads
from qgraph.frontends.target_shapes import reshaped
from qgraph.ir import Array, Attr, Builder, Value

ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@reads(*GATES)
def _recurrent(node: OnnxNode, build: Builder) -> list[Value]:
    """All steps [T, D, N, H], and the last states [D, N, H] of the D directions; `layout` 1 has N first."""
    directions = DIRECTIONS[node.attr("direction", "forward")]
    attrs = _forms(node, len(directions))
    reset_first = node.op == "GRU" and not node.attr("linear_before_reset", 0)
    batch_first = node.attr("layout", 0)
    weights, recurrent = _of_directions(node, 1, "W"), _of_directions(node, 2, "R")
    biases = _of_directions(node, 3, "B") if node.has(3) else None
    x = node.operand(0) if batch_first else build.nn.transpose(node.operand(0), perm=(1, 0, 2))
    states = [index for index in (5, 6) if node.has(index)]
    hidden = recurrent.shape[2]
    steps, lasts = [], []
    for i, reverse in enumerate(directions):
        given = [_state(node, build, index, i, hidden, batch_first) for index in states]
        bias = (None, None) if biases is None else np.split(biases[i], 2)
        arrays = [weights[i], recurrent[i], *bias]
        operands = [
            None if each is None else _gates(node, build, each, part) for part, each in zip("WRbr", arrays, strict=True)
        ]
        if reset_first:
            made: Sequence[Value] = _reset_first(node, build, x, operands, given[0] if given else None, reverse)
        else:
            made = build.node(f"nn.{node.op.lower()}", [x, *operands, *given], {"reverse": reverse, **attrs}).results
        steps.append(made[0])
        lasts.append(made[1:])
    axis = 2 if batch_first else 1
    rows = [build.nn.transpose(step, perm=(0, 1, 2) if batch_first else (1, 0, 2)) for step in steps]
    return [
        _together(build, rows, axis),
        *(_together(build, last, 1 if batch_first else 0) for last in zip(*lasts, strict=True)),
    ]


def _forms(node: OnnxNode, directions: int) -> dict[str, Attr]:
    """Refuse what torch's layers do not compute; the attributes of the node that is built."""
    op = node.op
    node.attr("hidden_size", 0)
    if "clip" in node.attrs:
        raise node.unsupported("clip is not supported")
    if op == "LSTM":
        node.expect("input_forget", 0)
    if node.has(4) or node.has(7):
        raise node.unsupported("lengths of sequences and peepholes are not supported")
    words = [each.decode() if isinstance(each, bytes) else each for each in node.attr("activations", ())]
    if op == "RNN" and words == ["Relu"] * directions:
        return {"nonlinearity": "relu"}
    if words not in ([], [*ACTIVATIONS[op]] * directions):
        raise node.unsupported(f"the activations {', '.join(words)} are not supported")
    return {}


def _of_directions(node: OnnxNode, index: int, name: str) -> Array:
    data = node.known(index)
    if data is None:
        raise node.unsupported(f"its input {name} is computed while the model runs")
    return data


def _gates(node: OnnxNode, build: Builder, data: Array, part: str) -> Value:
    """Weights or biases [G * H, ...] with the gates in torch's order."""
    order = np.argsort(GATES[node.op])
    gates = np.split(data, len(order))
    return build.constant(np.concatenate([gates[i] for i in order]), f"{node.outputs[0] or node.name}.{part}")


def _state(node: OnnxNode, build: Builder, index: int, direction: int, hidden: int, batch_first: bool) -> Value | None:
    """The state of one direction [N, H]; None for zeros, which all start from."""
    data = node.known(index)
    if data is not None and not data.any():
        return None
    axis = 1 if batch_first else 0
    part = build.nn.slice(node.operand(index), axis=axis, start=direction, end=direction + 1)
    return build.nn.reshape(part, shape=(-1, hidden))


def _reset_first(
    node: OnnxNode, build: Builder, x: Value, operands: Sequence[Value | None], h: Value | None, reverse: bool
) -> list[Value]:
    """All steps and the last state of a GRU whose reset gate is before the product, which torch's is not: step by step.

    n = tanh(W_n x + b_n + R_n (r h)); h' = n + z (h - n)
    """
    w, recurrent, *biases = operands
    assert w is not None and recurrent is not None  # noqa: PT018  both are read before
    length, size = x.type.shape[1], recurrent.data.shape[1]
    if not isinstance(length, int):
        raise node.unsupported(f"linear_before_reset=0 over {length} steps, which are not known")
    bias = sum(each.data for each in biases if each is not None)
    added = build.constant(bias, f"{w.name}.bias") if isinstance(bias, np.ndarray) else None
    gates, new = (build.constant(part, recurrent.name) for part in np.split(recurrent.data, [2 * size]))
    inputs = build.nn.linear(x, w, added)
    steps: list[Value] = []
    for t in reversed(range(length)) if reverse else range(length):
        at = build.nn.reshape(build.nn.slice(inputs, axis=1, start=t, end=t + 1), shape=(-1, 3 * size))
        both, n = (build.nn.slice(at, axis=1, start=i * size, end=end * size) for i, end in ((0, 2), (2, 3)))
        both = build.nn.sigmoid(both if h is None else build.nn.add(both, build.nn.linear(h, gates)))
        r, z = (build.nn.slice(both, axis=1, start=i * size, end=(i + 1) * size) for i in range(2))
        n = build.nn.tanh(n if h is None else build.nn.add(n, build.nn.linear(build.nn.mul(r, h), new)))
        h = build.nn.sub(n, build.nn.mul(z, n)) if h is None else build.nn.add(n, build.nn.mul(z, build.nn.sub(h, n)))
        steps.append(build.nn.reshape(h, shape=(-1, 1, size)))
    assert h is not None  # there is a step
    return [build.nn.concat(*(steps[::-1] if reverse else steps), axis=1), h]


def _together(build: Builder, parts: Sequence[Value], axis: int) -> Value:
    """Values one beside the other along a new axis."""
    shapes = [part.type.shape for part in parts]
    apart = [
        reshaped(build, part, (*shape[:axis], 1, *shape[axis:])) for part, shape in zip(parts, shapes, strict=True)
    ]
    return apart[0] if len(apart) == 1 else build.nn.concat(*apart, axis=axis)
