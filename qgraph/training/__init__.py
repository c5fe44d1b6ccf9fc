"""Graphs as torch modules: calibration and fake-quant training."""

from qgraph.training.calibration import calibrate, freeze
from qgraph.training.conversion import from_torch, to_torch

__all__ = ["calibrate", "freeze", "from_torch", "to_torch"]
