"""`qgraph report`: what a graph costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qgraph.ir import Graph


def report(
    file: Annotated[Path, typer.Argument(help="A graph: .qg, .tflite or .onnx.")],
    nodes: Annotated[bool, typer.Option("--nodes", help="A line for every node.")] = False,
    overflow: Annotated[
        bool,
        typer.Option(help="The range of every accumulator over all inputs, instead; exit status 1 if one overflows."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Report sizes, multiply-accumulates and memory of a graph, for one example."""
    import qgraph
    from qgraph.interpreter.cost import cost
    from qgraph.ir.printer import node_printer

    graph = qgraph.load(file)
    if overflow:
        _report_ranges(graph, as_json)
        return
    found, text = cost(graph), node_printer(graph)
    by_op: dict[str, list[int]] = {}
    for each in found.nodes:
        row = by_op.setdefault(each.node.op, [0, 0, 0])
        row[:] = row[0] + 1, row[1] + each.macs, row[2] + each.weight_bytes
    words = {
        "level": graph.level,
        "metadata": graph.metadata,
        "nodes": len(graph),
        "macs": found.macs,
        "weight_bytes": found.weight_bytes,
        "peak_activation_bytes": found.peak_bytes,
        "in_float": {"nodes": len(found.in_float), "macs": sum(each.macs for each in found.in_float)},
        "ops": {op: dict(zip(("nodes", "macs", "weight_bytes"), row, strict=True)) for op, row in by_op.items()},
    }
    estimated = _estimated(graph)
    words |= {"estimate": estimated} if estimated else {}
    if as_json:
        typer.echo(json.dumps(words, indent=2))
        return
    typer.echo(f"{file}: level {graph.level}, {len(graph)} nodes")
    typer.echo(f"  multiply-accumulates    {found.macs:>14,}")
    typer.echo(f"  weights, bytes          {found.weight_bytes:>14,}")
    typer.echo(f"  activations, peak bytes {found.peak_bytes:>14,}")
    for word, told in estimated.items():
        typer.echo(f"  {word:23} {told}")
    if found.in_float:
        count, macs = len(found.in_float), sum(each.macs for each in found.in_float)
        ops = ", ".join(sorted({each.node.op for each in found.in_float}))
        typer.echo(f"  in float                {macs:>14,} MACs of {count} of {len(graph)} nodes: {ops}")
    for op, (count, macs, size) in sorted(by_op.items(), key=lambda item: -item[1][1]):
        typer.echo(f"  {op:32} {count:5} nodes {macs:>14,} MACs {size:>12,} bytes")
    for each in found.nodes if nodes else ():
        typer.echo(f"{each.macs:>12,} MACs {each.weight_bytes:>10,} bytes  {text(each.node)[:160]}")


def _estimated(graph: Graph) -> dict[str, str]:
    """What a lowered graph costs on its target, where that has a model of it."""
    from qgraph import targets

    estimate = targets.of(graph).estimate if graph.level == "integer" and graph.target else None
    return {} if estimate is None else dict(estimate(graph))


def _report_ranges(graph: Graph, as_json: bool) -> None:
    """Print the range of every accumulator; exit with 1 where one can overflow."""
    from qgraph.proofs import prove_no_overflow

    found = prove_no_overflow(graph)
    if as_json:
        words = {"layers": [each.words() for each in found.layers], "stages": [each.words() for each in found.stages]}
        typer.echo(json.dumps({**words, "not_looked_at": found.not_looked_at}, indent=2))
    else:
        for each in (*found.layers, *found.stages):
            typer.echo(str(each))
        proved = sum(each.proved for each in found.layers)
        typer.echo(f"{proved} of {len(found.layers)} layers cannot overflow, whatever the input is")
        if found.stages:
            proved = sum(not each.wraps for each in found.stages)
            typer.echo(f"{proved} of {len(found.stages)} stages with a width cannot wrap")
        if found.not_looked_at:
            typer.echo(f"not looked at: {', '.join(found.not_looked_at)}")
    raise typer.Exit(0 if found.proved else 1)
