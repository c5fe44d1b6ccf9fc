"""Every row of the ATen table against torch, and what tracing keeps and refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.errors import InputError, UnsupportedOp
from tests.models import seeded


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


IMAGE = (2, 4, 9, 7)
CASES: dict[str, tuple[object, tuple[int, ...]]] = {
    "conv2d": (nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), bias=False), IMAGE),
    "conv2d grouped": (nn.Conv2d(4, 8, 3, groups=2, padding=2), IMAGE),
    "conv2d depthwise": (nn.Conv2d(4, 8, 3, groups=4), IMAGE),
    "conv2d same": (nn.Conv2d(4, 5, (2, 4), padding="same"), IMAGE),
    "conv2d valid": (nn.Conv2d(4, 5, 3, padding="valid"), IMAGE),
    "conv1d": (nn.Conv1d(4, 5, 3, 2, 1), (2, 4, 11)),
    "conv3d": (nn.Conv3d(2, 3, 2, 1, 1), (2, 2, 4, 5, 3)),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 0), groups=2, dilation=(2, 1)), IMAGE),
    "conv_transpose1d": (nn.ConvTranspose1d(4, 5, 3, 2, 1, bias=False), (2, 4, 11)),
    "conv_transpose3d": (nn.ConvTranspose3d(2, 3, 2, 2), (2, 2, 4, 5, 3)),
    "linear": (nn.Linear(7, 3), IMAGE),
    "linear 2-d": (nn.Linear(7, 3, bias=False), (5, 7)),
    "batch_norm 2-d": (nn.BatchNorm2d(4), IMAGE),
    "batch_norm 1-d": (nn.BatchNorm1d(7), (5, 7)),
    "batch_norm plain": (nn.BatchNorm2d(4, affine=False), IMAGE),
    "relu": (nn.ReLU(), IMAGE),
    "relu in place": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)), IMAGE),
    "relu6": (nn.ReLU6(), IMAGE),
    "clamp": (lambda x: x.clamp(0, 6), IMAGE),
    "clamp_min": (lambda x: torch.clamp_min(x, 0), IMAGE),
    "hardtanh": (nn.Hardtanh(-1, 2), IMAGE),
    "clamp from below": (lambda x: x.clamp(min=-0.5), IMAGE),
    "clamp from above": (lambda x: torch.clamp_max(x, 0.25), IMAGE),
    "leaky_relu": (nn.LeakyReLU(0.2), IMAGE),
    "hardswish": (nn.Hardswish(), IMAGE),
    "hardswish in place": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Hardswish(inplace=True)), IMAGE),
    "hardsigmoid": (nn.Hardsigmoid(), IMAGE),
    "sigmoid": (nn.Sigmoid(), IMAGE),
    "silu": (nn.SiLU(), IMAGE),
    "tanh": (nn.Tanh(), IMAGE),
    "softmax": (nn.Softmax(-3), IMAGE),
    "sub": (lambda x: x - torch.relu(x), IMAGE),
    "sub number": (lambda x: x - 1.5, IMAGE),
    "sub from number": (lambda x: 1 - x, IMAGE),
    "mul": (lambda x: x * torch.sigmoid(x), IMAGE),
    "mul number": (lambda x: 3 * x * 1.5, IMAGE),
    "neg": (lambda x: -x, IMAGE),
    "split": (lambda x: torch.cat(torch.split(x, 3, 1)[::-1], 1), IMAGE),
    "split sizes": (lambda x: torch.relu(torch.split(x, [2, 5], -1)[1]), IMAGE),
    "chunk": (lambda x: x.chunk(2, 1)[0] + x.chunk(2, 1)[1], IMAGE),
    "slice": (lambda x: x[:, 1:3, ::2, -4:-1], IMAGE),
    "select": (lambda x: x[:, -1] + x.select(1, 0), IMAGE),
    "add": (lambda x: x + torch.relu(x), IMAGE),
    "add number": (lambda x: x + 1.5, IMAGE),
    "dropout": (nn.Dropout(0.9), IMAGE),
    "max_pool2d": (nn.MaxPool2d(3, 2, 1), IMAGE),
    "max_pool2d ceil dilated": (nn.MaxPool2d((2, 3), 2, (1, 1), dilation=(2, 1), ceil_mode=True), IMAGE),
    "max_pool1d": (nn.MaxPool1d(2), (2, 4, 11)),
    "avg_pool2d": (nn.AvgPool2d(3, 2, 1), IMAGE),
    "avg_pool2d inside": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    "avg_pool2d ceil": (nn.AvgPool2d(2, 2, 0, ceil_mode=True), IMAGE),
    "avg_pool2d ceil padded": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 4, 8, 6)),
    "adaptive to 1": (nn.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive to 2x3": (nn.AdaptiveAvgPool2d((2, 3)), (2, 4, 8, 9)),
    "mean": (lambda x: x.mean((2, 3)), IMAGE),
    "mean keepdim": (lambda x: x.mean((-1, -2), keepdim=True), IMAGE),
    "flatten": (nn.Flatten(), IMAGE),
    "view": (lambda x: x.view(x.size(0), -1), IMAGE),
    "view 2": (lambda x: x.view(-1, 4, 63), IMAGE),
    "reshape merges the batch": (lambda x: x.reshape(-1, 9, 7), IMAGE),
    "squeeze": (lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1), IMAGE),
    "unsqueeze": (lambda x: x.unsqueeze(2), (2, 4, 11)),
    "permute": (lambda x: x.permute(0, 2, 3, 1), IMAGE),
    "transpose": (lambda x: x.transpose(1, -1), IMAGE),
    "cat": (lambda x: torch.cat([x, x + x], 1), IMAGE),
    "cat last": (lambda x: torch.cat([x, torch.relu(x)], -1), IMAGE),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 3)), IMAGE),
    "pad value": (lambda x: F.pad(x, (1, 0), value=2.5), IMAGE),
    "contiguous": (lambda x: x.permute(0, 2, 3, 1).contiguous().clone(), IMAGE),
}


@pytest.mark.parametrize("name", CASES)
def test_a_row_computes_what_torch_does(name: str) -> None:
    function, shape = CASES[name]
    model = seeded(function if isinstance(function, nn.Module) else Apply(function))
    graph = qgraph.trace(model, torch.zeros(shape))
    assert qgraph.parse(str(graph), constants=graph) == graph
    for batch in (shape[0], 5):
        x = np.random.default_rng(0).normal(0, 1, (batch, *shape[1:])).astype(np.float32)
        expected = model(torch.from_numpy(x)).detach().numpy()
        got = qgraph.run(graph, x)
        assert isinstance(got, np.ndarray)
        assert got.shape == expected.shape
        # float32 sums of at most 100 terms in another order
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


def test_tracing_leaves_the_model_as_it_was_and_copies_its_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.BatchNorm1d(3)).train()
    graph = qgraph.trace(model, torch.zeros(1, 3))
    assert model.training
    assert model[1].training
    assert [node.op for node in graph.nodes] == ["nn.linear", "nn.dropout", "nn.batch_norm"]
    before = graph.constants["0.weight"].data.copy()
    with torch.no_grad():
        model[0].weight.add_(1)
    assert np.array_equal(graph.constants["0.weight"].data, before)


def test_several_inputs_and_outputs_and_a_loop() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            for _ in range(3):
                a = torch.relu(a + b)
            return a, b + b

    graph = qgraph.trace(Two(), (torch.zeros(2, 3), torch.zeros(2, 3)))
    assert [value.name for value in graph.inputs] == ["a", "b"]
    x = np.ones((4, 3), np.float32)
    result = qgraph.run(graph, {"a": x, "b": 2 * x})
    assert isinstance(result, dict)
    assert [array[0, 0] for array in result.values()] == [7.0, 4.0]


def test_data_dependent_control_flow_is_refused() -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match=r"torch\.export cannot trace Branch"):
        qgraph.trace(Branch(), torch.zeros(2, 3))


def test_a_buffer_that_forward_changes_is_refused() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return x + self.count

    with pytest.raises((InputError, UnsupportedOp)):
        qgraph.trace(Counter(), torch.zeros(2, 3))


def test_a_static_batch_stays_static() -> None:
    graph = qgraph.trace(nn.ReLU(), torch.zeros(3, 2), dynamic_batch=False)
    assert graph.inputs[0].type.shape == (3, 2)


REFUSED: dict[str, tuple[object, str]] = {
    "softmax in another dtype": (lambda x: torch.softmax(x, 1, dtype=torch.float64), "changes the dtype"),
    "a part of the batch": (lambda x: x[1:], "a part of the symbolic dimension 0 is not supported"),
    "an image of the batch": (lambda x: x[0], "an index of the symbolic dimension 0 is not supported"),
    "a part that fails, of several": (
        lambda x: torch.relu(torch.split(torch.erfinv(x), 2, 1)[1]),
        "no such op in qgraph",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_row_does_not_take_is_refused(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(UnsupportedOp, match=message):
        qgraph.trace(Apply(function), torch.zeros(IMAGE))


@pytest.mark.parametrize(
    ("model", "shape"),
    [(nn.Conv2d(3, 4, 1), (3, 6, 6)), (nn.ConvTranspose1d(3, 4, 1), (3, 6)), (nn.AdaptiveAvgPool2d(2), (3, 6, 6))],
)
@pytest.mark.parametrize("dynamic", [True, False])
def test_an_example_without_batch_is_called_one(model: nn.Module, shape: tuple[int, ...], dynamic: bool) -> None:
    with pytest.raises(InputError, match=r"(?s)the batch dimension is missing.*x\.unsqueeze\(0\) is a batch of one"):
        qgraph.trace(model, torch.zeros(shape), dynamic_batch=dynamic)


class Filled(nn.Module):
    """Constants in the shape of an activation."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x)
        parts = [torch.ones_like(y[:, :1]) * 20, torch.full((x.shape[0], 1, 3), 2.0), x.new_zeros(x.shape[0], 1, 3) - 3]
        return torch.cat([y * torch.ones_like(y), torch.full_like(y, 4), *parts, torch.arange(3.0).expand(y.shape)], 1)


@pytest.mark.parametrize("dynamic", [True, False])
def test_what_takes_only_the_shape_of_an_activation_is_a_constant(dynamic: bool) -> None:
    x = torch.randn(2, 2, 3)
    graph = qgraph.trace(Filled(), x, dynamic_batch=dynamic)
    ops = sorted(node.op for node in graph.nodes)
    assert ops == ["nn.concat", *["nn.expand"] * 5 * dynamic, "nn.mul", "nn.relu"]
    x[:] = torch.inf
    assert np.array_equal(qgraph.run(graph, x.numpy()), Filled()(x).numpy())
