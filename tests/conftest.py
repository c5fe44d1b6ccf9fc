"""Settings and fixtures of the whole suite."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# One worker a core: more threads in each would only fight. Read by the numerical libraries when they load.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run; the clock fails no test.
settings.register_profile("qgraph", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("qgraph")


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
