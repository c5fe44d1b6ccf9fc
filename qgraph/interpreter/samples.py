"""Inputs to compare on: random ones, and the extremes that random ones do not meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qgraph.errors import InputError
from qgraph.interpreter.inputs import split_batches
from qgraph.ir import Array, Graph, Node, TensorType, Value, op_def
from qgraph.ir.types import Dim, dim_factors

EXTREMES, FLOAT_EXTREMES = 5, 3
"""How many extreme examples follow the random ones: integers, and floats whose range nothing tells."""
FLOAT_RANGES = (4.0, 1.0, 0.25)
"""Random floats are normal with these standard deviations, in turn, where nothing tells the range: saturating functions
hide what large ones do."""


def sample_inputs(graph: Graph, samples: int, seed: int = 0, symbol_size: int = 1) -> dict[str, Array]:
    """`samples` random examples and at most five extreme ones, by input name, batch first; as many for every input.

    Integers: uniform over the dtype; then all lowest, all highest, the zero point, one-hot highest and one-hot lowest.
    Floats: what those integers stand for where a quantize op reads the input, else normal ones, zeros and large ones.
    Booleans, ids and counts, which have no scale: from 0 to what every op that reads them takes.
    Where the batch is fixed there is one batch for each group of examples: the first dimension is a multiple of it.
    The first symbol that a first dimension has is the number of examples; every other one is `symbol_size`.
    """
    if samples < 0:
        raise InputError(f"{samples} random samples are not possible", help="give 0 or more")
    rng = np.random.default_rng(seed)
    types = [_integer_type(graph, i) for i in range(len(graph.inputs))]
    extremes = (FLOAT_EXTREMES if type.quant is None and type.is_float else EXTREMES for type in types)
    count = samples + max(extremes, default=0)
    sizes = _Sizes(_batch_symbol(graph), count, symbol_size)
    made = {
        value.name: _samples(integer, value.type, sizes.of(value.type.shape[1:]), samples, rng)
        if integer.quant is not None or integer.is_float
        else _small_integers(value, sizes, count, seed + index)
        for index, (value, integer) in enumerate(zip(graph.inputs, types, strict=True))
    }
    batches = [value.type.shape[0] if value.type.shape else 1 for value in graph.inputs]
    runs = [-(-len(made[v.name]) // b) for v, b in zip(graph.inputs, batches, strict=True) if isinstance(b, int) and b]
    return {
        value.name: _repeated(
            made[value.name], max(runs, default=0) * batch if isinstance(batch, int) else sizes.of((batch,))[0]
        )
        for value, batch in zip(graph.inputs, batches, strict=True)
    }


def sample_batches(graph: Graph, samples: int, symbol_size: int = 1) -> list[dict[str, Array]]:
    """The inputs of `sample_inputs`, for each run: whole batches where every input says how many examples it takes."""
    made = sample_inputs(graph, samples, symbol_size=symbol_size)
    sizes = [value.type.shape[0] if value.type.shape else "" for value in graph.inputs]
    return split_batches(graph, made) if sizes and all(isinstance(size, int) for size in sizes) else [made]


@dataclass(frozen=True)
class _Sizes:
    """One size for each symbol of a graph's inputs."""

    batch: str
    examples: int
    others: int

    def of(self, dims: Sequence[Dim]) -> tuple[int, ...]:
        """The sizes of dimensions."""
        factors = [dim_factors(dim) for dim in dims]
        return tuple(
            factor * math.prod(self.examples if symbol == self.batch else self.others for symbol in symbols)
            for factor, symbols in factors
        )


def _batch_symbol(graph: Graph) -> str:
    """The symbol of the batch; "" where every batch is fixed."""
    firsts = (dim_factors(value.type.shape[0])[1] for value in graph.inputs if value.type.shape)
    return next((symbols[0] for symbols in firsts if symbols), "")


def _small_integers(value: Value, sizes: _Sizes, count: int, seed: int) -> Array:
    """Examples of an input without a scale: no lower than 0, and below `_limit`; both ends are in each of them.

    So no mask hides all, or nothing: a softmax of nothing has no meaning that passes could keep.
    """
    limit = _limit(value, sizes)
    made = np.random.default_rng(seed).integers(0, limit, (count, *sizes.of(value.type.shape[1:])))
    if made.shape[-1] > 1:
        made[..., 0], made[..., -1] = 0, limit - 1
    return made.astype(value.type.numpy)


def _limit(value: Value, sizes: _Sizes) -> int:
    """What the integers of a value must be below: 2, or the smallest size of all that they are indices into.

    Where they become indices by way of other integers, only 0 is sure to be one.
    """
    if _becomes_indices(value):
        return 1
    indexed = [other for user in value.users if value in _indices(user) for other in user.inputs]
    dims = [dim for other in indexed if other is not value for dim in other.type.shape]
    return max(1, min(sizes.of(dims))) if dims else 2


def _becomes_indices(value: Value) -> bool:
    """Whether integers that are computed from the value are indices."""
    waiting, seen = [value], {value}
    while waiting:
        for result in (result for user in waiting.pop().users for result in user.results):
            if result in seen or result.type.is_float or result.type.quant is not None:
                continue
            if any(result in _indices(user) for user in result.users):
                return True
            seen.add(result)
            waiting.append(result)
    return False


def _indices(node: Node) -> list[Value]:
    """The operands that a node takes as indices."""
    spec_of = op_def(node.op).spec_of
    return [v for i, v in enumerate(node.operands) if v is not None and spec_of(i).role == "indices"]


def _repeated(examples: Array, count: int) -> Array:
    """`count` examples: the first of them again at the end where more are asked for."""
    return np.asarray(examples[np.arange(count) % len(examples)])


def _integer_type(graph: Graph, index: int) -> TensorType:
    """The input's own type, or that of the quantize op that reads a float input."""
    value = graph.inputs[index]
    if value.type.is_float:
        for user in value.users:
            if user.results[0].type.quant is not None:
                return user.results[0].type
    return value.type


def _samples(
    integer: TensorType, type: TensorType, shape: tuple[int, ...], samples: int, rng: np.random.Generator
) -> Array:
    if integer.quant is None:
        spread = np.resize(FLOAT_RANGES, samples).reshape(-1, *(1,) * len(shape))
        random = rng.normal(0, 1, (samples, *shape)) * spread
        random = np.where(rng.random(random.shape) < 0.25, np.rint(random), random)  # on the corners of activations
        extremes = np.stack([np.zeros(shape), np.full(shape, 1e3), np.full(shape, -1e3)])
        return np.concatenate([random, extremes]).astype(type.numpy)
    bounds = np.iinfo(integer.numpy)
    zero_point = int(integer.quant.zero_points[0])
    codes = rng.integers(bounds.min, bounds.max, (samples, *shape), dtype=integer.numpy, endpoint=True)
    levels = [np.full(shape, level, integer.numpy) for level in (bounds.min, bounds.max, zero_point)]
    codes = np.concatenate(
        [codes, np.stack([*levels, *_one_hot(levels[2], bounds.max), *_one_hot(levels[2], bounds.min)])]
    )
    if type.quant is not None:
        return codes
    scale = integer.quant.scales[0]
    real = (codes.astype(np.float32) - np.float32(zero_point)) * scale
    real[: samples // 2] += rng.uniform(-0.75, 0.75, real[: samples // 2].shape).astype(np.float32) * scale
    return np.asarray(real)


def _one_hot(background: Array, level: int) -> list[Array]:
    spike = background.copy()
    spike.reshape(-1)[spike.size // 2] = level
    return [spike]
