"""Calibration of graphs: batches of examples, the floats that they give, and the ranges that are seen; no torch."""

from qgraph.calibration.calibrating import calibrated, calibrates

__all__ = ["calibrated", "calibrates"]
