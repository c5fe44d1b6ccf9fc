"""The C functions that a model calls: the .c files of this folder in pieces, of which it holds those that it needs.

A piece is a comment and a type or function. In a name such as `qg_dot__X_W` the letters stand for storage: used with
X = int8 and W = int16 it is `qg_dot_int8_int16`, and `X_t` in it is `int8_t`.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from qgraph.exporters.c99.ctext import type_name

NAME = re.compile(r"\bqg_[a-z0-9_]*[a-z0-9](?:__[A-Z](?:_[A-Z])*)?\b")


class Library:
    """The pieces that are used, each after those that it needs."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def use(self, name: str, **storage: str) -> str:
        """The name of a function or type of the library, for the words of storage that its letters stand for."""
        known = _pieces()
        piece = next(key for key in known if key.partition("__")[0] == name)
        return self._use(piece, storage)

    def _use(self, piece: str, storage: dict[str, str]) -> str:
        letters = [*filter(None, piece.partition("__")[2].split("_"))]
        made = "_".join([piece.partition("__")[0], *(storage[letter] for letter in letters)])
        if made in self._texts:
            return made
        text = _pieces()[piece]
        needed = dict.fromkeys(NAME.findall(_code(text)))
        names = {other: made if other == piece else self._use(other, storage) for other in needed}
        text = NAME.sub(lambda found: names.get(found[0], found[0]), text)
        self._texts[made] = re.sub(r"\b([A-Z])_t\b", lambda found: type_name(storage[found[1]]), text)
        return made

    @property
    def text(self) -> str:
        """The definitions, in the order of need."""
        return "\n\n".join(self._texts.values())


@cache
def _pieces() -> dict[str, str]:
    files = (file for file in resources.files(__package__).iterdir() if file.name.endswith(".c"))
    pieces = (piece for file in files for piece in re.split(r"\n\n(?=/\*)", file.read_text()))
    return {_defined(piece): piece.strip() for piece in pieces}


def _code(piece: str) -> str:
    """Without comments."""
    return re.sub(r"/\*.*?\*/", "", piece, flags=re.DOTALL).strip()


def _defined(piece: str) -> str:
    """What a piece defines: the name before the parameters of a function, or behind the braces of a struct."""
    code = _code(piece)
    if not code.startswith("typedef"):
        return next(NAME.finditer(code))[0]
    return next(NAME.finditer(code.partition("(*")[2] or code.rpartition("}")[2]))[0]
