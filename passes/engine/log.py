"""What happens while a pass runs: which rule made a node, and why rules declined."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qgraph.ir import Node

if TYPE_CHECKING:
    from qgraph.passes.rewriter import Rule


@dataclass
class Log:
    """Told by the rewriter, and by passes that walk the graph themselves (`current_log().decline(...)`)."""

    reasons: dict[tuple[str, Node], str] = field(default_factory=dict)  # (rule, node) -> why it declined last
    makers: dict[Node, Rule] = field(default_factory=dict)  # node -> the rule that made it
    running: tuple[Rule, Node] | None = None  # the rule that runs, or that failed, and the node it was applied to

    def decline(self, rule: str, node: Node, reason: str) -> None:
        """A rule does not apply at a node."""
        self.reasons[rule, node] = reason

    def declined(self) -> list[tuple[str, Node, str]]:
        """(rule, node, reason) for every node that is still there."""
        return [(rule, node, reason) for (rule, node), reason in self.reasons.items() if not node.erased]


_CURRENT: ContextVar[Log | None] = ContextVar("log", default=None)


def current_log() -> Log:
    """The log of the pass that is running; one that nobody reads outside of a `logging_to` block."""
    return _CURRENT.get() or Log()


@contextlib.contextmanager
def logging_to(log: Log) -> Iterator[None]:
    """Make `log` the current one."""
    token = _CURRENT.set(log)
    try:
        yield
    finally:
        _CURRENT.reset(token)
