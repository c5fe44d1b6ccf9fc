"""The result of a diff, and its forms: summary, coloured text, JSON, HTML."""

from __future__ import annotations

import dataclasses
import html
import json
import os
from dataclasses import dataclass
from typing import Literal

from qgraph.ir.files import write_atomically

Kind = Literal["added", "removed", "changed", "same"]
SIGN = {"added": "+", "removed": "-", "changed": "~", "same": " "}
COLOUR = {"+": "green", "-": "red", "~": "yellow", " ": "default"}


@dataclass(frozen=True)
class Numbers:
    """How a group's last values compare after dequantization: SQNR in dB (None: equal), largest absolute difference."""

    sqnr_db: float | None
    max_error: float


@dataclass(frozen=True)
class Change:
    """One matched group of nodes that differs: its nodes before and after as text, and what differs in words."""

    kind: Kind
    origins: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    details: tuple[str, ...]
    numbers: Numbers | None = None


@dataclass(frozen=True)
class GraphDiff:
    """What differs between two graphs. `about` holds differences of the graphs as wholes; `unchanged` counts groups."""

    about: tuple[str, ...]
    changes: tuple[Change, ...]
    unchanged: int

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return not self.about and all(change.kind == "same" for change in self.changes)

    def summary(self) -> str:
        """One line of counts."""
        if self.identical:
            return f"identical: {self.unchanged} groups of nodes"
        counts = {kind: sum(change.kind == kind for change in self.changes) for kind in ("added", "removed", "changed")}
        words = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        return f"{words}, {self.unchanged} unchanged groups of nodes"

    def to_json(self) -> str:
        """All of it as JSON: identical, summary, about, changes."""
        words = {"identical": self.identical, "summary": self.summary(), **dataclasses.asdict(self)}
        return json.dumps(words, indent=2)

    def lines(self) -> list[tuple[str, str]]:
        """(colour, line) of the text form."""
        lines = [("bold", self.summary()), *(("yellow", f"~ {line}") for line in self.about)]
        for change in self.changes:
            lines.append(("cyan", f"@@ {', '.join(change.origins) or '(no origin)'}"))
            lines += [("red", f"- {text}") for text in change.before if change.kind != "same"]
            lines += [("green", f"+ {text}") for text in change.after if change.kind != "same"]
            lines += [("yellow", f"  {detail}") for detail in change.details]
            if change.numbers is not None:
                lines.append(("default", f"  {_numbers_text(change.numbers)}"))
        return lines

    def __str__(self) -> str:
        return "\n".join(line for _, line in self.lines())

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the text form as one self-contained HTML page."""
        rows = "\n".join(f'<div class="{colour}">{html.escape(line)}</div>' for colour, line in self.lines())
        write_atomically(path, _PAGE.replace("ROWS", rows).encode())


def _numbers_text(numbers: Numbers) -> str:
    if numbers.sqnr_db is None:
        return "values: equal"
    return f"values: SQNR {numbers.sqnr_db:.1f} dB, max error {numbers.max_error:.3g}"


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>qgraph diff</title>
<style>
body { font: 13px/1.5 ui-monospace, monospace; margin: 2em; background: #fff; color: #24292f }
div { white-space: pre-wrap; padding: 0 .6em }
.bold { font-weight: bold; margin-bottom: 1em } .cyan { color: #0550ae; margin-top: .8em; background: #ddf4ff }
.red { background: #ffebe9 } .green { background: #dafbe1 } .yellow { color: #7d4e00 }
</style>
ROWS
</html>
"""
