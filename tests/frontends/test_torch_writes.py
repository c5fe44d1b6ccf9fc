"""In-place ops on views and aliases: every other reader sees the write, and who read before it does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.errors import InputError, UnsupportedOp
from qgraph.frontends.torch_nodes import functional_form
from qgraph.frontends.torch_ops import ROWS
from qgraph.frontends.torch_views import VIEWS
from tests.frontends.traced import Apply, check_traced, random

IMAGE = (2, 3, 6, 6)


def written(write: Callable[[Tensor], object]) -> Callable[[Apply, Tensor], Tensor]:
    """Write to a convolution's result, then return it."""

    def function(model: Apply, x: Tensor) -> Tensor:
        y = model.conv(x)
        write(y)
        return y

    return function


def dropped(model: Apply, x: Tensor) -> Tensor:
    y = model.conv(x)
    return torch.relu_(F.dropout(y, training=False)) + y


def read_before(model: Apply, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y = model.conv(x)
    before = y * 3
    head = y[:, :2]
    copy = y.clone()
    y.mul_(2)
    return before, head, copy


def twice(model: Apply, x: Tensor) -> tuple[Tensor, Tensor]:
    y = model.conv(x)
    a, b = y[:, :2], y.flatten(2)
    a.relu_()
    b.add_(1)
    a.mul_(2)
    return b, y


def reshape_that_copies(model: Apply, x: Tensor) -> tuple[Tensor, Tensor]:
    y = model.conv(x)
    copy = y.permute(0, 2, 3, 1).reshape(-1, 36, 4)
    copy.relu_()
    return y, copy


def reshape_that_views(model: Apply, x: Tensor) -> tuple[Tensor, Tensor]:
    y = model.conv(x)
    view = y.reshape(-1, 4, 36)
    view.relu_()
    return y, view


def contiguous_that_copies(model: Apply, x: Tensor) -> Tensor:
    y = model.conv(x)
    y.permute(0, 2, 3, 1).contiguous().relu_()
    return y


def known(model: Apply, x: Tensor) -> Tensor:
    mask = torch.zeros(4, 6)
    mask[1:3] += torch.arange(6.0)
    mask[:, 0] = 7
    return model.conv(x) * mask.reshape(1, 4, 6, 1)


def residual(model: Apply, x: Tensor) -> Tensor:
    y = model.conv(x)
    identity = y
    z = torch.relu_(model.conv(y[:, :3]))
    z += identity
    return F.relu(z, inplace=True)


def whole(model: Apply, x: Tensor) -> tuple[Tensor, Tensor]:
    y = model.conv(x)
    z = torch.empty_like(y)
    z[:] = y
    z[:, 0] = 0
    return z, y


def exchanged(model: Apply, x: Tensor) -> Tensor:
    y = model.conv(x)
    y[:, :, ::2, ::2], y[:, :, 1::2, 1::2] = y[:, :, 1::2, 1::2].clone(), y[:, :, ::2, ::2].clone()
    return y


def in_a_loop(model: Apply, x: Tensor) -> Tensor:
    parts = list(model.conv(x).split(1, 1))
    for i, part in enumerate(parts):
        part *= i
    return torch.cat(parts, 1)


def to_an_input(model: Apply, x: Tensor) -> Tensor:
    x[:, :2].mul_(2)
    return model.conv(x)


def under_no_grad(model: Apply, x: Tensor) -> Tensor:
    y = model.conv(x)
    with torch.no_grad():
        y[:, 0].zero_()
    return y


CASES: dict[str, Callable[..., object]] = {
    "dropout and its input": dropped,
    "a view": written(lambda y: y.view(-1, 2, 2).relu_()),
    "a flattened view": written(lambda y: torch.relu_(y.flatten(2))),
    "a slice": written(lambda y: y[:, :2].mul_(2)),
    "a slice in the middle": written(lambda y: y[:, 1:3, 2:4].add_(1)),
    "every second index": written(lambda y: y[:, ::2, :, 1::3].mul_(3)),
    "an index": written(lambda y: y[:, 1].relu_()),
    "an index of an index": written(lambda y: y[:, 1][:, 2].fill_(3)),
    "a row set": written(lambda y: y.__setitem__((slice(None), 1), 3)),
    "a part set from another": written(lambda y: y[:, 0].copy_(y[:, 2])),
    "a copy that broadcasts": written(lambda y: y[:, :2].copy_(y[:, 2:3])),
    "a constant copied": written(lambda y: y[:, :2].copy_(torch.arange(6.0))),
    "a part zeroed": written(lambda y: y[..., 3:].zero_()),
    "all zeroed": written(lambda y: y.zero_()),
    "filled": written(lambda y: y.fill_(2.5)),
    "a chunk": written(lambda y: y.chunk(2, 1)[1].sigmoid_()),
    "split": written(lambda y: y.split([1, 3], 1)[1].tanh_()),
    "unbind": written(lambda y: y.unbind(1)[3].mul_(-1)),
    "select": written(lambda y: y.select(-1, -2).clamp_(-0.1, 0.1)),
    "narrow": written(
        lambda y: y.narrow(2, 1, 3).hardtanh_() if hasattr(y, "hardtanh_") else F.hardtanh_(y[:, :, 1:4])
    ),
    "transposed": written(lambda y: y.transpose(1, 2)[:, :3].add_(1)),
    "permuted": written(lambda y: y.permute(2, 0, 3, 1).mul_(y.permute(2, 0, 3, 1))),
    "moved": written(lambda y: y.movedim(1, -1)[..., 0].sub_(1)),
    "unsqueezed": written(lambda y: y.unsqueeze(1).relu_()),
    "squeezed": written(lambda y: y[:, :1].squeeze(1).relu_()),
    "detached": written(lambda y: y.detach().relu_()),
    "expanded to its own shape": written(lambda y: y.expand(-1, 4, 6, 6).relu_()),
    "contiguous already": written(lambda y: y.contiguous().relu_()),
    "of the dtype already": written(lambda y: y.float().to(torch.float32).relu_()),
    "through three views": written(
        lambda y: y.flatten(2).transpose(1, 2)[:, 5:20].view_as(y.flatten(2).transpose(1, 2)[:, 5:20]).mul_(2)
    ),
    "read before": read_before,
    "two views, written in turn": twice,
    "a reshape that copies": reshape_that_copies,
    "a reshape that views": reshape_that_views,
    "a contiguous that copies": contiguous_that_copies,
    "a known table": known,
    "a residual block": residual,
    "under no_grad": under_no_grad,
    "every element": whole,
    "two parts exchanged": exchanged,
    "parts in a loop": in_a_loop,
    "an input": to_an_input,
    "a row for all in-place ops": written(lambda y: y.div_(2).sub_(1).neg_().sigmoid_().tanh_().mul_(3).add_(0.5)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_write_reaches_all_who_read_later_and_nobody_else(name: str) -> None:
    check_traced(Apply(CASES[name]), IMAGE)


class Modules(nn.Module):
    """In-place modules of every kind that qgraph knows, each on a view whose base is read afterwards."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x + 1
        return self.module(y[:, :2]), y


INPLACE = {
    "relu": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(inplace=True),
    "hardtanh": nn.Hardtanh(inplace=True),
    "leaky_relu": nn.LeakyReLU(0.3, inplace=True),
    "hardswish": nn.Hardswish(inplace=True),
    "hardsigmoid": nn.Hardsigmoid(inplace=True),
    "silu": nn.SiLU(inplace=True),
    "dropout": nn.Dropout(inplace=True),
    "dropout2d": nn.Dropout2d(inplace=True),
}


@pytest.mark.parametrize("name", INPLACE)
def test_every_module_with_an_inplace_form_traces(name: str) -> None:
    check_traced(Modules(INPLACE[name]), IMAGE)


def test_an_activation_in_place_that_nobody_else_reads_adds_no_node() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(inplace=True))
    graph = check_traced(model, IMAGE)
    assert [node.op for node in graph.nodes] == ["nn.conv", "nn.batch_norm", "nn.relu", "nn.dropout"]


class Stateful(nn.Module):
    def __init__(self, write: Callable[[nn.Module], object]) -> None:
        super().__init__()
        self.write = write
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.write(self)
        return x * self.weight + self.count


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("count", lambda model: model.count.add_(1)),
        ("count", lambda model: model.count[:2].mul_(2)),
        ("weight", lambda model: model.weight.mul_(2)),
        ("weight", lambda model: model.weight.view(3, 1).zero_()),
    ],
)
def test_a_model_that_changes_its_state_is_refused_by_name_and_line(name: str, write: Callable[..., object]) -> None:
    with pytest.raises(InputError, match=rf"changes '{name}' in its forward pass") as caught:
        qgraph.trace(Stateful(write), random((2, 3)))
    assert "test_torch_writes.py" in str(caught.value)


def test_a_write_that_cannot_be_followed_is_refused_with_the_line() -> None:
    def function(model: Apply, x: Tensor) -> Tensor:
        y = model.conv(x)
        y.diagonal(0, 2, 3).zero_()
        return y

    with pytest.raises(UnsupportedOp, match=r"aten\.diagonal\.default.*traced\.py"):
        qgraph.trace(Apply(function), random(IMAGE))


def test_in_place_ops_have_the_arguments_of_theirfunctional_form_counterparts() -> None:
    """Arguments go by their places: `dropout_(self, p, train)` is `dropout(input, p, train)`."""
    found = 0
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        if not name.endswith("_") or name.startswith("__") or not hasattr(packet, "overloads"):
            continue
        for op in (getattr(packet, overload) for overload in packet.overloads()):
            functional = functional_form(op)
            if functional is not op and str(functional) in {**ROWS, **VIEWS}:
                found += 1
                types = [[str(a.type) for a in one._schema.arguments] for one in (op, functional)]
                assert types[0] == types[1][: len(types[0])], name
    assert found > 30
