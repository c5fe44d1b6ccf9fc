"""Families of ops, by which a graph alone is coloured: the table `families.json`."""

from __future__ import annotations

import functools
import json
import re
from typing import TypedDict

from qgraph.viewer.parts import read_part


class Family(TypedDict):
    """A family: its `name` (the style sheet has its colour), a label, and a pattern found in the names of its ops."""

    name: str
    label: str
    words: str


@functools.cache
def families() -> tuple[Family, ...]:
    """All families; the first whose pattern fits counts, the last fits all."""
    return tuple(json.loads(read_part("families.json")))


@functools.cache
def family_of(op: str) -> str:
    """The name of an op's family: "weights" for "nn.conv"."""
    return next(family["name"] for family in families() if re.search(family["words"], op, re.IGNORECASE))
