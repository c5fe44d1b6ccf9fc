"""Descriptions of chips: a template, and what one says."""

from __future__ import annotations

from pathlib import Path

from qgraph.cli.listings import Listing
from qgraph.errors import FileError, InputError
from qgraph.ir.files import write_atomically


def new(file: Path) -> Listing:
    """Write a commented template; raises FileError where there is a file already."""
    from qgraph.description.template import template

    if file.exists():
        raise FileError(f"{file} is there already", help="name another file")
    if file.suffix != ".toml":
        raise FileError(f"{file}: a description is a .toml file", help="name one: chip.toml")
    write_atomically(file, template(file.stem.lower().replace("_", "-")).encode())
    text = f"{file}: a template, with every key; `qgraph targets check {file}` tells what it says"
    return Listing(text, {"file": str(file)})


def check(file: Path) -> Listing:
    """What a description says, op by op; raises DescriptionError with all that is wrong."""
    from qgraph.description.reading import read
    from qgraph.description.telling import told, told_of_ops

    description = read(file)
    return Listing(told(description), {"name": description.name, "ops": told_of_ops(description)})


def unknown_verb(file: Path) -> Listing:
    """Raise InputError for a word that is neither."""
    raise InputError(
        f"what is to be done with {file}?", help="`qgraph targets check FILE` or `qgraph targets new FILE`"
    )
