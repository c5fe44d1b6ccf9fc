"""Logarithms of probabilities keep what 1/256 of a softmax would lose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.errors import InputError


class Head(nn.Module):
    """A confident classifier's last layers."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.function, self.layer = function, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x) * 20
        return F.log_softmax(y, -1) if self.function == "log_softmax" else F.logsigmoid(y)


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "onnxruntime"])
@pytest.mark.parametrize("function", ["log_softmax", "log_sigmoid"])
def test_small_probabilities_keep_their_logarithms(function: str, target: str) -> None:
    torch.manual_seed(0)
    model, x = Head(function).eval(), torch.randn(64, 8)
    low = qgraph.quantize(qgraph.trace(model, x), target, calibration=[x.numpy()])
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact
    wanted, got = model(x).detach().numpy(), qgraph.run(low, x.numpy(), dequantize=True)
    assert 10 * np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum()) > 30


def test_a_value_that_becomes_infinite_has_no_scale_and_is_named() -> None:
    class Logarithm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.log(torch.relu(x))

    x = torch.randn(8, 4)
    prepared = qgraph.prepare(qgraph.trace(Logarithm(), x.abs() + 1), "onnxruntime")
    with pytest.raises(InputError, match="1 value of the model became infinite in calibration") as caught:
        qgraph.calibrate(prepared, [x.numpy()])
    assert any("test_logarithms.py" in line for line in caught.value.where)
