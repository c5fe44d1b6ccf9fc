"""How an op of the dialect stands in a .tflite file: one row an op, read in both directions.

    row("litert.conv_2d", "CONV_2D", options={"stride": ("stride_h", "stride_w"), "activation": FUSED})

An attribute of the op is an option of the operator (`options`; a tuple of fields for a tuple), or a constant that the
operator reads as an operand (`constants`: attribute -> place). What does not fit has a function: `write` gives further
options, `read` further attributes; `variants` are operators that read as the same op, of which `choose` takes one.

An operator with many operands that may be absent says where those of the op stand (`places`). Tensors that are neither
operands nor results, the state and the intermediates of an LSTM, are attributes of the op; `states` and `intermediates`
give their types, `read_types` the attributes back.

Ops on floats have rows of their own (`float_row`): one operator is then two ops, and the types of the operands decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qgraph.exporters import tflite
from qgraph.ir import Node, TensorType

FUSED = "fused_activation_function"
TypeOf = Callable[[int], TensorType]
"""The type of a tensor by its index."""


@dataclass(frozen=True)
class FileRow:
    """One op of the dialect in a file."""

    op: str
    operator: str
    options: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)  # options that are always the same
    write: Callable[[Node], dict[str, Any]] | None = None
    read: Callable[[tflite.Operator], dict[str, Any]] | None = None
    variants: tuple[str, ...] = ()
    choose: Callable[[Node], str] | None = None  # which of the variants a node is
    places: tuple[int, ...] = ()  # of the op's operands among the operator's; in order where there are none
    length: int = 0  # of the operator's operands where `places` are given; -1 stands in the others
    states: Callable[[Node], Mapping[int, TensorType]] | None = None  # variable tensors, by place
    begins: Mapping[int, int] = field(
        default_factory=dict
    )  # place of a state -> of what it begins with, behind `length`
    intermediates: Callable[[Node], Sequence[TensorType]] | None = None
    read_types: Callable[[tflite.Operator, TypeOf], dict[str, Any]] | None = None
    per_axis: tuple[str, ...] = ()  # operands and results that may have several scales, beside weights and biases
    any_axis: bool = False  # runtimes take a weight's scales for those of the output channels, whatever axis it names
    integers: str = ""  # of an op on floats: the op on integers that it has everything else from
    exact_on: tuple[str, ...] | None = None  # the targets on which no bit of its results differs; None: all
    beyond_delegate: int = 0  # dimensions from which on they are those of LiteRT's own kernel, exact on every target
    parts: Callable[[Any, Node, str], None] | None = None  # writes the several operators that the op is in a file
    computed: str = ""  # the attribute that says that a constant is computed in the file, and does not stand there


BY_OP: dict[str, FileRow] = {}
BY_OPERATOR: dict[str, FileRow] = {}
FLOAT_BY_OPERATOR: dict[str, FileRow] = {}


def row(op: str, operator: str, **words: Any) -> None:
    """Say how an op stands in a file; see the module."""
    _add(FileRow(op, operator, **words), BY_OPERATOR)


def parts_row(op: str, parts: Callable[[Any, Node, str], None]) -> None:
    """Say how an op stands in a file that is several operators there; `parts(writer, node, name)` writes them."""
    BY_OP[op] = FileRow(op, "", parts=parts)


def float_row(op: str, operator: str, **words: Any) -> None:
    """Say how an op on floats stands in a file, whose operator may be one on integers too."""
    _add(FileRow(op, operator, **words), FLOAT_BY_OPERATOR)


def _add(made: FileRow, by_operator: dict[str, FileRow]) -> None:
    BY_OP[made.op] = made
    for name in (made.operator, *made.variants):
        by_operator[name] = made
