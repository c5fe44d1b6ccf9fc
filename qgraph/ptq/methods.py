"""The methods by their names, and several of them in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qgraph.errors import InputError
from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Array, Graph
from qgraph.passes.engine.manager import PassManager
from qgraph.ptq.adaround import adaround
from qgraph.ptq.batchnorm import reestimate_batchnorm
from qgraph.ptq.bias_correction import correct_biases
from qgraph.ptq.block_rounding import brecq, qdrop
from qgraph.ptq.gptq import gptq
from qgraph.ptq.mean_correction import correct_means
from qgraph.ptq.smooth import smooth

MOST = 512
"""So many examples of the calibration serve: the values of all of them are held at once."""


@dataclass(frozen=True)
class Method:
    """What is done to the float graph before it is prepared, as a pipeline of passes or with examples, or to the
    calibrated one, with examples and the calibrated graph as it was before others improved it."""

    summary: str
    passes: str = ""
    adapt: Callable[[Graph, Inputs], Graph] | None = None
    improve: Callable[[Graph, Inputs, Graph], Graph] | None = None


METHODS: Mapping[str, Method] = {
    "bias-absorption": Method(
        "what channels are always above moves behind a relu", passes="canonicalize,absorb-biases"
    ),
    "equalize": Method(
        "weights on both sides of a channel get one range", passes="canonicalize,fold-batchnorm,equalize"
    ),
    "smooth": Method("outlier channels behind layer_norm and rms_norm move into weights (SmoothQuant)", adapt=smooth),
    "batchnorm": Method(
        "statistics are measured anew with quantized weights; wants examples as in training",
        improve=reestimate_batchnorm,
    ),
    "gptq": Method("weights are rounded in turn, each row making up for the error (GPTQ)", improve=gptq),
    "adaround": Method("rounding up or down is learned, layer by layer (AdaRound)", improve=adaround),
    "brecq": Method("rounding is learned, block by block (BRECQ); wants torch", improve=brecq),
    "qdrop": Method("the same, activations rounded by chance while it learns (QDrop); wants torch", improve=qdrop),
    "mean-correction": Method(
        "biases take away the mean of what rounded weights add; one run in float", improve=correct_means
    ),
    "bias-correction": Method("biases take away the mean error of each channel", improve=correct_biases),
}
"""In the order in which they help: ranges first, then weights, then what is left of their errors. Of `gptq`,
`adaround`, `brecq` and `qdrop` one is enough, and so is one of the last two; `equalize` folds the batch normalizations
that `batchnorm` and `bias-absorption` go by."""


def check_methods(given: str | Sequence[str]) -> list[Method]:
    """The methods of these names, of which one word may hold several, "gptq,bias-correction"; raises InputError for
    another."""
    names = [name for word in ([given] if isinstance(given, str) else given) for name in word.split(",")]
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InputError(f"there is no method {unknown[0]!r}", help=f"use one of {', '.join(METHODS)}")
    return [METHODS[name] for name in names]


def before_preparing(graph: Graph, batches: Iterable[Any], methods: Sequence[Method], check: bool) -> Graph:
    """The float graph after what methods do to it; `check`: see `PassManager`."""
    examples = joined(graph, batches) if any(method.adapt for method in methods) else {}
    for method in methods:
        graph = PassManager(method.passes, check=check).run(graph) if method.passes else graph
        graph = method.adapt(graph, examples) if method.adapt else graph
    return graph


def improved(graph: Graph, batches: Iterable[Any], methods: Sequence[Method]) -> Graph:
    """A calibrated graph after those of the methods that need one, on at most `MOST` examples of the batches."""
    steps = [method.improve for method in methods if method.improve is not None]
    examples, reference = joined(graph, batches) if steps else {}, graph
    for step in steps:
        graph = step(graph, examples, reference)
    return graph


def joined(graph: Graph, batches: Iterable[Any]) -> dict[str, Array]:
    """The first examples of batches, as calibration takes them, by input name."""
    names, parts, count = [value.name for value in graph.inputs], [], 0
    for batch in batches:
        given = batch if isinstance(batch, (Mapping, tuple, list)) else [batch]
        arrays = given if isinstance(given, Mapping) else dict(zip(names, given, strict=False))
        missing = [name for name in names if name not in arrays]
        if missing:
            raise InputError(
                f"a batch lacks %{missing[0]}", help="give every input: these methods take no states from step to step"
            )
        part = {name: np.asarray(arrays[name]) for name in names}
        parts.append(part)
        count += len(part[names[0]])
        if count >= MOST:
            break
    return {name: np.concatenate([part[name] for part in parts])[:MOST] for name in names}
