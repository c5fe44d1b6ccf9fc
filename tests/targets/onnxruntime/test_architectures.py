"""What people's models are made of, from torch to exact integers: 0 differing outputs, and how near to float it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import qgraph
from qgraph import passes
from qgraph.ir import Array
from tests.models import seeded

F = torch.nn.functional
RNG = np.random.default_rng(0)
WIDTH, HEADS, LENGTH, WORDS = 32, 4, 8, 30


class Recurrent(torch.nn.Module):
    """An LSTM, and a GRU in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.LSTM(8, 12, batch_first=True)
        self.second = torch.nn.GRU(12, 8, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.second(self.first(x)[0])
        return self.head(y.mean(1))


class Recommender(torch.nn.Module):
    """Embeddings and dense features, and the products of all pairs of them."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = torch.nn.ModuleList([torch.nn.Embedding(20, 8) for _ in range(3)])
        self.dense = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8))
        self.top = torch.nn.Sequential(torch.nn.Linear(14, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))

    def forward(self, numbers: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        dense = self.dense(numbers)
        rows = torch.stack([dense, *(table(indices[:, i]) for i, table in enumerate(self.tables))], 1)
        i, j = torch.tril_indices(4, 4, -1)
        pairs = torch.bmm(rows, rows.transpose(1, 2))[:, i, j]
        return torch.sigmoid(self.top(torch.cat([dense, pairs], 1)))


class Excited(torch.nn.Module):
    """Depthwise convolution with squeeze and excitation, and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = torch.nn.Conv2d(3, 16, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(16)
        self.depth, self.up = torch.nn.Conv2d(16, 16, 3, 1, 1, groups=16), torch.nn.ConvTranspose2d(16, 4, 4, 2, 1)
        self.squeeze, self.excite = torch.nn.Conv2d(16, 4, 1), torch.nn.Conv2d(4, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.norm(self.stem(x)))
        y = F.silu(self.depth(x))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return self.up(y * gate + x)


class Causal(torch.nn.Module):
    """A decoder layer as of GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = torch.nn.Embedding(WORDS, WIDTH), torch.nn.Embedding(LENGTH, WIDTH)
        self.norm, self.last = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.qkv, self.out = torch.nn.Linear(WIDTH, 3 * WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, 64), torch.nn.Linear(64, WIDTH)
        self.head = torch.nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, length = tokens.shape
        x = self.words(tokens) + self.places(torch.arange(length))
        q, k, v = (part.view(batch, length, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, -1))
        return self.head(x + self.down(F.gelu(self.up(self.last(x)), approximate="tanh")))


class Rotary(torch.nn.Module):
    """A decoder layer as of Llama: RMS norm, rotated keys and queries, grouped heads, a gated product."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm, self.last = (
            torch.nn.Embedding(WORDS, WIDTH),
            torch.nn.RMSNorm(WIDTH),
            torch.nn.RMSNorm(WIDTH),
        )
        self.q, self.k, self.v = (torch.nn.Linear(WIDTH, size, bias=False) for size in (WIDTH, 16, 16))
        self.out, self.down = torch.nn.Linear(WIDTH, WIDTH, bias=False), torch.nn.Linear(64, WIDTH, bias=False)
        self.gate, self.up = (torch.nn.Linear(WIDTH, 64, bias=False) for _ in range(2))
        angles = torch.outer(torch.arange(LENGTH), 1 / 10000 ** (torch.arange(0, 8, 2) / 8)).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        return x * self.cos + torch.cat([-b, a], -1) * self.sin

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, length = tokens.shape
        x = self.words(tokens)
        y = self.norm(x)
        q, k, v = (w(y).view(batch, length, -1, 8).transpose(1, 2) for w in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(self.rotated(q), self.rotated(k), v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, -1))
        y = self.last(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Masked(torch.nn.Module):
    """An encoder layer as of BERT, with a mask that is computed of an input."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm, self.last = torch.nn.Embedding(WORDS, WIDTH), *(torch.nn.LayerNorm(WIDTH) for _ in "ab")
        self.q, self.k, self.v, self.out = (torch.nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.words(tokens))
        batch, length, _ = x.shape
        q, k, v = (w(x).view(batch, length, HEADS, -1).transpose(1, 2) for w in (self.q, self.k, self.v))
        unseen = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        share = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5 + unseen, -1)
        y = self.out((share @ v).transpose(1, 2).reshape(batch, length, -1))
        return torch.tanh(self.last(x + y)[:, 0])


class Patches(torch.nn.Module):
    """A vision transformer of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.first = torch.nn.Conv2d(3, WIDTH, 4, 4), torch.nn.Parameter(torch.randn(1, 1, WIDTH))
        self.places, self.head = torch.nn.Parameter(torch.randn(1, 17, WIDTH)), torch.nn.Linear(WIDTH, 10)
        words = {"batch_first": True, "norm_first": True, "activation": "gelu"}
        self.layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 64, **words)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.layer(x)[:, 0])


class Grouped(torch.nn.Module):
    """Normalizations of groups and of instances."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 8, 3, 1, 1), torch.nn.GroupNorm(4, 8)
        self.instance = torch.nn.InstanceNorm2d(8, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.instance(F.silu(self.norm(self.conv(x))))


def normal(*shape: int) -> Array:
    return RNG.normal(size=(32, *shape)).astype(np.float32)


TOKENS, IMAGES = RNG.integers(0, WORDS, (32, LENGTH)), normal(3, 16, 16)
MASK = (np.arange(LENGTH) < RNG.integers(3, LENGTH + 1, (32, 1))).astype(np.int64)
MODELS: dict[str, tuple[Callable[[], torch.nn.Module], list[Array], str | None, float]] = {
    "recurrent": (Recurrent, [normal(6, 8)], None, 31.0),
    "recommender": (Recommender, [normal(5), RNG.integers(0, 20, (32, 3))], None, 29.0),
    "squeeze and excite": (Excited, [IMAGES], None, 28.0),
    "encoder": (lambda: torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 64), [normal(LENGTH, WIDTH)], "float", 26.0),
    "causal decoder": (Causal, [TOKENS], "float", 25.0),
    "rotary decoder": (Rotary, [TOKENS], "float", 23.0),
    "masked encoder": (Masked, [TOKENS, MASK], "float", 29.0),
    "patches": (Patches, [IMAGES], "float", 17.0),
    "norms of groups": (Grouped, [IMAGES], "float", 29.0),
}
"""Model, its inputs, the fallback, and the least ratio of signal to noise in dB: a few below what was measured."""


@pytest.mark.parametrize("name", MODELS)
def test_an_architecture_is_exact_and_near_to_float(name: str) -> None:
    make, inputs, fallback, least = MODELS[name]
    torch.manual_seed(0)
    model = seeded(make()).eval()
    graph = qgraph.trace(model, tuple(torch.from_numpy(array[:2]) for array in inputs))
    lowered = qgraph.quantize(graph, target="onnxruntime", calibration=[inputs], fallback=fallback)
    report = qgraph.verify(lowered, inputs=inputs)
    assert report.bit_exact, report
    assert not report.notes or "proven for" in report.notes[0] or "on release" in report.notes[0]
    ours, theirs = (np.asarray(qgraph.run(each, inputs)) for each in (lowered, graph))
    ratio = float(np.square(theirs).sum() / np.square(ours - theirs).sum())
    assert 10 * np.log10(ratio) > least
    again = qgraph.lower(passes.raise_to_fake_quant(lowered), "onnxruntime")
    assert np.array_equal(qgraph.run(again, inputs), ours)
