"""Recommendation: which film a user watches next, by neural collaborative filtering.

The data are MovieLens, latest small (Harper and Konstan 2015; ratings.csv in a folder). Without them: users and films
with tastes of four numbers, made here. Of each user the last film is held out and ranked among 99 that the user has not
rated (He et al. 2017): HR@10 says how often it is among the first ten, NDCG@10 how high.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qgraph.errors import FileError
from qgraph.examples.task import Array, Task

DATA = "ml-latest-small"
OTHERS = 99
NEGATIVES = 4
"""Films not watched for each that was, in training."""


class NeuralCollaborativeFiltering(nn.Module):
    """The product of factors beside layers on other factors, as NeuMF does."""

    def __init__(self, users: int, films: int, width: int = 16) -> None:
        super().__init__()
        self.user, self.film = nn.Embedding(users, 2 * width), nn.Embedding(films, 2 * width)
        self.layers = nn.Sequential(nn.Linear(2 * width, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 16), nn.ReLU())
        self.head = nn.Linear(width + 16, 1)
        self.width = width

    def forward(self, user: Tensor, film: Tensor) -> Tensor:
        a, b = self.user(user), self.film(film)
        product = a[:, : self.width] * b[:, : self.width]
        deep = self.layers(torch.cat([a[:, self.width :], b[:, self.width :]], 1))
        made: Tensor = self.head(torch.cat([product, deep], 1))
        return made


def task(data: Path | None, seed: int) -> Task:
    """Pairs of users and films, with as many of unwatched films; one held out film of each user among others."""
    rng = np.random.default_rng(seed)
    events = synthetic(rng) if data is None else read(data)
    users, films = int(events[:, 0].max()) + 1, int(events[:, 1].max()) + 1
    seen = np.zeros((users, films), bool)
    seen[events[:, 0], events[:, 1]] = True
    last = np.zeros(users, np.int64)
    last[events[:, 0]] = events[:, 1]  # events are in order: the last one stays
    known = events[events[:, 1] != last[events[:, 0]]]
    others = np.stack([rng.choice(np.flatnonzero(~row), OTHERS, replace=False) for row in seen])
    ranked = np.concatenate([last[:, None], others], 1)
    negatives = np.stack([np.repeat(known[:, 0], NEGATIVES), rng.integers(0, films, NEGATIVES * len(known))], 1)
    negatives = negatives[~seen[negatives[:, 0], negatives[:, 1]]]
    pairs = np.concatenate([known, negatives])
    return Task(
        title="recommendation, NCF",
        data="synthetic" if data is None else data.name,
        model=NeuralCollaborativeFiltering(users, films),
        train={"user": pairs[:, 0].copy(), "film": pairs[:, 1].copy()},
        train_target=(np.arange(len(pairs)) < len(known)).astype(np.float32)[:, None],
        test={"user": np.repeat(np.arange(users), OTHERS + 1), "film": ranked.ravel()},
        test_target=np.zeros(users * (OTHERS + 1)),  # the first of each hundred is the one
        loss=F.binary_cross_entropy_with_logits,
        metrics={"HR@10": hit_rate, "NDCG@10": discounted_gain},
        epochs=6,
        batch_size=512,
        targets=("litert", "onnxruntime"),
    )


def read(folder: Path) -> Array:
    """Users and films [n, 2], numbered from 0, by time; raises FileError."""
    path = folder / "ratings.csv"
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 1, 3), dtype=np.int64)
    except (OSError, ValueError) as error:
        raise FileError(f"{path} holds no ratings: {error}", help="give the folder ml-latest-small") from None
    table = table[np.argsort(table[:, 2], kind="stable")]
    columns = [np.unique(table[:, i], return_inverse=True)[1] for i in (0, 1)]
    return np.stack(columns, 1)


def synthetic(rng: np.random.Generator, users: int = 200, films: int = 300, each: int = 40) -> Array:
    """Films that users with tastes of four numbers like best, with noise, in random order."""
    liking = rng.normal(size=(users, 4)) @ rng.normal(size=(4, films)) + rng.gumbel(size=(users, films))
    best = np.argsort(-liking, 1)[:, :each]
    events = np.stack([np.repeat(np.arange(users), each), rng.permuted(best, axis=1).ravel()], 1)
    made: Array = events[rng.permutation(len(events))]
    return made


def ranks(scores: Array) -> Array:
    """How many of the others score at least as high as the first of each hundred."""
    table = scores.reshape(-1, OTHERS + 1)
    made: Array = (table[:, 1:] >= table[:, :1]).sum(1)
    return made


def hit_rate(scores: Array, target: Array) -> float:
    """The share of users whose film is among the first ten."""
    return float((ranks(scores) < 10).mean())


def discounted_gain(scores: Array, target: Array) -> float:
    """The mean of 1 / log2(rank + 2) where the film is among the first ten, else 0."""
    place = ranks(scores)
    return float(np.where(place < 10, 1 / np.log2(place + 2), 0).mean())
