"""C99: how a program is put together, of functions in `library.c`; it knows no target."""

from qgraph.exporters.c99.program import Program, test_program

__all__ = ["Program", "test_program"]
