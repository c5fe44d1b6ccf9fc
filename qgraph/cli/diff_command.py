"""`qgraph diff`: what differs between graphs, or between the stages of a pipeline."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qgraph.cli.styled import echo_lines

if TYPE_CHECKING:
    from qgraph.differ import GraphDiff
    from qgraph.interpreter.inputs import Inputs
    from qgraph.ir import Graph


def diff(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="A B | STAGE... | DIR",
            help="Two graphs (.qg, .tflite, .onnx), more of them, or the folder of `qgraph opt --snapshots`.",
        ),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="An .npz file of the first graph's inputs: compare values too.")
    ] = None,
    context: Annotated[int, typer.Option("-U", "--context", min=0, help="Unchanged groups around a change.")] = 2,
    stat: Annotated[bool, typer.Option("--stat", help="Print a table of counts only.")] = False,
    only: Annotated[str, typer.Option("--only", help="Kinds to show: fused,changed.")] = "",
    html: Annotated[Path | None, typer.Option("--html", help="Write an HTML page of all graphs side by side.")] = None,
    fail_on: Annotated[
        str | None, typer.Option("--fail-on", help="Exit with 1 only for these: params,removed,numbers:sqnr<30.")
    ] = None,
    targets: Annotated[
        str, typer.Option("--targets", help="One file under several targets of its family: litert,tflm.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what differs between graphs, node by node.

    More than two graphs are stages of a pipeline: each is compared with the next. With --targets one graph runs with
    the kernels of several targets: which node makes them differ, and why. Exit status 0: nothing differs, 1: something
    does (something of --fail-on, where it is given), 2: an error.
    """
    if targets:
        _diff_targets(files or [], targets.split(","), inputs, as_json)
    import qgraph
    from qgraph.cli.arrays import read_npz
    from qgraph.differ.rules import parse_rules
    from qgraph.ir import data_inputs

    rules = parse_rules("any" if fail_on is None else fail_on)
    kinds = _kinds(only)
    if inputs is None and any(rule.needs_numbers for rule in rules):
        raise typer.BadParameter("a rule about numbers needs --inputs", param_hint="--fail-on")
    stages = [(_title(path), qgraph.load(path)) for path in _paths(files or [])]
    data = read_npz(inputs, [value.name for value in data_inputs(stages[0][1])]) if inputs else None
    diffs = [qgraph.diff(a, b, inputs=data) for (_, a), (_, b) in pairwise(stages)]
    if html is not None:
        from qgraph.differ.html_form import write_stages

        write_stages(html, stages, diffs)
    if as_json:
        typer.echo(_json(stages, diffs))
    else:
        _print(stages, diffs, context, kinds, stat)
    raise typer.Exit(int(any(rule.broken_by(found) for rule in rules for found in diffs)))


def _diff_targets(files: list[Path], names: list[str], inputs: Path | None, as_json: bool) -> None:
    """One file under several targets; first each side is verified to be its real runtime's answer."""
    import qgraph
    from qgraph.cli.arrays import read_npz
    from qgraph.differ.families import check_names, diff_targets, to_json
    from qgraph.errors import UnsupportedOp
    from qgraph.interpreter.samples import sample_inputs
    from qgraph.ir import data_inputs

    if len(files) != 1:
        raise typer.BadParameter("give one file: --targets runs it under each target", param_hint="--targets")
    graph = qgraph.load(files[0])
    check_names(graph, names)
    wanted = [value.name for value in data_inputs(graph)]
    samples = sample_inputs(graph, 64, 0)
    data = read_npz(inputs, wanted) if inputs else {name: samples[name] for name in wanted}
    offered = []
    for name in names:
        try:
            report = _verified(files[0], name, data)
            offered.append(name)
        except UnsupportedOp as error:
            if len(names) <= 2:
                raise
            report = f"{name}: left out: {error.what}"
        typer.echo(report, err=as_json)
    found = diff_targets(graph, offered, data)
    if as_json:
        typer.echo(to_json(found))
    else:
        echo_lines(line for each in found for line in each.lines())
    raise typer.Exit(int(not all(each.identical for each in found)))


def _verified(file: Path, name: str, data: Inputs) -> str:
    """One line: whether the interpreter gives what the target's runtime gives for the file."""
    import qgraph
    from qgraph.errors import RuntimeFailure

    try:
        report = qgraph.verify(file, runtime=name, inputs=data)
    except RuntimeFailure as error:
        return f"{name}: not verified: {error.what}"
    exact = "its runtime's answer, bit for bit" if report.bit_exact else "NOT its runtime's answer"
    return f"{name}: {exact} ({report.version}, {report.mismatches} of {report.compared} output elements differ)"


def _paths(files: list[Path]) -> list[Path]:
    """The graphs to compare: those given, or those of one folder in the order of their names."""
    if len(files) == 1 and files[0].is_dir():
        found = sorted(files[0].glob("*.qg"))
        if len(found) < 2:
            raise typer.BadParameter(f"{files[0]} holds {len(found)} .qg files: two or more are stages")
        return found
    if len(files) < 2:
        raise typer.BadParameter("Missing argument: give two graphs, or a folder of stages")
    return files


def _title(path: Path) -> str:
    return path.stem if path.suffix == ".qg" else path.name


def _kinds(text: str) -> list[str]:
    from qgraph.differ.change import KINDS

    kinds = [word for word in text.split(",") if word]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise typer.BadParameter(f"no kind {', '.join(unknown)}: use {', '.join(KINDS)}", param_hint="--only")
    return kinds


def _json(stages: list[tuple[str, Graph]], diffs: list[GraphDiff]) -> str:
    if len(diffs) == 1:
        return diffs[0].to_json()
    entries = [
        {"before": stages[index][0], "after": stages[index + 1][0], "diff": json.loads(found.to_json())}
        for index, found in enumerate(diffs)
    ]
    return json.dumps(entries, indent=2)


def _print(stages: list[tuple[str, Graph]], diffs: list[GraphDiff], context: int, kinds: list[str], stat: bool) -> None:
    from qgraph.differ.text_form import stat_lines, text_lines

    for index, found in enumerate(diffs):
        if len(diffs) > 1:
            echo_lines([("bold", f"{'' if not index else chr(10)}=== {stages[index][0]} -> {stages[index + 1][0]}")])
        echo_lines(stat_lines(found) if stat else text_lines(found, context=context, only=kinds))
