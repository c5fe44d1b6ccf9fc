"""Oracles that are programs in C or C++ around somebody's source, which is compiled out of tree and never kept."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.descriptions.oracles.boundaries import Rows

HERE = Path(__file__).parent


def compiled(driver: str, sources: Sequence[Path], options: Sequence[str], folder: Path) -> Path:
    """The program of a driver in this folder."""
    program = folder / Path(driver).stem
    compiler = "gcc" if driver.endswith(".c") else "g++"
    command = [compiler, "-O1", "-w", f"-I{HERE}", f"-I{folder}", *options, str(HERE / driver), *map(str, sources)]
    subprocess.run([*command, "-lm", "-o", str(program)], check=True)
    return program


def results(program: Path, case: str, table: Rows) -> Rows:
    """What the program makes of the rows."""
    done = subprocess.run(
        [str(program), str(table.shape[1]), case], input=table.astype("<i8").tobytes(), capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, "<i8").astype(np.int64)
