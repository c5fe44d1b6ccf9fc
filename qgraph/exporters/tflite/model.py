"""What a .tflite file says, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qgraph.exporters.flat import Array, Option
from qgraph.exporters.tflite.storage import PACKED_BITS, unpack


def _same(a: Array | None, b: Array | None) -> bool:
    """Equal dtype, shape and bytes (so NaN equals NaN, and -0.0 is not 0.0)."""
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale * (integer - zero_point), per tensor (one element) or along `axis` (one element per index).

    `details` names another scheme ("BlockwiseQuantization", ...) that the file gives in place of scale and zero_point;
    its parameters are not read, and such a tensor cannot be written.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int = 0
    details: str = ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantization):
            return NotImplemented
        same_arrays = _same(self.scale, other.scale) and _same(self.zero_point, other.zero_point)
        return same_arrays and (self.axis, self.details) == (other.axis, other.details)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a subgraph; a constant if it has `data`.

    `data` has the tensor's shape and the NumPy type of its dtype; a view of the file, read-only, when it was read. Of
    packed dtypes (i4, u4, i2), strings, resources and variants it is the stored bytes, u8 [n]; `values()` unpacks.
    `shape_signature` is the shape with -1 for the dimensions that may change, None if none may.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Array | None = None
    quantization: Quantization | None = None
    shape_signature: tuple[int, ...] | None = None
    is_variable: bool = False
    has_rank: bool = False

    def values(self) -> Array | None:
        """The constant with one element per array element (i8 or u8 for packed dtypes), in the tensor's shape."""
        if self.data is not None and self.dtype in PACKED_BITS:
            return unpack(self.data, self.dtype, self.shape)
        return self.data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        return _same(self.data, other.data) and self._described() == other._described()

    def _described(self) -> tuple[object, ...]:
        return (
            *(self.name, self.dtype, self.shape, self.quantization),
            *(self.shape_signature, self.is_variable, self.has_rank),
        )


@dataclass(frozen=True)
class Operator:
    """One step of a subgraph.

    `name` is the schema's ("CONV_2D"), or "CUSTOM:" and the custom operator's name. `inputs`, `outputs` and
    `intermediates` are indices into the subgraph's tensors; -1 is an optional input that is not given. `options` has
    the fields of the operator's options table, enumerators by name; what is left out takes the schema's default.
    `version` 0 asks the writer for the lowest one that admits the operator's types. `options_omitted`: the file has no
    options table where the operator has one (LiteRT then takes zeros, not the schema's defaults); `options` is empty.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Option] = field(default_factory=dict)
    version: int = 0
    intermediates: tuple[int, ...] = ()
    mutating_variable_inputs: tuple[bool, ...] = ()
    custom_options: bytes = b""
    options_omitted: bool = False


@dataclass
class SubGraph:
    """Tensors, and the operators over them in the order of execution; inputs and outputs are tensor indices."""

    tensors: list[Tensor]
    operators: list[Operator]
    inputs: list[int]
    outputs: list[int]
    name: str = ""


@dataclass(frozen=True)
class Signature:
    """Names for the inputs and outputs of a subgraph: name -> tensor index."""

    inputs: dict[str, int]
    outputs: dict[str, int]
    key: str = "serving_default"
    subgraph: int = 0


@dataclass
class Model:
    """A whole file. The first subgraph is the one that runs. Constants and metadata stand where they are used."""

    subgraphs: list[SubGraph]
    description: str = ""
    metadata: dict[str, bytes] = field(default_factory=dict)
    signatures: list[Signature] = field(default_factory=list)
    version: int = 3
