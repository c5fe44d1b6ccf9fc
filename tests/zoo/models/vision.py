"""Vision models as people write them: tiny image classifiers, detection heads, segmentation, generation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.models import Case, Sequential, floats, model


def _conv(before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: str = "ReLU") -> nn.Module:
    layer = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(after), getattr(nn, act)())


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.a, self.b = _conv(before, after, 3, stride), nn.Sequential(nn.Conv2d(after, after, 3, 1, 1))
        self.short = nn.Identity() if before == after and stride == 1 else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.b(self.a(x)) + self.short(x))


@model("tiny resnet8", "vision")
def _resnet8() -> Case:
    layers = [_conv(3, 16), Residual(16, 16), Residual(16, 32, 2), Residual(32, 64, 2)]
    return Case(Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)), floats(3, 32, 32))


@model("tiny mobilenet v1 0.25", "vision")
def _mobilenet() -> Case:
    widths, strides = (8, 16, 32, 32, 64, 64, 128, 128), (1, 2, 1, 2, 1, 2, 1)
    layers = [_conv(3, 8, 3, 2, act="ReLU6")]
    for before, after, stride in zip(widths, widths[1:], strides, strict=False):
        layers += [_conv(before, before, 3, stride, before, "ReLU6"), _conv(before, after, 1, act="ReLU6")]
    return Case(Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 2)), floats(3, 96, 96))


class UNet(nn.Module):
    """Down and up with concatenated shortcuts; up by a transposed convolution or by resizing."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.a, self.b, self.c = _conv(3, 8), _conv(8, 16), _conv(16, 32)
        self.up = nn.ConvTranspose2d(32, 32, 2, 2) if mode == "transposed" else nn.Identity()
        self.d, self.e, self.head = _conv(48, 16), _conv(24, 8), nn.Conv2d(8, 2, 1)

    def _up(self, x: Tensor) -> Tensor:
        if self.mode == "transposed":
            return self.up(x)
        corners = {"align_corners": False} if self.mode == "bilinear" else {}
        return F.interpolate(x, scale_factor=2, mode=self.mode, **corners)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.max_pool2d(b, 2))
        d = self.d(torch.cat([self._up(c), b], 1))
        e = self.e(torch.cat([F.interpolate(d, scale_factor=2, mode="nearest"), a], 1))
        return self.head(e)


@model("unet nearest", "segmentation")
def _unet_nearest() -> Case:
    return Case(UNet("nearest"), floats(3, 32, 32))


@model("unet bilinear", "segmentation")
def _unet_bilinear() -> Case:
    return Case(UNet("bilinear"), floats(3, 32, 32))


@model("unet transposed", "segmentation")
def _unet_transposed() -> Case:
    return Case(UNet("transposed"), floats(3, 32, 32))


class Yolo(nn.Module):
    """A small one-stage detector with silu, a feature pyramid and decoded boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.c3, self.c4 = (
            _conv(3, 16, 3, 2, act="SiLU"),
            _conv(16, 32, 3, 2, act="SiLU"),
            _conv(32, 64, 3, 2),
        )
        self.lateral, self.merge = _conv(64, 32, 1, act="SiLU"), _conv(64, 32, act="SiLU")
        self.heads = nn.ModuleList(nn.Conv2d(width, 3 * 7, 1) for width in (32, 64))

    def forward(self, x: Tensor) -> Tensor:
        c3 = self.c3(self.stem(x))
        c4 = self.c4(c3)
        p3 = self.merge(torch.cat([F.interpolate(self.lateral(c4), scale_factor=2), c3], 1))
        found = []
        for head, feature in zip(self.heads, (p3, c4), strict=True):
            y = head(feature).flatten(2).unflatten(1, (3, 7)).permute(0, 1, 3, 2).flatten(1, 2)
            xy, wh, scores = y.split((2, 2, 3), -1)
            found.append(torch.cat([xy.sigmoid() * 2 - 0.5, (wh.sigmoid() * 2) ** 2, scores.sigmoid()], -1))
        return torch.cat(found, 1)


@model("yolo-like", "detection")
def _yolo() -> Case:
    return Case(Yolo(), floats(3, 64, 64))


class CenterNet(nn.Module):
    """Heat map, sizes and offsets as a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(3, 16, 3, 2), Residual(16, 32, 2), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU()
        )
        self.heat, self.size = nn.Conv2d(16, 3, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.body(x)
        heat = self.heat(y).sigmoid()
        return {"heat": heat * (F.max_pool2d(heat, 3, 1, 1) == heat), "size": F.softplus(self.size(y))}


@model("centernet-like", "detection")
def _centernet() -> Case:
    return Case(CenterNet(), floats(3, 64, 64))


@model("espcn", "generation")
def _espcn() -> Case:
    layers = [nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, 8, 3, padding=1), nn.Tanh()]
    return Case(Sequential(*layers, nn.Conv2d(8, 9, 3, padding=1), nn.PixelShuffle(3)), floats(1, 16, 16))


