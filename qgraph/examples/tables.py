"""Tables: who earns more than 50,000 dollars, from columns of words and numbers, by embeddings and layers.

The data are UCI's Adult (Becker and Kohavi 1996; adult.csv). Without them: columns of which some matter, made here.
Numbers are standardized, words numbered column by column.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qgraph.errors import FileError
from qgraph.examples.task import Array, Task, area_under_curve

DATA = "adult.csv"
TRAIN_SHARE = 0.8


class WideAndDeep(nn.Module):
    """A weight for every word beside layers on numbers and embeddings of words (Cheng et al. 2016)."""

    def __init__(self, numbers: int, words: int, columns: int, width: int = 8) -> None:
        super().__init__()
        self.wide, self.table = nn.Embedding(words, 1), nn.Embedding(words, width)
        layers = [nn.Linear(numbers + columns * width, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 32), nn.ReLU()]
        self.deep = nn.Sequential(*layers, nn.Linear(32, 1))

    def forward(self, numbers: Tensor, words: Tensor) -> Tensor:
        deep = self.deep(torch.cat([numbers, self.table(words).flatten(1)], 1))
        made: Tensor = deep + self.wide(words).sum(1)
        return made


def task(data: Path | None, seed: int) -> Task:
    """Rows of a file, or synthetic ones, a fifth of which test."""
    numbers, words, target = synthetic(seed) if data is None else read(data)
    order = np.random.default_rng(seed).permutation(len(target))
    train, test = np.split(order, [int(TRAIN_SHARE * len(order))])
    numbers = ((numbers - numbers[train].mean(0)) / numbers[train].std(0)).astype(np.float32)
    return Task(
        title="tables, wide and deep",
        data="synthetic" if data is None else data.name,
        model=WideAndDeep(numbers.shape[1], int(words.max()) + 1, words.shape[1]),
        train={"numbers": numbers[train], "words": words[train]},
        train_target=target[train].astype(np.float32)[:, None],
        test={"numbers": numbers[test], "words": words[test]},
        test_target=target[test],
        loss=F.binary_cross_entropy_with_logits,
        metrics={
            "AUC": area_under_curve,
            "accuracy %": lambda made, here: 100 * float(((made[:, 0] > 0) == here).mean()),
        },
        epochs=6,
        batch_size=256,
        targets=("litert", "onnxruntime"),
    )


def read(path: Path) -> tuple[Array, Array, Array]:
    """Numbers [n, a], numbers of words [n, b] and the last column's larger value; raises FileError."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row][1:]
        columns = [np.array(column) for column in zip(*rows, strict=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise FileError(f"{path} is no table: {error}", help="give adult.csv") from None
    if len(columns) < 3 or len(set(columns[-1])) != 2:
        raise FileError(f"{path} has no last column of two values", help="give adult.csv")
    *columns, last = columns
    numeric = [column for column in columns if _is_numeric(column)]
    found, words = 0, []
    for column in columns:
        if not _is_numeric(column):
            names, place = np.unique(column, return_inverse=True)
            words.append(place + found)
            found += len(names)
    return np.stack(numeric, 1).astype(np.float64), np.stack(words, 1), last == max(last)


def _is_numeric(column: Array) -> bool:
    return all(cell.lstrip("-").isdigit() for cell in column[:100])


def synthetic(seed: int, count: int = 6000) -> tuple[Array, Array, Array]:
    """Four numbers and three columns of eight words; two numbers and two columns matter, together."""
    rng = np.random.default_rng(seed)
    numbers, words = rng.normal(size=(count, 4)), rng.integers(0, 8, (count, 3))
    effect = rng.normal(size=(2, 8))
    score = numbers[:, 0] * effect[0, words[:, 0]] + effect[1, words[:, 1]] + 0.5 * numbers[:, 1]
    return numbers, words + np.array([0, 8, 16]), score + rng.normal(0, 0.3, count) > 0
