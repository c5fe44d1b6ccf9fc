"""From what a user has (arrays, by name or in order, floats, NCHW) to what a graph takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from qgraph.errors import InputError
from qgraph.interpreter.execute import execute
from qgraph.ir import Array, Builder, Graph, QuantParams, TensorType, Value, data_inputs, states_of

Layout = Literal["NCHW", "NHWC"]
Inputs = Array | Sequence[Array] | Mapping[str, Array]


def quantize_inputs(graph: Graph, inputs: Inputs, *, layout: Layout | None = None) -> dict[str, Array]:
    """The arrays that the graph, and the file exported from it, take, by input name.

    A float array for an integer input is quantized as the target's own quantize op does it; an NCHW array for an NHWC
    input is transposed where its shape fits only NCHW (`layout` decides where both fit). Integer arrays are not
    touched. What takes a state and is not given has its first value. Raises InputError for a wrong name, count, shape,
    dtype or a NaN.
    """
    return prepare_inputs(graph, by_name(graph, inputs), layout)


def by_name(graph: Graph, inputs: Inputs) -> dict[str, Array]:
    """Inputs given as one array, in order, or by name, as a dictionary; raises InputError for a wrong name or count.

    Those that take a state may all be left out; by name some of them may be.
    """
    names = [value.name for value in graph.inputs]
    needed = [value.name for value in data_inputs(graph)]
    if isinstance(inputs, Mapping):
        if len(needed) == 1 and len(inputs) == 1:
            return {needed[0]: _array(next(iter(inputs.values())))}
        if not set(needed) <= set(inputs) <= set(names):
            raise InputError(f"inputs are named {', '.join(inputs)}", help=f"the graph's inputs: {', '.join(names)}")
        return {name: _array(inputs[name]) for name in names if name in inputs}
    arrays = [inputs] if hasattr(inputs, "shape") else list(inputs)
    names = needed if len(arrays) == len(needed) else names
    if len(arrays) != len(names):
        raise InputError(f"{len(arrays)} arrays are given, the graph has {len(names)} inputs: {', '.join(names)}")
    return {name: _array(array) for name, array in zip(names, arrays, strict=True)}


def _array(data: object) -> Array:
    """As an array; a torch tensor may be one that wants gradients."""
    return np.asarray(data.detach() if hasattr(data, "detach") else data)


def prepare_inputs(
    graph: Graph, inputs: Mapping[str, Array], layout: Layout | None = None, stored: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Inputs by name in the layout, dtype and integers that the graph takes.

    `stored`: states, as a step gave them. States that are in neither have their first values.
    """
    if layout not in (None, "NCHW", "NHWC"):
        raise InputError(f"layout {layout!r} is not a choice", help="choose NCHW or NHWC")
    prepared = {
        v.name: _prepare(graph, v, np.asarray(inputs[v.name]), layout) for v in graph.inputs if v.name in inputs
    }
    prepared |= {name: array for name, array in (stored or {}).items() if name not in prepared}
    sizes = sizes_of(graph.inputs, prepared)
    first = [state for state in states_of(graph) if state.input.name not in prepared]
    return prepared | {state.input.name: state.first_value(sizes) for state in first}


def sizes_of(values: Iterable[Value], arrays: Mapping[str, Array]) -> dict[str, int]:
    """The size that each symbol has in the arrays; raises InputError where one has two."""
    sizes: dict[str, tuple[int, str]] = {}
    for value in values:
        for dim, size in zip(value.type.shape, arrays[value.name].shape if value.name in arrays else (), strict=False):
            if isinstance(dim, str):
                known, owner = sizes.setdefault(dim, (size, value.name))
                if known != size:
                    raise InputError(f"dimension {dim} is {known} in input %{owner}, {size} in %{value.name}")
    return {dim: size for dim, (size, _) in sizes.items()}


