"""Recurrent layers of one direction, [N, T, I], as ONNX has them: [T, N, I], with a dimension for the directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters.onnx_rows.functions import chain
from qgraph.exporters.onnx_rows.rows import OnnxNodes, writes
from qgraph.ir import Array, Node, Value

GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where ONNX's gates are among torch's: i, o, f, c of i, f, g, o; z, r, h of r, z, n."""


@writes("nn.lstm", "nn.gru", "nn.rnn")
def _recurrent(writer: OnnxNodes, node: Node, result: str) -> None:
    op = node.op.removeprefix("nn.").upper()
    given: list[Value | None] = [*node.operands]
    given += [None] * (8 - len(given))
    (x, w, r, bias, more), states = given[:5], given[5:]
    if op == "LSTM" and states[2] is not None:
        raise ExportError(
            "ONNX's LSTM has no projection", where=node.where, help="write it by others: the pass decompose"
        )
    assert x is not None
    forms: dict[str, object] = {"hidden_size": node.results[1].type.shape[1]}
    if node.attrs["reverse"]:
        forms["direction"] = "reverse"
    if op == "GRU":
        forms["linear_before_reset"] = 1
    if op == "RNN":
        forms["activations"] = [node.attrs["nonlinearity"].capitalize()]
    turned = chain(writer, "Transpose", [writer.name(x)], result, perm=[1, 0, 2])
    weights = [writer.constant(_gates(node, each, op)[None], f"{result}.{part}") for each, part in ((w, "W"), (r, "R"))]
    inputs = [turned, *weights, _biases(writer, node, (bias, more), op, result), ""]  # every sequence has all steps
    first = writer.constant(np.array([0], np.int64), f"{result}.direction")
    inputs += [
        "" if state is None else chain(writer, "Unsqueeze", [writer.name(state), first], result)
        for state in states[: len(node.results) - 1]
    ]
    while not inputs[-1]:
        inputs.pop()
    made = [writer.unique(f"{result}.{part}") for part in ("Y", "Y_h", "Y_c")[: len(node.results)]]
    writer.op(op, inputs, made, **forms)
    second = writer.constant(np.array([1], np.int64), f"{result}.directions")
    steps = chain(writer, "Squeeze", [made[0], second], result)
    for last, value in zip(made[1:], node.results[1:], strict=True):
        writer.op("Squeeze", [last, first], writer.name(value))
    writer.op("Transpose", [steps], result, perm=[1, 0, 2])


def _gates(node: Node, value: Value | None, op: str) -> Array:
    """Weights or biases [G * H, ...] with the gates in ONNX's order."""
    if value is None or not value.is_constant:
        raise ExportError(f"ONNX's {op} takes constant weights here", where=node.where)
    gates = np.split(value.data, len(GATES[op]))
    return np.concatenate([gates[i] for i in GATES[op]])


def _biases(writer: OnnxNodes, node: Node, biases: tuple[Value | None, Value | None], op: str, result: str) -> str:
    """Both biases, one behind the other; "" where there is none."""
    known = [_gates(node, bias, op) for bias in biases if bias is not None]
    if not known:
        return ""
    parts = [np.zeros_like(known[0]) if bias is None else _gates(node, bias, op) for bias in biases]
    return writer.constant(np.concatenate(parts)[None], f"{result}.B")


@writes("nn.sequence_lstm")
def _sequence_lstm(writer: OnnxNodes, node: Node, result: str) -> None:
    """As ONNX's LSTM, which gives c of the last step alone."""
    if node.results[1].users or node.results[1].is_output:
        raise ExportError("ONNX's LSTM gives no c of every step", where=node.where)
    if node.attrs["cell_clip"]:
        raise ExportError("ONNX's LSTM clips no c", where=node.where)
    x, *parts = [*node.operands, *[None] * 4][:13]
    assert x is not None
    w, r, bias = (_stacked(node, parts[at : at + 4]) for at in (0, 4, 8))
    assert w is not None
    assert r is not None
    turned = chain(writer, "Transpose", [writer.name(x)], result, perm=[1, 0, 2])
    inputs = [turned, writer.constant(w[None], f"{result}.W"), writer.constant(r[None], f"{result}.R")]
    if bias is not None:
        inputs.append(writer.constant(np.concatenate([bias, np.zeros_like(bias)])[None], f"{result}.B"))
    made = writer.unique(f"{result}.Y")
    writer.op("LSTM", inputs, [made], hidden_size=node.results[0].type.shape[2])
    second = writer.constant(np.array([1], np.int64), f"{result}.directions")
    writer.op("Transpose", [chain(writer, "Squeeze", [made, second], result)], result, perm=[1, 0, 2])


def _stacked(node: Node, gates: Sequence[Value | None]) -> Array | None:
    """What the gates have, one after the other in ONNX's order; None where they have none."""
    known = [gates[i] for i in GATES["LSTM"]]
    if any(value is not None and not value.is_constant for value in known):
        raise ExportError("ONNX's LSTM takes constant weights here", where=node.where)
    return np.concatenate([value.data for value in known if value is not None]) if known[0] is not None else None
