"""Quantizers as a few kernels of Triton: the bits of the plain path, at a tenth of its launches.

On a GPU a step of training is a matter of launches and of memory passes. The plain path takes 30 to 45 of the
first for a quantizer, and ten of the second; here an activation takes 3 (extremes, parameters, rounding) and 1
backward, a weight with its batch normalization 2 and 1, and backward passes make codes again instead of keeping them.

`kernels_for` alone decides who takes them: tensors on CUDA, where Triton is there and has passed the comparison with
the plain path on that device (`proof.py`). torch.compile sees the plain path, which its own compiler fuses with what
stands around it. Triton comes with torch's builds for CUDA.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

DEVICES = {"cuda"}
"""Kinds of devices on which kernels run; tests add the CPU, under Triton's interpreter."""
_PROVED: dict[torch.device, bool] = {}


class BatchNormOf(NamedTuple):
    """What a live batch normalization does to a layer: gamma, beta and the running statistics [O], and eps."""

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    var: Tensor
    eps: float


def kernels_for(x: Tensor) -> ModuleType | None:
    """`qgraph.training.fused.launch` where the kernels serve x; None where the plain path does. The first time on a
    device they are compared there; a difference warns, and the plain path stays."""
    if torch.compiler.is_compiling() or x.device.type not in DEVICES:
        return None
    device = x.device
    if device not in _PROVED:
        _PROVED[device] = _proved(device)
    if not _PROVED[device]:
        return None
    from qgraph.training.fused import launch

    return launch


def _proved(device: torch.device) -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    from qgraph.training.fused import proof

    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        reason = proof.difference(device)
    if reason is not None:
        warnings.warn(f"quantizers on {device} go the plain, slower path: {reason}", RuntimeWarning, stacklevel=3)
    return reason is None


@contextmanager
def taken(device: torch.device, kernels: bool) -> Iterator[None]:
    """Let the kernels be taken on a device, or not, without a comparison."""
    before = dict(_PROVED)
    _PROVED[device] = kernels
    try:
        yield
    finally:
        _PROVED.clear()
        _PROVED.update(before)
