"""Modules of layers that behave differently in training: batch normalization, alone and inside a quantized layer.

**Scheme.** In training a layer convolves with `integers * (scale / gain)`, where `integers` are those of the folded
weight `w * gain` with the running variance, and batch normalization then uses the statistics of the batch. Symmetric
quantization is equivariant under scaling by channel, so that no correction factor is needed, nothing is divided by
gamma but a scale, and gamma may be zero or negative. In eval, or once the batch normalization is frozen, the layer
computes exactly the folded form that `fold-batchnorm` makes. The quantizer of the weight is a part of the layer.
Sources: Jacob et al. 2018 (arXiv 1712.05877), section 3.2; Krishnamoorthi 2018 (arXiv 1806.08342), section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from qgraph.quantizers.weight_scale import BIAS_LIMIT
from qgraph.training.code_layers import Beside
from qgraph.training.exact_products import Window
from qgraph.training.fake_quant import fake_quantize_unfolded, per_axis
from qgraph.training.fused import BatchNormOf
from qgraph.training.observers import BiasQuantizer, WeightQuantizer
from qgraph.training.remembered import Remembering
from qgraph.training.windows import convolve


class BatchNorm(Remembering):
    """`nn.batch_norm`: the statistics of the batch in training, unless `frozen_statistics`, else the running ones."""

    flags = ("frozen_statistics",)

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


class LayerBatchNorm(Remembering):
    """A layer with a fake-quantized folded weight and a live batch normalization; `_layer` is the layer itself."""

    flags = ("frozen_statistics",)
    activations = 1
    window: Window | None = None

    def __init__(self, quantizer: WeightQuantizer, eps: float, momentum: float) -> None:
        super().__init__()
        self.quantizer, self.bias_quantizer = quantizer, BiasQuantizer()
        self.eps, self.momentum = eps, momentum
        self.frozen_statistics = False

    def _layer(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    def forward(self, *operands: Tensor | None, beside: Beside | None = None) -> Tensor:
        """`operands`: those of the op; `beside`: the pass in integers beside this one. torch.compile leaves both alone,
        as it would keep statistics for the backward pass that have moved by then."""
        compute: Callable[..., Tensor] = self._computed if beside is None else self._left_alone
        return compute(*operands, beside=beside)

    def _computed(
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
        beside: Beside | None = None,
    ) -> Tensor:
        batch_norm = gamma, beta, mean, var
        if self.training and not self.frozen_statistics:
            weight = self._unfolded(w, bias, batch_norm, scale, zero_point, x_scale)
            if beside is not None and beside.run is not None:
                return self._beside(beside, (x, weight, bias), w, batch_norm, (scale, zero_point, x_scale), batches)
            return normalized(self._layer(x, weight, bias), batch_norm, batches, self.momentum, self.eps)
        self.refresh(w, bias, gamma, beta, mean, var, scale, zero_point, batches, x_scale)
        gain = batch_norm_gain(gamma, var, self.eps)
        folded = w * per_axis(gain, w.ndim, 0)
        weight = self.quantizer.fake_quantized(folded, scale, zero_point)
        shift = folded_bias(bias, gain, beta, mean)
        if x_scale is None:
            return self._layer(x, weight, shift)
        shift = self.bias_quantizer(shift, x_scale, scale)
        y = None if beside is None else beside.layer(x, weight, shift, (x_scale, scale), self.window)
        return self._layer(x, weight, shift) if y is None else y

    _left_alone = torch.compiler.disable(_computed)

    def _unfolded(
        self,
        w: Tensor,
        bias: Tensor | None,
        batch_norm: tuple[Tensor, Tensor, Tensor, Tensor],
        scale: Tensor,
        zero_point: Tensor,
        x_scale: Tensor | None,
    ) -> Tensor:
        """The weight of training, and its scale set."""
        quantizer, eps = self.quantizer, self.eps
        shift = None if x_scale is None else bias
        made = quantizer.in_one_pass(w, scale, zero_point, shift, x_scale, BatchNormOf(*batch_norm, eps))
        if made is not None:
            return made
        self.refresh(w, bias, *batch_norm, scale, zero_point, None, x_scale)
        if quantizer.delayed:
            return w
        gain = batch_norm_gain(batch_norm[0], batch_norm[3], eps).detach()
        settings = quantizer.quant_range, quantizer.axis, quantizer.quantizer.gradient
        return fake_quantize_unfolded(w, gain, scale, zero_point, *settings)

    def _beside(
        self,
        beside: Beside,
        operands: tuple[Tensor, Tensor, Tensor | None],
        w: Tensor,
        batch_norm: tuple[Tensor, Tensor, Tensor, Tensor],
        quant: tuple[Tensor, Tensor, Tensor | None],
        batches: Tensor | None,
    ) -> Tensor:
        """What training computes beside a pass in integers, which is told by what it is folded: the statistics of the
        batch, and a scale of the weight that goes with them, so that its integers are the same (see the module)."""
        (x, weight, bias), (gamma, beta, mean, var), (scale, zero_point, x_scale) = operands, batch_norm, quant
        step, before = scale / batch_norm_gain(gamma, var, self.eps).detach(), (var + self.eps).clone()
        y = None
        if self.quantizer.axis is not None and x_scale is not None and bool(step.isfinite().all()):
            y = beside.layer(x, weight, bias, (x_scale, step), self.window)
        in_codes = y is not None
        y = self._layer(x, weight, bias) if y is None else y
        made, batch_mean, inverse = torch.native_batch_norm(
            y, gamma, beta, *moving(y, mean, var, batches), True, self.momentum, self.eps
        )
        with torch.no_grad():
            batch_var = (inverse.double().pow(-2) - self.eps).clamp(min=0).to(var.dtype)
            folded = None
            if in_codes and x_scale is not None:
                now = scale * torch.sqrt(before / (batch_var + self.eps))
                shift = folded_bias(bias, batch_norm_gain(gamma, batch_var, self.eps), beta, batch_mean)
                now = torch.maximum(now, shift.abs() / (x_scale * BIAS_LIMIT))
                folded = (weight / per_axis(step, w.ndim, 0)).round_() * per_axis(now, w.ndim, 0)
            else:
                now = scale.clone()
                self.refresh(w, bias, gamma, beta, batch_mean, batch_var, now, zero_point, None, x_scale)
            beside.tell(batch_mean, batch_var, now, folded)
        return made

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
        self.window = Window(*window)

    def _layer(self, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        assert self.window is not None
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
    running_mean, running_var = moving(y, mean, var, batches)
    return F.batch_norm(y, running_mean, running_var, gamma, beta, True, momentum, eps)


def moving(y: Tensor, mean: Tensor, var: Tensor, batches: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The statistics that move by a momentum; None where `batches` counts, and they have moved already."""
    if batches is None:
        return mean, var
    with torch.no_grad():
        batches.add_(1)
        dims = [0, *range(2, y.ndim)]
        for running, present in ((mean, y.mean(dims)), (var, y.var(dims))):
            running.add_((present - running) / batches)
    return None, None


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
