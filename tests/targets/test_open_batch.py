"""What is the same for every example needs no batch of known size: class tokens, places, masks that places choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph

HERE = ["litert", "litert-xnnpack", "tflm", "onnxruntime"]


class Patches(nn.Module):
    """Patches of an image behind a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8) * 0.02)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1))


class Typed(nn.Module):
    """Words, with a type each that is 0 where none is given."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(20, 8), nn.Embedding(2, 8)
        self.register_buffer("zeros", torch.zeros(1, 6, dtype=torch.long))

    def forward(self, ids: Tensor) -> Tensor:
        return self.words(ids) + self.types(self.zeros.expand(ids.shape[0], 6))


class Masked(nn.Module):
    """Attention whose mask is chosen by places of the batch, as transformers does it."""

    def forward(self, x: Tensor) -> Tensor:
        count, length = x.shape[0], 6
        seen = torch.ones(count, length, dtype=torch.bool, device=x.device)
        batch = torch.arange(count, device=x.device)[:, None, None, None]
        rows, columns = torch.arange(length)[None, None, :, None], torch.arange(length)[None, None, None]
        mask = (columns <= rows) & seen[batch, columns]
        y = x.unflatten(-1, (2, 4)).transpose(1, 2)
        return F.scaled_dot_product_attention(y, y, y, attn_mask=mask).transpose(1, 2).flatten(2)


CASES = {
    "class token": (Patches, lambda: torch.randn(8, 3, 8, 8)),
    "types": (Typed, lambda: torch.randint(0, 20, (8, 6))),
    "mask": (Masked, lambda: torch.randn(8, 6, 8)),
}


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("name", CASES)
def test_what_is_the_same_for_every_example_is_lowered_with_an_open_batch(name: str, target: str) -> None:
    torch.manual_seed(0)
    make, draw = CASES[name]
    model, x = make().eval(), draw()
    graph = qgraph.trace(model, x)
    fallback = "float" if (name, target) == ("mask", "onnxruntime") else None
    low = qgraph.quantize(graph, target, calibration=[x.numpy()], fallback=fallback)
    assert low.outputs[0].type.shape[0] == "N"
    layout = {"layout": "NCHW"} if x.ndim == 4 else {}
    for count in (1, 5):
        feed = qgraph.quantize_inputs(low, x[:count].numpy(), **layout)
        assert qgraph.verify(low, inputs=feed).bit_exact
    with torch.no_grad():
        wanted, got = model(x).numpy(), qgraph.run(low, x.numpy(), dequantize=True, **layout)
    assert 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()) > 34


def test_a_mask_that_the_places_of_a_batch_choose_is_a_constant() -> None:
    graph = qgraph.trace(Masked(), torch.randn(2, 6, 8))
    assert not [node for node in graph.nodes if node.op in ("nn.arange", "nn.index", "nn.logical_and")]


def test_what_depends_on_two_sizes_is_not_taken_for_a_constant() -> None:
    class Diagonal(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            same = torch.arange(x.shape[0])[:, None] == torch.arange(x.shape[1])
            return x * same.all()

    graph = qgraph.trace(Diagonal(), torch.randn(2, 3), dynamic_dims=[1])
    x = np.ones((1, 1), np.float32)
    assert qgraph.run(graph, x) == 1
    assert not qgraph.run(graph, np.ones((2, 2), np.float32)).any()


def test_a_class_token_trains() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(qgraph.trace(Patches(), x), "litert")), [x])
    module.train()
    module(x).square().sum().backward()
    (gradient,) = [value.grad for name, value in module.named_parameters() if name == "token"]
    assert gradient.abs().sum() > 0
