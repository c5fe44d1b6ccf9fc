"""A diff as lines of text with styles, like a code diff: hunks with context, a table of counts, the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from qgraph.differ.change import KINDS, Change, Numbers
from qgraph.differ.graph_diff import GraphDiff

Line = tuple[str, str]
"""(style of rich, text)."""
CONTEXT = 2
"""How many unchanged groups stand around a change."""
RANKED = 10
"""How many groups the list of errors has."""
KIND_STYLE = {
    "added": "green",
    "removed": "red",
    "changed": "yellow",
    "fused": "magenta",
    "split": "magenta",
    "moved": "blue",
    "same": "default",
}


def text_lines(diff: GraphDiff, *, context: int = CONTEXT, only: Collection[str] = ()) -> Iterator[Line]:
    """The whole text form; `only`: the kinds of changes to show."""
    yield "bold", diff.summary()
    yield from (("yellow", f"~ {line}") for line in diff.about)
    yield from hunks(diff, context=context, only=only)
    yield from number_lines(diff)


# ---- hunks


def hunks(diff: GraphDiff, *, context: int = CONTEXT, only: Collection[str] = ()) -> Iterator[Line]:
    """Each change with up to `context` unchanged groups before and behind it; the gaps between them are left out."""
    shown = [i for i, group in enumerate(diff.groups) if group.kind != "same" and (not only or group.kind in only)]
    last = -1
    for place, index in enumerate(shown):
        start = max(last + 1, index - context)
        if last >= 0 and start > last + 1:
            yield "dim", "  ..."
        yield from _context(diff, range(start, index))
        yield from change_lines(diff, diff.groups[index])
        following = shown[place + 1] if place + 1 < len(shown) else len(diff.groups)
        last = min(index + context, following - 1)
        yield from _context(diff, range(index + 1, last + 1))


def _context(diff: GraphDiff, indices: Iterable[int]) -> Iterator[Line]:
    for index in indices:
        group = diff.groups[index]
        if group.kind == "same":
            yield from (("default", f"  {diff.texts[node]}") for node in group.after)
            if group.numbers is not None and group.numbers.differs:
                yield "dim", f"    {numbers_text(group.numbers)}"


def change_lines(diff: GraphDiff, change: Change) -> Iterator[Line]:
    """One change: its header, the nodes before and after, what differs, the numbers."""
    origins = ", ".join(change.origins) or "(no origin)"
    yield "cyan", f"@@ {change.kind}: {origins} @@"
    yield from (("red", f"- {diff.texts[node]}") for node in change.before)
    yield from (("green", f"+ {diff.texts[node]}") for node in change.after)
    yield from (("yellow", f"~ {detail}") for detail in change.details)
    if change.numbers is not None:
        yield "default", f"  {numbers_text(change.numbers)}"


# ---- numbers


def numbers_text(numbers: Numbers) -> str:
    """One line: the values, and the node's own part."""
    if not numbers.differs:
        text = "values: equal"
    else:
        text = f"values: SQNR {_db(numbers.sqnr_db)}, max error {numbers.max_error:.3g}"
    if numbers.own_known and numbers.own_differs:
        text += f"; its own: SQNR {_db(numbers.own_sqnr_db)}, max error {numbers.own_max_error:.3g}"
    elif numbers.own_known and numbers.differs:
        text += "; its own: none, all inherited"
    return f"{text} ({numbers.layout})" if numbers.layout else text


def _db(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.1f} dB"


def number_lines(diff: GraphDiff) -> Iterator[Line]:
    """Where the values part first, and the groups ranked by the error that they make themselves."""
    if all(group.numbers is None for group in diff.groups):
        return
    first = diff.first_divergence
    yield "bold", "values: no group differs" if first is None else f"first to differ: {_words(diff, first)}"
    ranking = diff.ranking()
    if ranking:
        yield "bold", "errors of their own, the largest first:"
    for group in ranking[:RANKED]:
        numbers = group.numbers
        if numbers is not None:
            yield "default", f"  {_db(numbers.own_sqnr_db):>10}  {_words(diff, group)}"
    if len(ranking) > RANKED:
        yield "dim", f"  ... and {len(ranking) - RANKED} more"


def _words(diff: GraphDiff, change: Change) -> str:
    origin = f" of {change.origins[0]}" if change.origins else ""
    return f"{diff.texts[change.nodes[-1]].partition(':')[0]} = {' + '.join(node.op for node in change.nodes)}{origin}"


# ---- counts


def stat_lines(diff: GraphDiff) -> Iterator[Line]:
    """A table of the kinds of changes, and one of the ops that they concern."""
    yield "bold", diff.summary()
    yield from (("yellow", f"~ {line}") for line in diff.about)
    yield "bold", f"{'kind':10}{'groups':>8}{'nodes before':>14}{'nodes after':>13}"
    for kind, count in diff.counts.items():
        groups = [group for group in diff.groups if group.kind == kind]
        nodes = sum(len(group.before) for group in groups), sum(len(group.after) for group in groups)
        yield KIND_STYLE[kind], f"{kind:10}{count:8}{nodes[0]:14}{nodes[1]:13}"
    counts: dict[str, Counter[str]] = {}
    for group in diff.changes:
        for op in dict.fromkeys(node.op for node in (*group.before, *group.after)):
            counts.setdefault(op, Counter())[group.kind] += 1
    if not counts:
        return
    kinds = [kind for kind in KINDS if kind in diff.counts and kind != "same"]
    width = max(len(op) for op in counts) + 2
    yield "bold", f"{'op':{width}}" + "".join(f"{kind:>9}" for kind in kinds)
    for op, found in sorted(counts.items()):
        yield "default", f"{op:{width}}" + "".join(f"{found[kind] or '':>9}" for kind in kinds)
