"""66 models of one op with int16 activations and int8 weights, made by others, with inputs and expected outputs.

`models/tflm/seanet` of QGRAPH_ASSETS, from tflite-micro's integration tests.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from qgraph.interpreter import execute
from qgraph.ir import Array, Graph
from qgraph.targets.litert.file_format import from_tflite

FOLDER = Path(os.environ.get("QGRAPH_ASSETS", "")) / "models" / "tflm" / "seanet"
MODELS = sorted(path.stem for path in FOLDER.glob("*.tflite")) if os.environ.get("QGRAPH_ASSETS") else []
OTHERS = {("leaky_relu18", "tflm"): 1}
"""Where a runtime itself gives other values than the expected ones, and how many: TFLite Micro's interpreter."""


def values(name: str, what: str, dtype: np.dtype) -> Array:
    return np.loadtxt(FOLDER / f"{name}_{what}_{dtype}.csv", delimiter=",", dtype=dtype, ndmin=1).reshape(-1)


def outputs(name: str, target: str) -> tuple[Array, Array]:
    """What the interpreter gives, and what is expected."""
    graph: Graph = from_tflite((FOLDER / f"{name}.tflite").read_bytes())
    graph.metadata["target"] = target
    feed = {
        value.name: values(name, f"input{index}", value.type.numpy).reshape(value.type.shape)
        for index, value in enumerate(graph.inputs)
    }
    (made,) = execute(graph, feed)
    return made.reshape(-1), values(name, "golden", made.dtype)


def test_all_models_are_there(assets: Path) -> None:
    assert len(MODELS) == 66


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
@pytest.mark.parametrize("name", MODELS)
def test_the_expected_values(name: str, target: str) -> None:
    made, expected = outputs(name, target)
    assert np.count_nonzero(made != expected) == OTHERS.get((name, target), 0)
