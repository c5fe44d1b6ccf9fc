"""Convolutions, linear layers and batch normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.errors import TypeMismatch
from qgraph.frontends.torch_ops.rows import Arguments, aten, each_size, spatial_rank
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("conv1d.default", "conv2d.default", "conv3d.default", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def conv(at: Importer, a: Arguments) -> Value:
    """A convolution; padding "same" puts the odd zero at the end, as torch does."""
    x, w = at.value(a["input"]), at.value(a["weight"])
    rank = spatial_rank(at, x)
    stride, dilation = each_size(a["stride"], rank), each_size(a["dilation"], rank)
    if a["padding"] == "same":
        total = [d * (int(k) - 1) for d, k in zip(dilation, w.type.shape[2:], strict=True)]
        pads = tuple(n // 2 for n in total) + tuple(n - n // 2 for n in total)
    else:
        pads = each_size(0 if a["padding"] == "valid" else a["padding"], rank) * 2
    bias = at.optional(a["bias"])
    return at.build.nn.conv(x, w, bias, stride=stride, pads=pads, dilation=dilation, groups=a["groups"])


@aten("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(at: Importer, a: Arguments) -> Value:
    """A transposed convolution."""
    x = at.value(a["input"])
    rank = spatial_rank(at, x)
    return at.build.nn.conv_transpose(
        x,
        at.value(a["weight"]),
        at.optional(a["bias"]),
        stride=each_size(a["stride"], rank),
        pads=each_size(a["padding"], rank) * 2,
        dilation=each_size(a["dilation"], rank),
        output_padding=each_size(a["output_padding"], rank),
        groups=a["groups"],
    )


@aten("linear.default")
def linear(at: Importer, a: Arguments) -> Value:
    """A linear layer."""
    return at.build.nn.linear(at.value(a["input"]), at.value(a["weight"]), at.optional(a["bias"]))


@aten("batch_norm.default")
def batch_norm(at: Importer, a: Arguments) -> Value:
    """Batch normalization with running statistics; without affine parameters they are ones and zeros."""
    if a["running_mean"] is None:
        raise TypeMismatch("batch normalization without running statistics is not supported")
    if a["training"]:
        raise TypeMismatch("batch normalization in training mode is not supported")
    return _normalized(at, a)


@aten("_native_batch_norm_legit_no_training.default")
def decomposed_batch_norm(at: Importer, a: Arguments) -> list[Value]:
    """Batch normalization, as torch writes it where it decomposes another op of the program."""
    at.expect_first_only()
    return [_normalized(at, a)]


def _normalized(at: Importer, a: Arguments) -> Value:
    mean, var = at.value(a["running_mean"]), at.value(a["running_var"])
    gamma, beta = (
        at.optional(a[name]) or at.filled_like(mean, number) for name, number in (("weight", 1), ("bias", 0))
    )
    moving = {"eps": a["eps"], "momentum": a["momentum"], "batches": at.batches_of(mean)}
    return at.build.nn.batch_norm(at.value(a["input"]), gamma, beta, mean, var, **moving)
