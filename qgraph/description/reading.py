"""Reading a description: TOML, what it inherits, and every problem of it at once, with file, line and key."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qgraph.description.description import Description
from qgraph.description.kinds import EXPRESSION, Wrong
from qgraph.description.ops import FACTORS, OP_NAMES, OpKind, op_named
from qgraph.description.schema import PER_OP, REQUIRED, TABLES, UNKNOWN, Key, Table, table_named
from qgraph.errors import FileError, InputError
from qgraph.ir.files import read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Path_ = tuple[str, ...]
"""Where a key stands: ("ops", "add", "scale", "bits")."""
MOST_INHERITED = 8
CLOSE = 0.5
"""How alike a word has to be to one that is known, to be taken for it."""


class DescriptionError(InputError):
    """A description that breaks its schema: every problem, with file, line and key."""


@dataclass
class Source:
    """One file: its text as tables, and the line of every table and key."""

    name: str
    tables: dict[str, Any]
    lines: Mapping[Path_, int] = field(default_factory=dict)

    def line(self, path: Path_) -> str:
        """File and line of a key, or of the nearest table around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines[path]}" if path else self.name


@dataclass
class Problems:
    """What is wrong with one file."""

    source: Source
    found: list[str] = field(default_factory=list)

    def add(self, path: Path_, what: str, allowed: str = "") -> None:
        """Note a problem of a key, with what is allowed there."""
        *tables, key = path
        name = f"[{'.'.join(tables)}] {key}" if tables else f"[{key}]"
        self.found.append(f"{self.source.line(path)}: {name}: {what}")
        if allowed:
            self.found.append(f"  allowed: {allowed}")

    def check(self) -> None:
        """Raise DescriptionError where there are any."""
        if self.found:
            count = sum(not line.startswith("  ") for line in self.found)
            what = f"{self.source.name} has {count} problem{'s' * (count > 1)}"
            raise DescriptionError(what, where=tuple(self.found), help="`qgraph targets new FILE` writes all keys")


def read(path: Path) -> Description:
    """The description in a file, with what it inherits; raises DescriptionError, or FileError where there is none."""
    return described(source_of(path.name, read_bytes(path).decode("utf-8", "replace")), path.parent)


def described(source: Source, folder: Path | None = None) -> Description:
    """The description of tables, checked; what it inherits is beside it or shipped."""
    chain = [source]
    while "inherits" in (chain[-1].tables.get("target") or ()):
        chain.append(_inherited(chain[-1], folder))
        if len(chain) > MOST_INHERITED:
            raise DescriptionError(f"{source.name} inherits from itself, or from more than {MOST_INHERITED} others")
    checked: dict[str, Any] = {}
    for each in reversed(chain):
        problems = Problems(each)
        made = _checked_tables(each.tables, problems)
        problems.check()
        made.get("target", {}).pop("inherits", None)
        checked = _merged(checked, made)
    description = Description(checked)
    problems = Problems(source)
    _check_required(description, problems)
    for path, what, allowed in description.problems():
        problems.add(path, what, allowed)
    problems.check()
    return description


def _inherited(source: Source, folder: Path | None) -> Source:
    from qgraph import targets

    name = str(source.tables["target"]["inherits"])
    beside = folder / f"{name}" if folder is not None and name.endswith(".toml") else None
    path = beside or targets.description_path(str(name))
    if path is None or not path.is_file():
        problems = Problems(source)
        known = f"{', '.join(targets.described_names())}, or a .toml file beside this one"
        problems.add(("target", "inherits"), f"there is no description {name!r}", known)
        problems.check()
    assert path is not None
    return source_of(path.name, read_bytes(path).decode("utf-8", "replace"))


