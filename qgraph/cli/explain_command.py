"""`qgraph explain`: where a quantized graph loses accuracy, and what to try."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qgraph.cli.styled import echo_lines

if TYPE_CHECKING:
    from qgraph.ir import Array


def explain(
    file: Annotated[Path, typer.Argument(help="A calibrated fake-quantized graph, a lowered one, .tflite or .onnx.")],
    inputs: Annotated[Path, typer.Option("--inputs", help="An .npz file of inputs, as `qgraph run` takes it.")],
    reference: Annotated[
        Path | None, typer.Option("--float", help="The float graph that it came from: its weights are what is right.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="An .npz file with the class of each example; else `labels` in --inputs."),
    ] = None,
    tried: Annotated[int, typer.Option("--tried", min=0, help="Of so many nodes changes are measured.")] = 8,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="An HTML page to write, with pictures.")] = None,
    layout: Annotated[str | None, typer.Option(help="NCHW or NHWC, where the inputs' shape fits both.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show where a quantized graph loses accuracy, and what gains it back, measured.

    Without --float the reference is the graph with its own weights, which in an integer graph are rounded already.
    """
    import qgraph
    from qgraph.cli.arrays import read_npz
    from qgraph.ir import data_inputs

    graph = qgraph.load(file)
    names = [value.name for value in data_inputs(graph)]
    found = qgraph.explain(
        graph,
        read_npz(inputs, names),
        reference=None if reference is None else qgraph.load(reference),
        labels=_labels(inputs, labels, names),
        layout=layout,  # type: ignore[arg-type]  # checked
        tried=tried,
    )
    if output is not None:
        found.to_html(output)
    if as_json:
        typer.echo(found.to_json())
    else:
        echo_lines(found.lines())


def _labels(inputs: Path, labels: Path | None, names: list[str]) -> Array | None:
    """The labels of the file given, else those beside the inputs, where there are any."""
    from qgraph.cli.arrays import read_all, read_npz

    if labels is not None:
        return read_npz(labels, ["labels"])["labels"]
    return None if "labels" in names else read_all(inputs).get("labels")
