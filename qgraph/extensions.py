"""What installed packages add by entry points: passes, targets, readers, runtimes.

[project.entry-points."qgraph.readers"]
safetensors = "their_package.files:READER"
"""

from __future__ import annotations

import functools
import importlib.metadata

from qgraph.errors import InputError

PASSES, TARGETS, READERS, RUNTIMES = "qgraph.passes", "qgraph.targets", "qgraph.readers", "qgraph.runtimes"
"""Groups, and what their entry points load: a module that defines passes, a `Target`, a `Reader` (`qgraph.frontends`),
a `Program` (`qgraph.runtimes`). The name of a target or program is that of its entry point."""


@functools.cache
def installed(group: str) -> dict[str, object]:
    """name -> what an entry point of the group loads; raises InputError naming the package that cannot be imported."""
    found: dict[str, object] = {}
    for entry in importlib.metadata.entry_points(group=group):
        try:
            found[entry.name] = entry.load()
        except Exception as error:  # noqa: PERF203  the package's own code may raise anything
            raise InputError(
                f"{group} {entry.value} of an installed package cannot be imported: {error}",
                help=f"repair or uninstall {entry.dist.name if entry.dist else entry.name}",
            ) from error
    return found
