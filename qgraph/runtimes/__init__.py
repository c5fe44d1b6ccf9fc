"""Real runtimes, each run as a self-contained program in a child process: here, or wherever a command starts a Python.

`run_program` runs one model, a `Worker` runs many in one process. Both know files and processes, no target.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

from qgraph.runtimes.catalogue import program_source, programs, python_variable
from qgraph.runtimes.messages import InputSet, NamedArray, Processor, Run, RunResult, RuntimeVersion
from qgraph.runtimes.process import Worker, run_program
from qgraph.runtimes.programs import PROGRAMS, Program

__all__ = [
    "PROGRAMS",
    "InputSet",
    "NamedArray",
    "Processor",
    "Program",
    "Run",
    "RunResult",
    "RuntimeVersion",
    "Worker",
    "is_installed",
    "program_source",
    "programs",
    "python_variable",
    "run_program",
]


def is_installed(program: str) -> bool:
    """Whether this Python, or that of the environment variable, has the runtime of a key of `programs()`.

    Nothing is loaded to find out, and the variable is trusted.
    """
    return python_variable(program) in os.environ or find_spec(programs()[program].module) is not None
