"""`qgraph opt`: run a pipeline of passes over a graph, and look at what each does."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qgraph import Graph

Names = Annotated[list[str] | None, typer.Option(help="A pass, or all. Repeat it.")]


def opt(
    file: Annotated[Path, typer.Argument(help="A graph: .qg, or a .tflite or .onnx file.")],
    passes: Annotated[str, typer.Option("--passes", help='A pipeline: "fold-batchnorm,fuse-conv-relu".')],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The .qg file to write; without it, print.")
    ] = None,
    load: Annotated[
        list[Path] | None, typer.Option(help="A file of Python with passes of your own. Repeat it.")
    ] = None,
    print_before: Names = None,
    print_after: Names = None,
    print_after_all: Annotated[bool, typer.Option("--print-after-all", help="As --print-after all.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show what each pass changed.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show which rules declined, where and why.")] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Print each pass's time and node counts.")] = False,
    snapshots: Annotated[
        Path | None, typer.Option(help="A folder for the graph before and after each pass, for `qgraph diff`.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run each pass's graph before and after on random inputs, and compare.")
    ] = False,
    verify_each: Annotated[bool, typer.Option(help="Verify the graph after each pass.")] = True,
    reproducer: Annotated[Path, typer.Option(help="Where the graph goes that a failing pass was given.")] = Path(
        "qgraph-reproducer.qg"
    ),
) -> None:
    """Run passes over a graph.

    A failing pass leaves the graph that it was given in a file, and the command that runs the pass on it.
    """
    import qgraph
    from qgraph.errors import InputError
    from qgraph.imports import import_file

    for source in load or []:
        import_file(source)
    manager = qgraph.PassManager(passes, verify=verify_each, explain=explain, reproducer=reproducer, check=check)
    loads = [word for source in load or [] for word in ("--load", str(source))]
    manager.command = shlex.join(["qgraph", "opt", *loads])
    after = [*(print_after or []), *(["all"] if print_after_all else [])]
    unknown = {*(print_before or []), *after} - {"all", *manager.names}
    if unknown:
        raise InputError(f"the pipeline has no pass {', '.join(sorted(unknown))}", help=f"it is {passes!r}")
    graph = qgraph.load(file)
    watcher = _Watcher(print_before or [], after, diff, snapshots, graph)
    manager.before, manager.after = watcher.before, watcher.after
    graph = manager.run(graph)
    if output is not None:
        qgraph.save(graph, output)
    elif not (print_before or after or diff or explain or snapshots):
        typer.echo(str(graph), nl=False)
    for record in manager.records:
        for rule, node, reason in record.declined:
            typer.echo(f"{record.name}: {rule} declined: {reason}\n    {node}")
        if record.checked is False:
            typer.echo(f"{record.name}: not checked, it does not say how exact it is, or changes inputs", err=True)
    if timing:
        for record in manager.records:
            nodes = f"{record.nodes_before:6d} -> {record.nodes_after} nodes"
            typer.echo(f"{record.seconds * 1e3:9.2f} ms  {nodes:24}  {record.name}", err=True)


class _Watcher:
    """Prints, compares and saves the graph between passes."""

    def __init__(
        self, print_before: list[str], print_after: list[str], diff: bool, snapshots: Path | None, graph: Graph
    ) -> None:
        self.print_before, self.print_after, self.diff, self.snapshots = print_before, print_after, diff, snapshots
        self.earlier = graph
        self.count = 0
        if snapshots is not None:
            snapshots.mkdir(parents=True, exist_ok=True)
            self._save("input", graph)

    def before(self, name: str, graph: Graph) -> None:
        """Called with the graph that a pass is given."""
        if {name, "all"} & {*self.print_before}:
            typer.echo(f"// before {name}\n{graph}")

    def after(self, name: str, graph: Graph) -> None:
        """Called with the graph that a pass left."""
        if {name, "all"} & {*self.print_after}:
            typer.echo(f"// after {name}\n{graph}")
        if self.diff:
            import qgraph

            typer.echo(f"// {name}\n{qgraph.diff(self.earlier, graph)}")
            self.earlier = graph.clone()
        if self.snapshots is not None:
            self._save(name, graph)

    def _save(self, name: str, graph: Graph) -> None:
        import qgraph

        assert self.snapshots is not None
        qgraph.save(graph, self.snapshots / f"{self.count:02d}-{name}.qg")
        self.count += 1
