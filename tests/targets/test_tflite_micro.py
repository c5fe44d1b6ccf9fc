"""What the kernels of TFLite Micro lack beside those of LiteRT, judged by its interpreter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.errors import LoweringError
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


def five(x: Tensor) -> Tensor:
    """[N, 4, 6] as values of 5 dimensions."""
    return x.reshape(x.shape[0], 4, 3, 2, 1)


OF_FIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "heads": lambda x: five(x).permute(2, 0, 3, 1, 4)[0],
    "from": lambda x: five(x)[:, 1:],
    "steps": lambda x: five(x)[:, :, ::2],
    "unbind": lambda x: five(x).unbind(3)[1],
    "six": lambda x: five(x)[:, None][:, :, 1:3],
    "of a condition": lambda x: torch.where((five(x) > 0)[:, :, 1], 1.0, -1.0) * five(x)[:, :, 0],
}


@pytest.mark.parametrize("name", OF_FIVE)
def test_slices_of_five_dimensions_are_of_three_between_reshapes(name: str) -> None:
    proven(Head(nn.Identity(), OF_FIVE[name]), X)


@pytest.mark.parametrize("layer", [nn.AdaptiveAvgPool3d((2, 3, 2)), nn.AdaptiveMaxPool3d((2, 3, 2))])
def test_pools_of_unequal_windows_over_three_dimensions_run(layer: nn.Module) -> None:
    proven(Head(layer, torch.relu), np.random.default_rng(1).normal(size=(4, 2, 5, 4, 3)).astype(np.float32))


def test_a_slice_of_five_dimensions_of_which_two_are_open_is_refused_before_training() -> None:
    graph = qgraph.parse("""graph @g level=float (%x: f32[N,T,3,2,2]) {
      %1: f32[N,T,3,1,2] = nn.slice(%x) {axis=3, start=0, end=1, step=1}
      return %1
    }""")
    with pytest.raises(LoweringError, match="RESHAPE leaves one size open"):
        qgraph.prepare(graph, "tflm")


def test_a_table_of_words_has_8_bits_among_16() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4))
    made = proven(model, np.random.default_rng(0).integers(0, 9, (8, 5)), activations="i16")
    (table,) = made.find("litert.gather")
    assert table.result.type.dtype == "i8"


@pytest.mark.parametrize("dtype", ["f32", "i32"])
def test_bytes_that_become_numbers_are_refused_at_prepare(dtype: str) -> None:
    """CAST reads no uint8."""
    heads: dict[str, Callable[[Tensor], Tensor]] = {"f32": lambda x: x.float() / 255, "i32": lambda x: x.int()}
    images = torch.randint(0, 255, (4, 3), dtype=torch.uint8)
    graph = qgraph.trace(Head(nn.Identity(), heads[dtype]), images)
    with pytest.raises(LoweringError, match="TFLite Micro has CAST for i8, i16, i32, f32, bool, not for u8"):
        qgraph.prepare(graph, target="tflm")
