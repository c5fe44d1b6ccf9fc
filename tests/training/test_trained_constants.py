"""What the model learns is learned in training, and nothing else: a table that is added need not be a parameter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qgraph
from tests.models import seeded


class Odd(nn.Module):
    """Parameters where ops do not tell that they are some, and buffers where ops take parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        self.gain, self.queries = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.randn(2, 8))
        self.register_buffer("sines", torch.randn(1, 5, 8))
        self.register_buffer("blur", torch.full((3, 1, 3, 3), 1 / 9))
        self.register_buffer("last", torch.randn(1, 1, 8))
        self.register_buffer("seen", torch.zeros(7, 7).masked_fill(torch.ones(7, 7).triu(1) > 0, float("-inf")))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.conv2d(x, self.blur, padding=1, groups=3)
        y = self.stem(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), y], 1) * self.gain + self.places + self.sines
        y = torch.cat([y, self.last.expand(x.shape[0], -1, -1), self.queries.mean(0).expand(x.shape[0], 1, -1)], 1)
        return self.head(nn.functional.scaled_dot_product_attention(y, y, y, self.seen))


@pytest.mark.parametrize("target", ["", "litert", "onnxruntime"])
def test_parameters_are_the_models(target: str) -> None:
    model, x = seeded(Odd()).eval(), torch.randn(4, 3, 8, 8)
    graph = qgraph.trace(model, x)
    if target:
        graph = qgraph.calibrate(qgraph.prepare(graph, target, fallback="float"), [x.numpy()])
    graph = qgraph.parse(str(graph), constants=graph)
    learned = {name for name, _ in qgraph.to_torch(graph).named_parameters()}
    assert learned == {*dict(model.named_parameters())}


