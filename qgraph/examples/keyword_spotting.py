"""Keyword spotting: spoken digits from mel-frequency cepstra, by a depthwise separable CNN for microcontrollers.

The data are the Free Spoken Digit Dataset (Jackson et al., 8 kHz; recordings 0 to 4 of each digit and speaker test, as
its authors split it). Without them: syllables of two gliding tones in noise, made here. The model is DS-CNN (Zhang et
al., Hello Edge, 2017), smaller.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from qgraph.errors import FileError
from qgraph.examples.task import Array, Task, classified

DATA = "fsdd.npz"
RATE, LENGTH = 8000, 6400
"""Samples a second, and of a recording: longer ones are cut, shorter ones end in silence."""
WINDOW, HOP, BANDS, CEPSTRA = 320, 160, 24, 10
CLASSES = 10


class DsCnn(nn.Module):
    """A convolution over time and cepstra, three depthwise separable ones, a mean."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers = [*_normalized(nn.Conv2d(1, width, (10, 4), (2, 2), (5, 1), bias=False))]
        for _ in range(3):
            layers += _normalized(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False))
            layers += _normalized(nn.Conv2d(width, width, 1, bias=False))
        self.layers, self.head = nn.Sequential(*layers, nn.Dropout(0.1)), nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(self.layers(x).mean((2, 3)))
        return made


def _normalized(layer: nn.Conv2d) -> list[nn.Module]:
    return [layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()]


def task(data: Path | None, seed: int) -> Task:
    """Cepstra [n, 1, frames, CEPSTRA] of recordings and their digits."""
    train, train_digit, test, test_digit = synthetic(seed) if data is None else read(data)
    features = [cepstra(each) for each in (train, test)]
    mean, spread = features[0].mean((0, 1)), features[0].std((0, 1))
    inputs = [((each - mean) / spread)[:, None].astype(np.float32) for each in features]
    return Task(
        title="keyword spotting, DS-CNN",
        data="synthetic" if data is None else data.name,
        model=DsCnn(),
        train={"x": inputs[0]},
        train_target=train_digit,
        test={"x": inputs[1]},
        test_target=test_digit,
        loss=F.cross_entropy,
        metrics={"accuracy %": classified},
        epochs=12,
        targets=("tflm", "onnxruntime"),
    )


def read(path: Path) -> tuple[Array, Array, Array, Array]:
    """Training and test recordings [n, LENGTH] and their digits; raises FileError for a file of another kind."""
    try:
        with np.load(path) as file:
            audio, offsets = file["audio"], file["offsets"]
            digit, test = file["digit"].astype(np.int64), file["index"] < 5
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise FileError(f"{path} holds no spoken digits: {error}", help="give fsdd.npz") from None
    sounds = np.zeros((len(digit), LENGTH), np.float32)
    for row, start, end in zip(sounds, offsets, offsets[1:], strict=False):
        part = audio[start : min(end, start + LENGTH)]
        row[: len(part)] = part / np.float32(2**15)
    return sounds[~test], digit[~test], sounds[test], digit[test]


def synthetic(seed: int, train: int = 1200, test: int = 300) -> tuple[Array, Array, Array, Array]:
    """Syllables: two tones that glide in a way of their own for each class, at a random place, pitch and loudness."""
    rng = np.random.default_rng(seed)
    digit = rng.integers(0, CLASSES, train + test)
    starts = rng.integers(0, LENGTH // 3, train + test)
    time = np.arange(LENGTH // 2) / RATE
    sounds = rng.normal(0, 0.05, (train + test, LENGTH)).astype(np.float32)
    for row, kind, start in zip(sounds, digit, starts, strict=True):
        pitch, glide = rng.normal(1, 0.05), (kind % 5 - 2) * 600
        low = np.sin(2 * np.pi * pitch * (300 + 150 * (kind // 5)) * time)
        high = np.sin(2 * np.pi * pitch * (1500 + glide * time) * time)
        row[start : start + len(time)] += rng.uniform(0.2, 1) * (low + high) * np.hanning(len(time))
    return sounds[:train], digit[:train], sounds[train:], digit[train:]


def cepstra(sounds: Array) -> NDArray[np.float32]:
    """Mel-frequency cepstra [n, frames, CEPSTRA] of sounds [n, LENGTH] (Davis and Mermelstein 1980)."""
    places = np.arange(0, LENGTH - WINDOW + 1, HOP)[:, None] + np.arange(WINDOW)
    power = np.abs(np.fft.rfft(sounds[:, places] * np.hanning(WINDOW), 512)) ** 2
    log = np.log(power @ mel_bands().T + 1e-6)
    angles = np.pi * np.outer(np.arange(CEPSTRA), np.arange(BANDS) + 0.5) / BANDS
    made: NDArray[np.float32] = (log @ np.cos(angles).T).astype(np.float32)
    return made


def mel_bands() -> Array:
    """Triangles [BANDS, 257] of equal width on the mel scale, 2595 log10(1 + f / 700)."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    frequency = np.fft.rfftfreq(512, 1 / RATE)
    rising = (frequency - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequency) / np.diff(edges)[1:, None]
    bands: Array = np.maximum(0, np.minimum(rising, falling))
    return bands
