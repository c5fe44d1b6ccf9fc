"""Graphs as torch modules: calibration and fake-quant training."""

from qgraph.imports import require_torch

require_torch()

from qgraph.training.calibration import calibrate, freeze  # noqa: E402  they import torch: the check comes first
from qgraph.training.conversion import from_torch, to_torch  # noqa: E402

__all__ = ["calibrate", "freeze", "from_torch", "to_torch"]
