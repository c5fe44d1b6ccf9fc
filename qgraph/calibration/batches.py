"""Batches of input data, as calibration takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from qgraph.errors import InputError
from qgraph.interpreter.inputs import sizes_of
from qgraph.ir import Array, Value
from qgraph.quantizers.arrays import Numbers, library_of

if TYPE_CHECKING:
    from torch import Tensor

Data: TypeAlias = Union[NDArray[Any], "Tensor"]
Batch: TypeAlias = Union[Data, Sequence[Data], Mapping[str, Data]]  # noqa: UP007
"""An array or tensor; a sequence whose first elements are the inputs; arrays by input name."""


CHUNK = 32
"""Examples that calibration runs at once, however the user's batches are cut."""


def checked(batches: Iterable[Batch], values: Sequence[Value]) -> Iterable[Batch]:
    """The batches; raises InputError for what is one batch, or none, and not several."""
    rank = values[0].type.rank if values else 0
    alone = is_array(batches) and getattr(batches, "ndim", 0) <= rank
    if alone or isinstance(batches, Mapping):
        what = "a dictionary" if isinstance(batches, Mapping) else "one array"
        raise InputError(f"calibration takes batches, {what} is given", help="give a list of them: [examples]")
    if isinstance(batches, (str, bytes)) or not isinstance(batches, Iterable):
        raise InputError(f"calibration takes batches of arrays, not {batches!r}", help="give a list: [examples]")
    return batches


def is_array(given: object) -> bool:
    """Whether something is an array, of NumPy or of torch."""
    return hasattr(given, "ndim") and hasattr(given, "shape")


def rebatched(values: Sequence[Value], batches: Iterable[list[Numbers]]) -> Iterator[list[Numbers]]:
    """The same examples in chunks of `CHUNK`, so that no result depends on how they were split; what the graph takes
    only in batches of a fixed size stays as it is.

    Chunks depend on the sequence of examples alone: one of another shape (a longer sentence) starts a new chunk.
    """
    if not is_open(values):
        yield from batches
        return
    held: list[list[Numbers]] = []
    count = 0
    for batch in batches:
        if held and any(part.shape[1:] != tensor.shape[1:] for part, tensor in zip(held[0], batch, strict=True)):
            yield _joined(held)
            held, count = [], 0
        start = 0
        while start < len(batch[0]):
            end = min(start + CHUNK - count, len(batch[0]))
            held.append([tensor[start:end] for tensor in batch])
            count, start = count + end - start, end
            if count == CHUNK:
                yield _joined(held)
                held, count = [], 0
    if held:
        yield _joined(held)


def is_open(values: Sequence[Value]) -> bool:
    """Whether a graph with these inputs takes any number of examples at once."""
    sizes = {value.type.shape[:1] for value in values}
    return len(sizes) == 1 and any(isinstance(size, str) for size in sizes.pop())


def _joined(parts: list[list[Numbers]]) -> list[Numbers]:
    return [_in_rows(library_of(each[0]).concatenate(each)) for each in zip(*parts, strict=True)]


def _in_rows(whole: Numbers) -> Numbers:
    """The array as it lies row by row: tensors keep the layout of what they are made of."""
    return whole if isinstance(whole, np.ndarray) else whole.contiguous()


def arrays_of(values: Sequence[Value], batch: Batch, where: str) -> list[Array]:
    """A batch as arrays for the graph inputs `values`, as the graph stores them; raises InputError."""
    given = in_order([value.name for value in values], batch, where)
    arrays = [_array_of(value, item, f"{where}: %{value.name}") for value, item in zip(values, given, strict=True)]
    try:
        sizes_of(values, {value.name: array for value, array in zip(values, arrays, strict=True)})
    except InputError as error:
        raise InputError(f"{where}: {error.what}") from None
    return arrays


def _array_of(value: Value, item: Data, where: str) -> Array:
    check_numeric(value, item, where)
    data: Any = item
    if hasattr(data, "detach"):  # a tensor, maybe of a type that NumPy lacks
        data = data.detach().cpu()
        data = data.float() if value.type.is_float and data.element_size() < 4 else data
    try:
        array = np.asarray(data)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is not an array of numbers: {error}") from None
    check_numeric(value, array, where)
    stored = array.astype(value.type.numpy, copy=False)
    if not value.type.is_float and not np.array_equal(stored, array):
        raise InputError(f"{where} is {array.dtype}, the graph takes {value.type.dtype}")
    check_fitting(value, stored, where)
    return np.ascontiguousarray(stored).reshape(stored.shape)


def check_numeric(value: Value, item: object, where: str) -> None:
    """Raise InputError for an array of words or objects."""
    if isinstance(item, np.ndarray) and item.dtype.kind not in "fiub":
        raise InputError(f"{where} is not numeric: an array of {item.dtype}", help=f"give {value.type.dtype} or floats")


def check_fitting(value: Value, array: Numbers, where: str) -> None:
    """Raise InputError for an array of another shape than the value's, for an empty one and one that is not finite."""
    sizes = list(array.shape)
    shape = value.type.shape
    if len(sizes) != len(shape) or any(isinstance(d, int) and d != n for d, n in zip(shape, sizes, strict=True)):
        raise InputError(f"{where} has shape {sizes}, the graph takes [{', '.join(map(str, shape))}]")
    if 0 in sizes:
        raise InputError(f"{where} is empty")
    if not bool(library_of(array).isfinite(array).all()):
        raise InputError(f"{where} contains NaN or infinity", help="clean the data")


def in_order(names: list[str], batch: Batch, where: str) -> list[Data]:
    """The arrays of a batch for inputs of these names, in their order; raises InputError."""
    if isinstance(batch, Mapping):
        if len(names) == 1 and len(batch) == 1:
            return list(batch.values())
        if not set(names) <= set(batch):
            raise InputError(f"{where} has {', '.join(batch)}", help=f"the graph's inputs: {', '.join(names)}")
        return [batch[name] for name in names]
    given: list[Data] = [batch] if is_array(batch) else list(batch)  # type: ignore[list-item]
    if len(given) < len(names):
        raise InputError(f"{where} has {len(given)} arrays, the graph has {len(names)} inputs: {', '.join(names)}")
    return given[: len(names)]
