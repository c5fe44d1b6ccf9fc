"""One ONNX Runtime process for each test worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qgraph.runtimes import Worker, is_installed


@pytest.fixture(scope="session")
def ort() -> Iterator[Worker]:
    """A child process that runs .onnx files; it starts again after a failure."""
    if not is_installed("onnxruntime"):
        pytest.skip("needs onnxruntime: pip install 'qgraph-compiler[onnxruntime]'")
    with Worker("onnxruntime") as worker:
        yield worker
