"""Quantization after training beyond ranges: weights and biases that make up for what rounding does.

A method takes a calibrated fake-quantized graph and examples, and gives a new graph; `qgraph.quantize(..., ptq=[...])`
and `qgraph quantize --ptq` go through several. Needs NumPy alone, but for `brecq` and `qdrop`, which have torch compute
their blocks. Equalizing channels needs no examples: it is the pass `equalize`, on the float graph.
"""

from qgraph.ptq.adaround import adaround
from qgraph.ptq.batchnorm import reestimate_batchnorm
from qgraph.ptq.bias_correction import correct_biases
from qgraph.ptq.block_rounding import brecq, qdrop
from qgraph.ptq.gptq import gptq
from qgraph.ptq.mean_correction import correct_means
from qgraph.ptq.methods import METHODS, Method, before_preparing, check_methods, improved
from qgraph.ptq.ranges import with_ranges
from qgraph.ptq.recipes import RECIPES, Recipe, Trial, Tried, auto, decibels, on_examples
from qgraph.ptq.smooth import smooth

__all__ = [
    "METHODS",
    "RECIPES",
    "Method",
    "Recipe",
    "Trial",
    "Tried",
    "adaround",
    "auto",
    "before_preparing",
    "brecq",
    "check_methods",
    "correct_biases",
    "correct_means",
    "decibels",
    "gptq",
    "improved",
    "on_examples",
    "qdrop",
    "reestimate_batchnorm",
    "smooth",
    "with_ranges",
]
