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
        return Origin(path, os.path.basename(frames[-1][0]), frames[-1][1])
    return Origin(path) if path else None
