"""What the kernels of TFLite Micro lack beside those of LiteRT, judged by its interpreter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.ir import Array, Graph

F = torch.nn.functional
X = np.random.default_rng(0).normal(size=(8, 4, 6)).astype(np.float32)


class Head(nn.Module):
    """What a function makes of values behind a layer."""

    def __init__(self, layer: nn.Module, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.head = layer, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x))


def proven(model: nn.Module, x: Array, **options: str) -> Graph:
    """The model lowered, after the runtime gave the same bits, which are near to the floats."""
    made = qgraph.quantize(qgraph.trace(model.eval(), torch.from_numpy(x)), "tflm", calibration=[x], **options)
    assert qgraph.verify(made, inputs=x, layout="NCHW").bit_exact
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy()
    given = np.asarray(qgraph.run(made, x, dequantize=True, layout="NCHW")).reshape(wanted.shape)
    assert 10 * np.log10((wanted**2).sum() / ((wanted - given) ** 2).sum()) > 30
    return made


OF_8_BITS: dict[str, Callable[[Tensor], Tensor]] = {
    "flip": lambda x: x.flip(1),
    "index": lambda x: x[:, [2, 0, 1]],
    "reflect": lambda x: F.pad(x, (1, 1), mode="reflect"),
    "circular": lambda x: F.pad(x, (1, 1), mode="circular"),
    "unfold": lambda x: x.unfold(2, 3, 1),
    "amax": lambda x: x.amax(1),
    "amin": lambda x: x.amin(2),
    "beside what has 16 bits": lambda x: x.amax(1, keepdim=True) - x + x.flip(1),
}


@pytest.mark.parametrize("activations", ["i8", "i16"])
@pytest.mark.parametrize("name", OF_8_BITS)
def test_values_of_16_bits_have_8_where_an_op_knows_no_others(name: str, activations: str) -> None:
    proven(Head(nn.LayerNorm(6), OF_8_BITS[name]), X, activations=activations)
