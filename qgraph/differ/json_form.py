"""A diff as JSON, described by `schema.json` beside this file."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from qgraph.differ.change import Change, Numbers
from qgraph.differ.details import Detail
from qgraph.ir import Node

if TYPE_CHECKING:
    from qgraph.differ.graph_diff import GraphDiff

VERSION = 1
Json = dict[str, object]


def to_json(diff: GraphDiff) -> str:
    """The diff as JSON text; groups are named by their position among all groups (`id`)."""
    ids = {id(group): index for index, group in enumerate(diff.groups)}
    with_numbers = any(group.numbers is not None for group in diff.groups)
    listed = [group for group in diff.groups if group.kind != "same" or group.numbers is not None]
    entries = [_group(diff, group, ids[id(group)]) for group in listed]
    words: Json = {
        "version": VERSION,
        "identical": diff.identical,
        "summary": diff.summary(),
        "about": list(diff.about),
        "counts": diff.counts,
        "changes": [entry for entry in entries if entry["kind"] != "same"],
    }
    if with_numbers:
        first = diff.first_divergence
        words["unchanged"] = [entry for entry in entries if entry["kind"] == "same"]
        words["first_divergence"] = None if first is None else ids[id(first)]
        words["ranking"] = [ids[id(group)] for group in diff.ranking()]
    return json.dumps(words, indent=2)


def _group(diff: GraphDiff, group: Change, number: int) -> Json:
    entry: Json = {
        "id": number,
        "kind": group.kind,
        "origins": list(group.origins),
        "before": [_node(diff, node) for node in group.before],
        "after": [_node(diff, node) for node in group.after],
        "details": [_detail(detail) for detail in group.details],
    }
    if group.numbers is not None:
        entry["numbers"] = _numbers(group.numbers)
    return entry


def _node(diff: GraphDiff, node: Node) -> Json:
    return {"op": node.op, "text": diff.texts[node]}


def _detail(detail: Detail) -> Json:
    entry: Json = {
        "what": detail.what,
        "subject": detail.subject,
        "before": detail.before,
        "after": detail.after,
        "text": str(detail),
    }
    change = detail.constant
    if change is not None:
        entry["constant"] = {
            "changed": change.changed,
            "size": change.size,
            "max_abs": _finite(change.max_abs),
            "relative": _finite(change.relative),
            "permuted_axis": change.permuted_axis,
        }
    return entry


def _numbers(numbers: Numbers) -> Json:
    return {
        "sqnr_db": _finite(numbers.sqnr_db),
        "max_error": _finite(numbers.max_error),
        "cosine": _finite(numbers.cosine),
        "own_known": numbers.own_known,
        "own_sqnr_db": _finite(numbers.own_sqnr_db),
        "own_max_error": _finite(numbers.own_max_error),
        "lsb_histogram": list(numbers.lsb_histogram),
        "layout": numbers.layout,
    }


def _finite(value: float | None) -> float | None:
    """JSON has no infinity: the ratio of no signal is null, as is that of no error; `max_error` tells them apart."""
    return value if value is not None and math.isfinite(value) else None
