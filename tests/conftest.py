"""Settings and fixtures of the whole suite."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from qgraph.ir import Graph

# One worker a core: more threads in each would only fight. Read by the numerical libraries when they load.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run; the clock fails no test.
settings.register_profile("qgraph", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("qgraph")


ROUND_TRIP = 2000
"""Larger graphs than this are spared the round trip."""


@pytest.fixture(scope="session", autouse=True)
def _every_pass_is_followed_by_a_round_trip() -> Iterator[None]:
    """What any pass leaves, in any test, comes back from its text and from its file."""
    from qgraph.passes.engine import manager, registry

    with pytest.MonkeyPatch.context() as patch:
        for module in (registry, manager):
            patch.setattr(module, "verify_facts", _and_back(module.verify_facts))
        yield


def _and_back(verify_facts: Callable[..., None]) -> Callable[..., None]:
    from qgraph.ir import parse, storage

    def verify(graph: Graph, facts: dict[str, str]) -> None:
        verify_facts(graph, facts)
        if len(graph) <= ROUND_TRIP:
            text = str(graph)
            assert parse(text, constants=graph) == graph, f"its text reads back as another graph:\n{text}"
            assert storage.from_bytes(storage.to_bytes(graph)) == graph, f"its file reads back as another:\n{text}"

    return verify


@pytest.fixture(scope="session")
def assets() -> Path:
    """Folder with data/, models/ and spec/ for tests that want more than the package ships."""
    folder = os.environ.get("QGRAPH_ASSETS")
    if not folder:
        pytest.skip("needs the environment variable QGRAPH_ASSETS: a folder with data/, models/ and spec/")
    return Path(folder)


@pytest.fixture(scope="session")
def emulators(assets: Path, request: pytest.FixtureRequest) -> Path:
    """Folder with the interpreters `arm64` and `avx2`, made once: QGRAPH_EMULATORS or else one in pytest's cache."""
    given = os.environ.get("QGRAPH_EMULATORS")
    folder = Path(given) if given else request.config.cache.mkdir("emulators")
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip(f"the emulators run on x86-64 Linux, not on {platform.machine()} {platform.system()}")
    import fcntl  # not on Windows

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one worker makes them, the others wait
        make_emulators(assets / "emulate" / "make", folder)
    return folder


def make_emulators(make: Path, folder: Path) -> None:
    """Run the script that fills the folder, unless it is filled; skips with the reason where that cannot be done."""
    interpreters = [folder / name for name in ("arm64", "avx2")]
    if all(os.access(interpreter, os.X_OK) for interpreter in interpreters):
        return
    if os.geteuid() != 0:
        pytest.skip("making the emulators needs root, or a folder that has them in QGRAPH_EMULATORS")
    missing = [tool for tool in ("bash", "apt-get", "dpkg") if not shutil.which(tool)]
    if missing or not make.exists():
        pytest.skip(f"making the emulators needs {', '.join(missing) or make}")
    made = subprocess.run(["bash", str(make), str(folder)], capture_output=True, text=True, timeout=600)
    if made.returncode:
        for interpreter in interpreters:
            interpreter.unlink(missing_ok=True)
        pytest.skip(f"the emulators could not be made: {(made.stderr.strip().splitlines() or ['no message'])[-1]}")


@pytest.fixture(scope="session")
def arm64(emulators: Path) -> str:
    """Command that starts a Python with onnxruntime and ai-edge-litert on 64-bit ARM."""
    return shlex.quote(str(emulators / "arm64"))


@pytest.fixture(scope="session")
def avx2(emulators: Path) -> str:
    """Command that starts this Python on an x86 with AVX2 and without AVX512 and VNNI."""
    return shlex.join(["env", f"PYTHON={sys.executable}", str(emulators / "avx2")])


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes what passes make into the golden files; review the diff."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")
