"""Golden tests: a graph's text, a pipeline, the text expected after it (STYLE section 9); `--update-golden`
rewrites."""

from __future__ import annotations

from pathlib import Path

from qgraph.errors import QGraphError
from qgraph.ir import Graph, parse
from qgraph.passes.engine.manager import PassManager

SEPARATOR = "// ---- EXPECT\n"


def check_golden(path: Path, update: bool) -> None:
    """Run the pipeline of the first line, `// RUN ...`, and compare graph or error message with the file."""
    before, _, expected = path.read_text(encoding="utf-8").partition(SEPARATOR)
    pipeline = before.splitlines()[0].removeprefix("// RUN ")
    graph = parse(before)
    text = str(graph)
    try:
        after: Graph | None = PassManager(pipeline).run(graph)
        result = str(after)
    except QGraphError as error:
        after, result = None, f"{error}\n"
    assert str(graph) == text, "a pass changed its argument"
    if update:
        path.write_text(f"{before}{SEPARATOR}{result}", encoding="utf-8")
        return
    assert result == (str(parse(expected)) if after is not None else expected)
