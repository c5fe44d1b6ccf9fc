"""Models whose sequences may have any length, as their batches may: sizes stay symbolic, or are folded away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.errors import InputError, UnsupportedOp
from tests.frontends.traced import tensors


class Encoder(nn.Module):
    """Tokens, a learned position, an encoder layer, and the mean of what is no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.positions = nn.Parameter(torch.randn(1, 32, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")

    def forward(self, ids: Tensor) -> Tensor:
        x = self.layer(self.table(ids) + self.positions[:, : ids.shape[1]])
        kept = (ids != 0).unsqueeze(-1).float()
        return (x * kept).sum(1) / kept.sum(1).clamp(min=1)


class Decoder(nn.Module):
    """Causal attention with heads by hand, positions from arange, and the last token's logits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.place = nn.Embedding(32, 8)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, 11)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        batch, length = ids.shape
        x = self.table(ids) + self.place(torch.arange(length))
        q, k, v = self.qkv(x).reshape(batch, length, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mask = torch.full((length, length), -torch.inf).triu(1)
        scores = (q @ k.transpose(-2, -1) / 2 + mask).softmax(-1)
        y = (scores @ v).transpose(1, 2).reshape(batch, length, 8)
        y = y + F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True)[:, 0]
        return {"last": self.head(y[:, -1]), "all": y.cumsum(1), "first": x[:, 0]}


class Rotary(nn.Module):
    """Rotary positions, a mean by the length, and a global pool over it."""

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.outer(torch.arange(x.shape[1]).float(), torch.tensor([1.0, 0.1, 0.01, 0.001]))
        a, b = x.chunk(2, -1)
        turned = torch.cat([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)
        return turned.sum(1) / x.shape[1] + F.adaptive_avg_pool1d(x.mT, 1)[..., 0]


class Convolved(nn.Module):
    """A merge of batch and time for a linear layer, and what all steps have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x.reshape(-1, 8)).view(x.shape[0], x.shape[1], 4)
        best = y.max(1, keepdim=True).values.expand_as(y)
        return torch.cat([y, best, torch.zeros_like(y), torch.tril(y @ y.mT)[..., :1], (y @ y.mT)[..., -2:]], -1)


class Recurrent(nn.Module):
    """Layers of one kind over time: all steps, and the last states."""

    def __init__(self, kind: str, batch_first: bool = True, **settings: object) -> None:
        super().__init__()
        self.layers, self.swapped = getattr(nn, kind)(8, 6, batch_first=batch_first, **settings), not batch_first

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        steps, states = self.layers(x.transpose(0, 1) if self.swapped else x)
        last = states if isinstance(states, tuple) else (states,)
        return (steps.transpose(0, 1) if self.swapped else steps, *(each.transpose(0, 1) for each in last))


def floats(*shape: int) -> Tensor:
    return torch.randn(*shape, 8)


def tokens(*shape: int) -> Tensor:
    return torch.randint(0, 11, shape)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor]]] = {
    "encoder": (Encoder, tokens),
    "decoder": (Decoder, tokens),
    "rotary": (Rotary, floats),
    "merged": (Convolved, floats),
    "lstm, two layers both ways": (lambda: Recurrent("LSTM", num_layers=2, bidirectional=True), floats),
    "gru, time first": (lambda: Recurrent("GRU", batch_first=False), floats),
    "rnn, relu": (lambda: Recurrent("RNN", nonlinearity="relu"), floats),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_holds_for_every_batch_and_length(name: str) -> None:
    torch.manual_seed(0)
    make, draw = MODELS[name]
    model = make().eval()
    graph = qgraph.trace(model, draw(2, 6), dynamic_dims=[1])
    assert graph.inputs[0].type.shape[:2] == ("N", "T")
    assert qgraph.parse(str(graph), constants=graph) == graph
    module = qgraph.to_torch(graph).eval()
    for batch, length in ((1, 9), (3, 2), (4, 4)):
        x = draw(batch, length)
        expected = tensors(model(x))
        result = qgraph.run(graph, x.numpy())
        for got in (list(result.values()) if isinstance(result, dict) else [result], tensors(module(x))):
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(1.0, float(np.abs(b).max())))


REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "a pool to two": lambda x: F.adaptive_avg_pool1d(x.mT, 2),
    "an image twice as long": lambda x: F.interpolate(x.mT, scale_factor=2),
    "pads up to a length": lambda x: F.pad(x, (0, 0, 0, 40 - x.shape[1])),
    "pads of what is there": lambda x: F.pad(x.mT, (2, 1), mode="reflect"),
    "all but the first": lambda x: x[:, 1:] * 2 + 1,
}


class Fn(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_to_know_the_length_is_refused_by_one_cause(name: str) -> None:
    with pytest.raises(UnsupportedOp, match=r"(?s)^1 op of the model.*(symbolic|not a product of symbols)"):
        qgraph.trace(Fn(REFUSED[name]), floats(2, 6), dynamic_dims=[1])


def test_an_index_beyond_the_length_is_an_error_of_ours() -> None:
    graph = qgraph.trace(Fn(lambda x: x[:, :3]), floats(4, 6), dynamic_dims=[1])
    with pytest.raises(InputError, match="index 2 is out of bounds"):
        qgraph.run(graph, np.zeros((3, 2, 8), np.float32))


def test_dimensions_behind_the_batch_are_counted_from_one() -> None:
    with pytest.raises(InputError, match="are not dimensions behind the batch"):
        qgraph.trace(Fn(torch.relu), floats(4, 6), dynamic_dims=[0])
    with pytest.raises(InputError, match="the inputs have 3 dimensions: the last of them is 2"):
        qgraph.trace(Fn(torch.relu), floats(4, 6), dynamic_dims=[1, 3])
    with pytest.raises(InputError, match="numbers, of which the first is 1"):
        qgraph.trace(Fn(torch.relu), floats(4, 6), dynamic_dims=["1"])  # type: ignore[list-item]
