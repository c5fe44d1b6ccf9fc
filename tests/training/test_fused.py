"""Quantizers by kernels: the bits of the plain path, which stays as the reference."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from qgraph.training import fused

ROOT = Path(__file__).parents[2]
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="needs Triton: the extra `fused`, or a build of torch for CUDA",
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def _answer(*words: str, interpreted: bool = True) -> Any:
    """What the worker prints; Triton reads the variable when kernels are defined, so in a process of its own."""
    environment = {**os.environ, "TRITON_INTERPRET": str(int(interpreted))}
    command = [sys.executable, "-W", "ignore", "-m", "tests.training.fused_worker", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_triton
def test_kernels_give_the_bits_of_the_plain_path() -> None:
    assert _answer("proof") is None


@needs_triton
@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_training_by_kernels_leaves_the_same_state(target: str) -> None:
    assert _answer("model", target) == []


@needs_triton
@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_the_gradient_of_a_gradient_goes_through_the_kernels_too(target: str) -> None:
    assert _answer("penalized", target) == []


@needs_triton
def test_a_quantizer_is_three_launches_where_it_was_thirty() -> None:
    found = _answer("launches")
    activations, means, weights = 6, 1, 3  # LiteRT's rounding of a mean is none that the kernels know
    assert found["kernels"] == 3 * activations - means + 2 * weights
    assert found["plain"] > 4 * (found["fused"] + found["kernels"])


@needs_triton
def test_code_for_gpus_rounds_every_quotient_and_joins_no_product_with_a_sum() -> None:
    assert _answer("compiled", interpreted=False) == []


def test_the_plain_path_serves_cpus() -> None:
    assert fused.kernels_for(torch.zeros(1)) is None


def test_kernels_that_differ_on_a_device_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    proof = type(sys)("qgraph.training.fused.proof")
    proof.difference = lambda device: "kernels for weights differ from it"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, proof.__name__, proof)
    monkeypatch.setattr(fused, "proof", proof, raising=False)
    monkeypatch.setattr(fused, "DEVICES", {"cpu"})
    monkeypatch.setattr(fused, "_PROVED", {})
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: proof)
    with pytest.warns(RuntimeWarning, match="go the plain, slower path: kernels for weights differ"):
        assert fused.kernels_for(torch.zeros(1)) is None
    assert fused.kernels_for(torch.zeros(1)) is None  # and warns once


@pytest.mark.cuda
@needs_cuda
def test_kernels_are_taken_on_the_gpu_that_is_there() -> None:
    x = torch.zeros(1, device="cuda")
    assert fused.kernels_for(x) is not None
