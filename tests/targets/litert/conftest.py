"""The runtimes of the family, one process of each for each test worker."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from qgraph.runtimes import is_installed
from tests.targets.litert.families import HERE, RELEASE, Families


@pytest.fixture(scope="session")
def litert() -> Iterator[Families]:
    """Child processes that run .tflite files on every family; they start again after a failure."""
    for program, package in (("litert", "ai-edge-litert"), ("tflm", "tflite-micro")):
        if not is_installed(program):
            pytest.skip(f"needs {package}: pip install 'qgraph-compiler[{program}]'")
    names = os.environ.get("QGRAPH_RELEASE_TARGETS")
    families = Families(names.split(",") if names else HERE, on=RELEASE)
    yield families
    families.close()


@pytest.fixture(scope="session", params=["neoverse-n1", "cortex-a72"])
def litert_arm64(arm64: str, request: pytest.FixtureRequest) -> Iterator[Families]:
    """LiteRT on an emulated 64-bit ARM: a core with dot product, and one without."""
    families = Families(("litert", "litert-xnnpack-arm64"), on=f"env CPU={request.param} {arm64}")
    yield families
    families.close()
