"""Seconds of compiling the demo's model, and of the command line's start."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

import numpy as np
import torch

import qgraph
from qgraph.examples.residual_cnn import ResidualCnn
from tests.benchmarks.measure import Result, Size, clock, in_turns
from tests.models import seeded


def trace_to_lowered(size: Size) -> Result:
    """Prepare and lower the traced demo model; calibration runs the model on data and is a figure of its own."""
    graph = qgraph.trace(seeded(ResidualCnn()), torch.zeros(2, 1, 28, 28))
    x = np.random.default_rng(0).normal(0, 1, (size.training_batch, 1, 28, 28)).astype(np.float32)
    first_prepare = clock(lambda: qgraph.prepare(graph, target="litert"))()
    prepared = qgraph.prepare(graph, target="litert")
    first_calibrate = clock(lambda: qgraph.calibrate(prepared, [x]))()
    calibrated = qgraph.calibrate(prepared, [x])
    first_lower = clock(lambda: qgraph.lower(calibrated, target="litert"))()
    prepare, calibrate, lower = in_turns(
        [
            clock(lambda: qgraph.prepare(graph, target="litert")),
            clock(lambda: qgraph.calibrate(prepared, [x])),
            clock(lambda: qgraph.lower(calibrated, target="litert")),
        ],
        size.repeats,
    )
    return Result(
        "compiling",
        "traced demo model to its graph for litert, without calibration: first time in the process",
        first_prepare + first_lower,
        "s",
        "<",
        0.5,
        {
            "first time: prepare, s": first_prepare,
            f"first time: calibrate on {size.training_batch} images, s": first_calibrate,
            "first time: lower, s": first_lower,
            "afterwards: prepare, s": prepare,
            f"afterwards: calibrate on {size.training_batch} images, s": calibrate,
            "afterwards: lower, s": lower,
        },
    )


def help_text(size: Size) -> Result:
    """Start a Python that prints the command line's help, as the installed command does."""
    command = [sys.executable, "-c", "import sys; from qgraph.cli import main; sys.exit(main())", "--help"]
    read = clock(lambda: subprocess.run(command, capture_output=True, check=True))
    read()
    seconds = [read() for _ in range(size.repeats)]
    return Result(
        "help",
        "qgraph --help",
        median(seconds),
        "s",
        "<",
        0.3,
        {"fastest, s": min(seconds), "slowest, s": max(seconds)},
    )
