"""Modules that fake-quantize, and set scale and zero point from what they see, as a quantizer (`qgraph.quantizers`)
says.

The parameters themselves are operands of the call: they stay in the module tree under the names of the graph's
constants. Two nodes that name the same constants call the same module, which then observes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from qgraph import quantizers
from qgraph.calibration.bounds import within
from qgraph.errors import NotCalibrated
from qgraph.quantizers.histogram import Histogram
from qgraph.quantizers.min_max import MinMax
from qgraph.quantizers.moving_average import MovingAverage
from qgraph.quantizers.ranges import TINY, parameters_of
from qgraph.quantizers.reciprocal import BEYOND
from qgraph.quantizers.registry import Quantizer
from qgraph.quantizers.rounding import get_rounding
from qgraph.quantizers.weight_scale import torch_weight_scale
from qgraph.training.fake_quant import by_chance, fake_quantize, fake_quantize_bias, per_axis, rounded_through
from qgraph.training.fused import BatchNormOf, kernels_for
from qgraph.training.integer_run import Run, rounded
from qgraph.training.processes import Group
from qgraph.training.remembered import Remembering


def _momentum(quantizer: Quantizer) -> float | None:
    """By how much the range moves towards the extremes of a batch, 0 where it covers them all; None where it follows
    something else."""
    if quantizer.power_of_two or type(quantizer).seen is not MinMax.seen:
        return None
    if isinstance(quantizer, MovingAverage) and type(quantizer).trained is MovingAverage.trained:
        return quantizer.momentum if 0 < quantizer.momentum < 0.5 else None
    return 0.0 if type(quantizer).trained is MinMax.trained else None


def _is_of_extremes(quantizer: Quantizer) -> bool:
    """Whether the scale of a weight is that of its largest magnitude, and its gradient straight through."""
    straight = quantizer.gradient.plain and not quantizer.gradient.random
    free = not (quantizer.power_of_two or quantizer.trains)
    return straight and free and type(quantizer).torch_scale is MinMax.torch_scale


class FakeQuantizer(Remembering):
    """What the modules with quantization parameters share: integers within `quant_range`; `frozen` holds the scale."""

    flags = ("frozen", "delayed")

    def __init__(self, quant_range: tuple[int, int], axis: int | None, observer: str) -> None:
        super().__init__()
        self.quant_range, self.axis = quant_range, axis
        self.quantizer = replace(quantizers.get(observer), levels=quant_range[1] - quant_range[0])
        self.frozen = False
        self.delayed = False  # whether x stays as it is yet

    def fake_quantized(
        self,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        rounding: str = "half_even",
        source: Tensor | None = None,
    ) -> Tensor:
        """x on the grid, with the gradients that the quantizer gives."""
        if self.delayed:
            return x
        gradient = self.quantizer.gradient
        if not self.quantizer.learns or self.frozen:
            return fake_quantize(x, scale, zero_point, self.quant_range, self.axis, rounding, source, gradient)
        step, zero = per_axis(scale, x.ndim, self.axis), per_axis(zero_point, x.ndim, self.axis).to(x.dtype)
        word = get_rounding(rounding)

        def round(x: Tensor, step: Tensor) -> Tensor:
            codes = word.torch_codes(x.detach(), step.detach(), zero, source) - zero
            return rounded_through(x / step, codes, gradient)

        own = {name: per_axis(each, x.ndim, self.axis) for name, each in self.own().items()}
        return self.quantizer.learned(x, step, zero, self.quant_range, round, own)

    def sizes(self, scale: Tensor, zero_point: Tensor) -> dict[Tensor, float]:
        """What the quantizer trains, each with what counts as its size."""
        learned: dict[Tensor, float] = {scale: float(scale.detach().abs().max())} if self.quantizer.trains else {}
        span = float(scale.detach().abs().max()) * (self.quant_range[1] - self.quant_range[0])
        return learned | {each: self.quantizer.size(name, span) for name, each in self.own().items()}

    def own(self) -> dict[str, nn.Parameter]:
        """The parameters that the quantizer trains beside those of the graph."""
        return {name: self._parameters[name] for name in self.quantizer.own}  # type: ignore[misc]  # they are there

    def extra_repr(self) -> str:
        return f"range={self.quant_range}, axis={self.axis}, observer={self.quantizer}"


class WeightQuantizer(FakeQuantizer):
    """Fake-quantizes a weight; its symmetric scale follows from the weight, and from the biases that stand beside it,
    unless it is `frozen` or trained."""

    activations = 0  # how many leading arguments of a call are not constants, and so not for `refresh`

    def forward(self, w: Tensor, scale: Tensor, zero_point: Tensor, *layers: Tensor | None) -> Tensor:
        """`layers`: bias and scale of the input of each layer that has the weight, in turn."""
        if len(layers) in (0, 2):
            bias, x_scale = layers or (None, None)
            made = self.in_one_pass(w, scale, zero_point, bias, x_scale)
            if made is not None:
                return made
        self.refresh(w, scale, zero_point, *layers)
        return self.fake_quantized(w, scale, zero_point)

    def in_one_pass(
        self,
        w: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        bias: Tensor | None,
        x_scale: Tensor | None,
        batch_norm: BatchNormOf | None = None,
    ) -> Tensor | None:
        """`refresh` and `fake_quantized` by kernels that do both; None where they are not for this weight."""
        if self.frozen or self.delayed or self.axis != 0 or not _is_of_extremes(self.quantizer):
            return None
        kernels = kernels_for(w)
        if kernels is None or not kernels.takes_weight(w, self.quant_range, scale, zero_point, bias):
            return None
        made: Tensor = kernels.fake_quantize_weight(w, scale, zero_point, self.quant_range, bias, x_scale, batch_norm)
        return made

    def fake_quantized(
        self,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        rounding: str = "half_even",
        source: Tensor | None = None,
    ) -> Tensor:
        if self.quantizer.gradient.random and self.training:
            x = by_chance(x, per_axis(scale, x.ndim, self.axis))
        return super().fake_quantized(x, scale, zero_point, rounding, source)

    @torch.no_grad()
    def refresh(self, w: Tensor, scale: Tensor, zero_point: Tensor, *layers: Tensor | None) -> None:
        """Write the scale of a weight into `scale`, for integers in +-(quant_max - zero_point)."""
        if self.frozen:
            return
        if self.quantizer.trains:
            scale.clamp_(min=TINY)
            return
        limit = self.quant_range[1] - zero_point.reshape(-1)[:1]
        scale.copy_(torch_weight_scale(w, limit, self.axis, self.quantizer, layers))


class RoundsByOthers(Remembering):
    """A module that rounds by scales that others set, but not in calibration, which is in float."""

    flags = ("observing",)
    observing = False


class BiasQuantizer(RoundsByOthers):
    """Rounds a bias to steps of `x_scale * w_scale`; in calibration it passes it on as it is."""

    def forward(self, bias: Tensor, x_scale: Tensor, w_scale: Tensor) -> Tensor:
        return bias if self.observing else fake_quantize_bias(bias, x_scale, w_scale)


class ActivationQuantizer(FakeQuantizer):
    """Fake-quantizes activations; observes their range in training (unless `frozen`) and while `observing`.

    `observing` is calibration: the number of the present chunk of examples, 0 otherwise; x is then passed on as it is.
    A range always includes 0. All calls within a batch count as one: their union; so do, in training, the shares of
    the processes of a group. Where x `has_pole`, which rounded
    operands meet, what is infinite in training does not count, nor what is so far beyond the range that a divisor of it
    has the code of 0; it becomes the last code.

    Ranges are pairs (low, -high), [2, parameters], so that both sides merge by `minimum`; NaN where nothing was seen. A
    `state_dict` has that of a module that has seen something; a module that is loaded goes on from it, or where there
    is none, from the range that its scale stands for.
    """

    others = ("range",)

    seen: Tensor  # of the present batch
    before: Tensor  # up to the batch before
    range: Tensor  # with the present batch

    def __init__(
        self,
        parameters: int,
        quant_range: tuple[int, int],
        axis: int | None,
        observer: str,
        symmetric: bool,
        has_pole: bool = False,
    ) -> None:
        super().__init__(quant_range, axis, observer)
        self.symmetric, self.has_pole = symmetric, has_pole
        self.observing = 0
        self.histogram: Histogram[Tensor] | None = None
        for name in self.quantizer.own:
            self.register_parameter(name, nn.Parameter(torch.full((parameters,), torch.nan)))
        for name in ("seen", "before", "range"):
            self.register_buffer(name, torch.full((2, parameters), torch.nan), persistent=False)
        self._calibrated = False

    def forward(
        self,
        x: Tensor | None,
        scale: Tensor,
        zero_point: Tensor,
        source: Tensor | None,
        rounding: str,
        first: bool,
        held: tuple[Tensor, Tensor] | None = None,
        beside: tuple[Run | None, int] = (None, 0),
        bound: tuple[str, Tensor] | None = None,
    ) -> Tensor | None:
        """x fake-quantized; None for none: then scale and zero point alone are set, as far as they are learned.

        `source`: the scale of the grid on which x lies, where it is requantized; `first`: the first call in a
        batch; `held`: the parameters by which x is rounded, where that are not those that the observer has set;
        `beside`: a pass in integers beside this one, which rounds x, and the key of the result there; `bound`: the op
        that made x and the scale of its operand, which bounds that of x."""
        if self.observing:
            if x is not None:
                self.observe(x, scale, zero_point, first)
            return x
        if held is None:
            self.settle(scale, zero_point)
        if x is None:
            return None
        if self.quantizer.observes and not self.quantizer.learns and self.training and not self.frozen:
            self.observe(x, scale, zero_point, first)
            if bound is not None:
                with torch.no_grad():
                    scale.copy_(within(bound[0], scale, zero_point, self.quant_range[1], bound[1]))
        elif not self._calibrated and not torch.compiler.is_compiling():
            self._check(scale)
        run, key = beside
        if run is not None:
            return rounded(run, x, key, self.quant_range, self.quantizer.gradient)
        return self.fake_quantized(x, *(held or (scale, zero_point)), rounding, source)

    def remembered(self) -> Mapping[str, Tensor]:
        seen = {} if bool(self.range.isnan().all()) else {"range": self.range}
        return {**super().remembered(), **seen}

    def remember(self, given: Mapping[str, Tensor]) -> None:
        super().remember(given)
        self.forget()
        if "range" in given:
            with torch.no_grad():
                self.range.copy_(given["range"])

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
        self.histogram = None
        self._calibrated = False

    @torch.no_grad()
    def begin(self, scale: Tensor, zero_point: Tensor) -> None:
        """Begin training: the scale is one that is allowed, and the quantizer's own parameters stand for it."""
        scale.copy_(self.quantizer.torch_allowed(scale))
        for name, value in self.quantizer.begun(scale, zero_point).items():
            self.own()[name].copy_(value)
        self.settle(scale, zero_point)

    @torch.no_grad()
    def settle(self, scale: Tensor, zero_point: Tensor) -> None:
        """Write what the quantizer's own parameters stand for into scale and zero point; a scale that the optimizer has
        taken below 0 is as large as that."""
        if self.quantizer.trains and not self.frozen:
            scale.copy_(scale.abs().clamp_(min=TINY))
        if self.quantizer.own and not self.frozen:
            self.quantizer.settle(self.own(), scale, zero_point, self.quant_range)

    @torch.no_grad()
    def end_calibration(self, scale: Tensor, zero_point: Tensor) -> None:
        """Set scale and zero point from all that was seen, where the quantizer searches for the range."""
        if self.histogram is not None:
            found = self.quantizer.searched(self.histogram, self.range.cpu().numpy(), self.symmetric)
            self.range.copy_(torch.from_numpy(found))
            self.histogram = None
            self._set_parameters(scale, zero_point)

    @torch.no_grad()
    def observe(self, x: Tensor, scale: Tensor, zero_point: Tensor, first: bool) -> None:
        """Take x into the range, and set scale and zero point from it."""
        if self._observed_in_one_pass(x, scale, zero_point, first):
            return
        if self.has_pole and not self.observing:
            x = self._without_poles(x, scale, zero_point)
        free = self.axis is None and not self.quantizer.by_rows
        if free and x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
            x = x.permute(0, 2, 3, 1)  # as it lies in memory: the same numbers, several times faster
        seen = self._seen(x).clamp_(max=0)
        seen = seen if self.observing else Group.present().least(seen)
        if first:
            self.before.copy_(torch.where(self.range.isnan(), self._range_of(scale, zero_point), self.range))
        else:
            seen = torch.minimum(self.seen, seen)
        self.seen.copy_(seen)
        if self.observing and self.quantizer.searches:
            self.add(Histogram.of(x, self.axis))
        self.take(self.before, seen, scale, zero_point)

    def _observed_in_one_pass(self, x: Tensor, scale: Tensor, zero_point: Tensor, first: bool) -> bool:
        """Whether kernels have done it: for one range that is all that a batch asks for, in one process."""
        momentum = _momentum(self.quantizer)
        if momentum is None or self.axis is not None or self.has_pole or self.observing or Group.present().size > 1:
            return False
        kernels = kernels_for(x)
        if kernels is None or not kernels.takes(x, self.quant_range, scale, zero_point):
            return False
        state = self.seen, self.before, self.range
        kernels.observe(x, state, scale, zero_point, self.quant_range, momentum, self.symmetric, first)
        return True

    @torch.no_grad()
    def take(self, before: Tensor, seen: Tensor, scale: Tensor, zero_point: Tensor) -> None:
        """Set the range, scale and zero point from the range before a batch, or a chunk, and what was seen in it."""
        if self.observing:
            moved = self.quantizer.calibrated(before, seen, self.observing)
        else:
            moved = self.quantizer.trained(before, seen)
        self.range.copy_(torch.where(before.isnan(), seen, moved))
        self._set_parameters(scale, zero_point)

    def add(self, more: Histogram[Tensor]) -> None:
        """Count more values in."""
        self.histogram = more if self.histogram is None else self.histogram.plus(more)

    def _seen(self, x: Tensor) -> Tensor:
        """What x asks for; where calibration searches for the range at its end, everything."""
        if self.observing and self.quantizer.searches:
            return quantizers.get("min_max").seen(x, self.axis)
        return self.quantizer.seen(x, self.axis)

    def _without_poles(self, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """x with 0 for what is infinite, or beyond the reciprocals of half a step, where there is a range yet."""
        before = torch.where(self.range.isnan(), self._range_of(scale, zero_point), self.range).abs().max()
        most = torch.where(before > 0, before * BEYOND, torch.inf)
        x = torch.nan_to_num(x, nan=torch.nan, posinf=0.0, neginf=0.0)
        return torch.where(x.abs() > most, 0.0, x)

    def _range_of(self, scale: Tensor, zero_point: Tensor) -> Tensor:
        quant_min, quant_max = self.quant_range
        return torch.stack((quant_min - zero_point, zero_point - quant_max)) * scale

    def _set_parameters(self, scale: Tensor, zero_point: Tensor) -> None:
        given = self.range, scale, zero_point, self.quant_range, self.quantizer, self.symmetric
        for parameter, made in zip((scale, zero_point), parameters_of(*given), strict=True):
            parameter.copy_(made)
