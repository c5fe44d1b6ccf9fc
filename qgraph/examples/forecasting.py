"""Forecasting: the next 24 hours of a transformer's load from the last 48 hours of all its series, by an LSTM.

The data are ETTh1 (Zhou et al., Informer, 2021): seven series by the hour, of which the first is forecast, standardized
by their first twelve months, of 30 days each. Twelve months train, months 17 to 20 test, as published. Without them:
daily waves, a drift and noise, made here.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from qgraph.errors import FileError
from qgraph.examples.task import Array, Task

DATA = "ett/ETTh1.csv"
PAST, AHEAD = 48, 24
MONTH = 30 * 24
EVERY = 3
"""Hours between two windows."""


class Forecaster(nn.Module):
    """An LSTM over the window less its last values; from its last state a linear layer forecasts what is added to
    them."""

    def __init__(self, series: int) -> None:
        super().__init__()
        self.body = nn.LSTM(series, 24, batch_first=True)
        self.head = nn.Linear(24, AHEAD)

    def forward(self, x: Tensor) -> Tensor:
        now = x[:, -1:]
        steps, _ = self.body(x - now)
        ahead: Tensor = self.head(steps[:, -1]) + now[:, :, 0]
        return ahead


def task(data: Path | None, seed: int) -> Task:
    """Windows of the file's series, or of synthetic ones."""
    series = synthetic(seed) if data is None else read(data)
    train, test = windows(series, 0, 12 * MONTH), windows(series, 16 * MONTH, 20 * MONTH)
    return Task(
        title="forecasting, LSTM",
        data="synthetic" if data is None else data.name,
        model=Forecaster(series.shape[1]),
        train={"x": train[0]},
        train_target=train[1],
        test={"x": test[0]},
        test_target=test[1],
        loss=F.mse_loss,
        metrics={"MSE": squared_error, "MSE of persistence": lambda made, target: squared_error(last(test[0]), target)},
        epochs=6,
        learning_rate=3e-3,
        targets=("litert", "onnxruntime"),
    )


def read(path: Path) -> NDArray[np.float32]:
    """The series of a file [hours, series], standardized; raises FileError for a file of another kind."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            numbers = np.array([row[1:] for row in csv.reader(file)][1:], np.float32)
    except (OSError, ValueError) as error:
        raise FileError(f"{path} is no table of series: {error}", help="give date and numbers, by commas") from None
    if numbers.ndim != 2 or len(numbers) < 20 * MONTH:
        raise FileError(f"{path} has {len(numbers)} rows, not the hours of 20 months", help="give ETTh1.csv")
    return standardized(numbers)


def synthetic(seed: int) -> NDArray[np.float32]:
    """Three series of 20 months: daily waves of a drifting size, noise; the first is the sum of the others, later."""
    rng = np.random.default_rng(seed)
    hours = np.arange(20 * MONTH)
    waves = [np.sin(2 * np.pi * (hours + shift) / 24) * (1 + 0.3 * np.sin(hours / 500)) for shift in (0, 7)]
    noise = rng.normal(0, 0.2, (len(hours), 2)).astype(np.float32)
    drivers = np.stack(waves, 1) + noise
    driven = np.roll(drivers.sum(1), 3) + np.cumsum(rng.normal(0, 0.02, len(hours)))
    return standardized(np.concatenate([driven[:, None], drivers], 1).astype(np.float32))


def standardized(series: Array) -> NDArray[np.float32]:
    """By mean and spread of the first twelve months."""
    known = series[: 12 * MONTH]
    made: NDArray[np.float32] = ((series - known.mean(0)) / known.std(0)).astype(np.float32)
    return made


def windows(series: Array, start: int, end: int) -> tuple[Array, Array]:
    """Windows [n, PAST, series] and what follows of the first [n, AHEAD], between two hours."""
    firsts = range(start, min(end, len(series)) - PAST - AHEAD + 1, EVERY)
    past = np.stack([series[i : i + PAST] for i in firsts])
    ahead = np.stack([series[i + PAST : i + PAST + AHEAD, 0] for i in firsts])
    return past, ahead


def last(past: Array) -> Array:
    """The forecast that nothing changes."""
    return np.repeat(past[:, -1:, 0], AHEAD, 1)


def squared_error(made: Array, target: Array) -> float:
    """The mean of squared errors of standardized values."""
    return float(((made - target) ** 2).mean())
