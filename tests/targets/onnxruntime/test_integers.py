"""Ids, conditions and places in ONNX Runtime: what is made of them is torch's, and of torch's types."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.ir import Builder, Graph, TensorType
from tests.targets.onnxruntime.foreign import PROVEN

RNG = np.random.default_rng(0)
IDS = RNG.integers(-4, 5, (64, 7))
IDS[0] = 0


class Of(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> object:
        return self.function(*given)


MADE: dict[str, Callable[[Tensor], object]] = {
    "a sum": lambda i: i.sum(1),
    "one sum of all": lambda i: i.sum(),
    "a sum of int32": lambda i: i.sum(1, dtype=torch.int32),
    "a count": lambda i: (i != 0).sum(1).clamp(min=1) - 1,
    "any": lambda i: (i > 3).any(1),
    "all, kept": lambda i: (i < 4).all(1, keepdim=True),
    "any of integers": lambda i: i.any(1),
    "the largest condition": lambda i: (i > 3).amax(1),
    "a quotient": lambda i: i // 3,
    "a quotient by less than 0": lambda i: i // -3,
    "a quotient by what is computed": lambda i: i // (i.abs() + 1),
    "a remainder by less than 0": lambda i: i % -3,
    "a choice of conditions": lambda i: torch.where(i > 1, i > 2, i < -1),
    "a condition filled": lambda i: (i > 1).masked_fill(i > 3, False),
    "an order of conditions": lambda i: (i > 1) < (i > 3),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_of_integers_is_of_torchs_type_and_bits(name: str) -> None:
    ids = torch.from_numpy(IDS)
    made = qgraph.quantize(qgraph.trace(Of(MADE[name]), ids), "onnxruntime", calibration=[IDS])
    wanted, got = MADE[name](ids), qgraph.run(made, IDS)
    assert isinstance(wanted, Tensor)
    assert isinstance(got, np.ndarray)
    assert got.dtype == wanted.numpy().dtype
    np.testing.assert_array_equal(got, wanted.numpy())
    assert qgraph.verify(made, inputs=IDS).bit_exact


@pytest.mark.parametrize("gathered", [False, True])
def test_the_last_that_is_not_padding_is_found_by_counting(gathered: bool) -> None:
    def last(table: Tensor, ids: Tensor) -> Tensor:
        place = (ids != 0).sum(1).clamp(min=1) - 1
        return table.gather(1, place[:, None]) if gathered else table[torch.arange(table.shape[0]), place]

    x = RNG.normal(size=IDS.shape).astype(np.float32)
    graph = qgraph.trace(Of(last), (torch.from_numpy(x), torch.from_numpy(IDS)))
    made = qgraph.quantize(graph, "onnxruntime", calibration=[[x, IDS]])
    assert qgraph.verify(made, inputs=[x, IDS]).bit_exact


@pytest.mark.parametrize("dtype", ["i32", pytest.param("i64", marks=PROVEN)])
def test_a_quotient_is_rounded_down_at_the_ends_of_the_integers_too(dtype: str) -> None:
    numbers = np.array([*np.iinfo(TensorType((), dtype).numpy).min + np.arange(4), -3, -1, 0, 2], np.int64)
    largest = np.iinfo(TensorType((), dtype).numpy).max
    a = np.concatenate([numbers, largest - np.arange(4)]).astype(TensorType((), dtype).numpy)
    for b in (2, 3, -3, 7, -7, largest, -largest):
        graph = Graph("quotient")
        x, build = graph.add_input("x", TensorType(("N",), dtype)), Builder(graph)
        graph.set_outputs([build.floor_div(x, build.constant(np.array(b, a.dtype), "b"))])
        made = qgraph.quantize(graph, "onnxruntime", calibration=[a])
        np.testing.assert_array_equal(qgraph.run(made, a), a // np.array(b, a.dtype))
        assert qgraph.verify(made, inputs=a).bit_exact
