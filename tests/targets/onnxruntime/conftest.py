"""One ONNX Runtime process for each test worker, and one on each other processor."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from qgraph.runtimes import Worker, is_installed


@pytest.fixture(scope="session")
def ort() -> Iterator[Worker]:
    """A child process that runs .onnx files; it starts again after a failure."""
    if not is_installed("onnxruntime"):
        pytest.skip("needs onnxruntime: pip install 'qgraph-compiler[onnxruntime]'")
    with Worker("onnxruntime", on=os.environ.get("QGRAPH_RELEASE")) as worker:
        yield worker


@pytest.fixture(scope="session")
def avx2_ort(avx2: str) -> Iterator[Worker]:
    """The same on an x86 without VNNI."""
    with Worker("onnxruntime", on=avx2) as worker:
        yield worker


@pytest.fixture(scope="session")
def arm64_ort(arm64: str) -> Iterator[Worker]:
    """The same on 64-bit ARM."""
    with Worker("onnxruntime", on=arm64) as worker:
        yield worker
