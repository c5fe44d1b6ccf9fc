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
from qgraph.ptq.bias_correction import correct_biases
from qgraph.ptq.gptq import gptq

MOST = 512
"""So many examples of the calibration serve: the values of all of them are held at once."""


@dataclass(frozen=True)
class Method:
    """What is done to the float graph before it is prepared, as a pipeline of passes, or to the calibrated one."""

    passes: str = ""
    improve: Callable[[Graph, Inputs], Graph] | None = None


METHODS: Mapping[str, Method] = {
    "equalize": Method(passes="canonicalize,fold-batchnorm,equalize"),
    "gptq": Method(improve=gptq),
    "bias-correction": Method(improve=correct_biases),
}
"""In the order in which they help: ranges first, then weights, then what is left of their errors."""


def check_methods(given: str | Sequence[str]) -> list[Method]:
    """The methods of these names, of which one word may hold several, "gptq,bias-correction"; raises InputError for
    another."""
    names = [name for word in ([given] if isinstance(given, str) else given) for name in word.split(",")]
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InputError(f"there is no method {unknown[0]!r}", help=f"use one of {', '.join(METHODS)}")
    return [METHODS[name] for name in names]


def before_preparing(graph: Graph, methods: Sequence[Method], check: bool = False) -> Graph:
    """The float graph after what methods do to it; `check`: see `PassManager`."""
    for method in methods:
        graph = PassManager(method.passes, check=check).run(graph) if method.passes else graph
    return graph


def improved(graph: Graph, batches: Iterable[Any], methods: Sequence[Method]) -> Graph:
    """A calibrated graph after those of the methods that need one, on at most `MOST` examples of the batches."""
    steps = [method.improve for method in methods if method.improve is not None]
    examples = _joined(graph, batches) if steps else {}
    for step in steps:
        graph = step(graph, examples)
    return graph


def _joined(graph: Graph, batches: Iterable[Any]) -> dict[str, Array]:
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
        parts.append({name: np.asarray(arrays[name]) for name in names})
        count += len(parts[-1][names[0]])
        if count >= MOST:
            break
    return {name: np.concatenate([part[name] for part in parts])[:MOST] for name in names}
