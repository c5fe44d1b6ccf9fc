"""A parameter that is read twice, in part or by a function of it, is one: training moves what torch moves."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from tests.models import seeded


class Made(nn.Module):
    """A model of some parts and a function of it and its input."""

    def __init__(self, function: Callable[[Made, Tensor], Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


def tied_module() -> Made:
    model = Made(lambda m, x: m.o(torch.tanh(m.e(x))), e=nn.Embedding(10, 6), o=nn.Linear(6, 10, bias=False))
    model.o.weight = model.e.weight
    return model


def biased(m: Made, x: Tensor) -> Tensor:
    """Attention with a bias by distance, as Swin and T5 have it."""
    places = torch.arange(5)[:, None] - torch.arange(5)[None] + 4
    return (m.l(x) @ m.l(x).transpose(1, 2) + m.t[places].mean(-1)).softmax(-1)


IDS, ROWS, IMAGES = torch.randint(0, 10, (4, 7)), torch.randn(8, 5, 6), torch.randn(4, 4, 6, 6)
LAYER: Callable[[], nn.Module] = lambda: nn.Linear(6, 6)  # noqa: E731
MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "one module under two names": (tied_module, IDS),
    "ids and places": (lambda: Made(lambda m, x: m.e(x) + m.e(torch.arange(x.shape[1])), e=nn.Embedding(10, 6)), IDS),
    "tied output": (
        lambda: Made(lambda m, x: m.l(m.e(x)) @ m.e.weight.T, e=nn.Embedding(10, 6), l=LAYER()),
        IDS,
    ),
    "tied output, scaled": (
        lambda: Made(lambda m, x: m.l(m.e(x)) @ (m.e.weight.T * 0.5), e=nn.Embedding(10, 6), l=LAYER()),
        IDS,
    ),
    "halves": (
        lambda: Made(lambda m, x: F.linear(x, m.w.chunk(2)[0]) * F.linear(x, m.w.chunk(2)[1]), w=parameter(8, 6)),
        ROWS,
    ),
    "there and back": (lambda: Made(lambda m, x: (x @ m.w.T) @ m.w, w=parameter(8, 6)), ROWS),
    "some of the places": (lambda: Made(lambda m, x: m.l(x + m.w[None, :5]), w=parameter(8, 6), l=LAYER()), ROWS),
    "token, and token with place": (
        lambda: Made(
            lambda m, x: torch.cat([m.c.expand(x.shape[0], 1, 6), (m.c + m.w[:1]).expand(x.shape[0], 1, 6), x], 1),
            c=parameter(1, 1, 6),
            w=parameter(8, 6),
        ),
        ROWS,
    ),
    "query of a layer": (
        lambda: Made(
            lambda m, x: torch.softmax(m.l(m.c).expand(x.shape[0], 1, 6) @ x.mT, -1), c=parameter(1, 1, 6), l=LAYER()
        ),
        ROWS,
    ),
    "bias by distance": (lambda: Made(biased, t=parameter(9, 2), l=LAYER()), ROWS),
    "gate and what it leaves": (
        lambda: Made(lambda m, x: x * m.g.sigmoid() + x.tanh() * (1 - m.g.sigmoid()), g=parameter(6)),
        ROWS,
    ),
    "factor and divisor": (lambda: Made(lambda m, x: x * m.g + x.tanh() / m.g, g=parameter(5, 1)), ROWS),
    "cross attention": (
        lambda: Made(lambda m, x: m.a(x, x * 2, x * 2)[0], a=nn.MultiheadAttention(6, 2, batch_first=True)),
        ROWS,
    ),
    "group norm of two levels": (
        lambda: Made(
            lambda m, x: m.n(m.c(x)).mean((2, 3)) + m.n(m.c(x[:, :, ::2])).amax((2, 3)),
            c=nn.Conv2d(4, 4, 3, padding=1),
            n=nn.GroupNorm(2, 4),
        ),
        IMAGES,
    ),
    "slopes": (lambda: Made(lambda m, x: m.p(m.l(m.p(m.l(x)))), p=nn.PReLU(5), l=LAYER()), ROWS),
    "lstm twice": (lambda: Made(lambda m, x: m.r(m.r(x)[0])[0], r=nn.LSTM(6, 6, batch_first=True)), ROWS),
    "gru twice": (lambda: Made(lambda m, x: m.r(m.r(x)[0])[0], r=nn.GRU(6, 6, batch_first=True)), ROWS),
    "convolution and its transpose": (
        lambda: Made(lambda m, x: F.conv_transpose2d(m.c(x).relu(), m.c.weight), c=nn.Conv2d(4, 5, 3)),
        IMAGES,
    ),
}


def trained(module: nn.Module, x: Tensor) -> nn.Module:
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (module.train()(x) - 1).square().mean().backward()
        optimizer.step()
    return module.eval()


@pytest.mark.parametrize("name", MODELS)
def test_training_a_graph_moves_the_parameters_as_training_the_model_does(name: str) -> None:
    make, x = MODELS[name]
    model = seeded(make()).eval()
    module = trained(qgraph.to_torch(qgraph.trace(model, x)), x)
    after = dict(trained(copy.deepcopy(model), x).named_parameters())
    ours = dict(module.named_parameters())
    assert {*ours} == {*after}
    for key, parameter in ours.items():
        torch.testing.assert_close(parameter, after[key], rtol=1e-5, atol=1e-6)
    again = qgraph.to_torch(qgraph.from_torch(module)).eval()
    assert torch.equal(again(x), module(x))


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@pytest.mark.parametrize("name", MODELS)
def test_a_prepared_module_has_the_parameters_of_the_model_and_computes_its_integers(name: str, target: str) -> None:
    make, x = MODELS[name]
    model = seeded(make()).eval()
    prepared = qgraph.prepare(qgraph.trace(model, x), target, fallback="float")
    module = qgraph.calibrate(qgraph.to_torch(prepared, mode="bit-true"), [x.numpy()])
    assert {key for key, _ in trained(module, x).named_parameters()} == {*dict(model.named_parameters())}
    module = copy.deepcopy(module)
    low = qgraph.lower(qgraph.from_torch(module), target)
    assert np.array_equal(module(x).detach(), qgraph.run(low, x.numpy(), dequantize=True, layout="NCHW"))
    assert not any("derived" in word for word in low.metadata)
    known = qgraph.parse(str(prepared), constants=prepared)
    assert str(known) == str(prepared)


def test_a_pass_that_changes_a_part_makes_it_a_parameter_of_its_own() -> None:
    model, x = seeded(MODELS["halves"][0]()).eval(), ROWS
    graph = qgraph.trace(model, x)
    name = next(name for name, value in graph.constants.items() if value.users)
    graph.set_data(graph.constants[name], graph.constants[name].data * 2)
    learned = [key for key, _ in qgraph.to_torch(graph).named_parameters()]
    assert len(learned) == 2
    assert "w" in learned


class Dropped(nn.Module):
    """A table of which a layer and dropout make a constant, as relative positions are made."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.layer = nn.Parameter(torch.randn(8, 4)), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.layer(nn.functional.dropout(self.table, 0.5, self.training)).T


def test_dropout_of_parameters_is_none_of_a_graph_of_them() -> None:
    graph = qgraph.trace(Dropped(), torch.randn(2, 4))
    back = qgraph.from_torch(qgraph.to_torch(graph))
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(qgraph.run(back, x), qgraph.run(graph, x), atol=1e-5)
