"""What a .tosa file says, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from qgraph.exporters.flat import Array, Option


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor; a constant if it has `data`, of its shape: i4 in int8, i48 in int64."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Array | None = None


@dataclass(frozen=True)
class Operator:
    """One step; `name` is the specification's ("CONV2D"), inputs and outputs are names of tensors or shapes.

    `attributes` has the fields of the operator's attribute table, enumerators by name. `location` is a text of whoever
    wrote the file.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Option] = field(default_factory=dict)
    location: str = ""


@dataclass
class Model:
    """A file of one block. `shapes`: constants of shape type, by name."""

    tensors: dict[str, Tensor]
    operators: list[Operator]
    inputs: list[str]
    outputs: list[str]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    version: tuple[int, int] = (1, 0)