def split_batches(graph: Graph, arrays: dict[str, Array]) -> list[dict[str, Array]]:
    """One run with everything where the batch is symbolic, else one for each batch of the fixed size."""
    fixed = {v.name: v.type.shape[0] if v.type.shape else 1 for v in graph.inputs if v.name in arrays}
    if not isinstance(next(iter(fixed.values())), int):
        return [arrays]
    sizes = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    batches = [int(dim) for dim in fixed.values() if not isinstance(dim, str)]
    if 0 in batches:
        raise InputError("the graph takes batches of 0 examples: there is none to run it on")
    counts = {size // batch for size, batch in zip(sizes.values(), batches, strict=False)}
    if len(counts) > 1 or any(size % batch for size, batch in zip(sizes.values(), batches, strict=False)):
        raise InputError(
            f"{_listed(sizes.values())} examples are no whole batches of {_listed(batches)}",
            help="give a multiple of the batch size, or trace with dynamic_batch=True",
        )
    return [
        {
            name: array[run * batch : (run + 1) * batch]
            for (name, array), batch in zip(arrays.items(), batches, strict=True)
        }
        for run in range(counts.pop())
    ]


def _listed(numbers: Iterable[int]) -> str:
    return " and ".join(map(str, sorted(set(numbers))))


INDICES = ("i32", "i64")
"""Storage of indices, which one may give in the other."""


def _as_indices(array: Array, type: TensorType) -> Array:
    """Indices in the type that the graph has, where they fit into it."""
    made = array.astype(type.numpy)
    return made if array.dtype.name in ("int32", "int64") and np.array_equal(made, array) else array


def _prepare(graph: Graph, value: Value, array: Array, layout: Layout | None) -> Array:
    type = value.type
    integer_given = array.dtype.kind in "iub"
    if not integer_given and array.dtype.kind != "f":
        raise InputError(
            f"input %{value.name} is not numeric: an array of {array.dtype}", help=f"give {type.dtype} or floats"
        )
    if integer_given and type.quant is None and type.dtype in INDICES:
        array = _as_indices(array, type)
    if integer_given and array.dtype != type.numpy:
        raise InputError(
            f"input %{value.name} is {array.dtype}, the graph takes {type.dtype}",
            help="give floats, which are converted, or integers of exactly that type",
        )
    if not integer_given and np.isnan(array).any():
        why = "what is computed from it is NaN too" if graph.level == "float" else "no integer stands for NaN"
        raise InputError(f"input %{value.name} contains NaN", help=f"{why}: clean the data")
    if not integer_given and graph.layout == "NHWC" and array.ndim == 4:
        array = _to_nhwc(value, array, layout)
    _check_shape(value, array)
    if type.is_float:
        return array.astype(np.float64 if array.dtype == np.float64 and type.dtype == "f64" else type.numpy, copy=False)
    return array if integer_given else as_integers(graph, type, array)


def _to_nhwc(value: Value, array: Array, layout: Layout | None) -> Array:
    """An NCHW array as NHWC; one that is NHWC already as it is."""
    fits_nhwc = _fits(value.type.shape, array.shape)
    fits_nchw = _fits(value.type.shape, tuple(array.shape[i] for i in (0, 2, 3, 1)))
    if fits_nhwc and fits_nchw and layout is None:
        raise InputError(
            f"input %{value.name} of shape {list(array.shape)} may be NCHW or NHWC",
            help='say layout="NCHW" or layout="NHWC"',
        )
    nchw = fits_nchw if layout is None or not (fits_nhwc and fits_nchw) else layout == "NCHW"
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if nchw and (not fits_nhwc or layout == "NCHW") else array


def _fits(shape: tuple[int | str, ...], sizes: tuple[int, ...]) -> bool:
    return len(shape) == len(sizes) and all(isinstance(d, str) or d == s for d, s in zip(shape, sizes, strict=True))


def _check_shape(value: Value, array: Array) -> None:
    if not _fits(value.type.shape, array.shape):
        expected = f"[{', '.join(map(str, value.type.shape))}]"
        raise InputError(f"input %{value.name} has shape {list(array.shape)}, the graph takes {expected}")


def as_integers(graph: Graph, type: TensorType, array: Array) -> Array:
    """Floats as the integers of a type, by the quantize op of the graph's target, as its runtime computes it.

    Raises InputError for a type without a scale, UnsupportedOp for one that the op does not give.
    """
    if type.quant is None:
        raise InputError(f"floats cannot be converted to {type}, which has no scale")
    words = tuple((word, text) for word, text in graph.metadata.items() if word in ("target", "description", "release"))
    converting = _converting(words, array.ndim, type.dtype, type.quant)
    return execute(converting, {"x": array.astype(np.float32, copy=False)})[0]


@lru_cache(maxsize=256)
def _converting(words: tuple[tuple[str, str], ...], rank: int, dtype: str, quant: QuantParams) -> Graph:
    """A graph of the quantize op alone of the target that these words of the metadata say."""
    from qgraph import targets

    converting = Graph("input", "integer", dict(words))
    x = converting.add_input("x", TensorType(tuple(f"D{axis}" for axis in range(rank))))
    made = Builder(converting).node(targets.of(converting).quantize_op, [x], {}, element=(dtype, quant)).result
    converting.set_outputs([made])
    return converting