@model("dcgan generator", "generation")
def _dcgan() -> Case:
    layers = [nn.Unflatten(1, (16, 1, 1))]
    for before, after, stride, pad in ((16, 32, 1, 0), (32, 16, 2, 1), (16, 8, 2, 1)):
        layers += [nn.ConvTranspose2d(before, after, 4, stride, pad, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return Case(Sequential(*layers, nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh()), floats(16))


@model("style transfer", "generation")
def _style() -> Case:
    def block(before: int, after: int, stride: int = 1) -> list[nn.Module]:
        return [
            nn.ReflectionPad2d(1),
            nn.Conv2d(before, after, 3, stride),
            nn.InstanceNorm2d(after, affine=True),
            nn.ReLU(),
        ]

    layers = [*block(3, 8), *block(8, 16, 2), *block(16, 16), nn.Upsample(scale_factor=2), *block(16, 8)]
    return Case(Sequential(*layers, nn.ReflectionPad2d(1), nn.Conv2d(8, 3, 3)), floats(3, 32, 32))


class Vae(nn.Module):
    """Encoder and decoder; the mean stands for the sample, as in inference."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(_conv(1, 8, 3, 2), _conv(8, 16, 3, 2), nn.Flatten(), nn.Linear(784, 32))
        self.up = nn.Sequential(nn.Linear(16, 784), nn.ReLU(), nn.Unflatten(1, (16, 7, 7)))
        self.image = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, 2), nn.ELU(), nn.ConvTranspose2d(8, 1, 2, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = self.down(x).chunk(2, 1)
        return torch.sigmoid(self.image(self.up(mean))), mean, torch.exp(0.5 * spread)


@model("vae", "generation")
def _vae() -> Case:
    return Case(Vae(), floats(1, 28, 28))


class GroupNet(nn.Module):
    """Group normalization, weight standardization by a parametrization, global context."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 16, 3, 2, 1))
        self.b = nn.utils.parametrizations.spectral_norm(nn.Conv2d(16, 16, 3, 1, 1))
        self.norms = nn.ModuleList(nn.GroupNorm(4, 16) for _ in range(2))
        self.act, self.head = nn.PReLU(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norms[0](self.a(x)))
        y = y + self.act(self.norms[1](self.b(y)))
        return self.head(y.amax((2, 3)) + y.mean((2, 3)))


@model("group norm net", "vision")
def _groupnorm() -> Case:
    return Case(GroupNet(), floats(3, 32, 32))


class Video(nn.Module):
    """3-D convolutions over clips."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2))
        self.more = nn.Sequential(nn.Conv3d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.more(self.body(x)))


@model("3-d cnn", "vision")
def _video() -> Case:
    return Case(Video(), floats(3, 8, 16, 16))


class SpatialTransformer(nn.Module):
    """A localization net, affine_grid and grid_sample."""

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Sequential(nn.Conv2d(1, 4, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(576, 6))
        self.head = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        theta = self.where(x).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return self.head(F.grid_sample(x, grid, align_corners=False))


@model("spatial transformer", "vision")
def _spatial() -> Case:
    return Case(SpatialTransformer(), floats(1, 28, 28))
