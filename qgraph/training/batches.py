"""Batches of input data, as calibration takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qgraph.errors import InputError
from qgraph.ir import Value

Data = Union[NDArray[Any], Tensor]  # noqa: UP007  Python 3.10 evaluates it
Batch = Union[Data, Sequence[Data], Mapping[str, Data]]  # noqa: UP007
"""An array or tensor; a sequence whose first elements are the inputs; arrays by input name."""


CHUNK = 32
"""Examples that calibration runs at once, however the user's batches are cut."""


def checked(batches: Iterable[Batch], values: Sequence[Value]) -> Iterable[Batch]:
    """The batches; raises InputError for what is one batch, or none, and not several."""
    rank = values[0].type.rank if values else 0
    alone = isinstance(batches, (np.ndarray, Tensor)) and batches.ndim <= rank
    if alone or isinstance(batches, Mapping):
        what = "a dictionary" if isinstance(batches, Mapping) else "one array"
        raise InputError(f"calibration takes batches, {what} is given", help="give a list of them: [examples]")
    if isinstance(batches, (str, bytes)) or not isinstance(batches, Iterable):
        raise InputError(f"calibration takes batches of arrays, not {batches!r}", help="give a list: [examples]")
    return batches


def rebatched(values: Sequence[Value], batches: Iterable[list[Tensor]]) -> Iterator[list[Tensor]]:
    """The same examples in chunks of `CHUNK`, so that no result depends on how they were split; what the graph takes
    only in batches of a fixed size stays as it is.

    Chunks depend on the sequence of examples alone: one of another shape (a longer sentence) starts a new chunk.
    """
    if not is_open(values):
        yield from batches
        return
    held: list[list[Tensor]] = []
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


def _joined(parts: list[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(tensors).contiguous() for tensors in zip(*parts, strict=True)]


def module_inputs(module: nn.Module, values: Sequence[Value], batch: Batch, where: str) -> list[Tensor]:
    """A batch as positional arguments for the graph inputs `values`, on the module's device; raises InputError."""
    given = _in_order([value.name for value in values], batch, where)
    device = device_of(module)
    return [_fitting(value, item, where).to(device) for value, item in zip(values, given, strict=True)]


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's tensors; the CPU where it has none."""
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def _fitting(value: Value, item: Data, where: str) -> Tensor:
    """The item as a tensor of the value's type."""
    where = f"{where}: %{value.name}"
    if isinstance(item, np.ndarray) and item.dtype.kind not in "fiub":
        raise InputError(f"{where} is not numeric: an array of {item.dtype}", help=f"give {value.type.dtype} or floats")
    try:
        tensor = torch.as_tensor(item)
    except (TypeError, ValueError, RuntimeError) as error:  # torch has one for each kind of thing that is no number
        raise InputError(f"{where} is not an array of numbers: {error}") from None
    if value.type.is_float:
        tensor = tensor.to(torch.float64 if value.type.dtype == "f64" else torch.float32)
    sizes = list(tensor.shape)
    shape = value.type.shape
    if len(sizes) != len(shape) or any(isinstance(d, int) and d != n for d, n in zip(shape, sizes, strict=True)):
        raise InputError(f"{where} has shape {sizes}, the graph takes [{', '.join(map(str, shape))}]")
    if not tensor.numel():
        raise InputError(f"{where} is empty")
    if not bool(tensor.isfinite().all()):
        raise InputError(f"{where} contains NaN or infinity", help="clean the data")
    return tensor


def _in_order(names: list[str], batch: Batch, where: str) -> list[Data]:
    if isinstance(batch, Mapping):
        if len(names) == 1 and len(batch) == 1:
            return list(batch.values())
        if not set(names) <= set(batch):
            raise InputError(f"{where} has {', '.join(batch)}", help=f"the graph's inputs: {', '.join(names)}")
        return [batch[name] for name in names]
    given = [batch] if isinstance(batch, (Tensor, np.ndarray)) else list(batch)
    if len(given) < len(names):
        raise InputError(f"{where} has {len(given)} arrays, the graph has {len(names)} inputs: {', '.join(names)}")
    return given[: len(names)]
