"""A template with every key, and the page of the schema: both are made of `schema.TABLES` and `ops.OPS`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from qgraph.arith.stages_grammar import FORMS, PLACES
from qgraph.description.description import COMMON_NAMES, FORM_NAMES, REAL_NAMES
from qgraph.description.expressions import ALLOWED, Expression
from qgraph.description.ops import COMMON, OPS, OpKind
from qgraph.description.schema import PER_OP, REQUIRED, TABLES, Key, Table

BASIC_STAGES = (
    *("add bias", "multiply multiplier", "shift right shift half_up", "add output_zero_point", "clamp low high"),
)
"""Stages of the template, which is a chip that works."""
BASIC_OPS = ("conv", "depthwise", "linear", "rescale", "mul", "average_pool", "mean", "max_pool", "table")


def template(name: str) -> str:
    """The text of a description that can be used as it is: every key with its meaning, those with defaults commented
    out."""
    lines = ["# A chip in one file. Keys that are commented out have the value that they would have anyway;", *NOTES]
    for table in TABLES:
        lines += ["", *_comment(table.meaning), f"[{table.name}]"]
        for key in table.keys:
            lines += _lines(key, table, name)
    lines += ["", "# The ops that the chip has; moves of integers need no table."]
    for kind in OPS:
        if not kind.always:
            lines += ["", *_op_lines(kind)]
    return "\n".join(lines) + "\n"


NOTES = (
    '# any value may be "unknown", and what needs it is then refused. Tables marked * may stand under an op as well,',
    "# [ops.add.scale], and change single keys for it. `qgraph targets check FILE` tells what the file says.",
)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 116)]


def _lines(key: Key, table: Table, name: str) -> list[str]:
    if table.open:
        return [*_comment(f"NAME: {key.kind.allowed}"), f"# {'half'} = {key.example}"]
    lines = _comment(f"{key.meaning} {key.kind.allowed}.")
    if key.name == "stages":
        return [*lines, f"stages = {written(BASIC_STAGES)}"]
    if key.default is REQUIRED:
        return [*lines, f"{key.name} = {written(name)}"]
    shown = key.example or (written(key.default) if key.default is not None else "1.0")
    return [*lines, f"# {key.name} = {shown}"]


def _op_lines(kind: OpKind) -> list[str]:
    lines = _comment(f"{kind.meaning} Stages may also name: {', '.join(kind.names)}." if kind.names else kind.meaning)
    lines.append(f"[ops.{kind.name}]" if kind.name in BASIC_OPS else f"# [ops.{kind.name}]")
    for key in kind.keys:
        default = "..." if key.default is None else written(key.default)
        lines += [*_comment(f"{key.meaning} {key.kind.allowed}."), f"# {key.name} = {default}"]
    return lines


def written(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, Expression):
        return f'"{value.text}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(written, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


# ---- the page


def page() -> str:
    """The schema as Markdown."""
    lines = [*INTRODUCTION, ""]
    for table in TABLES:
        star = "; also under an op" if table in PER_OP else ""
        lines += [f"## [{table.name}]", "", f"{table.meaning}{star and ' (*)'}", "", *_table(table.keys), ""]
    lines += ["## [ops.NAME]", "", *textwrap.wrap(OPS_WORDS, 120), ""]
    lines += ["| op | of `nn` | what | stages may also name |", "|---|---|---|---|"]
    for kind in OPS:
        sources = ", ".join(f"`{source}`" for source in kind.sources) or "any function of one value"
        lines.append(
            f"| `{kind.name}` | {sources} | {kind.meaning} | {', '.join(f'`{name}`' for name in kind.names)} |"
        )
    lines += ["", "Keys of all ops:", "", *_table(COMMON), ""]
    for kind in OPS:
        if kind.keys:
            lines += [f"Keys of `{kind.name}`:", "", *_table(kind.keys), ""]
    return "\n".join([*lines, *_stages()]) + "\n"


INTRODUCTION = (
    "# A chip in one file: the schema",
    "",
    "Made by `python -m qgraph.description` of `schema.py` and `ops.py`; a test compares it. Any value may be",
    '`"unknown"`: what needs it is refused. Tables marked (*) may stand under an op, `[ops.add.scale]`, and change',
    "single keys for it. `inherits` makes a variant: another description, changed key by key.",
)
OPS_WORDS = (
    "A chip has the ops of which there is a table, which may be empty, and those that only move integers. Stages are "
    "those of [ops.NAME.requantize], else those of [requantize], behind `subtract input_zero_point` (rescale) and "
    "`multiply second` (mul)."
)


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(keys: tuple[Key, ...]) -> Iterator[str]:
    yield "| key | meaning | allowed | default |"
    yield "|---|---|---|---|"
    for key in keys:
        default = "required" if key.default is REQUIRED else "" if key.default is None else f"`{written(key.default)}`"
        yield f"| `{key.name}` | {key.meaning} | {_escaped(key.kind.allowed)} | {default} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _stages() -> list[str]:
    forms = [f"| `{form}` |" for form in FORMS]
    places = [f"| `{word}` | {_escaped(place.allowed)} |" for word, place in PLACES.items()]
    operands = [f"| {form} | {', '.join(f'`{name}`' for name in names)} |" for form, names in FORM_NAMES.items()]
    return [
        *("## Stages", "", "A stage is one of", "", "| form |", "|---|", *forms, "", "in which", ""),
        *("| word | stands for |", "|---|---|", *places, ""),
        "and may end in `to WIDTH saturate` or `to WIDTH wrap`, and in `where CONDITION`.",
        *("", f"Stages of every op may name {', '.join(f'`{name}`' for name in COMMON_NAMES)}, the [constants], and"),
        *("the operands of its factor:", "", "| form | operands |", "|---|---|", *operands, ""),
        *("## Expressions", "", f"{ALLOWED}.", f"They know {', '.join(f'`{name}`' for name in REAL_NAMES)}, and in "),
        "[constants] the operands of the factor and what stages know.",
    ]
