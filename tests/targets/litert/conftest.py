"""One LiteRT process for each test worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qgraph.runtimes import Worker, is_installed


@pytest.fixture(scope="session")
def litert() -> Iterator[Worker]:
    """A child process that runs .tflite files; it starts again after a failure."""
    if not is_installed("litert"):
        pytest.skip("needs ai-edge-litert: pip install 'qgraph-compiler[litert]'")
    with Worker("litert") as worker:
        yield worker
