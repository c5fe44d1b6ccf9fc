"""Inputs to compare on: random ones, and the extremes that random ones do not meet."""

from __future__ import annotations

import numpy as np

from qgraph.errors import InputError
from qgraph.ir import Array, Graph, TensorType
from qgraph.ir.types import dim_factors

EXTREMES = 5
"""How many extreme examples follow the random ones."""
FLOAT_RANGES = (4.0, 1.0, 0.25)
"""Random floats are normal with these standard deviations, in turn, where nothing tells the range: saturating functions
hide what large ones do."""


def sample_inputs(graph: Graph, samples: int, seed: int = 0, symbol_size: int = 1) -> dict[str, Array]:
    """`samples` random examples and five extreme ones, by input name, batch first.

    Integers: uniform over the dtype; then all lowest, all highest, the zero point, one-hot highest and one-hot lowest.
    Floats: what those integers stand for where a quantize op reads the input, else normal ones, zeros and large ones.
    Where the batch is fixed there is one batch for each group of examples: the first dimension is a multiple of it.
    A symbolic dimension other than the first has the size `symbol_size`.
    """
    if samples < 0:
        raise InputError(f"{samples} random samples are not possible", help="give 0 or more")
    rng = np.random.default_rng(seed)
    made = {
        value.name: _samples(_integer_type(graph, i), value.type, _sizes(value.type, symbol_size), samples, rng)
        for i, value in enumerate(graph.inputs)
    }
    batches = [value.type.shape[0] if value.type.shape else 1 for value in graph.inputs]
    runs = [-(-len(made[v.name]) // b) for v, b in zip(graph.inputs, batches, strict=True) if isinstance(b, int) and b]
    return {
        value.name: _repeated(made[value.name], max(runs, default=0) * batch)
        if isinstance(batch, int)
        else made[value.name]
        for value, batch in zip(graph.inputs, batches, strict=True)
    }


def _sizes(type: TensorType, symbol_size: int) -> tuple[int, ...]:
    """The shape of one example, with a size for each symbolic dimension."""
    factors = [dim_factors(dim) for dim in type.shape[1:]]
    return tuple(factor * symbol_size ** len(symbols) for factor, symbols in factors)


def _repeated(examples: Array, count: int) -> Array:
    """`count` examples: the first of them again at the end where a fixed batch size asks for more."""
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
    if integer.quant is None and not integer.is_float:
        return np.zeros((samples + EXTREMES, *shape), integer.numpy)  # indices or sizes: 0 is the one that always is
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
