"""What is given in place of something else is refused by name, and the help says what to give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import qgraph
from qgraph.errors import InputError

X = torch.randn(8, 4)
MODEL = nn.Sequential(nn.Linear(4, 3)).eval()


def _quantized(calibration: object = (X.numpy(),), **words: object) -> object:
    graph = qgraph.trace(MODEL, X)
    return qgraph.quantize(graph, "litert", calibration=calibration, **words)  # type: ignore[arg-type]


CASES: dict[str, tuple[Callable[[], object], str]] = {
    "an array of examples": (lambda: _quantized(X.numpy()), "calibration takes batches, one array is given"),
    "a tensor of examples": (lambda: _quantized(X, ptq="gptq"), "calibration takes batches, one array is given"),
    "arrays by name": (lambda: _quantized({"x": X}), "calibration takes batches, a dictionary is given"),
    "a file of examples": (lambda: _quantized("x.npz"), "calibration takes batches of arrays, not 'x.npz'"),
    "no examples": (lambda: _quantized(None), "calibration takes batches of arrays, not None"),
    "overrides in a list": (lambda: _quantized(overrides=["0"]), "overrides are ['0']"),
    "no path": (lambda: qgraph.load(None), "None is no path of a file"),  # type: ignore[arg-type]
    "a number for a path": (lambda: qgraph.load(3), "3 is no path of a file"),  # type: ignore[arg-type]
    "a module to prepare": (lambda: qgraph.prepare(MODEL, "litert"), "a Sequential is no graph"),  # type: ignore[arg-type]
    "a module to lower": (lambda: qgraph.lower(MODEL, "litert"), "a Sequential is no graph"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_argument_is_refused_by_name(name: str) -> None:
    call, what = CASES[name]
    with pytest.raises(InputError) as caught:
        call()
    assert what in str(caught.value)
    assert "help" in str(caught.value)


def test_an_array_of_batches_is_several() -> None:
    assert _quantized(X.reshape(2, 4, 4).numpy())
