"""Modules of layers that behave differently in training: batch normalization, alone and inside a quantized layer.

**Scheme.** In training a layer convolves with `integers * (scale / gain)`, where `integers` are those of the folded
weight `w * gain` with the running variance, and batch normalization then uses the statistics of the batch. Symmetric
quantization is equivariant under scaling by channel, so that no correction factor is needed, nothing is divided by
gamma but a scale, and gamma may be zero or negative. In eval, or once the batch normalization is frozen, the layer
computes exactly the folded form that `fold-batchnorm` makes. The quantizer of the weight is a part of the layer.
Sources: Jacob et al. 2018 (arXiv 1712.05877), section 3.2; Krishnamoorthi 2018 (arXiv 1806.08342), section 3.2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from qgraph.training.fake_quant import fake_quantize_unfolded, per_axis
from qgraph.training.integer_run import Run
from qgraph.training.observers import BiasQuantizer, WeightQuantizer
from qgraph.training.windows import convolve


class BatchNorm(torch.nn.Module):
    """`nn.batch_norm`: the statistics of the batch in training, unless `frozen_statistics`, else the running ones."""

    def __init__(self, eps: float, momentum: float) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.frozen_statistics = False

    def forward(
        self, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor, batches: Tensor | None = None
    ) -> Tensor:
        if self.training and not self.frozen_statistics:
            return normalized(x, (gamma, beta, mean, var), batches, self.momentum, self.eps)
        return F.batch_norm(x, mean, var, gamma, beta, eps=self.eps)


class LayerBatchNorm(torch.nn.Module):
    """A layer with a fake-quantized folded weight and a live batch normalization; `_layer` is the layer itself."""

    activations = 1

    def __init__(self, quantizer: WeightQuantizer, eps: float, momentum: float) -> None:
        super().__init__()
        self.quantizer, self.bias_quantizer = quantizer, BiasQuantizer()
        self.eps, self.momentum = eps, momentum
        self.frozen_statistics = False

    def _layer(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        bias: Tensor | None,
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        var: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        batches: Tensor | None = None,
        x_scale: Tensor | None = None,
        run: Run | None = None,
        names: tuple[str, ...] = (),
    ) -> Tensor:
        """`run`: the pass in integers beside this one, which calls mean, variance and scale by `names`."""
        self.refresh(w, bias, gamma, beta, mean, var, scale, zero_point, batches, x_scale)
        gain = batch_norm_gain(gamma, var, self.eps)
        if self.training and not self.frozen_statistics:
            quantizer = self.quantizer
            weight = fake_quantize_unfolded(w, gain.detach(), scale, zero_point, quantizer.quant_range, quantizer.axis)
            y = self._layer(x, weight, bias)
            if run is not None:
                of_batch = self._of_batch(y.detach(), (w, bias, gamma, beta), (scale, zero_point), x_scale)
                run.measured(dict(zip(names, of_batch, strict=True)))
            return normalized(y, (gamma, beta, mean, var), batches, self.momentum, self.eps)
        folded = w * per_axis(gain, w.ndim, 0)
        weight = self.quantizer.fake_quantized(folded, scale, zero_point)
        shift = folded_bias(bias, gain, beta, mean)
        return self._layer(x, weight, shift if x_scale is None else self.bias_quantizer(shift, x_scale, scale))

    @torch.no_grad()
    def _of_batch(
        self,
        y: Tensor,
        parameters: tuple[Tensor, Tensor | None, Tensor, Tensor],
        quant: tuple[Tensor, Tensor],
        x_scale: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of y by channel, and the scale of the weight into which these are folded."""
        var, mean = torch.var_mean(y, [0, *range(2, y.ndim)], correction=0)
        scale = quant[0].clone()
        self.refresh(*parameters, mean, var, scale, quant[1], None, x_scale)
        return mean, var, scale

    @torch.no_grad()
    def refresh(
        self,
        w: Tensor,
        bias: Tensor | None,
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        var: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        batches: Tensor | None = None,
        x_scale: Tensor | None = None,
    ) -> None:
        """Set `scale` from the folded weight."""
        gain = batch_norm_gain(gamma, var, self.eps)
        layer = () if x_scale is None else (folded_bias(bias, gain, beta, mean), x_scale)
        self.quantizer.refresh(w * per_axis(gain, w.ndim, 0), scale, zero_point, *layer)


class ConvBatchNorm(LayerBatchNorm):
    """`quant.conv_batch_norm` without its activation."""

    def __init__(
        self,
        quantizer: WeightQuantizer,
        eps: float,
        momentum: float,
        window: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int],
    ) -> None:
        """`window`: stride, pads, dilation, groups."""
        super().__init__(quantizer, eps, momentum)
        self.window = window

    def _layer(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        return convolve(x, w, bias, *self.window)


class LinearBatchNorm(LayerBatchNorm):
    """`quant.linear_batch_norm` without its activation."""

    def _layer(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, w, bias)


def normalized(
    y: Tensor, batch_norm: tuple[Tensor, Tensor, Tensor, Tensor], batches: Tensor | None, momentum: float, eps: float
) -> Tensor:
    """y normalized by its own statistics, for batch_norm = (gamma, beta, mean, var): these two move by `momentum`, or
    where `batches` counts are the average of the statistics of all batches, as torch has it (variances unbiased)."""
    gamma, beta, mean, var = batch_norm
    if batches is None:
        return F.batch_norm(y, mean, var, gamma, beta, True, momentum, eps)
    with torch.no_grad():
        batches.add_(1)
        dims = [0, *range(2, y.ndim)]
        for running, present in ((mean, y.mean(dims)), (var, y.var(dims))):
            running.add_((present - running) / batches)
    return F.batch_norm(y, None, None, gamma, beta, training=True, eps=eps)


def folded_bias(bias: Tensor | None, gain: Tensor, beta: Tensor, mean: Tensor) -> Tensor:
    """`qgraph.ops.quant.folded_bias` in torch."""
    return (-mean if bias is None else bias - mean) * gain + beta


def batch_norm_gain(gamma: Tensor, var: Tensor, eps: float) -> Tensor:
    """`gamma / sqrt(var + eps)`: the bits of `qgraph.ops.nn.normalization.batch_norm_gain`.

    torch's float32 square root on CPUs is not correctly rounded (measured with 2.13: 1 in 5 differs from NumPy's).
    Through float64 it is: the square root of a 24-bit number lies at least 2**-50 of itself away from the middle of
    two floats.
    """
    return gamma / torch.sqrt((var + eps).double()).to(var.dtype)
