"""AdaRound against the paper's loss written out, its gradient by autograd and Adam by torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from qgraph.ir import Array
from qgraph.ptq.adaround import _learned, adarounded
from qgraph.ptq.weight_rounding import Rows


def rows(count: int = 6, inputs: int = 5, seed: int = 0, low: int = -3, high: int = 2) -> Rows:
    """Some weights lie beyond the grid at either end."""
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 1, (count, inputs))
    scale = np.abs(w).max(1, keepdims=True) / rng.uniform(2.1, 4.9, (count, 1))
    x = (rng.normal(0, 1, (40, 3)) @ rng.normal(0, 1, (3, inputs)) + rng.normal(0, 0.3, (40, inputs))).astype(
        np.float32
    )
    return Rows(w, scale, low, high, x, (x @ w.T + rng.normal(0, 0.1, (40, count))).astype(np.float32))


def learned_by_torch(given: Rows, steps: int) -> Array:
    """h after so many steps of Adam, of a mean over the examples of the squared error and of the regularizer."""
    x, y, w, scale = (torch.from_numpy(np.float64(a)) for a in (given.x, given.wanted, given.weight, given.scale))
    below = (w / scale).floor()
    part = w / scale - below
    v = -torch.log(1.2 / (part + 0.1) - 1)
    v.requires_grad_(True)
    adam = torch.optim.Adam([v], lr=0.02)
    h: Tensor = torch.zeros_like(part)
    for step in range(1, steps + 1):
        h = (1.2 * torch.sigmoid(v) - 0.1).clamp(0, 1)
        rounded = scale * (below + h).clamp(given.low, given.high)
        loss = (x @ rounded.T - y).square().sum(1).mean()
        progress = step / steps
        if progress >= 0.2:
            beta = 2 + 18 * (1 + np.cos(np.pi * (progress - 0.2) / 0.8)) / 2
            loss = loss + 0.01 * (1 - (2 * h - 1).abs() ** beta).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return h.detach().numpy()


def learned(given: Rows, steps: int) -> Array:
    x, y = given.x.astype(np.float64), given.wanted.astype(np.float64)
    below = np.floor(given.weight / given.scale)
    return _learned(given, below, 2 * (x.T @ x) / len(x), 2 * (x.T @ y).T / len(x), steps)


@pytest.mark.parametrize(("steps", "seed"), [(1, 0), (2, 0), (10, 0), (200, 0), (200, 7)])
def test_every_step_is_that_of_adam_on_the_loss_of_the_paper(steps: int, seed: int) -> None:
    """With seed 7 the error draws at a weight that has left the range of the sigmoid, where nothing moves it."""
    given = rows(seed=seed)
    np.testing.assert_allclose(learned(given, steps), learned_by_torch(given, steps), rtol=1e-6, atol=1e-7)


def test_what_is_learned_begins_where_the_weights_are() -> None:
    given = rows()
    steps = given.weight / given.scale
    np.testing.assert_allclose(learned(given, 1), steps - np.floor(steps), atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_each_row_is_rounded_as_learned_where_that_is_better_than_to_the_nearest(seed: int) -> None:
    given = rows(count=20, inputs=8, seed=seed)
    h = learned_by_torch(given, 60)
    steps = given.weight / given.scale
    learned_codes, nearest = (
        np.clip(each, given.low, given.high) for each in (np.floor(steps) + (h >= 0.5), np.rint(steps))
    )

    def error(codes: Array) -> Array:
        return np.square(given.x @ (codes * given.scale).T - given.wanted).sum(0)

    better = error(learned_codes) < error(nearest)
    found = adarounded(given, 60)
    assert np.array_equal(found, np.where(better[:, None], learned_codes, nearest))
    assert better.any()
    assert (error(learned_codes) > error(nearest)).any()


def test_a_weight_in_the_middle_of_two_codes_goes_up() -> None:
    """Its inputs are zero, so that nothing is learned, and both roundings cost nothing: to the nearest then."""
    given = Rows(np.float64([[0.5, 1.5, -0.5]]), np.ones((1, 1)), -3, 3, np.zeros((4, 3), np.float32), np.zeros((4, 1)))
    assert adarounded(given, 1).tolist() == [[0, 2, 0]]
    seen = Rows(np.float64([[0.5]]), np.ones((1, 1)), -3, 3, np.ones((4, 1), np.float32), np.ones((4, 1)))
    assert adarounded(seen, 1).tolist() == [[1]]


def test_codes_are_the_nearest_within_the_grid() -> None:
    given = Rows(np.float64([[0.5, 1.5, -9, 9]]), np.ones((1, 1)), -3, 2, np.ones((1, 4), np.float32), np.ones((1, 1)))
    assert given.nearest().tolist() == [[0, 2, -3, 2]]
