"""What a user excludes stays in float as the one op that it was, with all its operands, where the runtime has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.verification import verify

KEPT = {
    "nn.lstm": nn.LSTM(6, 5, batch_first=True),
    "nn.gru": nn.GRU(6, 5, batch_first=True),
    "nn.rnn": nn.RNN(6, 5, batch_first=True),
    "nn.layer_norm": nn.LayerNorm(6),
    "nn.gelu": nn.GELU(),
    "nn.softmax": nn.Softmax(-1),
}


class Between(nn.Module):
    """A layer between two linear ones, of which the first result counts."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.kept = nn.Linear(6, 6), layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.kept(self.first(x))
        return made[0] if isinstance(made, tuple) else made


@pytest.mark.parametrize("op", KEPT)
def test_what_is_excluded_stays_whole_with_all_its_operands(op: str) -> None:
    torch.manual_seed(0)
    model = Between(KEPT[op]).eval()
    x = np.random.default_rng(0).normal(size=(40, 4, 6)).astype(np.float32)
    graph = qgraph.trace(model, torch.from_numpy(x[:2]))
    (before,) = graph.find(op)
    prepared = qgraph.prepare(graph, "onnxruntime", overrides={"kept*": {"bits": 32}}, fallback="float")
    calibrated = qgraph.calibrate(prepared, [x])
    lowered = qgraph.lower(calibrated, "onnxruntime")
    (kept,) = lowered.find(op)
    assert len(kept.operands) == len(before.operands)
    verify(lowered, inputs=x)  # it runs
    steps = [float(node.operand(1).data.max()) for node in calibrated.find("quant.fake_quant")]
    wanted, found = qgraph.run(calibrated, x), qgraph.run(lowered, x, dequantize=True)
    assert np.abs(found - wanted).max() <= 1.001 * max(steps)
    assert (np.abs(found - wanted) < 1e-5).mean() > 0.9  # what lies next to a border may take the other code


def test_without_a_word_an_lstm_becomes_integers() -> None:
    x = np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32)
    graph = qgraph.trace(Between(KEPT["nn.lstm"]).eval(), torch.from_numpy(x[:2]))
    lowered = qgraph.quantize(graph, "onnxruntime", calibration=[x], fallback="float")
    assert not lowered.find("nn.lstm")
    assert verify(lowered, inputs=x).bit_exact
