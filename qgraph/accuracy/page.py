"""An explanation as one self-contained HTML page, without scripts: pictures, then tables."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Iterator, Sequence

from qgraph.accuracy.explanation import Explanation, db, gained, remarks
from qgraph.ir.files import write_atomically
from qgraph.viewer import svg
from qgraph.viewer.charts import Series, chart
from qgraph.viewer.parts import read_part

DRAWN = 200
"""A graph of more nodes is not drawn: its chart says it better."""
RINGS = "The graph: the wider the ring, the more is gained with the node in float"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing is loaded, and no script runs, whatever names contain; pictures have styles of their own."""


def write_explanation(path: str | os.PathLike[str], found: Explanation) -> None:
    """Write the page, whole or not at all; raises FileError."""
    write_atomically(path, page(f"{found.graph.name}: where accuracy goes", _parts(found)).encode("utf-8", "replace"))


def page(title: str, parts: Iterable[str]) -> str:
    """A page of parts that are HTML already."""
    style = f"{read_part('colours.css')}\n{read_part('tables.css')}"
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title><style>{style}</style>'
    )
    body = "\n".join((f"<h1>{html.escape(title)}</h1>", *parts))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}\n</body></html>\n'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of words; numbers stand right."""
    top = "".join(f"<th>{html.escape(word)}</th>" for word in head)
    lines = ("".join(f"<td>{html.escape(word)}</td>" for word in row) for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"


def _parts(found: Explanation) -> Iterator[str]:
    error = f" ± {found.standard_error_db:.1f}" if math.isfinite(found.standard_error_db) else ""
    yield f"<p><b>{db(found.sqnr_db)}{error}</b> over {found.examples} examples; with weights alone rounded "
    yield f"{db(found.weights_only_db)}, with activations alone {db(found.activations_only_db)}.</p>"
    yield from (f'<p class="note">{html.escape(note)}</p>' for note in found.notes)
    yield from _pictures(found)
    yield "<h2>What to try</h2>"
    rows = ((gained(each.gain_db), each.node, each.what, each.how) for each in found.tries)
    yield table(("gain", "node", "what", "how"), rows)
    yield "<h2>Where it goes</h2>"
    yield table(("alone", "gain in float", "node", "op", "own", "inherited", "what stands out"), _node_rows(found))
    if found.classes:
        yield "<h2>Classes</h2>"
        counts = ((str(each.label), str(each.real_right), str(each.right), str(each.count)) for each in found.classes)
        yield table(("class", "right in float", "right", "examples"), counts)
    yield "<h2>Examples, the worst first</h2>"
    yield table(("example", "SQNR", "label", "answer in float", "answer"), _sample_rows(found))


def _pictures(found: Explanation) -> Iterator[str]:
    order = {value: place for place, value in enumerate(found.graph.value_names().values())}
    nodes = sorted(found.nodes, key=lambda each: order[each.value])
    series = [
        Series("own error", [(i, each.loss.own_db) for i, each in enumerate(nodes)], joined=False),
        Series("with what is inherited", [(i, each.loss.total_db) for i, each in enumerate(nodes)]),
    ]
    yield chart(
        "SQNR of each node's result", series, y_title="SQNR, dB (less is worse)", words=[each.name for each in nodes]
    )
    if len(found.graph) > DRAWN:
        return
    most = max((each.gain_db or 0.0 for each in nodes), default=0.0)
    heat = {
        each.node: (max(each.gain_db, 0.0) / most, f"{gained(each.gain_db)} in float")
        for each in nodes
        if each.node is not None and each.gain_db is not None and most > 0
    }
    yield f"<details open><summary>{RINGS}</summary>{svg(found.graph, heat)}</details>"


def _node_rows(found: Explanation) -> Iterator[Sequence[str]]:
    for each in found.nodes:
        gain = "" if each.gain_db is None else gained(each.gain_db)
        words = "; ".join(remarks(each.loss))
        only = "" if each.alone_db is None else db(each.alone_db)
        yield only, gain, each.name, each.op, db(each.loss.own_db), db(each.loss.inherited_db), words


def _sample_rows(found: Explanation) -> Iterator[Sequence[str]]:
    for each in found.samples[:50]:
        known = ("" if number is None else str(number) for number in (each.label, each.real_answer, each.answer))
        yield str(each.number), db(each.sqnr_db), *known
