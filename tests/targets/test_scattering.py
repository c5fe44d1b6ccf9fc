"""Writes to elements by their indices on every target: choices and moves of integers, sums, and exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.errors import LoweringError

TARGETS = ("onnxruntime", "litert", "litert-xnnpack", "tflm")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6)).astype(np.float32)
SOME = np.array([RNG.permutation(6)[:3] for _ in range(4)])
VALUES = RNG.normal(size=(4, 3)).astype(np.float32)
MAPS = RNG.normal(size=(4, 3, 6, 8)).astype(np.float32)
EDGES = torch.tensor([[0, 1, 2, 3, 3], [1, 2, 3, 0, 1]])


class Made(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def copied(x: Tensor, values: Tensor) -> Tensor:
    y = x.clone()
    y[:, [0, 5, 2]] = values
    return y


def unpooled(x: Tensor) -> Tensor:
    y, places = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(y, places, 2)


def gated(x: Tensor) -> Tensor:
    """The two largest of each row, zeros elsewhere: what a sparse mixture of experts weighs them with."""
    largest, places = torch.topk(x, 2, dim=1)
    return torch.zeros_like(x).scatter(1, places, largest)


CASES: dict[str, tuple[Callable[..., Tensor], tuple[np.ndarray, ...], float]] = {
    "written": (lambda x, i, v: x.scatter(1, i, v), (X, SOME, VALUES), 1),
    "written to known places": (copied, (X, VALUES), 1),
    "filled": (lambda x: x.index_fill(1, torch.tensor([1, 4]), 0.5), (X,), 1),
    "added": (lambda x, i, v: x.scatter_add(1, i, v), (X, SOME, VALUES), 4),
    "the largest": (lambda x, i, v: x.scatter_reduce(1, i, v, "amax"), (X, SOME, VALUES), 2),
    "messages": (
        lambda x: torch.zeros(x.shape[0], 4, 8).index_add(1, EDGES[1], x[:, EDGES[0]]),
        (RNG.normal(size=(4, 4, 8)).astype(np.float32),),
        4,
    ),
    "sparse gates": (gated, (X,), 1),
    "in order": (lambda x: x.sort(1)[0], (X,), 1),
    "places in order": (lambda x: x.argsort(1, descending=True), (X,), np.inf),
    "largest so far": (lambda x: x.cummax(1)[0], (X,), 4),
    "places of a pool": (unpooled, (MAPS,), np.inf),  # of elements of one code the first is the largest
    "by a mask": (lambda x, y: x.masked_scatter(x > 0, y), (X, X[::-1].copy()), np.inf),
}


REFUSED = {
    ("tflm", "by a mask"): "has no CUMSUM of integers",
    **{("tflm", name): "has SUM for f32, not for i32" for name in ("sparse gates", "in order", "places in order")},
    ("tflm", "places of a pool"): "has TRANSPOSE for i8, i16, f32, not for i32",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_what_is_written_by_indices_is_exact(name: str, target: str) -> None:
    function, inputs, steps = CASES[name]
    tensors = tuple(map(torch.from_numpy, inputs))
    graph = qgraph.trace(Made(function).eval(), tensors)
    example: Any = inputs if len(inputs) > 1 else inputs[0]
    if (target, name) in REFUSED:
        with pytest.raises(LoweringError, match=REFUSED[target, name]):
            qgraph.prepare(graph, target)
        return
    lowered = qgraph.quantize(graph, target, calibration=[example])
    feeds = {value.name: data for value, data in zip(graph.inputs, inputs, strict=True)}
    words = {} if target == "onnxruntime" else {"layout": "NCHW"}
    assert qgraph.verify(lowered, inputs=feeds, **words).bit_exact
    made = np.asarray(qgraph.run(lowered, feeds, dequantize=True, **words))
    wanted = function(*tensors).numpy()
    assert np.abs(made - wanted).max() <= steps * np.ptp(wanted) / 200


def test_writes_stay_whole_in_float_where_they_are_told_to() -> None:
    graph = qgraph.trace(Made(CASES["added"][0]).eval(), tuple(map(torch.from_numpy, (X, SOME, VALUES))))
    lowered = qgraph.quantize(graph, "onnxruntime", calibration=[(X, SOME, VALUES)], fallback="float")
    assert [node.op for node in lowered.nodes if node.op.startswith("nn.")] == ["nn.scatter_elements"]
    feeds = {value.name: data for value, data in zip(graph.inputs, (X, SOME, VALUES), strict=True)}
    assert qgraph.verify(lowered, inputs=feeds).bit_exact
