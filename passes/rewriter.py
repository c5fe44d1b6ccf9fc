"""Declarative rewrites: patterns of nodes, rules that replace what they match, and the one loop that applies them.

    @rule(pattern("nn.relu", pattern("nn.conv", bind="conv"), bind="relu"))
    def fuse(match: Match, build: Builder) -> Value | Declined: ...

A pattern names an op (several joined by "|") and its operands: another pattern, or the name to bind the operand to;
"name?" is an operand that may be absent. Operands that are not named are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qgraph.ir import Builder, Graph, Node, Value
from qgraph.ir.origin import union


@dataclass(frozen=True)
class Pattern:
    """A node of one of `ops` whose first operands match `operands`; the node is bound to `bind`."""

    ops: tuple[str, ...]
    operands: tuple[Pattern | str, ...]
    bind: str


def pattern(ops: str, *operands: Pattern | str, bind: str = "") -> Pattern:
    """A pattern for the op, or for any of several joined by "|"."""
    return Pattern(tuple(ops.split("|")), operands, bind)


@dataclass
class Match:
    """What a pattern matched: `nodes` and `values` by the names that it binds."""

    root: Node
    nodes: dict[str, Node] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    matched: list[Node] = field(default_factory=list)  # every node of the pattern, the root last


@dataclass(frozen=True)
class Declined:
    """Why a rule does not apply where its pattern matches."""

    reason: str


Replacement = Value | Declined
Rewrite = Callable[[Match, Builder], Replacement]


@dataclass(frozen=True)
class Rule:
    """A pattern and the function that builds its replacement, or says why not."""

    name: str
    pattern: Pattern
    rewrite: Rewrite


def rule(shape: Pattern) -> Callable[[Rewrite], Rule]:
    """Decorator: a rule from the function that builds the replacement of what `shape` matches."""
    return lambda rewrite: Rule(rewrite.__name__, shape, rewrite)


def match_pattern(shape: Pattern, node: Node) -> Match | None:
    """The match of a pattern whose root is this node, None where there is none."""
    match = Match(node)
    return match if _matches(shape, node, match) else None


def _matches(shape: Pattern, node: Node, match: Match) -> bool:
    if node.op not in shape.ops:
        return False
    for index, wanted in enumerate(shape.operands):
        value = node.operands[index] if index < len(node.operands) else None
        if isinstance(wanted, Pattern):
            if value is None or value.producer is None or not _matches(wanted, value.producer, match):
                return False
        elif value is not None:
            match.values[wanted.removesuffix("?")] = value
        elif not wanted.endswith("?"):
            return False
    if shape.bind:
        match.nodes[shape.bind] = node
    match.matched.append(node)
    return True


Explain = Callable[[Rule, Node, Declined], None]
"""Told of every rule that declined."""


def rewrite(graph: Graph, rules: Sequence[Rule], explain: Explain | None = None) -> int:
    """Apply the rules to every node, in order, until none applies; returns how often one did.

    New nodes carry the origins of all nodes that the pattern matched; what is not used any more is erased.
    """
    total = 0
    while True:
        applied = sum(any(_apply(graph, rule, node, explain) for rule in rules) for node in graph.nodes)
        if not applied:
            return total
        total += applied


def _apply(graph: Graph, rule: Rule, node: Node, explain: Explain | None) -> bool:
    match = match_pattern(rule.pattern, node)
    if match is None:
        return False
    build = Builder(graph, before=node, origins=union(n.origins for n in match.matched))
    made = rule.rewrite(match, build)
    if isinstance(made, Declined):
        if explain is not None:
            explain(rule, node, made)
        return False
    if not made.name and not made.is_constant and made.producer is not None:
        made.name = node.result.name
    graph.replace_uses(node.result, made)
    for old in reversed(match.matched):
        if not any(value.use_count for value in old.results):
            graph.erase(old)
    return True
