"""Releases of the runtimes: for which a target is proven, and which ops differ on others.

A target is proven for one release, on which all its tests run. On others they ran too
(`python -m tests.targets.releases`); what they found stands in `releases.json` of the target's folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING

from qgraph.ir import Graph, Node

if TYPE_CHECKING:
    from qgraph.targets.target import Target

PROVEN, DIFFERS, NOT_TRIED = "proven", "differs", "not tried"
EVERY_OP = "every op"
TRIED, UNTRIED = "all other ops that were tried", "ops that were not tried"


def kind(node: Node) -> str:
    """An op with the storage types of its operands (once where they are equal) and result: "litert.add i8->i8"."""
    operands = [value.type.dtype for value in node.inputs]
    words = operands[:1] if len(set(operands)) == 1 else operands
    return f"{node.op} {','.join(words)}->{node.results[0].type.dtype}"


def number(release: str) -> tuple[int, ...]:
    """A release as numbers that compare.

    >>> number("1.10.0") > number("1.4")
    True
    """
    return tuple(int(digits) for digits in re.findall(r"\d+", release))


def tried(target: Target) -> dict[str, dict[str, str]]:
    """release -> op with its types -> "proven", or "differs: N of M elements"; of the releases that were tried."""
    package = f"qgraph.targets.{target.name.replace('-', '_')}"
    try:
        path = files(package).joinpath("releases.json")
    except ModuleNotFoundError:  # a target of an installed package
        return {}
    found: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def mark(known: Mapping[str, str], op: str) -> str:
    """What is known of an op on a release."""
    return known.get(op, known.get(EVERY_OP, NOT_TRIED)).partition(":")[0]


def table(target: Target) -> dict[str, dict[str, str]]:
    """op with its types -> release -> mark, the proven release first: the ops that differ somewhere, and all others."""
    found = tried(target)
    columns = {target.proven: {EVERY_OP: PROVEN}, **{name: found[name] for name in sorted(found, key=number)[::-1]}}
    names = sorted({op for known in found.values() for op, words in known.items() if words.startswith(DIFFERS)})
    rows = {op: {release: mark(known, op) for release, known in columns.items()} for op in names}
    rows[TRIED] = dict.fromkeys(columns, PROVEN)
    if not all(EVERY_OP in known for known in columns.values()):
        rows[UNTRIED] = {release: mark(known, "") for release, known in columns.items()}
    return rows if target.proven else {}


def notes(graph: Graph, target: Target, release: str) -> tuple[str, ...]:
    """What `verify` says of a runtime of another release than the proven one."""
    if not target.proven or release == target.proven:
        return ()
    found = tried(target)
    kinds = {kind(node) for node in graph.nodes}
    if release in found:
        differing = sorted(op for op in kinds if mark(found[release], op) == DIFFERS)
        open_ones = sorted(op for op in kinds if mark(found[release], op) == NOT_TRIED)
        words = [f"{target.name} is proven for {target.proven}; on {release} the tests found nothing that differs"]
        if differing:
            words = [f"on release {release} these compute otherwise than on {target.proven}: {', '.join(differing)}"]
        return (*words, *([f"not tried on release {release}: {', '.join(open_ones)}"] if open_ones else []))
    changed = sorted(op for op in kinds if any(mark(known, op) == DIFFERS for known in found.values()))
    words = [f"{target.name} is proven for {target.proven}; release {release} was not tried"]
    return (*words, *([f"these differ between releases: {', '.join(changed)}"] if changed else []))
