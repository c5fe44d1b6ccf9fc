"""Lines with styles, on a terminal that has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from qgraph.differ.text_form import Line


def echo_lines(lines: Iterable[Line]) -> None:
    """Print lines, coloured where the terminal has colours."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    if console.color_system is None or console.no_color:
        typer.echo("\n".join(line for _, line in lines))
        return
    for style, line in lines:
        console.print(line, style=style)
