"""Self-contained programs that run models on one runtime: standard library, NumPy and that runtime, never qgraph.

Their files here are parts; `source_of` makes of them the text that is sent to a Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Program:
    """A runtime's program: its file, and the package that it imports."""

    file: str
    package: str  # on PyPI
    module: str
    extra: str = ""  # of qgraph-compiler; "": it is installed by itself
    folder: str = __name__  # the package that holds the file
    own_environment: bool = False  # it pins other versions of packages than qgraph takes


PROGRAMS: dict[str, Program] = {
    "litert": Program("litert.py", "ai-edge-litert", "ai_edge_litert", "litert"),
    "onnxruntime": Program("onnxruntime.py", "onnxruntime", "onnxruntime", "onnxruntime"),
    "tflm": Program("tflm.py", "tflite-micro", "tflite_micro", "tflm"),
    "tosa": Program("tosa.py", "tosa-tools", "tosa_reference_model", "tosa", own_environment=True),
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


def source_of(program: Program) -> str:
    """The text of a program for any Python from 3.9 on: `python -c TEXT` answers requests."""
    names = [*((__name__, part) for part in SHARED_FILES), (program.folder, program.file)]
    parts = [(part, files(folder).joinpath(part).read_text(encoding="utf-8")) for folder, part in names]
    return TEMPLATE.format(parts=parts)
