"""Recurrent layers."""

from __future__ import annotations

from torch import fx

from qgraph.ir import Node, op_def
from qgraph.training import recurrent
from qgraph.training.emission.emitter import Emitter
from qgraph.training.emission.rows import calls, emits
from qgraph.training.sequence_lstm import RoundingLstm, sequence_lstm

calls("nn.lstm", recurrent.lstm, "reverse")
calls("nn.gru", recurrent.gru, "reverse")
calls("nn.rnn", recurrent.rnn, "nonlinearity", "reverse")
calls("nn.sequence_lstm", sequence_lstm, "cell_clip")


@emits("quant.sequence_lstm")
def _rounding_lstm(at: Emitter, node: Node) -> fx.Node:
    settings = str(node.attrs["type"]), float(node.attrs["cell_clip"])
    return at.call_module(node, lambda: RoundingLstm(*settings), at.operands(node, len(op_def(node.op).operands)))
