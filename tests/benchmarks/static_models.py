"""Float ONNX models of ten kinds, as torch exports them, each with the examples that calibrate and judge it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from qgraph.ir import Array

CALIBRATION, TEST = 64, 16
"""Examples that ranges come from, and others that the results are judged by."""


class Residual(nn.Module):
    """x + conv(relu(conv(x))), as in ResNet (He et al., 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.body(x)).relu()


class Inverted(nn.Module):
    """The block of MobileNetV2 (Sandler et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 6 * channels
        self.body = nn.Sequential(
            conv(channels, wide, 1), nn.ReLU6(), conv(wide, wide, groups=wide), nn.ReLU6(), conv(wide, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Unet(nn.Module):
    """Down, up, and the skipped values beside what came up (Ronneberger et al., 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.low = nn.Sequential(conv(3, 16), nn.ReLU()), nn.Sequential(conv(16, 32), nn.ReLU())
        self.up, self.head = (
            nn.ConvTranspose2d(32, 16, 2, 2),
            nn.Sequential(conv(32, 16), nn.ReLU(), nn.Conv2d(16, 4, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        skipped = self.down(x)
        return self.head(torch.cat([skipped, self.up(self.low(nn.functional.max_pool2d(skipped, 2)))], 1))


class Recommendation(nn.Module):
    """Embeddings of ids beside numbers, and products of all pairs (DLRM; Naumov et al., 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(1000, 32) for _ in range(4))
        self.dense = nn.Sequential(nn.Linear(13, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(32 + 25, 256), nn.ReLU(), nn.Linear(256, 1), nn.Sigmoid())

    def forward(self, numbers: Tensor, ids: Tensor) -> Tensor:
        x = self.dense(numbers)
        rows = torch.stack([x, *(table(ids[:, i]) for i, table in enumerate(self.tables))], 1)
        return self.head(torch.cat([x, (rows @ rows.transpose(1, 2)).flatten(1)], 1))


class Encoder(nn.Module):
    """Attention and a feed-forward network behind layer normalizations, of `depth` layers, written out."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(width),
                    "qkv": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "mlp": nn.Sequential(
                        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
                    ),
                }
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            q, k, v = layer["qkv"](layer["norm"](x)).chunk(3, -1)
            q, k, v = (each.reshape(x.shape[0], 32, self.heads, -1).transpose(1, 2) for each in (q, k, v))
            scores = (q @ k.transpose(-1, -2) / 4).softmax(-1)
            x = x + layer["out"]((scores @ v).transpose(1, 2).reshape(x.shape[0], 32, -1))
            x = x + layer["mlp"](x)
        return x


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(32, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Detector(nn.Module):
    """Boxes and scores of every place of two maps, one-stage (Redmon et al., 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(conv(3, 16, stride=2), nn.SiLU(), conv(16, 32, stride=2), nn.SiLU())
        self.coarse = nn.Sequential(conv(32, 64, stride=2), nn.SiLU())
        self.heads = nn.ModuleList([nn.Conv2d(32, 9, 1), nn.Conv2d(64, 9, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(x)
        maps = [self.heads[0](fine).flatten(2), self.heads[1](self.coarse(fine)).flatten(2)]
        both = torch.cat(maps, 2).transpose(1, 2)
        return both[..., :4], both[..., 4:].sigmoid()


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, but for its stride, and its batch normalization."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


def pooled(*layers: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def cnn() -> nn.Module:
    return pooled(conv(3, 32), nn.ReLU(), nn.MaxPool2d(2), conv(32, 64), nn.ReLU(), nn.MaxPool2d(2), width=64)


def resnet() -> nn.Module:
    return pooled(conv(3, 32, stride=2), nn.ReLU(), *(Residual(32) for _ in range(4)), width=32)


def mobilenet() -> nn.Module:
    return pooled(conv(3, 16, stride=2), nn.ReLU6(), *(Inverted(16) for _ in range(4)), width=16)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def autoencoder() -> nn.Module:
    up = (nn.Upsample(scale_factor=2), conv(32, 16), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid())
    return nn.Sequential(conv(3, 16), nn.ReLU(), nn.AvgPool2d(2), conv(16, 32), nn.ReLU(), *up)


IMAGE = {"image": (3, 64, 64)}
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, tuple[int, ...]]]] = {
    "CNN": (cnn, IMAGE),
    "ResNet, 4 blocks": (resnet, IMAGE),
    "MobileNetV2, 4 blocks": (mobilenet, IMAGE),
    "U-Net": (Unet, IMAGE),
    "detector, SiLU": (Detector, IMAGE),
    "autoencoder": (autoencoder, IMAGE),
    "MLP": (mlp, {"features": (256,)}),
    "transformer encoder": (Encoder, {"tokens": (32, 64)}),
    "LSTM": (Lstm, {"steps": (32, 32)}),
    "DLRM": (Recommendation, {"numbers": (13,), "ids": (4,)}),
}
"""Name -> the model, and the shape of each input without its batch; "ids" are integers."""


def write(name: str, folder: Path) -> dict[str, Array]:
    """Write float.onnx and data.npz (for calibration) into a folder; returns the examples to judge by."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    make, shapes = MODELS[name]
    data = {
        key: rng.integers(0, 1000, (CALIBRATION + TEST, *shape))
        if key == "ids"
        else rng.normal(size=(CALIBRATION + TEST, *shape)).astype(np.float32)
        for key, shape in shapes.items()
    }
    model = make().train()
    with torch.no_grad():
        for _ in range(30):  # so that batch normalization has statistics
            model(*(torch.from_numpy(array[:CALIBRATION]) for array in data.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch's older exporter, whose files people have
        torch.onnx.export(
            model.eval(),
            tuple(torch.from_numpy(array[:2]) for array in data.values()),
            str(folder / "float.onnx"),
            input_names=list(data),
            dynamic_axes={key: {0: "batch"} for key in data},
            dynamo=False,
        )
    np.savez(folder / "data.npz", **{key: array[:CALIBRATION] for key, array in data.items()})  # type: ignore[arg-type]
    return {key: array[CALIBRATION:] for key, array in data.items()}
