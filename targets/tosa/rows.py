"""How an op of the dialect stands in a .tosa file: one row an op, read in both directions.

    row("tosa.conv2d", "CONV2D", constants={"input_zp": "x", "weight_zp": "w"})

The operator's inputs are the op's operands, then the attributes that the file has as shapes, then those that it has as
constants of one element, whose type is that of an operand, of the result ("result"), or given. All other attributes are
fields of the operator's attribute table, under the same names. `acc_type`: the type of the accumulator, which a file
says too, from the type of the first operand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FileRow:
    """One op of the dialect in a file."""

    op: str
    operator: str
    constants: Mapping[str, str] = field(default_factory=dict)
    shapes: tuple[str, ...] = ()
    acc_type: Callable[[str], str] | None = None


BY_OP: dict[str, FileRow] = {}
BY_OPERATOR: dict[str, FileRow] = {}


def row(op: str, operator: str, constants: Mapping[str, str] | None = None, **words: object) -> None:
    """Say how an op stands in a file; see the module."""
    made = FileRow(op, operator, constants or {}, **words)  # type: ignore[arg-type]  # the fields of the row
    BY_OP[op] = BY_OPERATOR[operator] = made
