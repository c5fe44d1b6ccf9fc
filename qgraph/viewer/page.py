"""A page: one HTML file with data, scripts and style inside, which needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Sequence

from qgraph.errors import InputError
from qgraph.ir.files import write_atomically
from qgraph.viewer.contents import Link, Pane
from qgraph.viewer.parts import read_part
from qgraph.viewer.payload import page_data

SCRIPTS = (
    "model.js",
    "arrange.js",
    "layout.js",
    "colours.js",
    "canvas.js",
    "legend.js",
    "details.js",
    "table.js",
    "following.js",
    "steps.js",
    "page.js",
)
"""The page's own scripts, in the order in which they need each other."""


def write_page(
    path: str | os.PathLike[str],
    panes: Sequence[Pane],
    links: Sequence[Link] = (),
    *,
    title: str = "qgraph",
    about: Sequence[str] = (),
) -> None:
    """Write one self-contained HTML page that shows the panes' graphs, whole or not at all.

    `links` say which nodes of one pane correspond to which of another: the page colours them by kind, selects and
    pans them together, and lists those that differ. With more than two panes they connect neighbours, such as the
    snapshots of a pipeline, and the page steps through the pairs. `about`: lines that stand beside the title.
    Raises InputError for a page without panes and links to nodes that are not shown, FileError where it cannot write.
    """
    if not panes:
        raise InputError("a page needs at least one pane")
    write_atomically(path, page_html(panes, links, title=title, about=about).encode("utf-8", "replace"))


def page_html(panes: Sequence[Pane], links: Sequence[Link], *, title: str, about: Sequence[str]) -> str:
    """The page's text. Its policy lets run only the scripts written here, whatever the graphs' names contain."""
    library = f"/*!\n{read_part('dagre.LICENSE.md')}*/\n{read_part('dagre.min.js')}"
    script = "\n".join(['"use strict";', *map(read_part, SCRIPTS)])
    style = read_part("colours.css") + read_part("page.css")
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(library)} {_hash(script)}"
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "data": _embedded(page_data(panes, links, title, about)),
        "library": library,
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], read_part("page.html"))


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _embedded(data: object) -> str:
    """JSON that can stand in a script element: no `<` that could end it."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