def source_of(name: str, text: str) -> Source:
    """A text as tables; raises DescriptionError for what is no TOML."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DescriptionError(f"{name} is no TOML: {error}") from None
    return Source(name, tables, dict(_lines(text)))


def _lines(text: str) -> Iterator[tuple[Path_, int]]:
    """The line of each table and key. Keys stand at the beginning of a line, as all but inline tables have it."""
    table: Path_ = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([\w\s.\"'-]+)\]\s*(#.*)?$", line)
        if header is not None:
            table = _parts(header[1])
            yield table, number
            continue
        key = re.match(r"\s*([\w.\"'-]+)\s*=", line)
        if key is not None:
            yield (*table, *_parts(key[1])), number


def _parts(text: str) -> Path_:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _merged(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The parent's tables with the child's keys over them."""
    made = dict(parent)
    for name, value in child.items():
        known = made.get(name)
        made[name] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return made


# ---- against the schema


def _checked_tables(tables: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, given in tables.items():
        table = table_named(name)
        if name == "ops" and isinstance(given, dict):
            made[name] = {op: _checked_op(op, each, problems) for op, each in given.items()}
        elif table is None or not isinstance(given, dict):
            known = [each.name for each in TABLES]
            problems.add((name,), f"there is no such table{_like(name, known)}", ", ".join([*known, "ops"]))
        else:
            made[name] = _checked_table((name,), table, given, problems)
    return made


def _checked_table(path: Path_, table: Table, given: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    made = {}
    for name, value in given.items():
        key = table.key(name)
        if key is None:
            known = [each.name for each in table.keys]
            problems.add((*path, name), f"there is no such key{_like(name, known)}", ", ".join(known))
        else:
            made[name] = _checked_value((*path, name), key, value, problems)
    return made


def _checked_value(path: Path_, key: Key, value: Any, problems: Problems) -> Any:
    if value == UNKNOWN:
        return UNKNOWN
    try:
        return key.kind.read(value)
    except Wrong as wrong:
        problems.add(path, wrong.what, wrong.allowed or key.kind.allowed)
        return None


def _checked_op(name: str, given: Any, problems: Problems) -> dict[str, Any]:
    path, kind = ("ops", name), op_named(name)
    if kind is None or not isinstance(given, dict):
        problems.add(path, f"there is no such op{_like(name, OP_NAMES)}", ", ".join(OP_NAMES))
        return {}
    made: dict[str, Any] = {}
    for word, value in given.items():
        if isinstance(value, dict):
            made[word] = _checked_part((*path, word), word, value, problems)
        else:
            made[word] = _checked_op_key(path, kind, word, value, problems)
    return made


def _checked_part(path: Path_, word: str, given: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """A table under an op: one of those that it may change, or its factors."""
    if word == FACTORS:
        key = Key("NAME", EXPRESSION, "A factor.")
        return {name: _checked_value((*path, name), key, value, problems) for name, value in given.items()}
    table = next((each for each in PER_OP if each.name == word), None)
    if table is None:
        known = [FACTORS, *(each.name for each in PER_OP)]
        problems.add(path, f"there is no such table of an op{_like(word, known)}", ", ".join(known))
        return {}
    return _checked_table(path, table, given, problems)


def _checked_op_key(path: Path_, kind: OpKind, word: str, value: Any, problems: Problems) -> Any:
    key = kind.key(word)
    if key is None:
        known = [each.name for each in kind.keys] + ["supported", "reason", "evidence", "sources"]
        problems.add((*path, word), f"{kind.name} has no such key{_like(word, known)}", ", ".join(known))
        return None
    return _checked_value((*path, word), key, value, problems)


def _like(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1, CLOSE)
    return f"; did you mean {close[0]!r}?" if close else ""


def _check_required(description: Description, problems: Problems) -> None:
    for table in TABLES:
        for key in table.keys:
            if key.default is REQUIRED and key.name not in description.tables.get(table.name, {}):
                problems.add((table.name, key.name), f"it is missing: {key.meaning}", key.kind.allowed)
    name = description.tables.get("target", {}).get("name", "a")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", str(name)):
        problems.add(("target", "name"), f"{name!r} is no name", "small letters, digits and -")


__all__ = ["DescriptionError", "FileError", "described", "read", "source_of"]
