"""Declarative rewrites: patterns of nodes, rules that replace what they match, and the one loop that applies them.

    @rule(pattern("nn.relu", pattern("nn.conv", "x", "w", "b?", uses=1, bind="conv"), bind="relu"))
    def fuse(match: Match, build: Builder) -> Replacement: ...

A pattern names an op (several joined by "|") and its operands, each another pattern or a word:

    "x"     any value, bound to the name x; the same name twice asks for the same value
    "x?"    an operand that may be absent
    "@x"    a constant ("@x?": or absent)
    "*xs"   all operands from here on, bound as a tuple
    "_"     any value, not bound

Operands that are not named are not looked at. Further conditions are keywords of `pattern`; `maybe(p)` is a part that
may be missing, `every(p)` matches all operands from there on. What a pattern binds is read as `match.x`.
A rule that does not apply says why: a failed condition does so by itself, a rule's function returns `Declined`.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qgraph.errors import PassError, TypeMismatch
from qgraph.ir import Builder, Graph, Node, OpDef, Value, op_def
from qgraph.ir.origin import union
from qgraph.ir.pattern import TypePattern
from qgraph.passes.engine.log import Log, current_log


@dataclass(frozen=True)
class Word:
    """An operand that any value matches, or any constant; bound to `name` where that is not empty."""

    name: str
    optional: bool
    constant: bool
    variadic: bool

    @staticmethod
    def parse(text: str) -> Word:
        """Read "x", "x?", "@x", "@x?", "*xs" or "_"."""
        name = text.removesuffix("?").lstrip("@*")
        return Word("" if name == "_" else name, text.endswith("?"), text.startswith("@"), text.startswith("*"))


@dataclass(frozen=True)
class OpsThat:
    """The ops of which a trait is true, also those of a dialect that the rules' author never heard of."""

    what: str
    test: Callable[[OpDef], bool]

    def __contains__(self, op: object) -> bool:
        return self.test(op_def(str(op)))


@dataclass(frozen=True)
class Pattern:
    """A node of one of `ops` whose operands match; see `pattern`."""

    ops: tuple[str, ...] | OpsThat
    operands: tuple[Pattern | Word, ...]
    bind: str = ""
    attrs: Mapping[str, object] = field(default_factory=dict)
    type: TypePattern | None = None
    uses: int | None = None
    commutative: bool = False
    optional: bool = False
    variadic: bool = False


def pattern(
    ops: str | OpsThat,
    *operands: Pattern | str,
    bind: str = "",
    attrs: Mapping[str, object] | None = None,
    type: str = "",
    uses: int | None = None,
    commutative: bool = False,
) -> Pattern:
    """A pattern for the op, for any of several joined by "|", or for all of which a trait is true.

    `bind`: the name of the node. `attrs`: name -> value, or a function of the value that says whether it will do.
    `type`: the type of the result, such as "f[N, C, H, W]"; its letters unify over the whole pattern. `uses`: how often
    the result is read. `commutative`: the first two operands match in either order.
    """
    shape = TypePattern.parse(type) if type else None
    parts = tuple(Word.parse(part) if isinstance(part, str) else part for part in operands)
    words = tuple(ops.split("|")) if isinstance(ops, str) else ops
    return Pattern(words, parts, bind, dict(attrs or {}), shape, uses, commutative)


def maybe(part: Pattern) -> Pattern:
    """A node that may be missing: then the value itself matches the part's first operand."""
    return replace(part, optional=True)


def every(part: Pattern) -> Pattern:
    """All operands from here on match the part; `bind` names the tuple of their values."""
    return replace(part, variadic=True)


@dataclass
class Match:
    """What a pattern matched, by the names that it binds: `match.x`, or typed in `nodes`, `values` and `groups`."""

    root: Node
    nodes: dict[str, Node] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    groups: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    matched: list[Node] = field(default_factory=list)  # every node of the pattern, the root last
    letters: dict[str, object] = field(default_factory=dict)
    reason: str = ""  # the first condition that failed where the ops fitted

    def __getattr__(self, name: str) -> Any:  # a node, a value, a tuple of values; None for an absent optional part
        for bound in (self.nodes, self.values, self.groups):
            if name in bound:
                return bound[name]
        if name.startswith("__"):
            raise AttributeError(name)
        return None


@dataclass(frozen=True)
class Declined:
    """Why a rule does not apply where its pattern matches."""

    reason: str


