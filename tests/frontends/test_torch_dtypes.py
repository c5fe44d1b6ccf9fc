"""What torch makes of integers, booleans and floats together: values and dtypes, whatever the example shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.errors import PrecisionWarning, UnsupportedOp
from qgraph.frontends.torch_ops import ROWS

INTEGERS = torch.tensor([[-7, -1, 0, 1, 2, 9], [3, 4, -2, 2**40, -(2**40), 5]])
PIXELS = torch.tensor([[0, 1, 2, 100, 254, 255], [3, 9, 27, 81, 243, 7]], dtype=torch.uint8)
FLOATS = torch.linspace(-3, 3, 12).reshape(2, 6)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def check(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """The graph, traced on ones, gives torch's values and dtype on the inputs."""
    model = Call(function)
    graph = qgraph.trace(model, [torch.ones_like(each) for each in inputs])
    fed = {value.name: each.numpy() for value, each in zip(graph.inputs, inputs, strict=True)}
    with np.errstate(all="ignore"):
        got, wanted = qgraph.run(graph, fed), model(*inputs)
    assert isinstance(got, np.ndarray)
    assert got.dtype == wanted.numpy().dtype == graph.outputs[0].type.numpy
    np.testing.assert_allclose(got.astype(np.float64), wanted.double().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda i: i.clamp(min=1e-9),
        lambda i: i.clamp(0.5, 3.5),
        lambda i: i.clamp(-1, 3),
        lambda i: i**2.0,
        lambda i: i**2,
        lambda i: i.abs() ** 0.5,
        torch.sign,
        torch.floor,
        torch.ceil,
        torch.trunc,
        torch.round,
        torch.relu,
        torch.sigmoid,
        torch.tanh,
        lambda i: torch.div(i, 3, rounding_mode="trunc"),
        lambda i: torch.div(i, -3, rounding_mode="floor"),
        lambda i: torch.log1p(i.abs()),
        lambda i: i / 3,
        lambda i: torch.cat([i, i > 1], 1),
        lambda i: torch.stack([i, i.float()]),
    ],
)
def test_integers_are_promoted_as_torch_promotes_them(function: Callable[..., Tensor]) -> None:
    check(function, INTEGERS)


@pytest.mark.parametrize(
    "function",
    [lambda i: i < -3, lambda i: i == 300, lambda i: i >= 200.5, lambda i: i.float() / 255],
)
def test_numbers_beside_bytes_wrap_as_torchs_do(function: Callable[..., Tensor]) -> None:
    check(function, PIXELS)


@pytest.mark.parametrize(
    "function",
    [
        lambda i, x: torch.cat([i, x], 1),
        lambda i, x: torch.cat([x, i > 0], 1),
        lambda i, x: torch.where(i > 0, x, 2),
        lambda i, x: i * x,
    ],
)
def test_integers_join_floats(function: Callable[..., Tensor]) -> None:
    check(function, INTEGERS.clamp(-9, 9), FLOATS)


def test_a_masked_mean_of_nothing_is_zero() -> None:
    def mean(x: Tensor, mask: Tensor) -> Tensor:
        return (x * mask).sum(1) / mask.sum(1).clamp(min=1e-9)

    check(mean, FLOATS, torch.zeros(2, 6, dtype=torch.long))


@pytest.mark.parametrize("number", [float("-inf"), float("inf"), 1e4, -1e4])
def test_the_logarithm_of_a_sum_takes_infinities(number: float) -> None:
    check(lambda x: torch.logsumexp(x, 1), torch.full((2, 6), number))


def test_padded_places_of_an_encoder_are_computed_as_they_are_exported() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    padding = torch.zeros(4, 5, dtype=torch.bool)
    padding[:, 3:] = True
    model = Call(lambda x, p: encoder(x, src_key_padding_mask=p))
    model.encoder = encoder
    x = torch.randn(4, 5, 8)
    graph = qgraph.trace(model.eval(), [x, padding])
    names = [value.name for value in graph.inputs]
    got = qgraph.run(graph, dict(zip(names, (x.numpy(), padding.numpy()), strict=True)))
    alone = qgraph.run(
        graph, dict(zip(names, (np.where(padding[..., None], 9, x).astype(np.float32), padding.numpy()), strict=True))
    )
    np.testing.assert_array_equal(np.asarray(got)[:, :3], np.asarray(alone)[:, :3])  # what is padded is not looked at


def test_a_result_of_another_dtype_than_torchs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROWS, "aten.neg.default", lambda at, a: at.cast(at.value(a["self"]), "i64"))
    with pytest.raises(UnsupportedOp, match="a result of f32 is not supported, only of i64"):
        qgraph.trace(Call(torch.neg), torch.ones(2, 6), check=False)


def test_arithmetic_of_bytes_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOp, match=r"aten\.neg\.default: nn\.mul: a is u8"):
        qgraph.trace(Call(torch.neg), PIXELS)


class Mixed(nn.Module):
    """A layer of float16 in a model of float32, and one under autocast."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 6).half(), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x.to(torch.float16)).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.second(y).float()


def test_lower_precisions_inside_of_a_model_become_float32() -> None:
    model = Mixed()
    with pytest.warns(PrecisionWarning, match="float16"):
        graph = qgraph.trace(model, FLOATS)
    wanted = model.second(model.first.float()(FLOATS)).detach().numpy()
    np.testing.assert_allclose(qgraph.run(graph, FLOATS.numpy()), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cast", [Tensor.half, Tensor.bfloat16, lambda x: x.type(torch.bfloat16)])
def test_a_model_that_computes_in_less_than_float32_is_told_so(cast: Callable[[Tensor], Tensor]) -> None:
    with pytest.warns(PrecisionWarning, match="computes in b?float16: the graph does in float32"):
        graph = qgraph.trace(Call(lambda x: cast(x).float() * 3), FLOATS)
    assert np.array_equal(qgraph.run(graph, FLOATS.numpy()), FLOATS.numpy() * np.float32(3))
