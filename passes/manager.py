"""Run a pipeline of passes, given as objects or as text: "fold-batchnorm,insert-fake-quant{target=litert}"."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qgraph.errors import InputError, QGraphError, VerificationError
from qgraph.ir import Graph, verify_graph
from qgraph.passes.registry import Pass, get

Step = str | Pass | Callable[..., Graph] | tuple[str | Pass, dict[str, object]]
_STEP = re.compile(r"\s*([\w-]+)\s*(?:\{([^}]*)\})?\s*(?:,|$)")
_OPTION = re.compile(r"([\w-]+)=(\S+)")


@dataclass(frozen=True)
class Record:
    """One pass that ran: seconds, and the number of nodes before and after."""

    name: str
    seconds: float
    nodes_before: int
    nodes_after: int


@dataclass
class PassManager:
    """A pipeline. `run` gives a new graph; `records` and `snapshots` then tell of the last run.

    `pipeline`: text, or a sequence of names, passes, or (name, options). The graph is verified before and after each
    pass unless `verify` is false; `keep_snapshots` keeps a clone after each pass; `after` is called with each pass's
    name and the graph.
    """

    pipeline: str | Sequence[Step]
    verify: bool = True
    keep_snapshots: bool = False
    after: Callable[[str, Graph], None] | None = None
    records: list[Record] = field(default_factory=list, init=False)
    snapshots: list[tuple[str, Graph]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._steps = [_step(step) for step in _split(self.pipeline)]

    def run(self, graph: Graph) -> Graph:
        """The graph after all passes; the argument stays as it was."""
        self.records, self.snapshots = [], []
        graph = graph.clone()
        if self.verify:
            verify_graph(graph)
        for step, options in self._steps:
            self._run_step(graph, step, options)
        return graph

    def _run_step(self, graph: Graph, step: Pass, options: dict[str, object]) -> None:
        before, start = len(graph), time.perf_counter()
        try:
            step.edit(graph, **options)
            if self.verify:
                verify_graph(graph)
        except VerificationError as error:
            raise VerificationError(
                f"after pass {step.name}: {error.what}", where=error.where, help=error.help
            ) from None
        except QGraphError as error:
            raise type(error)(f"pass {step.name}: {error.what}", where=error.where, help=error.help) from None
        self.records.append(Record(step.name, time.perf_counter() - start, before, len(graph)))
        if self.keep_snapshots:
            self.snapshots.append((step.name, graph.clone()))
        if self.after is not None:
            self.after(step.name, graph)


def _split(pipeline: str | Sequence[Step]) -> Sequence[Step]:
    if not isinstance(pipeline, str):
        return pipeline
    steps: list[Step] = []
    position = 0
    while position < len(pipeline.rstrip()):
        match = _STEP.match(pipeline, position)
        if match is None:
            raise InputError(
                f"cannot read the pipeline at {pipeline[position:]!r}",
                help='a pipeline reads: "fold-batchnorm,insert-fake-quant{target=litert}"',
            )
        position = match.end()
        steps.append((match[1], dict(_OPTION.findall(match[2] or ""))))
    return steps


def _step(step: Step) -> tuple[Pass, dict[str, object]]:
    options: dict[str, object] = {}
    if isinstance(step, tuple):
        step, options = step
    if isinstance(step, str):
        step = get(step)
    elif not isinstance(step, Pass):
        step = get(getattr(step, "__name__", str(step)).replace("_", "-"))
    return step, step.checked(options)