class Composite(nn.Module):
    """Layers that targets write by other ops, and parameters that the model itself takes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.bag = nn.Embedding(9, 8), nn.EmbeddingBag(9, 8, mode="sum")
        self.layer, self.rms, self.group = nn.LayerNorm(8), nn.RMSNorm(8), nn.GroupNorm(2, 8)
        self.example, self.slope, self.batch = nn.InstanceNorm1d(8, affine=True), nn.PReLU(8), nn.BatchNorm1d(8)
        self.conv, self.up = nn.Conv1d(8, 8, 3, padding=1), nn.ConvTranspose1d(8, 8, 2, 2)
        self.lstm, self.gru = nn.LSTM(8, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)
        self.own, self.cross = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.scale, self.pair = nn.Parameter(torch.ones(8)), nn.Parameter(torch.randn(6, 8))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.rms(self.layer(self.words(ids) + self.bag(ids)[:, None])) * self.scale
        y = self.batch(self.slope(self.example(self.group(x.transpose(1, 2)))))
        x = self.gru(self.lstm(self.up(self.conv(y)).transpose(1, 2))[0])[0]
        x = x + self.own(x, x, x, need_weights=False)[0]
        x = x + self.cross(x, x * 2, x * 2, need_weights=False)[0]
        one, other = self.pair.chunk(2)
        return nn.functional.linear(x.mean(1), one) * nn.functional.linear(x.mean(1), other)


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
def test_parameters_of_layers_that_are_written_by_others_are_learned(target: str) -> None:
    model, ids = seeded(Composite()).eval(), torch.randint(0, 9, (6, 5))
    fallback = "float" if target == "onnxruntime" else None
    prepared = qgraph.prepare(qgraph.trace(model, ids), target, fallback=fallback)
    module = qgraph.to_torch(qgraph.calibrate(prepared, [ids.numpy()])).train()
    assert {name.removesuffix(".folded") for name, _ in module.named_parameters()} == {*dict(model.named_parameters())}
    module(ids).square().mean().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in module.parameters())


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_a_normalization_of_features_by_itself_has_a_factor_for_each(target: str) -> None:
    """A linear layer with the factors on its diagonal would learn to mix features."""
    x = torch.randn(8, 6)
    graph = qgraph.prepare(qgraph.trace(nn.BatchNorm1d(6).eval(), x), target)
    module = qgraph.to_torch(qgraph.calibrate(graph, [x.numpy()]))
    assert {value.numel() for value in module.parameters()} == {6}


def test_a_matrix_that_is_a_buffer_stays_one_and_what_is_frozen_is_not_learned() -> None:
    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("waves", torch.randn(6, 5))
            self.filters, self.head = nn.Parameter(torch.randn(5, 4)), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x @ self.waves @ self.filters)

    def learned(model: nn.Module) -> set[str]:
        return {name for name, _ in qgraph.to_torch(qgraph.trace(model, torch.randn(4, 6))).named_parameters()}

    model = Spectrum()
    assert learned(model) == {"filters", "head.weight", "head.bias"}
    model.filters.requires_grad_(False)
    assert learned(model) == {"head.weight", "head.bias"}
    model.requires_grad_(False)
    assert learned(model) == {"filters", "head.weight", "head.bias"}, "a model without any is no model to train"


def test_dropout_of_parameters_alone_is_none() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.drop, self.head = nn.Parameter(torch.randn(5, 8)), nn.Dropout(0.1), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(x) + self.head(self.drop(self.table))

    x = torch.randn(6, 5, 8)
    graph = qgraph.trace(seeded(Table()).eval(), x)
    assert [node.op for node in graph.nodes] == ["nn.dropout", "nn.add"]
    assert not qgraph.verify(qgraph.quantize(graph, "litert", calibration=[x.numpy()])).mismatches


def test_an_embedding_of_constant_ids_is_learned_when_it_was_computed() -> None:
    class Kinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kinds, self.head = nn.Embedding(2, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.cat([x, self.kinds(torch.zeros(x.shape[0], 1, dtype=torch.long))], 1))

    graph = qgraph.prepare(qgraph.trace(Kinds(), torch.randn(4, 6, 8)), "litert")
    assert any(name.startswith("kinds") for name, _ in qgraph.to_torch(graph).named_parameters())


def test_what_a_graph_says_of_an_array_holds_over_its_text() -> None:
    text = """graph @g level=float trained="{\\"v\\": true, \\"w\\": false}" (%x: f32[N,2]) {
      const @v: f32[2] = 1.0, @u: f32[2] = 2.0, @w: f32[2,2] = 1.0
      %1: f32[N,2] = nn.mul(%x, @v)
      %2: f32[N,2] = nn.add(%1, @u)
      %3: f32[N,2] = nn.linear(%2, @w)
      return %3
    }"""
    module = qgraph.to_torch(qgraph.parse(text))
    assert [name for name, _ in module.named_parameters()] == ["v"]
    assert {name for name, _ in module.named_buffers()} == {"u", "w"}


def test_integer_graphs_say_nothing_of_training() -> None:
    x = torch.randn(4, 3, 8, 8)
    graph = qgraph.trace(seeded(Odd()).eval(), x)
    assert "trained" in graph.metadata
    assert "trained" not in qgraph.quantize(graph, "litert", calibration=[x.numpy()]).metadata


class Latents(nn.Module):
    """Normalized latent vectors that attend to a sequence: what a norm and a layer make of them reads no input."""

    def __init__(self) -> None:
        super().__init__()
        self.latents, self.norm = nn.Parameter(torch.randn(4, 8)), nn.LayerNorm(8)
        self.queries, self.keys = nn.Linear(8, 8), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        latents = self.norm(self.latents[None].repeat(x.shape[0], 1, 1))
        return (self.queries(latents) @ self.keys(x).transpose(1, 2)).softmax(-1) @ self.keys(x) + latents


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_a_normalization_of_parameters_alone_is_learned(target: str) -> None:
    model, x = seeded(Latents()), torch.randn(4, 5, 6)
    prepared = qgraph.calibrate(qgraph.prepare(qgraph.trace(model, x), target), [x.numpy()])
    module = qgraph.to_torch(prepared)
    assert {name for name, _ in module.named_parameters()} == {name for name, _ in model.named_parameters()}
    module(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


class Normed(nn.Module):
    """Layers whose weights are made of other parameters, before and behind batch normalization."""

    def __init__(self) -> None:
        super().__init__()
        weight_norm, spectral_norm = nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm
        self.first, self.batch = weight_norm(nn.Conv1d(3, 8, 3)), nn.BatchNorm1d(8)
        self.up, self.last = weight_norm(nn.ConvTranspose1d(8, 6, 4, 2)), spectral_norm(nn.Conv1d(6, 4, 1))
        self.head = nn.utils.weight_norm(nn.Linear(4, 5), dim=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.up(self.batch(self.first(x)).relu()).relu()).mean(2))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*was assigned during export:UserWarning")
@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_weights_that_are_normalized_are_learned_as_the_model_learns_them(target: str) -> None:
    model, x = seeded(Normed()).eval(), torch.randn(16, 3, 12)
    module = qgraph.to_torch(qgraph.calibrate(qgraph.prepare(qgraph.trace(model, x), target), [x.numpy()]))
    assert {name for name, _ in module.named_parameters()} == {name for name, _ in model.named_parameters()}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    module(x).square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    optimizer.step()
    lowered = qgraph.lower(qgraph.from_torch(module.eval()), target)
    assert qgraph.verify(lowered, inputs=x.numpy(), layout="NCHW").bit_exact
    step = 1.5 * float(lowered.outputs[0].type.quant.scales[0]) if lowered.outputs[0].type.quant else 0.05
    given = qgraph.run(lowered, x.numpy(), dequantize=True, layout="NCHW")
    assert abs(given - module(x).detach().numpy()).max() < step
