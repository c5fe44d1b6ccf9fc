"""The runtimes' programs by name: those of `qgraph.runtimes.programs`, and of installed packages."""

from __future__ import annotations

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
