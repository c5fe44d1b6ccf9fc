"""What words on the command line mean: torch models (FILE.py:NAME or pkg.module:NAME), shapes, options."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import FileError, InputError
from qgraph.imports import import_file, in_short, require_torch
from qgraph.ir.files import read_bytes
from qgraph.ir.types import NARROWER, NUMPY_DTYPE

if TYPE_CHECKING:
    import torch


def load_model(source: str, weights: Path | None = None) -> torch.nn.Module:
    """The model that `source` names, called without arguments where it is a class or function; with weights loaded."""
    require_torch()
    import torch

    module_name, colon, name = source.rpartition(":")
    if not colon:
        raise InputError(f"{source!r} names no model", help="write FILE.py:NAME or pkg.module:NAME")
    module = _import(module_name)
    if not hasattr(module, name):
        raise InputError(f"{module_name} has no {name}")
    found = getattr(module, name)
    try:
        model = found if isinstance(found, torch.nn.Module) else found()
    except Exception as error:  # the user's own code may raise anything
        raise InputError(f"{source} cannot be called without arguments: {in_short(error)}") from error
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"{source} gives {type(model).__name__}, not a torch.nn.Module")
    if weights is not None:
        if not weights.is_file():
            raise InputError(f"{weights} cannot be read: no such file")
        try:
            model.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
        except Exception as error:  # torch raises many classes here
            raise InputError(
                f"{weights} does not fit {source}: {in_short(error)}",
                help="save it with torch.save(m.state_dict(), FILE)",
            ) from error
    return model


def _import(name: str) -> object:
    if not name.endswith(".py"):
        sys.path.insert(0, "")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise InputError(f"module {name} cannot be imported: {error}", help="give FILE.py:NAME") from None
    return import_file(Path(name))


TYPES = [name for name in NUMPY_DTYPE if name not in NARROWER]  # which torch has not


def example_inputs(text: str) -> list[torch.Tensor]:
    """Tensors of the shapes and types "1x3x32x32,1x10:i64": random floats; integers that are 0 or 1, which nearly every
    table and mask takes."""
    import torch

    examples = []
    for word in text.split(","):
        shape, colon, dtype = word.partition(":")
        if colon and dtype not in TYPES:
            raise InputError(f"{dtype!r} is not a type of inputs", help=f"choose from {', '.join(TYPES)}")
        numpy = np.dtype(NUMPY_DTYPE[dtype or "f32"])
        try:
            sizes = [int(size) for size in shape.split("x")]
            made = torch.randn(sizes) if numpy.kind == "f" else torch.randint(2, sizes)
        except (ValueError, RuntimeError):
            raise InputError(
                f"{word!r} is not a shape", help="write sizes joined by x, and a type: 1x3x32x32, 4x7:i64"
            ) from None
        examples.append(torch.from_numpy(made.numpy().astype(numpy)))
    return examples


def read_overrides(path: Path) -> dict[str, dict[str, int]]:
    """Bits by pattern of origins, of a file of JSON; raises FileError, InputError."""
    try:
        found = json.loads(read_bytes(path))
    except ValueError as error:
        raise FileError(f"{path} is no JSON: {error}", help="write it with `qgraph search -o`") from None
    rows: dict[str, Any] = found if isinstance(found, dict) else {"": None}
    if not all(isinstance(row, dict) and all(isinstance(bits, int) for bits in row.values()) for row in rows.values()):
        raise InputError(f"{path} has no overrides", help='write {"stem.*": {"bits": 4}}')
    return rows


def key_values(words: list[str]) -> dict[str, Any]:
    """Options written as NAME=VALUE, by name."""
    pairs = [word.partition("=") for word in words]
    for word, (name, equals, value) in zip(words, pairs, strict=True):
        if not (name and equals and value):
            raise InputError(f"{word!r} is not an option", help="write NAME=VALUE")
    return {name: value for name, _, value in pairs}
