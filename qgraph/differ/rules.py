"""Rules that say which differences count, for `qgraph diff --fail-on`.

any                              any difference
added removed changed fused split moved      a group of that kind
op retyped params bits constants attrs operands     a detail of that kind, in any group
numbers:METRIC<VALUE             a group whose numbers are there and beyond the value; `>` for errors
                                 METRIC: sqnr, own_sqnr (dB), cosine, max_error, own_max_error
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from qgraph.differ.change import KINDS, Change, Numbers
from qgraph.differ.details import What
from qgraph.differ.graph_diff import GraphDiff
from qgraph.errors import InputError

DETAIL_RULES: dict[str, What] = {
    "op": "op",
    "retyped": "retyped",
    "params": "parameters",
    "bits": "bits",
    "constants": "constant",
    "attrs": "attribute",
    "operands": "operand",
}
"""Words of rules, and what the details are about that they find."""

KIND_RULES = tuple(kind for kind in KINDS if kind != "same")
METRICS: dict[str, Callable[[Numbers], float | None]] = {
    "sqnr": lambda numbers: numbers.sqnr_db,
    "own_sqnr": lambda numbers: numbers.own_sqnr_db,
    "cosine": lambda numbers: numbers.cosine,
    "max_error": lambda numbers: numbers.max_error,
    "own_max_error": lambda numbers: numbers.own_max_error if numbers.own_known else None,
}
_COMPARE = {"<": operator.lt, ">": operator.gt}
_NUMBERS = re.compile(rf"numbers:({'|'.join(METRICS)})([<>])(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)")
HELP = (
    f"use any, {', '.join((*KIND_RULES, *DETAIL_RULES))}, or numbers:METRIC<VALUE or >VALUE with METRIC one of "
    f"{', '.join(METRICS)}, joined by commas"
)


@dataclass(frozen=True)
class Rule:
    """One rule: its text, and whether a group breaks it."""

    text: str
    breaks: Callable[[Change], bool]

    @property
    def needs_numbers(self) -> bool:
        """Whether the rule needs values, that is inputs."""
        return self.text.startswith("numbers:")

    def broken_by(self, diff: GraphDiff) -> bool:
        """Whether the diff has what the rule forbids; a metric that is not there (nothing differs) breaks nothing."""
        return not diff.identical if self.text == "any" else any(map(self.breaks, diff.groups))


def parse_rules(text: str) -> list[Rule]:
    """Rules joined by commas; raises InputError for an unknown one.

    >>> [rule.text for rule in parse_rules("params, numbers:sqnr<30")]
    ['params', 'numbers:sqnr<30']
    """
    return [_rule(word) for word in re.split(r"[,\s]+", text.strip()) if word]


def _rule(word: str) -> Rule:
    if word == "any":
        return Rule(word, lambda group: group.kind != "same")
    if word in KIND_RULES:
        return Rule(word, lambda group: group.kind == word)
    if word in DETAIL_RULES:
        what = DETAIL_RULES[word]
        return Rule(word, lambda group: any(detail.what == what for detail in group.details))
    found = _NUMBERS.fullmatch(word)
    if found is None:
        raise InputError(f"{word!r} is not a rule", help=HELP)
    metric, compare, bound = METRICS[found[1]], _COMPARE[found[2]], float(found[3])

    def breaks(group: Change) -> bool:
        value = None if group.numbers is None else metric(group.numbers)
        return value is not None and bool(compare(value, bound))

    return Rule(word, breaks)