Replacement = Value | Sequence[Value] | Declined
"""The value that stands for the root's result (values, where the root has several), or why the rule declines."""
Rewrite = Callable[[Match, Builder], Replacement]


@dataclass(frozen=True)
class Rule:
    """A pattern and the function that builds its replacement, or says why not."""

    name: str
    pattern: Pattern
    rewrite: Rewrite

    def __str__(self) -> str:
        code = getattr(inspect.unwrap(self.rewrite), "__code__", None)
        return f"{self.name} ({code.co_filename}:{code.co_firstlineno})" if code else self.name


def rule(shape: Pattern) -> Callable[[Rewrite], Rule]:
    """Decorator: a rule from the function that builds the replacement of what `shape` matches."""
    return lambda rewrite: Rule(rewrite.__name__, shape, rewrite)


# ---- matching


def match_pattern(shape: Pattern, node: Node) -> Match | Declined | None:
    """The match of a pattern whose root is this node; None where the ops do not fit, `Declined` where a condition
    fails."""
    if not _may_match(shape, node):
        return None
    match = Match(node)
    if _matches(shape, node, match):
        return match
    return Declined(match.reason) if match.reason else None


def _may_match(shape: Pattern, node: Node) -> bool:
    """False where the first operand is of another op than the pattern wants: the common case, told cheaply."""
    first = shape.operands[0] if shape.operands else None
    if not isinstance(first, Pattern) or first.optional or first.variadic or shape.commutative or not node.operands:
        return True
    value = node.operands[0]
    return value is not None and value.producer is not None and value.producer.op in first.ops


def _matches(shape: Pattern, node: Node, match: Match) -> bool:
    if node.op not in shape.ops:
        return False
    if _operands_match(shape.operands, node, match, shape.commutative) and _conditions_hold(shape, node, match):
        if shape.bind and not shape.variadic:
            match.nodes[shape.bind] = node
        match.matched.append(node)
        return True
    return False


def _operands_match(wanted: Sequence[Pattern | Word], node: Node, match: Match, commutative: bool) -> bool:
    """Match the operands in this order, and where the op is commutative in the other one."""
    if not commutative:
        for index, part in enumerate(wanted):  # noqa: SIM110  the innermost loop: a generator costs a tenth of a pass
            if not _operand_matches(part, index, node, match):
                return False
        return True
    return _tried(match, lambda: _operands_match(wanted, node, match, False)) or _tried(
        match, lambda: _operands_match(wanted[::-1], node, match, False)
    )


def _tried(match: Match, attempt: Callable[[], bool]) -> bool:
    """Whether an attempt succeeds; what it bound is forgotten where it does not."""
    before = (match.nodes.copy(), match.values.copy(), match.groups.copy(), match.letters.copy(), len(match.matched))
    if attempt():
        return True
    match.nodes, match.values, match.groups, match.letters, count = before
    del match.matched[count:]
    return False


def _operand_matches(part: Pattern | Word, index: int, node: Node, match: Match) -> bool:
    if part.variadic:
        return _rest_matches(part, node, index, match)
    return _value_matches(part, node.operands[index] if index < len(node.operands) else None, node, match)


def _rest_matches(part: Pattern | Word, node: Node, index: int, match: Match) -> bool:
    rest = tuple(value for value in node.operands[index:] if value is not None)
    if isinstance(part, Pattern) and not all(_value_matches(part, value, node, match) for value in rest):
        return False
    match.groups[part.bind if isinstance(part, Pattern) else part.name] = rest
    return True


def _value_matches(part: Pattern | Word, value: Value | None, node: Node, match: Match) -> bool:
    if isinstance(part, Word):
        return _word_matches(part, value, node, match)
    if value is None:
        return False
    producer = value.producer
    if not part.optional:
        return producer is not None and _matches(part, producer, match)
    if producer is not None and _tried(match, lambda: _matches(part, producer, match)):
        return True
    return _value_matches(part.operands[0], value, node, match)


def _word_matches(word: Word, value: Value | None, node: Node, match: Match) -> bool:
    if value is None:
        return word.optional
    if word.constant and not value.is_constant:
        return _fail(match, f"operand {word.name} of {node.op} is not a constant")
    if not word.name or match.values.setdefault(word.name, value) is value:
        return True
    return _fail(match, f"operand {word.name} of {node.op} is another value than elsewhere")


