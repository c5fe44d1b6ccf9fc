"""Modules that fake-quantize, and set scale and zero point from what they see.

The parameters themselves are operands of the call: they stay in the module tree under the names of the graph's
constants. Two nodes that name the same constants call the same module, which then observes both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qgraph.arith.pair_safe import PAIR_LIMIT
from qgraph.arith.weight_scale import SMALLEST
from qgraph.errors import NotCalibrated
from qgraph.training.fake_quant import fake_quantize

MOMENTUM = 0.05
"""Weight of a new batch in the moving average of a range."""

TINY = torch.finfo(torch.float32).tiny


class Quantizer(nn.Module):
    """What the modules with quantization parameters share: integers within `quant_range`; `frozen` holds the scale."""

    def __init__(self, quant_range: tuple[int, int], axis: int | None, observer: str) -> None:
        super().__init__()
        self.quant_range, self.axis, self.observer = quant_range, axis, observer
        self.frozen = False

    def extra_repr(self) -> str:
        return f"range={self.quant_range}, axis={self.axis}, observer={self.observer}"


class WeightQuantizer(Quantizer):
    """Fake-quantizes a weight; its symmetric scale always follows from the weight, unless `frozen`."""

    activations = 0  # how many leading arguments of a call are not constants, and so not for `refresh`

    def forward(self, w: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        self.refresh(w, scale, zero_point)
        return fake_quantize(w, scale, zero_point, self.quant_range, self.axis)

    @torch.no_grad()
    def refresh(self, w: Tensor, scale: Tensor, zero_point: Tensor) -> None:
        """Set `scale` from the weight."""
        if not self.frozen:
            self.fit(w, scale, zero_point)

    def fit(self, w: Tensor, scale: Tensor, zero_point: Tensor) -> None:
        """Write the scale of a weight into `scale`, for integers in +-(quant_max - zero_point)."""
        limit = self.quant_range[1] - zero_point.reshape(-1)[:1]
        scale.copy_(weight_scale(w, limit, self.axis, self.observer))


class ActivationQuantizer(Quantizer):
    """Fake-quantizes activations; observes their range in training (unless `frozen`) and while `observing`.

    "moving_average": the range moves by `MOMENTUM` towards that of each batch, and the first batch sets it. "min_max",
    and both while `observing` (calibration): the range covers everything seen, and x is passed on as it is. A range
    always includes 0. All calls within a batch count as one: their union.

    Ranges are pairs (low, -high), [2, parameters], so that both sides merge by `minimum`; NaN where nothing was seen. A
    `state_dict` does not have them: a module that is loaded goes on from the range that its scale stands for.
    """

    seen: Tensor  # of the present batch
    before: Tensor  # up to the batch before
    range: Tensor  # with the present batch

    def __init__(
        self, parameters: int, quant_range: tuple[int, int], axis: int | None, observer: str, symmetric: bool
    ) -> None:
        super().__init__(quant_range, axis, observer)
        self.symmetric = symmetric
        self.observing = False
        self.momentum = MOMENTUM
        for name in ("seen", "before", "range"):
            self.register_buffer(name, torch.full((2, parameters), torch.nan), persistent=False)
        self._calibrated = False

    def forward(self, x: Tensor, scale: Tensor, zero_point: Tensor, rounding: str, first: bool) -> Tensor:
        """`first`: the first call in a batch."""
        if self.observing:
            self.observe(x, scale, zero_point, first)
            return x
        if self.observer != "fixed" and self.training and not self.frozen:
            self.observe(x, scale, zero_point, first)
        elif not self._calibrated and not torch.compiler.is_compiling():
            self._check(scale)
        return fake_quantize(x, scale, zero_point, self.quant_range, self.axis, rounding)

    def _check(self, scale: Tensor) -> None:
        if bool(scale.isnan().any()):
            raise NotCalibrated(
                "a fake-quant node has no scale yet",
                help="calibrate first (`qgraph.calibrate`), or train with observers on",
            )
        self._calibrated = True

    @torch.no_grad()
    def forget(self) -> None:
        """Forget the range: the next batch goes on from what scale and zero point stand for."""
        self.range.fill_(torch.nan)
        self._calibrated = False

    @torch.no_grad()
    def observe(self, x: Tensor, scale: Tensor, zero_point: Tensor, first: bool) -> None:
        """Take x into the range, and set scale and zero point from it."""
        low, high = torch.aminmax(x) if self.axis is None else torch.aminmax(x.movedim(self.axis, 0).flatten(1), dim=1)
        seen = torch.stack((low, -high)).float().reshape(2, -1).clamp_(max=0)
        if first:
            self.before.copy_(torch.where(self.range.isnan(), self._range_of(scale, zero_point), self.range))
        else:
            seen = torch.minimum(self.seen, seen)
        self.seen.copy_(seen)
        moved = (
            torch.minimum(self.before, seen)
            if self.observing or self.observer == "min_max"
            else self.before.lerp(seen, self.momentum)
        )
        self.range.copy_(torch.where(self.before.isnan(), seen, moved))
        self._set_parameters(scale, zero_point)

    def _range_of(self, scale: Tensor, zero_point: Tensor) -> Tensor:
        quant_min, quant_max = self.quant_range
        return torch.stack((quant_min - zero_point, zero_point - quant_max)) * scale

    def _set_parameters(self, scale: Tensor, zero_point: Tensor) -> None:
        """Asymmetric: scale = (high - low) / (quant_max - quant_min), zero_point = rint(quant_min - low / scale).

        Symmetric: the zero point stays, the scale covers both sides. A range of (nearly) nothing has scale 1.
        """
        quant_min, quant_max = self.quant_range
        if self.symmetric:
            sides = torch.stack((zero_point - quant_min, quant_max - zero_point))  # integers below and above zero
            wanted = torch.where(sides > 0, -self.range / sides, 0.0).amax(dim=0)
        else:
            wanted = -self.range.sum(dim=0) / (quant_max - quant_min)
        scale.copy_(torch.where(wanted < TINY, 1.0, wanted))
        if not self.symmetric:
            zero_point.copy_((quant_min - self.range[0] / scale).round_().clamp_(quant_min, quant_max))


def weight_scale(w: Tensor, limit: Tensor, axis: int | None, observer: str) -> Tensor:
    """`qgraph.arith.weight_scale` in torch, the same float32: [channels], or [1] for axis None.

    w: [O, *rest]; limit: [1], the largest integer above the zero point.
    """
    if observer == "pair_safe":
        channels = w.movedim(1, -1).flatten(1) if w.ndim > 1 else w.reshape(-1, 1)
        scale = _pair_safe_scale(channels.double(), limit).float()
    else:
        scale = w.reshape(w.shape[0], -1).abs().amax(dim=1).float() / limit
    if axis is None:
        scale = scale.amax().reshape(1)
    largest = scale.amax()
    return torch.maximum(scale, torch.where(largest > 0, largest * SMALLEST, 1.0))


def _pair_safe_scale(channels: Tensor, limit: Tensor) -> Tensor:
    """`qgraph.arith.pair_safe.pair_safe_scale` of [O, K] in float64; 0 for a channel of zeros."""
    even = nn.functional.pad(channels, (0, channels.shape[1] % 2))
    scale = channels.abs().amax(dim=1) / limit
    for side in (even.clamp(min=0), (-even).clamp(min=0)):
        scale = torch.maximum(scale, (side[:, 0::2] + side[:, 1::2]).amax(dim=1) / (PAIR_LIMIT - 1))
    return torch.where(scale == 0, 0.0, scale.clamp(min=TINY))
