"""Matrix products of two computed values, and attention."""

from __future__ import annotations

import math

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count
from qgraph.ops.nn.elementwise import broadcast_shape


@op("nn.matmul")
class Matmul:
    """The matrix products of the last two dimensions of a and b; those before them broadcast."""

    a: Operand = operand("f[*A, M, K]", trained=True)
    b: Operand = operand("f[*B, K, P]", trained=True)
    result: Result = result("f[*R, M, P]")

    def infer(self) -> TensorType:
        a, b = self.a.type, self.b.type
        if a.dtype != b.dtype:
            raise TypeMismatch(f"operands of {a.dtype} and {b.dtype}: both must be of one dtype")
        return a.with_shape((*broadcast_shape(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.a.type.shape[-1:])

    def evaluate(self, a: Array, b: Array) -> Array:
        return np.asarray(np.matmul(a, b))


@op("nn.attention")
class Attention:
    """softmax(query key^T * scale + mask) value over the last two dimensions, torch's `scaled_dot_product_attention`.

    query [*B, H, L, E], key [*B, G, S, E], value [*B, G, S, D]: each of the G heads of key and value serves H / G heads
    of the query, one after the other. `mask` broadcasts to [*B, H, L, S]: floats are added, booleans say what may be
    seen; a row that sees nothing is 0. `causal`: row i sees the columns 0 to i. `scale` is 1 / sqrt(E) where it is not
    given.

    Source: Vaswani et al. 2017; Ainslie et al. 2023 for the groups.
    """

    query: Operand = operand("f[*B, H, L, E]")
    key: Operand = operand("f[*C, G, S, E]")
    value: Operand = operand("f[*C, G, S, D]")
    mask: Operand | None = operand("any[...]", optional=True, role="mask")
    result: Result = result("f[*B, H, L, D]")
    causal: bool = attr(False)
    scale: float | None = attr(None)

    def infer(self) -> TensorType:
        query, key, value = self.query.type, self.key.type, self.value.type
        heads, groups = query.shape[-3], key.shape[-3]
        if broadcast_shape(query.shape[:-3], key.shape[:-3]) != query.shape[:-3]:
            raise TypeMismatch(f"nn.attention: {query} and {key} differ before the heads")
        if heads != groups and not (isinstance(heads, int) and isinstance(groups, int) and heads % groups == 0):
            raise TypeMismatch(f"nn.attention: {heads} heads cannot share {groups} heads of keys and values")
        if self.mask is not None:
            scores = (*query.shape[:-1], key.shape[-2])
            if broadcast_shape(self.mask.type.shape, scores) != scores or not self._fits(self.mask.type):
                raise TypeMismatch(f"nn.attention: the mask {self.mask.type} does not fit scores of {list(scores)}")
        return query.with_shape((*query.shape[:-1], value.shape[-1]))

    def _fits(self, mask: TensorType) -> bool:
        return mask.dtype in ("bool", self.query.type.dtype)

    def macs(self) -> int:
        query = self.query.type.shape
        columns, depths = self.key.type.shape[-2], (query[-1], self.value.type.shape[-1])
        return element_count((*query[:-1], columns)) * sum(element_count((depth,)) for depth in depths)

    def evaluate(self, query: Array, key: Array, value: Array, mask: Array | None) -> Array:
        times = query.shape[-3] // key.shape[-3]
        key, value = np.repeat(key, times, axis=-3), np.repeat(value, times, axis=-3)
        scale = 1 / math.sqrt(query.shape[-1]) if self.scale is None else self.scale
        scores = np.matmul(query, np.swapaxes(key, -1, -2)) * query.dtype.type(scale)
        if self.causal:
            scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
        if mask is not None:
            scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
        return np.asarray(np.matmul(_softmax(scores), value))


def _softmax(scores: Array) -> Array:
    """Over the last dimension; 0 in a row of -inf."""
    largest = scores.max(axis=-1, keepdims=True)
    powers = np.exp(scores - np.where(np.isneginf(largest), 0, largest))
    total = powers.sum(axis=-1, keepdims=True)
    return np.asarray(powers / np.where(total == 0, 1, total)).astype(scores.dtype)
