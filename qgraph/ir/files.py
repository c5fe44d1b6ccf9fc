"""Files that are written whole or not at all."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qgraph.errors import FileError
from qgraph.ir.types import Array


def is_writer() -> bool:
    """Whether this process writes files: of a group of `torch.distributed` that is initialized the first one alone."""
    distributed = sys.modules.get("torch.distributed")  # where it was never imported there is no group
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return True
    return bool(distributed.get_rank() == 0)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` under a temporary name beside `path`, then rename; raises FileError and leaves nothing behind.

    Of several processes that were started together (`is_writer`) one alone writes; the others do nothing.
    """
    write_together({Path(path): data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """`write_atomically` for files that belong together: none is there before all are written."""
    if not is_writer():
        return
    temporaries: dict[Path, str] = {}
    try:
        for target, data in files.items():
            if target.is_dir():
                raise IsADirectoryError(0, "it is a folder")
            descriptor, temporaries[target] = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(temporaries[target], 0o666 & ~_umask())
        for target, temporary in temporaries.items():
            os.replace(temporary, target)
    except OSError as error:
        for temporary in temporaries.values():
            Path(temporary).unlink(missing_ok=True)
        raise FileError(f"{target} cannot be written: {error.strerror or error}", help="choose another path") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file; raises FileError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}", help="check the path") from None


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name, whole or not at all; raises FileError."""
    if path.suffix != ".npz":
        raise FileError(f"{path}: arrays are written as .npz", help="give a path that ends in .npz")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    write_atomically(path, buffer.getvalue())
