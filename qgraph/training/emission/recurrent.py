"""Recurrent layers."""

from __future__ import annotations

from qgraph.training import recurrent
from qgraph.training.emission.rows import calls

calls("nn.lstm", recurrent.lstm, "reverse")
calls("nn.gru", recurrent.gru, "reverse")
calls("nn.rnn", recurrent.rnn, "nonlinearity", "reverse")