def _conditions_hold(shape: Pattern, node: Node, match: Match) -> bool:
    for name, wanted in shape.attrs.items():
        value = node.attrs.get(name)
        if not (wanted(value) if callable(wanted) else value == wanted):
            words = "" if callable(wanted) else f", not {wanted}"
            return _fail(match, f"{node.op} has {name}={value}{words}")
    if shape.uses is not None and node.result.use_count != shape.uses:
        return _fail(match, f"the result of {node.op} has {node.result.use_count} uses, not {shape.uses}")
    if shape.type is not None:
        try:
            shape.type.match(node.result.type, match.letters, f"the result of {node.op}")
        except TypeMismatch as error:
            return _fail(match, error.what)
    return True


def _fail(match: Match, reason: str) -> bool:
    match.reason = match.reason or reason
    return False


# ---- rewriting

LIMIT = 64
"""How many times as many rewrites as nodes are taken for a set of rules that never ends."""


def rewrite(graph: Graph, rules: Sequence[Rule]) -> int:
    """Apply the rules to every node, in order, until none applies; returns how often one did.

    After a rewrite only the nodes around it are looked at again, so that the time is linear in the size of the graph.
    New nodes carry the origins of all nodes that the pattern matched; what is not used any more is erased. Raises
    PassError for rules that never come to an end, InputError for a pattern of an op that there is not.
    """
    for each in rules:
        _check_ops(each.pattern)
    by_op = _RulesOf(rules)
    work = deque(node for node in graph.nodes if by_op[node.op])
    left = LIMIT * (len(graph) + 1)
    total = 0
    log = current_log()
    while work:
        node = work.popleft()
        if node.erased:
            continue
        for each in by_op[node.op]:
            touched = _apply(graph, each, node, log)
            if touched is not None:
                work.extend(touched)
                total += 1
                break
        if total > left:
            raise PassError(f"the rules do not come to an end: {each.name} applied again and again", where=node.where)
    return total


class _RulesOf(dict[str, Sequence[Rule]]):
    """op -> the rules whose root it may be, in order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__()
        self._rules = rules

    def __missing__(self, op: str) -> Sequence[Rule]:
        return self.setdefault(op, [each for each in self._rules if op in each.pattern.ops])


def _check_ops(shape: Pattern) -> None:
    """Raise InputError for an op that there is not: its pattern would never match."""
    for op in shape.ops if isinstance(shape.ops, tuple) else ():
        op_def(op)
    for part in shape.operands:
        if isinstance(part, Pattern):
            _check_ops(part)


def _apply(graph: Graph, rule: Rule, node: Node, log: Log) -> list[Node] | None:
    """Apply a rule at a node; gives the nodes that should be looked at again, None where the rule did not apply."""
    match = match_pattern(rule.pattern, node)
    if match is None:
        return None
    if isinstance(match, Declined):
        log.decline(rule.name, node, match.reason)
        return None
    build = Builder(graph, before=node, origins=union(n.origins for n in match.matched))
    log.running = rule, node
    made = rule.rewrite(match, build)
    if isinstance(made, Declined):
        log.running = None
        _erase_unused(graph, build.made)
        log.decline(rule.name, node, made.reason)
        return None
    values = tuple(made) if isinstance(made, (list, tuple)) else (made,)
    _replace(graph, node, values)
    log.running = None
    for new in build.made:
        log.makers[new] = rule
    around = [value.producer for old in match.matched for value in old.inputs if value.producer is not None]
    _erase_unused(graph, match.matched)
    return [*build.made, *(user for value in values for user in value.users), *around]


def _erase_unused(graph: Graph, nodes: Sequence[Node]) -> None:
    for node in reversed(nodes):
        if not node.erased and not node.has_uses:
            graph.erase(node)


def _replace(graph: Graph, node: Node, values: tuple[Value, ...]) -> None:
    known = all(isinstance(value, Value) and value not in node.results for value in values)
    if len(values) != len(node.results) or not known:
        raise PassError(
            f"the replacement of {node.op} is {', '.join(map(repr, values)) or 'empty'}",
            where=node.where,
            help=f"return {len(node.results)} other value(s), or Declined(reason)",
        )
    for old, new in zip(node.results, values, strict=True):
        if not new.name and new.producer is not None:
            new.name = old.name
        graph.replace_uses(old, new)
