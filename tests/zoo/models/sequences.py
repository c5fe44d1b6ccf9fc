"""Language, audio, time series and recommendation, as people write them."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.models import Case, Inputs, Sequential, floats, model, tokens

WORDS = 200


class TextTransformer(nn.Module):
    """torch's own encoder layers over token and position embeddings, with a padding mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 32, padding_idx=0), nn.Embedding(16, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
        self.body, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x) + self.places(torch.arange(x.shape[1], device=x.device))
        y = self.body(y, src_key_padding_mask=x == 0)
        return self.head(y.mean(1))


@model("text transformer", "language")
def _text() -> Case:
    return Case(TextTransformer(), tokens(16, WORDS))


class CausalAttention(nn.Module):
    """nanoGPT's block: fused projections, causal attention, gelu."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.words, self.places = nn.Embedding(WORDS, width), nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.before, self.behind = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x) + self.places[:, : x.shape[1]]
        q, k, v = self.qkv(self.before(y)).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        y = y + self.out((scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v).transpose(1, 2).flatten(2))
        return (y + self.mlp(self.behind(y))) @ self.words.weight.T


@model("nanogpt", "language")
def _nanogpt() -> Case:
    return Case(CausalAttention(), tokens(16, WORDS))


class Tagger(nn.Module):
    """A recurrent net over embeddings, one label a token."""

    def __init__(self, kind: str, bidirectional: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 16)
        self.body = getattr(nn, kind)(16, 16, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(32 if bidirectional else 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.words(x))[0])


@model("bi-lstm tagger", "language")
def _tagger() -> Case:
    return Case(Tagger("LSTM", True), tokens(12, WORDS))


@model("gru tagger", "language")
def _gru() -> Case:
    return Case(Tagger("GRU", False), tokens(12, WORDS))


class TextCnn(nn.Module):
    """Kim's convolutions of several widths over embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 16)
        self.convs = nn.ModuleList(nn.Conv1d(16, 8, width) for width in (2, 3, 4))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x).transpose(1, 2)
        return self.head(torch.cat([F.relu(conv(y)).amax(-1) for conv in self.convs], 1))


@model("text cnn", "language")
def _textcnn() -> Case:
    return Case(TextCnn(), tokens(16, WORDS))


