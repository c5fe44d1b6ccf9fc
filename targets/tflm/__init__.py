"""TFLite Micro: what the `tflite-micro` package's interpreter computes on the same files."""

from __future__ import annotations

from dataclasses import replace

from qgraph.targets.litert import TARGET as REFERENCE
from qgraph.targets.target import kernels_in

TARGET = replace(
    REFERENCE,
    name="tflm",
    summary="TFLite Micro, reference kernels: .tflite, int8",
    runtime="tflm",
    proven="0.dev20261023182759",
    earlier={},
    runtime_options={},
    kernels=kernels_in(__name__, __path__),
    processors="any that computes IEEE floats and 32-bit integers; compared on x86-64",
)

__all__ = ["TARGET"]
