"""`qgraph sensitivity` and `qgraph search`: what bits cost, and which to give to which layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from qgraph.cli.styled import echo_lines

Bits = Annotated[str, typer.Option("--bits", help="Bits of weights to try, joined by commas.")]
ResultBits = Annotated[str, typer.Option("--activation-bits", help="Bits of results to try, or none.")]


def sensitivity(
    file: Annotated[Path, typer.Argument(help="A float graph.")],
    target: Annotated[str, typer.Option("--target", help="A target: see `qgraph targets`.")],
    inputs: Annotated[Path, typer.Option("--inputs", help="An .npz file of examples.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help=".json (for `qgraph search`) or .svg.")] = None,
    bits: Bits = "2,4,8",
    activation_bits: ResultBits = "4,8",
    option: Annotated[list[str] | None, typer.Option(help="An option of the target: weights=u8. Repeat it.")] = None,
    fallback: Annotated[str | None, typer.Option(help="float: ops without an integer form stay in float.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what each number of bits costs, one layer at a time: SQNR of the results, all else in float."""
    import qgraph
    from qgraph.cli.arrays import read_npz
    from qgraph.cli.sources import key_values
    from qgraph.ir import data_inputs

    graph = qgraph.load(file)
    found = qgraph.sensitivity(
        graph,
        target,
        read_npz(inputs, [value.name for value in data_inputs(graph)]),
        bits=_numbers(bits, "--bits"),
        activation_bits=_numbers(activation_bits, "--activation-bits"),
        fallback=fallback,
        **key_values(option or []),
    )
    if output is not None:
        _write(output, found.to_json(), found.svg())
    if as_json:
        typer.echo(found.to_json())
    else:
        echo_lines(found.lines())


def search(
    file: Annotated[Path, typer.Argument(help="A sensitivity, as `qgraph sensitivity -o s.json` writes it.")],
    budget: Annotated[
        float | None, typer.Option("--budget", help="The most that it may cost; none: the front.")
    ] = None,
    cost: Annotated[str, typer.Option("--cost", help="bytes (of weights) or mac_bits.")] = "bytes",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .json file of overrides, for `qgraph quantize --overrides`."),
    ] = None,
    front: Annotated[Path | None, typer.Option("--front", help="The Pareto front, as .json or .svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Choose bits for every layer under a budget, for the least noise; and show the Pareto front."""
    from qgraph import accuracy
    from qgraph.ir.files import read_bytes, write_atomically

    found = accuracy.Sensitivity.from_json(read_bytes(file).decode("utf-8", "replace"))
    if output is not None and budget is None:
        raise typer.BadParameter("overrides are those of one plan: give --budget", param_hint="--output")
    plan = None if budget is None else accuracy.search(found, budget, cost)  # type: ignore[arg-type]  # checked
    best = accuracy.front(found, cost) if plan is None or front is not None else None  # type: ignore[arg-type]  # checked
    if front is not None and best is not None:
        _write(front, best.to_json(), best.svg())
    shown = accuracy.Front(found.measure, cost, (plan,)) if plan is not None else best
    assert shown is not None
    if plan is not None and output is not None:
        write_atomically(output, json.dumps(plan.overrides, indent=2).encode())
    typer.echo(shown.to_json() if as_json else str(shown))


def _write(path: Path, as_json: str, as_svg: str) -> None:
    from qgraph.errors import FileError
    from qgraph.ir.files import write_atomically

    if path.suffix not in (".json", ".svg"):
        raise FileError(f"{path}: this is written as .json or .svg", help="give the file one of these suffixes")
    write_atomically(path, (as_svg if path.suffix == ".svg" else as_json).encode())


def _numbers(text: str, option: str) -> tuple[int, ...]:
    words = [word for word in text.split(",") if word and word != "none"]
    if not all(word.isdigit() for word in words):
        raise typer.BadParameter(f"{text!r} are no numbers: write 2,4,8", param_hint=option)
    return tuple(map(int, words))