class FastText(nn.Module):
    """A bag of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(WORDS, 16, mode="mean"), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.head(self.words(x)), -1)


@model("fasttext", "language")
def _fasttext() -> Case:
    return Case(FastText(), tokens(16, WORDS))


# ---- audio


@model("ds-cnn", "audio")
def _dscnn() -> Case:
    def separable(width: int) -> list[nn.Module]:
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        return [
            depthwise,
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]

    layers = [nn.Conv2d(1, 16, (10, 4), (2, 2), (5, 1)), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2)]
    layers += [*separable(16), *separable(16), nn.AvgPool2d((25, 5)), nn.Flatten(), nn.Linear(16, 12)]
    return Case(Sequential(*layers), floats(1, 49, 10))


@model("m5", "audio")
def _m5() -> Case:
    layers: list[nn.Module] = []
    for before, after, kernel, stride in ((1, 16, 80, 4), (16, 16, 3, 1), (16, 32, 3, 1)):
        layers += [nn.Conv1d(before, after, kernel, stride), nn.BatchNorm1d(after), nn.ReLU(), nn.MaxPool1d(4)]
    return Case(
        Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 10), nn.LogSoftmax(-1)),
        floats(1, 2000),
    )


class TcResNet(nn.Module):
    """Temporal convolutions over mel bands as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(20, 16, 3, padding=1)
        self.a, self.b = nn.Conv1d(16, 24, 9, 2, 4), nn.Conv1d(24, 24, 9, 1, 4)
        self.short, self.head = nn.Conv1d(16, 24, 1, 2), nn.Conv1d(24, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        y = F.relu(self.b(F.relu(self.a(y))) + self.short(y))
        return self.head(F.adaptive_avg_pool1d(y, 1)).squeeze(-1)


@model("tc-resnet", "audio")
def _tcresnet() -> Case:
    return Case(TcResNet(), floats(20, 40))


class Crnn(nn.Module):
    """Convolutions, then a GRU over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d((2, 1)))
        self.rnn, self.head = nn.GRU(8 * 10, 16, batch_first=True), nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).permute(0, 3, 1, 2).flatten(2)
        return self.head(self.rnn(y)[0][:, -1])


@model("crnn", "audio")
def _crnn() -> Case:
    return Case(Crnn(), floats(1, 20, 16))


class StreamingLstm(nn.Module):
    """One step of a wake-word LSTM: state in, state out."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(20, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.cell(x, (h, c))
        return self.head(h), h, c


@model("streaming lstm", "audio")
def _streaming() -> Case:
    def draw(count: int) -> Inputs:
        return {"x": torch.randn(count, 20), "h": torch.rand(count, 16) - 0.5, "c": torch.randn(count, 16)}

    return Case(StreamingLstm(), draw)


class ConvTasNet(nn.Module):
    """Masking in a learned time-frequency domain."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv1d(1, 16, 16, 8), nn.ConvTranspose1d(16, 1, 16, 8)
        self.norm = nn.GroupNorm(1, 16)
        self.blocks = nn.ModuleList(nn.Conv1d(16, 16, 3, padding=2**i, dilation=2**i, groups=16) for i in range(3))
        self.acts = nn.ModuleList(nn.PReLU() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        w = F.relu(self.encoder(x))
        y = self.norm(w)
        for block, act in zip(self.blocks, self.acts, strict=True):
            y = y + act(block(y))
        return self.decoder(w * torch.sigmoid(y))


@model("conv-tasnet", "audio")
def _tasnet() -> Case:
    return Case(ConvTasNet(), floats(1, 400))


# ---- time series


@model("anomaly autoencoder", "time series")
def _autoencoder() -> Case:
    sizes = (640, 128, 128, 8, 128, 128)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return Case(Sequential(*layers, nn.Linear(128, 640)), floats(640))


class Forecaster(nn.Module):
    """A recurrent forecaster with normalization by the window's own mean."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(3, 16, batch_first=True), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        return self.head(self.body(x - mean)[0][:, -1]) + mean[:, :, 0]


@model("lstm forecaster", "time series")
def _forecaster() -> Case:
    return Case(Forecaster(), floats(24, 3))


class Causal(nn.Module):
    """One dilated causal block."""

    def __init__(self, before: int, after: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(before, after, 3, dilation=dilation))
        self.short = nn.Conv1d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.relu(self.conv(F.pad(x, (self.pad, 0)))) + self.short(x))


@model("tcn", "time series")
def _tcn() -> Case:
    return Case(Sequential(Causal(3, 8, 1), Causal(8, 8, 2), Causal(8, 8, 4), nn.Conv1d(8, 1, 1)), floats(3, 32))


