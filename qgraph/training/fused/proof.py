"""Whether the kernels give the bits of the plain path on a device: layers in training, both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import triton
from torch import Tensor

from qgraph.training.fused import taken

Case = Callable[[torch.device], list[Tensor]]
"""Everything that a case leaves behind: results, gradients, state."""
REFUSALS = (triton.TritonError, RuntimeError, OSError)
"""What a machine without a compiler, or with a device that Triton does not know, raises."""


def difference(device: torch.device) -> str | None:
    """Where the kernels differ from the plain path, or why they do not run; None where they give the same bits."""
    for name, case in _cases():
        with taken(device, False):
            wanted = case(device)
        try:
            with taken(device, True):
                made = case(device)
        except REFUSALS as error:
            return f"kernels do not run there: {error}"
        if not all(map(_equal, wanted, made)):
            return f"kernels for {name} differ from it"
    return None


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether all numbers are the same, NaN where NaN is."""
    return a.dtype == b.dtype and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _cases() -> Iterator[tuple[str, Case]]:
    for observer in ("moving_average", "min_max"):
        for rounding in ("half_even", "half_away"):
            for symmetric in (False, True):
                yield f"{observer} activations", _activation(observer, rounding, symmetric)
    for biased in (False, True):
        yield "weights", _weight(biased)
        yield "weights before a batch normalization", _layer(biased)


def _values(device: torch.device, *shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, and halves of steps of 1/8 among them."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    values[..., ::3] = (values[..., ::3] * 16).round_() / 16
    return values.to(device)


def _activation(observer: str, rounding: str, symmetric: bool) -> Case:
    def case(device: torch.device) -> list[Tensor]:
        from qgraph.training.observers import ActivationQuantizer

        quantizer = ActivationQuantizer(1, (-128, 127), None, observer, symmetric).to(device)
        scale, zero_point = torch.tensor([1 / 8], device=device), torch.tensor([3], dtype=torch.int32, device=device)
        left = []
        half = torch.float16 if device.type == "cpu" else torch.bfloat16  # which Triton's interpreter cuts off
        for turn, kind in enumerate((torch.float32, half, torch.float32)):
            x = _values(device, 2, 5, 7, 30 + turn, seed=turn).to(kind)
            if turn == 2:
                x, scale = x.to(memory_format=torch.channels_last), scale * 0.7
                quantizer.frozen = True
            x = x.requires_grad_()
            y = quantizer(x, scale, zero_point, None, rounding, turn != 1)
            y.backward(_values(device, *x.shape, seed=9))
            left += [y.detach(), _gradient(x), scale.clone(), zero_point.clone(), quantizer.range.clone()]
        return left

    return case


def _weight(biased: bool) -> Case:
    def case(device: torch.device) -> list[Tensor]:
        from qgraph.training.observers import WeightQuantizer

        quantizer = WeightQuantizer((-127, 127), 0, "min_max").to(device)
        w, scale, zero_point = _weights(device)
        bias = _values(device, len(w), seed=2) * 1e4 if biased else None
        made = quantizer(w, scale, zero_point, bias, torch.full((1,), 1e-5, device=device))
        made.backward(_values(device, *w.shape, seed=9))
        return [made.detach(), _gradient(w), scale]

    return case


def _layer(biased: bool) -> Case:
    def case(device: torch.device) -> list[Tensor]:
        from qgraph.training.layers import LinearBatchNorm
        from qgraph.training.observers import WeightQuantizer

        layer = LinearBatchNorm(WeightQuantizer((-127, 127), 0, "min_max"), 1e-5, 0.1).to(device)
        w, scale, zero_point = _weights(device)
        gamma, beta, mean, var = (_values(device, len(w), seed=seed) for seed in (3, 4, 5, 6))
        gamma[2] = 0
        bias = _values(device, len(w), seed=2) if biased else None
        batch_norm = gamma, beta, mean, var.square_()
        made = layer._unfolded(w, bias, batch_norm, scale, zero_point, torch.full((1,), 0.02, device=device))
        made.backward(_values(device, *w.shape, seed=9))
        return [made.detach(), _gradient(w), scale]

    return case


def _gradient(x: Tensor) -> Tensor:
    assert x.grad is not None
    return x.grad


def _weights(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [11, 1500], of which one row is zero and one next to that; scales, zero points."""
    w = _values(device, 11, 1500, seed=1)
    w[4], w[5] = 0, w[5] * 1e-9
    return w.requires_grad_(), torch.ones(11, device=device), torch.zeros(11, dtype=torch.int32, device=device)
