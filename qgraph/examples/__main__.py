"""Domains from float to integers: `python -m qgraph.examples` lists them, `python -m qgraph.examples NAME` runs one.

python -m qgraph.examples forecasting                         # on synthetic data
python -m qgraph.examples forecasting --data ETTh1.csv        # on yours
python -m qgraph.examples --all --folder data --seeds 3       # every domain, as a table in Markdown
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import qgraph.examples
from qgraph.errors import QGraphError
from qgraph.examples.task import Line, Task, run


def main() -> int:
    """Run the command; 2 for an error, as `qgraph`."""
    arguments = _arguments()
    try:
        if arguments.all:
            _print_all(arguments)
        elif arguments.name:
            _print_one(arguments)
        else:
            _print_list()
    except QGraphError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m qgraph.examples", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("name", nargs="?", choices=sorted(domains()), help="a domain")
    parser.add_argument("--data", type=Path, help="the data's file or folder; synthetic data by default")
    parser.add_argument("--epochs", type=int, default=0, help="of training in float; the domain's by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="run every domain")
    parser.add_argument("--folder", type=Path, help="where the data of all domains are, by the names that they have")
    parser.add_argument("--seeds", type=int, default=1, help="with --all: so many runs of each, the mean is shown")
    return parser.parse_args()


def domains() -> dict[str, ModuleType]:
    """The modules that have a task, by name."""
    names = [each.name for each in pkgutil.iter_modules(qgraph.examples.__path__) if not each.name.startswith("_")]
    modules = {name: importlib.import_module(f"qgraph.examples.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "task")}


def _print_list() -> None:
    for name, module in domains().items():
        print(f"{name:20} {(module.__doc__ or '').splitlines()[0]}\n{'':20} data: {module.DATA}")


def _print_one(arguments: argparse.Namespace) -> None:
    task = domains()[arguments.name].task(arguments.data, arguments.seed)
    with Progress(console=Console(stderr=True)) as progress:
        lines = run(task, epochs=arguments.epochs, seed=arguments.seed, progress=progress)
    Console().print(_table(task, lines))


def _table(task: Task, lines: list[Line]) -> Table:
    table = Table(title=f"{task.title}; data: {task.data}", title_justify="left")
    for column in ("model", *task.metrics, "file, bytes", "elements that differ", "seconds"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=column == "model")
    for line in lines:
        table.add_row(*_cells(line))
    return table


def _cells(line: Line) -> list[str]:
    differing = "" if line.differing is None else f"{line.differing} of {line.compared:,}"
    metrics = [f"{number:.4g}" for number in line.metrics.values()]
    return [line.model, *metrics, "" if line.size is None else f"{line.size:,}", differing, f"{line.seconds:.0f}"]


def _print_all(arguments: argparse.Namespace) -> None:
    print(
        "| domain | data | metric | model | value | file, bytes | elements that differ | seconds |\n" + "|---" * 8 + "|"
    )
    for module in domains().values():
        path = arguments.folder / module.DATA if arguments.folder else None
        start, runs = time.perf_counter(), []
        for seed in range(arguments.seeds):
            task = module.task(path if path and path.exists() else None, seed)
            runs.append(run(task, epochs=arguments.epochs, seed=seed))
        for lines in zip(*runs, strict=True):
            for metric in task.metrics:
                print(_markdown(task, metric, list(lines)), flush=True)
        print(f"{task.title}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def _markdown(task: Task, metric: str, lines: list[Line]) -> str:
    values = [line.metrics[metric] for line in lines]
    spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    first = lines[0]
    differing = "" if first.differing is None else f"{sum(line.differing or 0 for line in lines)} of {first.compared:,}"
    size = "" if first.size is None else f"{first.size:,}"
    seconds = f"{np.mean([line.seconds for line in lines]):.0f}"
    cells = [task.title, task.data, metric, first.model, f"{np.mean(values):.4g}{spread}", size, differing, seconds]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
