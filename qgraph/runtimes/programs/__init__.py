"""Self-contained programs that run models on one runtime: standard library, NumPy and that runtime, never qgraph.

Their files here are parts; `program_source` makes of them the text that is sent to a Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Program:
    """A runtime's program: its file here, and the package that it imports."""

    file: str
    package: str  # on PyPI
    module: str
    extra: str  # of qgraph-compiler


PROGRAMS = {
    "litert": Program("litert.py", "ai-edge-litert", "ai_edge_litert", "litert"),
    "onnxruntime": Program("onnxruntime.py", "onnxruntime", "onnxruntime", "onnxruntime"),
    "tflm": Program("tflm.py", "tflite-micro", "tflite_micro", "tflm"),
}

SHARED_FILES = ("processor.py", "serving.py")

# Each part is compiled under its file's name, for tracebacks, and run in one namespace. The empty entry of sys.path is
# the current folder, where a file may be called like a package.
TEMPLATE = """\
import sys
sys.path[:] = [folder for folder in sys.path if folder]
for name, source in {parts!r}:
    exec(compile(source, name, "exec"), globals())
serve(start)
"""


@cache
def program_source(name: str) -> str:
    """The text of a program (a key of PROGRAMS) for any Python from 3.9 on: `python -c TEXT` answers requests."""
    names = (*SHARED_FILES, PROGRAMS[name].file)
    parts = [(part, files(__package__).joinpath(part).read_text(encoding="utf-8")) for part in names]
    return TEMPLATE.format(parts=parts)
