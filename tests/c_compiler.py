"""C99 programs that qgraph writes: built with every warning and the sanitizers, and run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffp-contract=off")
SANITIZERS = ("-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover=all")


def build_and_run(folder: Path, *flags: str, compiler: str = "gcc", runner: Sequence[str] = ()) -> str:
    """What the test program of a folder prints; fails where it does not build, or exits otherwise than with 0."""
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    if runner and shutil.which(runner[0]) is None:
        pytest.skip(f"needs {runner[0]}: Debian's package qemu-user")
    command = [compiler, *WARNINGS, *(flags or SANITIZERS), "-o", "main", "main.c", "model.c", "-lm"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[:4000]
    ran = subprocess.run([*runner, "./main"], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr[:4000]
    return ran.stdout
