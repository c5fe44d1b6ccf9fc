"""Writes to elements by their indices, for `test_torch_rows.py`: functions, and shapes of their inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PLACES = torch.tensor([0, 2, 4])
TWICE = torch.tensor([3, 1, 3])


def write(x: Tensor, values: Tensor) -> Tensor:
    y = x.clone()
    y[:, PLACES] = values
    return y


def write_rows(x: Tensor, i: Tensor, values: Tensor) -> Tensor:
    y = x.clone()
    y[torch.arange(x.shape[0]), i] = values
    return y


def write_in_rows(x: Tensor, i: Tensor, values: Tensor) -> Tensor:
    y = x.clone()
    y[torch.arange(x.shape[0])[:, None], i % 2 + torch.tensor([0, 2])] = values
    return y


def write_masked(x: Tensor, mask: Tensor) -> Tensor:
    y = x * 1
    y[mask] = 0.5
    return y


def write_columns(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, [0, -1], [1, 3]] = 7.0
    return y


def unpool(x: Tensor) -> Tensor:
    y, places = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(y * 2, places, 2)


X, V = (2, 5, 6), (2, 3, 6)
I = ("i", 5, 2, 3, 6)
CASES: dict[str, Any] = {
    **{
        f"scatter_reduce, {word}": (lambda x, i, v, word=word: x.scatter_reduce(1, i, v, word), (X, I, V))
        for word in ("sum", "prod", "amax", "amin")
    },
    "scatter": (lambda x, i, v: x.scatter(1, i[:, :1], v[:, 1:2]), (X, I, V)),
    "scatter to the last": (lambda x, i, v: x.scatter(-1, i, v), ((2, 3, 5), ("i", 5, 2, 3, 1), (2, 3, 1))),
    "scatter of the largest": (lambda x: torch.zeros_like(x).scatter(1, x.topk(2, 1)[1], x.topk(2, 1)[0]), (X,)),
    "scatter_add": (lambda x, i, v: x.scatter_add(1, i, v), (X, I, V)),
    "scatter_add to less": (lambda x, i, v: x.scatter_add(1, i, v), (X, ("i", 5, 2, 2, 4), (2, 2, 4))),
    "scatter_add of some": (lambda x, i: x.long().scatter_add(1, i[:, :1], i), (X, ("i", 5, 2, 2, 4))),
    "index_add": (lambda x, v: x.index_add(1, TWICE, v), (X, V)),
    "index_add with alpha": (lambda x, v: x.index_add(1, TWICE, v, alpha=0.5), (X, V)),
    "index_add to the last": (lambda x, v: x.index_add(2, TWICE, v), ((2, 3, 5), (2, 3, 3))),
    "index_add of maps": (lambda x, v: x.index_add(1, TWICE, v), ((2, 4, 3, 2), (2, 3, 3, 2))),
    "index_copy": (lambda x, v: x.index_copy(1, PLACES, v), (X, V)),
    "index_fill": (lambda x: x.index_fill(1, PLACES, 0.5), (X,)),
    "index_put": (write, (X, V)),
    "index_put of several": (write_columns, (X,)),
    "index_put by a mask": (write_masked, (X, ("b", *X))),
    "index_put by a mask of rows": (write_masked, (X, ("b", 2, 5))),
    "index_put of one in each row": (write_rows, (X, ("i", 5, 2), (2, 6))),
    "index_put of some in each row": (write_in_rows, ((2, 5), ("i", 5, 2, 1), (2, 2))),
    "masked_scatter": (lambda x, mask, v: x.masked_scatter(mask, v), (X, ("b", *X), (2, 7, 6))),
    "masked_scatter of rows": (lambda x, mask, v: x.masked_scatter(mask[..., None], v), (X, ("b", 2, 5), X)),
    "max_unpool2d": (unpool, ((2, 3, 4, 6),)),
}
