"""`qgraph show`: a graph as a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(
    file: Annotated[Path, typer.Argument(help="A graph: .qg, or a .tflite or .onnx file.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The drawing: .html (to explore) or .svg (static picture).")
    ],
) -> None:
    """Draw a graph: an HTML page to explore in a browser, or an SVG picture."""
    import qgraph
    from qgraph.errors import FileError
    from qgraph.ir.files import write_atomically
    from qgraph.viewer import Pane, svg, write_page

    if output.suffix not in (".html", ".svg"):
        raise FileError(f"{output}: a graph is drawn as .html or .svg", help="give the output one of these suffixes")
    graph = qgraph.load(file)
    if output.suffix == ".svg":
        write_atomically(output, svg(graph).encode())
    else:
        write_page(output, [Pane(file.name, graph)], title=graph.name)
    typer.echo(f"{output}: {len(graph)} nodes")
