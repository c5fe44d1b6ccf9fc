"""Weights that swing between two codes: a loss that damps them, and freezing those that do not come to rest.

Near the border of two codes straight-through gradients push a weight from each to the other; batch normalization then
never sees the layer that ships. Source: Nagel et al. 2022, Overcoming Oscillations in Quantization-Aware Training
(arXiv 2203.11086), sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from qgraph.training.conversion import graph_module, refresh_weight_scales, source_of, tensors_by_path
from qgraph.training.fake_quant import fake_quantize, per_axis, unclamped_integers
from qgraph.training.layers import LayerBatchNorm, batch_norm_gain
from qgraph.training.observers import WeightQuantizer


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight and its grid: `gain` [O] is what a live batch normalization multiplies it by, None without one."""

    path: str
    weight: Tensor
    gain: Tensor | None
    scale: Tensor
    zero_point: Tensor
    quantizer: WeightQuantizer

    def folded(self) -> Tensor:
        """The weight that is rounded."""
        return self.weight if self.gain is None else self.weight * per_axis(self.gain, self.weight.ndim, 0)

    def rounded(self) -> Tensor:
        """The real values of its codes, without a gradient."""
        quantizer = self.quantizer
        with torch.no_grad():
            return fake_quantize(self.folded(), self.scale, self.zero_point, quantizer.quant_range, quantizer.axis)

    def codes(self) -> Tensor:
        """Its codes."""
        scale, zero = (per_axis(each, self.weight.ndim, self.quantizer.axis) for each in (self.scale, self.zero_point))
        return unclamped_integers(self.folded().detach(), scale, zero).clamp_(*self.quantizer.quant_range)


def quantized_weights(module: nn.Module) -> Iterator[QuantizedWeight]:
    """Every weight of a module of `to_torch` that is trained and fake-quantized, each once."""
    traced = graph_module(module)
    source_of(traced)
    tensors, seen = tensors_by_path(traced), set()
    for node in traced.graph.nodes:
        owner = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(owner, (WeightQuantizer, LayerBatchNorm)):
            paths = [str(each.target) if isinstance(each, fx.Node) else "" for each in node.args[owner.activations :]]
            if paths[0] in tensors and paths[0] not in seen:
                seen.add(paths[0])
                yield _weight(owner, paths, tensors)


def _weight(owner: WeightQuantizer | LayerBatchNorm, paths: list[str], tensors: dict[str, Tensor]) -> QuantizedWeight:
    if isinstance(owner, WeightQuantizer):
        w, scale, zero_point = (tensors[path] for path in paths[:3])
        return QuantizedWeight(paths[0], w, None, scale, zero_point, owner)
    w, gamma, var, scale, zero_point = (tensors[paths[place]] for place in (0, 2, 5, 6, 7))
    gain = batch_norm_gain(gamma.detach(), var, owner.eps)
    return QuantizedWeight(paths[0], w, gain, scale, zero_point, owner.quantizer)


def dampening(module: nn.Module) -> Tensor:
    """The sum of squares by which weights differ from their codes, in units of real weights: add it to the loss, with a
    factor that grows along a cosine (equation 5 and section 4.2 there).

    What is clipped counts from the border of the range, so that its gradient is 0.
    """
    total = torch.zeros(())
    for each in quantized_weights(module):
        low, high = each.quantizer.quant_range
        scale, zero = (per_axis(t, each.weight.ndim, each.quantizer.axis) for t in (each.scale, each.zero_point))
        inside = torch.maximum(torch.minimum(each.folded(), (high - zero) * scale), (low - zero) * scale)
        total = total.to(inside.device) + (inside - each.rounded()).square().sum()
    return total


@dataclass
class OscillationFreezer:
    """Holds weights that oscillate too often, at the code where they were most: call `step` after each optimizer step.

    An oscillation is a change of the code in the opposite direction of the last one. Its frequency is a moving average
    over steps; a weight above `threshold` stays at the moving average of its codes, rounded (algorithm 1 there).
    """

    module: nn.Module
    threshold: float = 0.02
    momentum: float = 0.01
    state: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @torch.no_grad()
    def step(self) -> int:
        """Look at the codes of all weights, and set those that are held; how many these are."""
        refresh_weight_scales(graph_module(self.module))
        return sum(self._step(each) for each in quantized_weights(self.module))

    def _step(self, each: QuantizedWeight) -> int:
        codes = each.codes()
        if each.path not in self.state:
            start = {name: torch.zeros_like(codes) for name in ("frequency", "direction", "held")}
            self.state[each.path] = {**start, "codes": codes.clone(), "mean": codes.clone(), "value": codes.clone()}
        kept = self.state[each.path]
        free = kept["held"] == 0
        moved = torch.sign(codes - kept["codes"])
        turned = (moved != 0) & (kept["direction"] * moved < 0)
        kept["frequency"].lerp_(turned.to(codes.dtype), self.momentum)
        kept["direction"] = moved.where(moved != 0, kept["direction"])
        kept["mean"].lerp_(codes, self.momentum)
        caught = free & (kept["frequency"] > self.threshold)
        kept["value"] = kept["mean"].round().where(caught, kept["value"])
        kept["held"] = kept["held"].where(~caught, 1.0)
        kept["codes"] = codes
        self._hold(each, kept)
        return int(kept["held"].sum())

    def _hold(self, each: QuantizedWeight, kept: dict[str, Tensor]) -> None:
        scale, zero = (per_axis(t, each.weight.ndim, each.quantizer.axis) for t in (each.scale, each.zero_point))
        real = (kept["value"] - zero) * scale
        if each.gain is not None:
            real = real / per_axis(each.gain, each.weight.ndim, 0)
        held = (kept["held"] > 0) & real.isfinite()
        each.weight.copy_(real.to(each.weight.dtype).where(held, each.weight))

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """What it knows of each weight."""
        return {path: dict(kept) for path, kept in self.state.items()}

    def load_state_dict(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Go on from there."""
        self.state = {path: {name: each.clone() for name, each in kept.items()} for path, kept in state.items()}
