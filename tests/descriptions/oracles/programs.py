"""Oracles are programs around somebody's code: C or C++, compiled out of tree and never kept, or a package's Python."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tests.descriptions.oracles.boundaries import Rows

HERE = Path(__file__).parent


def compiled(driver: str, sources: Sequence[Path], options: Sequence[str], folder: Path) -> list[str]:
    """The command of a driver in this folder."""
    program = folder / Path(driver).stem
    compiler = "gcc" if driver.endswith(".c") else "g++"
    command = [compiler, "-O1", "-w", f"-I{HERE}", f"-I{folder}", *options, str(HERE / driver), *map(str, sources)]
    subprocess.run([*command, "-lm", "-o", str(program)], check=True)
    return [str(program)]


def python(driver: str) -> Callable[[Path, Path], list[str]]:
    """The command of a driver in Python: SOURCE is a Python that has the package, or a folder to import it from."""

    def build(source: Path, folder: Path) -> list[str]:
        if not source.is_dir():
            return [str(source), str(HERE / driver)]
        paths = f"import sys; sys.path[:0] = {[str(HERE), str(source)]!r}; "
        return [sys.executable, "-c", paths + f"import runpy; runpy.run_path({str(HERE / driver)!r})"]

    return build


def results(command: Sequence[str], case: str, table: Rows) -> Rows:
    """What the program makes of the rows."""
    done = subprocess.run(
        [*command, str(table.shape[1]), case], input=table.astype("<i8").tobytes(), capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, "<i8").astype(np.int64)
