"""Anomaly detection: an autoencoder that learned a machine's normal course fails to redraw what is not normal.

Windows of 24 hours of all series of ETTh1, or of synthetic ones, as in `forecasting`, each less its mean. A third of
the test windows gets a fault: a sensor that sticks, a spike, or a step. A window's score is its mean squared error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from qgraph.examples.forecasting import MONTH, read, synthetic
from qgraph.examples.task import Array, Task, area_under_curve

DATA = "ett/ETTh1.csv"
HOURS = 24


class Autoencoder(nn.Module):
    """Linear layers with batch normalization down to sixteen numbers and up again, as in MLPerf Tiny's."""

    def __init__(self, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((size, 96), (96, 48), (48, 16), (16, 48), (48, 96)):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(96, size))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return made


def task(data: Path | None, seed: int) -> Task:
    """Normal windows to train on, and windows of which a third has a fault."""
    series = synthetic(seed) if data is None else read(data)
    train = _windows(series[: 12 * MONTH], 2)
    normal = _windows(series[16 * MONTH : 20 * MONTH], 6)
    test, faulty = with_faults(normal, series.shape[1], seed)
    return Task(
        title="anomaly detection, autoencoder",
        data="synthetic" if data is None else data.name,
        model=Autoencoder(train.shape[1]),
        train={"x": train},
        train_target=train,
        test={"x": test},
        test_target=faulty,
        loss=F.mse_loss,
        metrics={"AUC": lambda made, target: area_under_curve(((made - test) ** 2).mean(1), target)},
        epochs=12,
        targets=("tflm", "litert", "onnxruntime"),
    )


def _windows(series: Array, every: int) -> Array:
    made = np.stack([series[i : i + HOURS] for i in range(0, len(series) - HOURS, every)])
    return centred(made)


def centred(windows: Array) -> Array:
    """Windows [n, HOURS, series] less the mean of each series, as rows."""
    made: Array = (windows - windows.mean(1, keepdims=True)).reshape(len(windows), -1)
    return made


def with_faults(windows: Array, series: int, seed: int) -> tuple[Array, Array]:
    """The windows, a third of them with a fault in one series, and which these are."""
    rng = np.random.default_rng(seed)
    made = windows.reshape(-1, HOURS, series).copy()
    faulty = rng.random(len(made)) < 1 / 3
    for index in np.flatnonzero(faulty):
        one, start = made[index, :, rng.integers(series)], rng.integers(0, HOURS // 2)
        kind = rng.integers(3)
        if kind == 0:
            one[start:] = one[start]
        elif kind == 1:
            one[start] += rng.choice([-1, 1]) * 4
        else:
            one[start:] += rng.choice([-1, 1]) * 2
    return centred(made), faulty
