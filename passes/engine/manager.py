"""Run a pipeline of passes, given as objects or as text: "fold-batchnorm,insert-fake-quant{target=litert}"."""

from __future__ import annotations

import functools
import re
import shlex
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qgraph.errors import InputError, PassError, QGraphError, ValidationError
from qgraph.imports import in_short
from qgraph.ir import Graph, collector_paused, storage, verify_graph
from qgraph.ir.files import write_npz
from qgraph.ir.printer import node_printer
from qgraph.passes.engine.log import Log, logging_to
from qgraph.passes.engine.registry import Pass, facts_of, get, verify_facts
from qgraph.passes.engine.validation import validate

Step = str | Pass | Callable[..., Graph] | tuple[str | Pass, dict[str, object]]
Hook = Callable[[str, Graph], None]
_STEP = re.compile(r"\s*([\w-]+)\s*(?:\{([^}]*)\})?\s*(?:,|$)")
_OPTION = re.compile(r"([\w-]+)=(\S+)")
_JOINED = re.compile(r",[\w-]+=")
"""What parts options that are to be parted by spaces."""


@dataclass(frozen=True)
class Record:
    """One pass that ran: seconds, the number of nodes before and after, (rule, node, reason) of what declined, and
    whether it was checked to compute the same as before (None where nobody asked)."""

    name: str
    seconds: float
    nodes_before: int
    nodes_after: int
    declined: tuple[tuple[str, str, str], ...] = ()
    checked: bool | None = None


