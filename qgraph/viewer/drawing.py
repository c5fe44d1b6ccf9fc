"""A graph as a static SVG picture."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise

from qgraph.ir import Graph, Node, TensorType, Value
from qgraph.viewer.families import INPUT, OUTPUT, family_of
from qgraph.viewer.layered import Layered, place_in_rows
from qgraph.viewer.parts import read_part

WIDTH, HEIGHT = 190, 44
"""Size of a box."""
ROW = 78
"""Distance of rows."""
SPACE = 26
"""Distance of neighbouring boxes."""
LETTERS = 25, 32
"""How many letters the lines of a box hold."""
CORNER = 7
HOT = "#d4472f"

FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"


Heat = Mapping[Node, tuple[float, str]]
"""Nodes that stand out: how much, from 0 to 1, and words for the second line of the box."""


def svg(graph: Graph, heat: Heat | None = None) -> str:
    """The graph as a self-contained SVG: rows of boxes with op and type, coloured by family of op.

    It follows the reader's light or dark colours. Names come from files and are escaped.
    """
    boxes = list(_boxes(graph, heat or {}))
    placed = place_in_rows(len(boxes), _edges(graph), box=WIDTH + SPACE, bend=SPACE)
    across = [*placed.x.values(), *(x for route in placed.routes.values() for x, _ in route)] or [0.0]
    width = max(across) - min(across) + WIDTH + 2 * SPACE
    height = max(placed.row.values(), default=0) * ROW + HEIGHT + 2 * SPACE
    origin = min(across) - WIDTH / 2 - SPACE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="qgraph" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="{origin:.1f} {-SPACE} {width:.1f} {height}" font-family="{FONT}" text-anchor="middle">',
            f"<title>{xml_text(graph.name)}</title>",
            f"<style>{_style()}</style>",
            *_edge_shapes(placed),
            *(_box_shape(*box, placed.x[i], placed.row[i] * ROW) for i, box in enumerate(boxes)),
            "</svg>\n",
        ]
    )


Box = tuple[str, str, str, float]
"""Op, the words for the second line, a tooltip, and how much it stands out."""


def _boxes(graph: Graph, heat: Heat) -> Iterator[Box]:
    """Inputs, nodes and outputs, in an order in which edges go forward."""
    for value in graph.inputs:
        yield INPUT, value.name, f"{value.name}: {_type(value)}", 0.0
    for node in graph.nodes:
        origins = "\n".join(origin.readable for origin in node.origins)
        share, words = heat.get(node, (0.0, ", ".join(map(_type, node.results))))
        yield node.op, words, "\n".join([node.op, *map(repr, node.results), origins]), share
    for value in graph.outputs:
        yield OUTPUT, value.name or "output", _type(value), 0.0


def _type(value: Value) -> str:
    return str(TensorType(value.type.shape, value.type.dtype))


def _edges(graph: Graph) -> Iterator[tuple[int, int]]:
    number: dict[Value, int] = {value: i for i, value in enumerate(graph.inputs)}
    for i, node in enumerate(graph.nodes, len(number)):
        yield from ((number[value], i) for value in node.inputs if value in number)
        number.update((value, i) for value in node.results)
    first = len(graph.inputs) + len(graph)
    yield from ((number[value], first + i) for i, value in enumerate(graph.outputs) if value in number)


def _edge_shapes(placed: Layered) -> Iterator[str]:
    stroke = palettes()[0]["edge"]
    for route in placed.routes.values():
        yield f'<path class="edge" fill="none" stroke="{stroke}" stroke-width="1.3" d="{_path(route)}"/>'


def _path(route: Sequence[tuple[float, int]]) -> str:
    """From box to box a curve in each gap between rows, straight down beside the boxes of a row."""
    path = f"M{route[0][0]:.1f} {route[0][1] * ROW + HEIGHT}"
    for (above, row), (below, _) in pairwise(route):
        bottom, top = row * ROW + HEIGHT, (row + 1) * ROW
        middle = (bottom + top) / 2
        path += f"L{above:.1f} {bottom}C{above:.1f} {middle:g} {below:.1f} {middle:g} {below:.1f} {top}"
    return path


def _box_shape(op: str, words: str, tooltip: str, heat: float, x: float, y: float) -> str:
    family, light = family_of(op), palettes()[0]
    ring = f' stroke-width="{1 + 5 * heat:.1f}" style="stroke:{HOT}"' if heat > 0 else ""
    boundary = op in (INPUT, OUTPUT)
    lines = [_line(words, x, y + 27, 0)] if boundary else [_line(op, x, y + 21, 0), _line(words, x, y + 36, 1)]
    return (
        f'<g class="{family}"><title>{xml_text(tooltip)}</title><rect x="{x - WIDTH / 2:.1f}" y="{y}" width="{WIDTH}" '
        f'height="{HEIGHT}" rx="{HEIGHT // 2 if boundary else CORNER}" fill="{light[f"family-{family}"]}" '
        f'stroke="{light["node-line"]}"{ring}/>{"".join(lines)}</g>'
    )


def _line(words: str, x: float, y: float, number: int) -> str:
    """The first (0) or second (1) line of a box."""
    size, weight = ((13, 600), (11, 400))[number]
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{palettes()[0]["ink"]}">'
        f"{xml_text(_short(words, LETTERS[number]))}</text>"
    )


def _short(line: str, letters: int) -> str:
    return line if len(line) <= letters else f"{line[: letters - 1]}…"


_NOT_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(words: str) -> str:
    """Words in a picture: escaped, without the characters that XML does not have."""
    return escape(_NOT_XML.sub("\ufffd", words))


@functools.cache
def palettes() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The colours of `colours.css` by name, light and dark."""
    light, _, dark = read_part("colours.css").partition("@media")
    found = [dict(re.findall(r"--([\w-]+): (#\w+);", part)) for part in (light, dark)]
    return found[0], found[1]


def _style() -> str:
    """Dark colours for readers who prefer them; without support for style sheets the light ones stay."""
    dark = palettes()[1]
    rules = [f".qgraph .edge{{stroke:{dark['edge']}}}", f".qgraph text{{fill:{dark['ink']}}}"]
    rules += [
        f".qgraph .{name.removeprefix('family-')} rect{{fill:{value};stroke:{dark['node-line']}}}"
        for name, value in dark.items()
        if name.startswith("family-")
    ]
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"
