"""Trace a model and hold the graph, its text and its torch module against it, on inputs other than the example."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree

import qgraph
from qgraph.ir import Array, Graph


class Apply(nn.Module):
    """A function as a module, with a convolution of its own that the function may call."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, *inputs: Tensor) -> object:
        return self.function(self, *inputs)


def tensors(tree: object) -> list[Array]:
    """The tensors among the results of a model, as arrays."""
    return [leaf.detach().numpy() for leaf in _pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32))


def same(got: Array, expected: Array) -> None:
    """Equal up to float32 sums in another order: 100 ops of up to 100 terms."""
    assert got.shape == expected.shape
    bound = 1e-5 * max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


@torch.no_grad()
def check_traced(model: nn.Module, *shapes: tuple[int, ...], batch: int = 5) -> Graph:
    """The model's graph, traced on one example and compared on others: `run`, the text, and `to_torch` in eval mode."""
    model.eval()
    graph = qgraph.trace(model, tuple(random(shape, 99) for shape in shapes))
    assert qgraph.parse(str(graph), constants=graph) == graph
    module = qgraph.to_torch(graph).eval()
    for seed in (1, 2):
        inputs = [random((batch, *shape[1:]), seed + i) for i, shape in enumerate(shapes)]
        expected = tensors(model(*(x.clone() for x in inputs)))
        result = qgraph.run(graph, *(x.numpy() for x in inputs))
        got = list(result.values()) if isinstance(result, dict) else [result]
        for found in (got, tensors(module(*inputs))):
            assert len(found) == len(expected)
            for a, b in zip(found, expected, strict=True):
                same(a, b)
    return graph
