"""Real runtimes, each run as a self-contained program in a child process: here, or wherever a command starts a Python.

`run_program` runs one model, a `Worker` runs many in one process. Both know files and processes, no target.
"""

from __future__ import annotations

from importlib.util import find_spec

from qgraph.runtimes.catalogue import program_source, programs
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
    "run_program",
]


def is_installed(program: str) -> bool:
    """Whether this Python has the runtime of a key of `programs()`; nothing is loaded to find out."""
    return find_spec(programs()[program].module) is not None
