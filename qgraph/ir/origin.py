"""Where a node came from in the user's model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

_BARE = re.compile(r'[^\s,()"]+')
_LOCATION = re.compile(r".*:\d+")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?::\d+)?|[^\s,()"]+')


@dataclass(frozen=True)
class Origin:
    """A module path ("block.conv") or node name, and the source line that made it; either part may be absent."""

    path: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """The form inside `loc(...)`: `block.conv net.py:12`; parts with blanks or commas are quoted."""
        parts = []
        if self.path:
            parts.append(
                self.path
                if _BARE.fullmatch(self.path) and not _LOCATION.fullmatch(self.path)
                else json.dumps(self.path)
            )
        if self.file:
            parts.append(f"{self.file if _BARE.fullmatch(self.file) else json.dumps(self.file)}:{self.line}")
        return " ".join(parts)

    @property
    def readable(self) -> str:
        """The form in messages: `block.conv  (net.py:12)`."""
        location = f"{self.file}:{self.line}" if self.file else ""
        return f"{self.path}  ({location})" if self.path and location else self.path or location


def union(origins: Iterable[tuple[Origin, ...]]) -> tuple[Origin, ...]:
    """All origins, each once, in order of first appearance."""
    return tuple(dict.fromkeys(origin for group in origins for origin in group))


def parse_origins(text: str) -> tuple[Origin, ...]:
    """Read the inside of `loc(...)`."""
    return tuple(_parse_origin(_TOKEN.findall(part)) for part in _split_commas(text))


def _split_commas(text: str) -> list[str]:
    return re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+', text)


def _parse_origin(tokens: list[str]) -> Origin:
    path, file, line = "", "", 0
    for token in tokens:
        if token.startswith('"'):
            body, _, number = token.rpartition('"')
            value = json.loads(body + '"')
            if number:
                file, line = value, int(number[1:])
            else:
                path = value
        elif _LOCATION.fullmatch(token):
            file, _, number = token.rpartition(":")
            line = int(number)
        else:
            path = token
    return Origin(path, file, line)