class NBeats(nn.Module):
    """Stacks that explain the past away, doubly residual."""

    def __init__(self) -> None:
        super().__init__()
        stack = [nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()]
        self.blocks = nn.ModuleList(nn.Sequential(*stack, nn.Linear(32, 32)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        forecast = torch.zeros(x.shape[0], 8, device=x.device)
        for block in self.blocks:
            back, ahead = block(x).split((24, 8), 1)
            x, forecast = x - back, forecast + ahead
        return forecast


@model("n-beats", "time series")
def _nbeats() -> Case:
    return Case(NBeats(), floats(24))


class DLinear(nn.Module):
    """Trend by a moving average, one linear layer for either part."""

    def __init__(self) -> None:
        super().__init__()
        self.trend, self.rest = nn.Linear(24, 8), nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        ends = torch.cat([x[:, :1].repeat(1, 2, 1), x, x[:, -1:].repeat(1, 2, 1)], 1)
        trend = F.avg_pool1d(ends.transpose(1, 2), 5, 1)
        return (self.trend(trend) + self.rest(x.transpose(1, 2) - trend)).transpose(1, 2)


@model("dlinear", "time series")
def _dlinear() -> Case:
    return Case(DLinear(), floats(24, 3))


class PatchTransformer(nn.Module):
    """Patches of a window as tokens, instance normalization around it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(8, 32), nn.Parameter(torch.randn(4, 32) * 0.02)
        self.body = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.head = nn.Linear(128, 8)

    def forward(self, x: Tensor) -> Tensor:
        mean, std = x.mean(1, keepdim=True), (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        patches = ((x - mean) / std).unfold(1, 8, 8)
        return self.head(self.body(self.embed(patches) + self.places).flatten(1)) * std + mean


@model("patch transformer", "time series")
def _patches() -> Case:
    return Case(PatchTransformer(), floats(32))


class TsMixer(nn.Module):
    """Mixing over time, then over features."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(3) for _ in range(2))
        self.time, self.feature, self.head = nn.Linear(24, 24), nn.Linear(3, 3), nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + F.gelu(self.time(self.norms[0](x).transpose(1, 2))).transpose(1, 2)
        x = x + F.gelu(self.feature(self.norms[1](x)))
        return self.head(x.transpose(1, 2)).transpose(1, 2)


@model("tsmixer", "time series")
def _tsmixer() -> Case:
    return Case(TsMixer(), floats(24, 3))


@model("har cnn", "time series")
def _har() -> Case:
    layers = [nn.Conv1d(6, 16, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 16, 5), nn.GELU(), nn.AdaptiveMaxPool1d(1)]
    return Case(Sequential(*layers, nn.Flatten(), nn.Linear(16, 6), nn.Softmax(-1)), floats(6, 64))


# ---- recommendation


class Dlrm(nn.Module):
    """Dense features, embeddings of categories, and all their products."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, 8) for size in (50, 30, 20))
        self.bottom = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(8 + 6, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        x = self.bottom(dense)
        rows = torch.stack([x, *(table(sparse[:, i]) for i, table in enumerate(self.tables))], 1)
        products = torch.bmm(rows, rows.transpose(1, 2))
        i, j = torch.tril_indices(4, 4, -1)
        return self.top(torch.cat([x, products[:, i, j]], 1))


def _dense_and_sparse(count: int) -> Inputs:
    return {"dense": torch.rand(count, 5), "sparse": torch.randint(0, 20, (count, 3))}


@model("dlrm", "recommendation")
def _dlrm() -> Case:
    return Case(Dlrm(), _dense_and_sparse)


class WideAndDeep(nn.Module):
    """A linear part over categories beside a deep part."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.table = nn.EmbeddingBag(60, 1, mode="sum"), nn.Embedding(60, 8)
        self.deep = nn.Sequential(nn.Linear(5 + 24, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        ids = sparse + torch.tensor([0, 20, 40], device=sparse.device)
        deep = self.deep(torch.cat([dense, self.table(ids).flatten(1)], 1))
        return torch.sigmoid(deep + self.wide(ids)).squeeze(1)


@model("wide and deep", "recommendation")
def _wide() -> Case:
    return Case(WideAndDeep(), _dense_and_sparse)


class DeepFm(nn.Module):
    """Factorization machine: half of the squared sum less the sum of squares."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 8)
        self.deep = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, sparse: Tensor) -> Tensor:
        e = self.table(sparse + torch.arange(0, 60, 20, device=sparse.device))
        pairs = 0.5 * (e.sum(1).pow(2) - e.pow(2).sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(pairs + self.deep(e.flatten(1)))


@model("deepfm", "recommendation")
def _deepfm() -> Case:
    return Case(DeepFm(), lambda count: {"sparse": torch.randint(0, 20, (count, 3))})


class Ncf(nn.Module):
    """Neural collaborative filtering: a product of factors beside an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(40, 16), nn.Embedding(50, 16)
        self.mlp, self.head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU()), nn.Linear(16, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        (a, b), (c, d) = self.users(user).chunk(2, -1), self.items(item).chunk(2, -1)
        return self.head(torch.cat([a * c, self.mlp(torch.cat([b, d], -1))], -1)).squeeze(-1)


@model("ncf", "recommendation")
def _ncf() -> Case:
    return Case(Ncf(), lambda n: {"user": torch.randint(0, 40, (n,)), "item": torch.randint(0, 50, (n,))})


class TwoTower(nn.Module):
    """Cosine similarity of two encoders."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.item = (nn.Sequential(nn.Linear(n, 16), nn.ReLU(), nn.Linear(16, 8)) for n in (12, 7))

    def forward(self, query: Tensor, item: Tensor) -> Tensor:
        q, i = F.normalize(self.query(query), dim=-1), F.normalize(self.item(item), dim=-1)
        return (q * i).sum(-1)


@model("two towers", "recommendation")
def _towers() -> Case:
    return Case(TwoTower(), lambda n: {"query": torch.randn(n, 12), "item": torch.randn(n, 7)})


class SasRec(nn.Module):
    """Self-attention over a history of items, scored against candidates."""

    def __init__(self) -> None:
        super().__init__()
        self.items, self.places = nn.Embedding(60, 16, padding_idx=0), nn.Embedding(10, 16)
        self.norm, self.attention = nn.LayerNorm(16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.forward_net = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))

    def forward(self, history: Tensor, candidates: Tensor) -> Tensor:
        y = self.items(history) * 4 + self.places.weight
        mask = torch.triu(torch.ones(10, 10, dtype=torch.bool, device=y.device), 1)
        q = self.norm(y)
        y = y + self.attention(q, q, q, attn_mask=mask, need_weights=False)[0]
        y = y + self.forward_net(y)
        return (y[:, -1:] * self.items(candidates)).sum(-1)


@model("sasrec", "recommendation")
def _sasrec() -> Case:
    return Case(
        SasRec(), lambda n: {"history": torch.randint(1, 60, (n, 10)), "candidates": torch.randint(1, 60, (n, 5))}
    )


# ---- tables, graphs, fields


@model("mlp selu", "tables")
def _mlp() -> Case:
    return Case(Sequential(nn.Linear(14, 32), nn.SELU(), nn.Linear(32, 32), nn.Mish(), nn.Linear(32, 2)), floats(14))


class Siren(nn.Module):
    """An image as a function of place, by sines."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in ((2, 32), (32, 32), (32, 3)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.sin(5 * layer(x))
        return self.layers[-1](x)


@model("siren", "tables")
def _siren() -> Case:
    return Case(Siren(), lambda n: {"x": torch.rand(n, 2) * 2 - 1})


class Gcn(nn.Module):
    """Graph convolutions over a dense, normalized adjacency matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        scale = adjacency.sum(-1, keepdim=True).rsqrt()
        adjacency = adjacency * scale * scale.transpose(1, 2)
        return F.log_softmax(self.b(adjacency @ F.relu(self.a(adjacency @ x))), -1)


@model("gcn", "tables")
def _gcn() -> Case:
    def draw(count: int) -> Inputs:
        edges = (torch.rand(count, 10, 10) < 0.3).float()
        return {
            "x": torch.randn(count, 10, 8),
            "adjacency": ((edges + edges.transpose(1, 2)) > 0).float() + torch.eye(10),
        }

    return Case(Gcn(), draw)


class TabTransformer(nn.Module):
    """Attention over columns, dense ones beside."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(60, 16)
        self.body = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.norm, self.head = nn.LayerNorm(5), nn.Sequential(nn.Linear(53, 32), nn.LeakyReLU(0.1), nn.Linear(32, 2))

    def forward(self, dense: Tensor, sparse: Tensor) -> Tensor:
        columns = self.body(self.table(sparse + torch.tensor([0, 20, 40], device=sparse.device)))
        return self.head(torch.cat([self.norm(dense), columns.flatten(1)], 1))


@model("tab transformer", "tables")
def _tab() -> Case:
    return Case(TabTransformer(), _dense_and_sparse)


class Actor(nn.Module):
    """A policy with a clamped spread and a squashed action."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mean, self.spread = (
            nn.Sequential(nn.Linear(8, 32), nn.Tanh()),
            nn.Linear(32, 2),
            nn.Linear(32, 2),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        return torch.tanh(self.mean(y)), torch.clamp(self.spread(y), -5, 2).exp()


@model("actor", "tables")
def _actor() -> Case:
    return Case(Actor(), floats(8))
