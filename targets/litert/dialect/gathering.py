"""Elements by their index: GATHER, EMBEDDING_LOOKUP. The raw integers, on every family."""

from __future__ import annotations

import numpy as np

from qgraph.errors import InputError, TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.litert.dialect.slicing import ANY
from qgraph.targets.litert.rows import row


@op("litert.gather", moves_data=True)
class Gather:
    """GATHER: x's parts along `axis` at the places `indices`; the first `batch_dims` dimensions of both go together."""

    x: Operand = operand(ANY)
    indices: Operand = operand("i32|i64|i16[...]", role="indices")
    result: Result = result(ANY, free=True)
    axis: int = attr(0)
    batch_dims: int = attr(0)

    def infer(self) -> TensorType:
        x, indices = self.x.type.shape, self.indices.type.shape
        axis, batch = self.places()
        if not 0 <= batch <= min(axis, len(indices)) or axis >= len(x) or x[:batch] != indices[:batch]:
            raise TypeMismatch(f"axis {self.axis} and batch_dims {self.batch_dims} do not fit {self.x.type}")
        return self.x.type.with_shape((*x[:axis], *indices[batch:], *x[axis + 1 :]))

    def places(self) -> tuple[int, int]:
        """`axis` and `batch_dims`, counted from the front."""
        rank, index_rank = self.x.type.rank, self.indices.type.rank
        batch = self.batch_dims + index_rank if self.batch_dims < 0 else self.batch_dims
        return (self.axis + rank if self.axis < 0 else self.axis), batch

    def evaluate(self, x: Array, indices: Array) -> Array:
        axis, batch = self.places()
        check_indices(indices, x.shape[axis])
        if batch == 0:
            return np.take(x, indices, axis=axis)
        lead = x.shape[:batch]
        parts = [np.take(x[place], indices[place], axis=axis - batch) for place in np.ndindex(lead)]
        return np.reshape(parts, (*lead, *parts[0].shape))


def check_indices(indices: Array, size: int) -> None:
    """Raise InputError for indices that are none of an axis of that size."""
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise InputError(f"indices from {indices.min()} to {indices.max()} do not lie in 0 .. {size - 1}")


row("litert.gather", "GATHER", options={"axis": "axis", "batch_dims": "batch_dims"})


@op("litert.embedding_lookup", moves_data=True)
class EmbeddingLookup:
    """EMBEDDING_LOOKUP: the rows `ids` of a table of the result's type."""

    ids: Operand = operand("i32[N]", role="indices")
    table: Operand = operand("i8|u8|i16|f32[V, *E]", role="weight")
    result: Result = result("i8|u8|i16|f32[N, *E]", free=True)

    def infer(self) -> TensorType:
        return self.table.type.with_shape((*self.ids.type.shape, *self.table.type.shape[1:]))

    def check(self) -> None:
        if self.table.type.dtype != self.result.type.dtype:
            raise TypeMismatch(f"a table {self.table.type} for a result {self.result.type} would be dequantized")

    def evaluate(self, ids: Array, table: Array) -> Array:
        check_indices(ids, table.shape[0])
        return table[ids]


row("litert.embedding_lookup", "EMBEDDING_LOOKUP")
