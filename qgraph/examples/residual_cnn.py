"""The demo's network: a small residual CNN with every kind of layer that a compiler for CNNs has to get right.

    stem        3x3 convolution, stride 2        [N, C, H, W]      ->  [N, 32, H/2, W/2]
    block1      two 3x3 convolutions, addition   [N, 32, H/2, W/2] ->  the same
    separable   depthwise 3x3, pointwise 1x1     [N, 32, H/2, W/2] ->  [N, 64, H/4, W/4]
    block2      two 3x3 convolutions, addition   [N, 64, H/4, W/4] ->  the same
    head        global average pool, linear      [N, 64, H/4, W/4] ->  [N, classes]

Each convolution has a batch normalization and a ReLU, which comes after the addition where there is one. 96,074
parameters for gray images and 10 classes; 7.4 million multiplications for an image of 28x28.
"""

from __future__ import annotations

from torch import Tensor, nn


def conv_bn(channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A padded convolution without bias, and its batch normalization."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


class ResidualBlock(nn.Module):
    """relu(x + conv(relu(conv(x)))), [N, channels, H, W] to the same shape (He et al. 2015, figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels, 3)
        self.second = conv_bn(channels, channels, 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.second(self.relu(self.first(x)))
        result: Tensor = self.relu(x + branch)
        return result


class ResidualCnn(nn.Module):
    """Logits [N, classes] of images [N, channels, H, W] of any size."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(channels, 32, 3, stride=2), nn.ReLU())
        self.block1 = ResidualBlock(32)
        self.separable = nn.Sequential(
            conv_bn(32, 32, 3, stride=2, groups=32),
            nn.ReLU(),
            conv_bn(32, 64, 1),
            nn.ReLU(),
        )
        self.block2 = ResidualBlock(64)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.block2(self.separable(self.block1(self.stem(x))))
        logits: Tensor = self.head(self.pool(features).flatten(1))
        return logits