@dataclass
class PassManager:
    """A pipeline. `run` gives a new graph; `records` and `snapshots` then tell of the last run.

    `pipeline`: text, or a sequence of names, passes, or (name, options). The graph is verified before and after each
    pass unless `verify` is false. `check`: each pass is also run on random inputs, before and after, and held to what
    it says of its exactness; `Record.checked` tells where that could not be done. `keep_snapshots` keeps a clone after
    each pass; `explain` keeps in `records` why rules declined; `before` and `after` are called with each pass's name
    and the graph. A pipeline whose order cannot work is a PassError before anything runs. Where a pass fails, the graph
    that it was given is written to the file `reproducer`, when there is one (beside it, as .npz, the inputs on which a
    check failed), and the error gives the words after `command` that run the pass on it.
    """

    pipeline: str | Sequence[Step]
    verify: bool = True
    keep_snapshots: bool = False
    after: Hook | None = None
    before: Hook | None = None
    explain: bool = False
    reproducer: Path | None = None
    command: str = "qgraph opt"
    check: bool = False
    records: list[Record] = field(default_factory=list, init=False)
    snapshots: list[tuple[str, Graph]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._steps = [_step(step) for step in _split(self.pipeline)]

    @property
    def names(self) -> list[str]:
        """Names of the pipeline's passes."""
        return [step.name for step, _ in self._steps]

    @collector_paused()
    def run(self, graph: Graph) -> Graph:
        """The graph after all passes; the argument stays as it was."""
        self.records, self.snapshots = [], []
        facts = self._facts(graph)
        source, graph = graph, graph.clone()
        if self.verify:
            verify_graph(graph)
        for index in range(len(self._steps)):
            self._run_step(graph, source, index, facts[index])
        return graph

    def _facts(self, graph: Graph) -> list[dict[str, str]]:
        """What the graph will be after each pass; raises PassError for an order of passes that cannot work."""
        facts, why, found = facts_of(graph), "", []
        for step, options in self._steps:
            facts, before = step.facts_after(facts, options, why), facts
            why = f"{step.name} makes it so" if facts != before else why
            found.append(facts)
        return found

    def _run_step(self, graph: Graph, source: Graph, index: int, facts: dict[str, str]) -> None:
        step, options = self._steps[index]
        if self.before is not None:
            self.before(step.name, graph)
        step.facts_after(facts_of(graph), options, "")  # what an earlier pass could not promise
        earlier = graph.clone() if self.check else graph
        nodes, start, log = len(graph), time.perf_counter(), Log()
        try:
            with logging_to(log):
                step.edit(graph, **options)
            seconds = time.perf_counter() - start
            if self.verify:
                verify_graph(graph, log.makers)
                verify_facts(graph, facts)
            checked = _checked(step, options, earlier, graph, log) if self.check else None
        except Exception as error:  # the pass may be the user's own
            raise self._failure(error, log, source, index) from error
        declined = _texts(graph, log) if self.explain else ()
        self.records.append(Record(step.name, seconds, nodes, len(graph), declined, checked))
        if self.keep_snapshots:
            self.snapshots.append((step.name, graph.clone()))
        if self.after is not None:
            self.after(step.name, graph)

    def _failure(self, error: Exception, log: Log, source: Graph, index: int) -> QGraphError:
        """What to raise where a pass failed: the pass, the rule that ran, and how to run it again."""
        name = self._steps[index][0].name
        running = (f"rule    {log.running[0]}",) if log.running else ()
        if isinstance(error, QGraphError):
            what, where, help = f"pass {name}: {error.what}", (*error.where, *running), error.help
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            node = log.running[1].where if log.running else ()
            what, help = f"pass {name} failed: {in_short(error)}", ""
            where = (f"raised  {frame.filename}:{frame.lineno} in {frame.name}", *running, *node)
        if self.reproducer is not None:
            help = self._reproduce(source, index, help)
        kind = type(error) if isinstance(error, QGraphError) else PassError
        failure = kind(what, where=where, help=help)
        if isinstance(error, ValidationError):
            assert isinstance(failure, ValidationError)
            failure.inputs = error.inputs
            if self.reproducer is not None:
                write_npz(self.reproducer.with_suffix(".npz"), error.inputs)
        return failure

    def _reproduce(self, source: Graph, index: int, help: str) -> str:
        """Write the graph that step `index` was given; the help with the command that runs the step on it."""
        graph = source.clone()
        for step, options in self._steps[:index]:
            step.edit(graph, **options)
        assert self.reproducer is not None
        storage.save(graph, self.reproducer)
        step, options = self._steps[index]
        words = shlex.join([str(self.reproducer), "--passes", _text(step, options)])
        again = f"to run it again: {self.command} {words}"
        return f"{help}\n          {again}" if help else again


def _texts(graph: Graph, log: Log) -> tuple[tuple[str, str, str], ...]:
    """(rule, node as text, reason) of what declined."""
    text = node_printer(graph)
    return tuple((rule, text(node), reason) for rule, node, reason in log.declined())


def _checked(step: Pass, options: dict[str, object], before: Graph, after: Graph, log: Log) -> bool:
    """Hold a pass to what it says of its exactness; False where nothing can be told."""
    if step.check is not None:
        step.check(before, after)
        return True
    return validate(before, after, step.exact or "no", log, functools.partial(step.edit, **options))


def _text(step: Pass, options: dict[str, object]) -> str:
    words = " ".join(f"{name}={_option(value)}" for name, value in options.items() if value is not None)
    return f"{step.name}{{{words}}}" if words else step.name


def _option(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _split(pipeline: str | Sequence[Step]) -> Sequence[Step]:
    if not isinstance(pipeline, str):
        return pipeline
    steps: list[Step] = []
    position = 0
    while position < len(pipeline.rstrip()):
        match = _STEP.match(pipeline, position)
        if match is None:
            raise _unreadable(pipeline[position:])
        position = match.end()
        words = (match[2] or "").split()
        options = [_OPTION.fullmatch(word) for word in words]
        if not all(options) or any(_JOINED.search(word) for word in words):
            raise _unreadable(match[0])
        steps.append((match[1], {option[1]: option[2] for option in options if option}))
    return steps


def _unreadable(text: str) -> InputError:
    return InputError(
        f"cannot read the pipeline at {text!r}",
        help='a pipeline reads: "fold-batchnorm,insert-fake-quant{target=litert weights=per-tensor}", options with '
        "spaces between them",
    )


def _step(step: Step) -> tuple[Pass, dict[str, object]]:
    options: dict[str, object] = {}
    if isinstance(step, tuple):
        step, options = step
    if isinstance(step, str):
        step = get(step)
    elif not isinstance(step, Pass):
        step = get(getattr(step, "__name__", str(step)).replace("_", "-"))
    return step, step.checked(options)
