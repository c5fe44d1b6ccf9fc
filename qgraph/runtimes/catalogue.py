"""The runtimes' programs by name: those of `qgraph.runtimes.programs`, and of installed packages."""

from __future__ import annotations

import os
import sys
from functools import cache

from qgraph.extensions import RUNTIMES, installed
from qgraph.runtimes.programs import PROGRAMS, Program, source_of


def programs() -> dict[str, Program]:
    """All programs; one of an installed package takes no other's name."""
    added = {name: given for name, given in installed(RUNTIMES).items() if isinstance(given, Program)}
    return {**added, **PROGRAMS}


@cache
def program_source(name: str) -> str:
    """The text of a program (a key of `programs()`) for any Python from 3.9 on: `python -c TEXT` answers requests."""
    return source_of(programs()[name])


def python_variable(name: str) -> str:
    """The environment variable that names the Python of a runtime in an environment of its own."""
    return f"QGRAPH_{name.upper().replace('-', '_')}_PYTHON"


def own_python(name: str) -> str:
    """The Python that runs a program unless a command is given: that of `python_variable`, else this one."""
    return os.environ.get(python_variable(name)) or sys.executable
