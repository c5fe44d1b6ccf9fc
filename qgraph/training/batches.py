"""Batches of input data as tensors, on a module's device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qgraph.calibration.batches import Batch, Data, check_fitting, check_numeric, in_order
from qgraph.errors import InputError
from qgraph.ir import Value


def module_inputs(module: nn.Module, values: Sequence[Value], batch: Batch, where: str) -> list[Tensor]:
    """A batch as positional arguments for the graph inputs `values`, on the module's device; raises InputError."""
    given = in_order([value.name for value in values], batch, where)
    device = device_of(module)
    return [_fitting(value, item, where).to(device) for value, item in zip(values, given, strict=True)]


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's tensors; the CPU where it has none."""
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def _fitting(value: Value, item: Data, where: str) -> Tensor:
    """The item as a tensor of the value's type."""
    where = f"{where}: %{value.name}"
    check_numeric(value, item, where)
    try:
        tensor = torch.as_tensor(item)
    except (TypeError, ValueError, RuntimeError) as error:  # torch has one for each kind of thing that is no number
        raise InputError(f"{where} is not an array of numbers: {error}") from None
    if value.type.is_float:
        tensor = tensor.to(torch.float64 if value.type.dtype == "f64" else torch.float32)
    check_fitting(value, tensor, where)
    return tensor
