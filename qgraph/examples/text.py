"""Text classification: the intents of a bank's customers, by a small transformer over words.

The data are banking77 (Casanueva et al. 2020: train.csv and test.csv of text and category, in a folder). Without them:
sentences of a made-up language, made here, whose class follows from two words and their order. Words are the most
frequent of the training texts.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qgraph.errors import FileError
from qgraph.examples.task import Array, Task, classified

DATA = "banking77"
LENGTH, WORDS = 24, 2000
PADDING, UNKNOWN = 0, 1
Texts = tuple[list[str], Array]
"""Texts and their classes."""


class TextClassifier(nn.Module):
    """Embeddings of words and places, two of torch's own encoder layers, a mean over all places."""

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(LENGTH, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, batch_first=True, activation="gelu")
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x) + self.places(torch.arange(LENGTH, device=x.device))
        made: Tensor = self.head(self.body(y).mean(1))
        return made


def task(data: Path | None, seed: int) -> Task:
    """The folder's texts as ids of words [n, LENGTH], or synthetic ones."""
    train, test = synthetic(seed) if data is None else read(data)
    known = vocabulary(train[0])
    inputs = [{"x": np.stack([ids(text, known) for text in texts])} for texts, _ in (train, test)]
    return Task(
        title="text classification, transformer",
        data="synthetic" if data is None else data.name,
        model=TextClassifier(int(train[1].max()) + 1),
        train=inputs[0],
        train_target=train[1],
        test=inputs[1],
        test_target=test[1],
        loss=F.cross_entropy,
        metrics={"accuracy %": classified},
        epochs=20,
        learning_rate=2e-3,
        targets=("litert", "onnxruntime"),
    )


def read(folder: Path) -> tuple[Texts, Texts]:
    """Training and test texts and the numbers of their categories; raises FileError."""
    parts = [_rows(folder / name) for name in ("train.csv", "test.csv")]
    if not all(len(row) == 2 for rows in parts for row in rows):
        raise FileError(f"{folder} has other columns than text and category", help="give the folder banking77")
    numbers = {name: index for index, name in enumerate(sorted({row[1] for row in parts[0]}))}
    train, test = (([row[0] for row in rows], np.array([numbers[row[1]] for row in rows])) for rows in parts)
    return train, test


def _rows(path: Path) -> list[list[str]]:
    """The rows of a table below its head."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1:]
    except (OSError, ValueError, csv.Error) as error:
        raise FileError(f"{path} cannot be read: {error}", help="give the folder banking77") from None


def synthetic(seed: int, train: int = 3000, test: int = 600) -> tuple[Texts, Texts]:
    """Sentences of a hundred words; of eight that matter two are in each, and the class is which, in which order."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abdeiklmnorstu"), 5)) for _ in range(100)]
    pairs = [(a, b) for a in range(4) for b in range(4, 8)]
    texts, classes = [], rng.integers(0, 2 * len(pairs), train + test)
    for kind in classes:
        sentence = list(rng.choice(words[8:], rng.integers(6, 14)))
        a, b = pairs[kind // 2] if kind % 2 else pairs[kind // 2][::-1]
        places = sorted(rng.choice(len(sentence) + 1, 2, replace=False))
        sentence.insert(places[1], words[b])
        sentence.insert(places[0], words[a])
        texts.append(" ".join(sentence))
    return (texts[:train], classes[:train]), (texts[train:], classes[train:])


def tokens(text: str) -> list[str]:
    """Words in small letters, numbers and marks.

    >>> tokens("Why's my card_2 late?")
    ['why', "'", 's', 'my', 'card', '_', '2', 'late', '?']
    """
    return re.findall(r"[a-z]+|[0-9]+|[^a-z0-9\s]", text.lower())


def vocabulary(texts: Sequence[str]) -> dict[str, int]:
    """The numbers of the most frequent words, from 2 on."""
    counted = Counter(word for text in texts for word in tokens(text))
    return {word: UNKNOWN + 1 + index for index, (word, _) in enumerate(counted.most_common(WORDS - UNKNOWN - 1))}


def ids(text: str, known: dict[str, int]) -> Array:
    """Numbers of words [LENGTH]: unknown ones are 1, places behind the last 0."""
    found = [known.get(word, UNKNOWN) for word in tokens(text)][:LENGTH]
    return np.array([*found, *[PADDING] * (LENGTH - len(found))], np.int64)
