"""What is repeated for every example of an open batch stays as small as it was: position ids, masks, class tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.errors import FixedSizeWarning
from tests.frontends.traced import same
from tests.models import seeded


class Words(nn.Module):
    """Token types, positions and a causal mask, as libraries of language models make them of the shape of the ids."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.types, self.places = (nn.Embedding(size, 8) for size in (30, 2, 16))
        self.register_buffer("ids", torch.arange(16)[None])
        self.register_buffer("kinds", torch.zeros(1, 16, dtype=torch.long))
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, words: Tensor) -> Tensor:
        batch, length = words.shape
        kinds, places = self.kinds[:, :length].expand(batch, length), self.ids[:, :length].expand(batch, -1)
        x = self.words(words) + self.types(kinds) + self.places(places)
        first, rows, columns = torch.arange(batch)[:, None, None], torch.arange(length)[:, None], torch.arange(length)
        unseen = places[first, rows] < places[first, columns[None]]
        scores = x @ x.transpose(1, 2) + torch.zeros(batch, length, length).masked_fill(unseen, float("-inf"))
        return self.head(torch.softmax(scores, -1) @ x)


class Classes(nn.Module):
    """A class token and another one, both zero before training, before the patches of an image."""

    def __init__(self, zero: bool = True) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)
        self.token, self.other = (nn.Parameter(torch.zeros(1, 1, 8)) for _ in range(2))
        if not zero:
            nn.init.normal_(self.token), nn.init.normal_(self.other)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), self.other.expand(x.shape[0], -1, -1) * 2], 1)
        y = torch.cat([tokens, y], 1)
        return self.head(torch.softmax(y @ y.transpose(1, 2), -1) @ y)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_ids_and_masks_of_a_language_model_are_repeated_by_nothing(batch: int) -> None:
    model = seeded(Words()).eval()
    graph = qgraph.trace(model, torch.zeros(2, 7, dtype=torch.long))
    assert not graph.find("nn.expand|nn.arange|nn.index|nn.less")
    assert {"words.weight", "types.weight", "places.weight"} <= graph.constants.keys()
    words = torch.from_numpy(np.random.default_rng(0).integers(0, 30, (batch, 7)))
    same(np.asarray(qgraph.run(graph, words.numpy())), model(words).detach().numpy())


def test_parameters_that_are_zero_are_not_taken_for_numbers_that_stay() -> None:
    graph = qgraph.trace(Classes(), torch.randn(2, 3, 8, 8))
    module, model = qgraph.to_torch(graph), Classes(zero=False).eval()
    assert {*dict(module.named_parameters())} == {*dict(model.named_parameters())}
    module.load_state_dict(model.state_dict(), strict=False)
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(module.eval()(x), model(x))


def test_what_only_small_batches_have_in_common_is_computed() -> None:
    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            rows = torch.arange(x.shape[0])
            table = torch.tensor([1.0, 1.0, 1.0, 2.0, 3.0, 4.0])
            return x * (rows < 3)[:, None] + table[rows][:, None]

    graph = qgraph.trace(First(), torch.randn(2, 4))
    x = torch.randn(6, 4)
    same(np.asarray(qgraph.run(graph, x.numpy())), First()(x).numpy())


def test_a_detached_value_stays_one() -> None:
    class Through(nn.Module):
        """A straight-through estimator."""

        def forward(self, x: Tensor) -> Tensor:
            return x + (torch.round(x) - x).detach()

    graph = qgraph.trace(Through(), torch.randn(4, 6))
    assert [node.op for node in graph.nodes] == ["nn.round", "nn.sub", "nn.detach", "nn.add"]
    assert qgraph.run(graph, np.float32([[0.6] * 6]))[0][0] == 1


class Counted(nn.Module):
    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x + int(x.shape[self.axis])


@pytest.mark.parametrize(("axis", "words"), [(0, "the batch of Counted is 4"), (1, "dimension 1 of Counted is 6")])
def test_a_size_that_the_code_takes_for_a_number_is_told(axis: int, words: str) -> None:
    with pytest.warns(FixedSizeWarning, match=f"{words} in the graph, as in the example"):
        graph = qgraph.trace(Counted(axis), torch.randn(4, 6), dynamic_dims=[1])
    assert isinstance(graph.inputs[0].type.shape[axis], int)
    assert isinstance(graph.inputs[0].type.shape[1 - axis], str)
    assert qgraph.trace(Counted(0), torch.randn(4, 6), dynamic_batch=False).inputs[0].type.shape == (4, 6)


def test_len_of_a_batch_is_a_number() -> None:
    class Length(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x) * len(x)

    with pytest.warns(FixedSizeWarning, match="the batch of Length is 2"):
        graph = qgraph.trace(Length(), torch.ones(2, 3))
    assert graph.inputs[0].type.shape == (2, 3)


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
def test_class_tokens_are_exact_on_a_batch_of_any_size(target: str) -> None:
    model, x = seeded(Classes(zero=False)).eval(), torch.randn(8, 3, 8, 8)
    lowered = qgraph.quantize(qgraph.trace(model, x), target, calibration=[x.numpy()])
    assert lowered.inputs[0].type.shape[0] == "N"
    report = qgraph.verify(lowered)
    assert report.compared
    assert not report.mismatches
    expected = model(x).detach().numpy()
    error = np.asarray(qgraph.run(lowered, x.numpy(), dequantize=True)) - expected
    assert np.square(expected).sum() > 300 * np.square(error).sum(), "25 dB"
