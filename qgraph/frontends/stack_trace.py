"""Origins from the stack traces that torch keeps with the nodes of an exported program."""

from __future__ import annotations

import os
import re

from qgraph.ir import Origin

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in')


def traced_origin(path: str, trace: str) -> Origin | None:
    """The module path, with the innermost line of the trace that is not torch's own; None where both are absent."""
    frames = [(file, int(line)) for file, line in _FRAME.findall(trace) if f"{os.sep}torch{os.sep}" not in file]
    if frames:
        return Origin(path, short_path(frames[-1][0]), frames[-1][1])
    return Origin(path) if path else None


def short_path(file: str) -> str:
    """A file with its folder, which tells `models/net.py` from `layers/net.py`; in the present one by its name."""
    folder, name = os.path.split(os.path.abspath(file))
    return name if folder == os.getcwd() else f"{os.path.basename(folder)}/{name}".lstrip("/")
