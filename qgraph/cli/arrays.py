"""Arrays in `.npz` files, by input name."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from qgraph.errors import FileError, InputError
from qgraph.ir import Array
from qgraph.ir.files import read_bytes


def read_npz(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """The arrays of these names; where one is wanted and one is there, whatever its name. Raises FileError,
    InputError."""
    arrays = read_all(path)
    if len(names) == 1 and len(arrays) == 1:
        return {names[0]: next(iter(arrays.values()))}
    if len(names) == 1 and names[0] not in arrays and "images" in arrays:
        return {names[0]: arrays["images"]}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(f"{path} has no array {', '.join(missing)}", help=f"it has {', '.join(arrays) or 'no arrays'}")
    return {name: arrays[name] for name in names}


def read_all(path: Path) -> dict[str, Array]:
    """All arrays of a file, by name; raises FileError."""
    data = read_bytes(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        what = "it is an .npy file" if data.startswith(b"\x93NUMPY") else str(error)
        raise FileError(f"{path} is not an .npz file: {what}", help="write it with numpy.savez") from None


def batches(arrays: Mapping[str, Array], size: int) -> Iterator[dict[str, Array]]:
    """The examples of named arrays in batches."""
    if size < 1:
        raise InputError(f"a batch of {size} examples is not one", help="give a positive number")
    counts = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    count = next(iter(counts.values()))
    if len({*counts.values()}) > 1:
        raise InputError(
            "inputs have different numbers of examples: " + ", ".join(f"%{name} {n}" for name, n in counts.items()),
            help="give as many of each",
        )
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in arrays.items()}
