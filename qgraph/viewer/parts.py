"""The files beside this one that go into pages and drawings."""

from __future__ import annotations

from importlib.resources import files


def read_part(name: str) -> str:
    """The text of a file of this package."""
    return (files("qgraph.viewer") / name).read_text(encoding="utf-8")
