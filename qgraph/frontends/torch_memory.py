"""What traced values share memory, so that a write to one is seen by all of them: in-place ops on views and aliases.

Every traced tensor is an `Alias` of some `Storage`: its root, or a view of another alias. A write to an alias makes
new values up to the root; the other aliases are made anew from there when they are read next. Who read before the
write keeps the value that it read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qgraph.errors import InputError, TypeMismatch
from qgraph.frontends.torch_views import View
from qgraph.ir import Builder, Origin, Value

if TYPE_CHECKING:
    import torch


class StateChanged(InputError):
    """A model that changes its own parameters or buffers."""


@dataclass(eq=False)
class Storage:
    """Memory that aliases share: of a parameter or buffer (`stored`, its name), known while tracing, or computed."""

    stored: str = ""
    known: bool = False
    version: int = 0  # how often it was written to


@dataclass(eq=False)
class Alias:
    """One traced tensor: the node that made it, and how it is read from its parent (None for a root)."""

    node: Any
    origin: Origin
    storage: Storage = field(default_factory=Storage)
    parent: Alias | None = None
    view: View | None = None  # None with a parent: nobody knows how it is read from there
    value: Value | None = None
    tensor: torch.Tensor | None = None  # where the storage is known
    version: int = 0  # of the storage, when `value` was made


class Memory:
    """Reads and writes aliases; `constant` gives the value of an alias that is known."""

    def __init__(self, build: Builder, constant: Callable[[Alias], Value]) -> None:
        self._build = build
        self._constant = constant

    def read(self, alias: Alias) -> Value:
        """The alias's present value."""
        if alias.storage.known and alias.tensor is not None:
            return self._constant(alias)
        if alias.value is not None and alias.version == alias.storage.version:
            return alias.value
        if alias.parent is None or alias.view is None:
            raise TypeMismatch(f"the value of {alias.node.target} is read after a write to its memory")
        source = self.read(alias.parent)
        before, self._build.origins = self._build.origins, (alias.origin,)
        alias.value, alias.version = alias.view.read(self._build, source), alias.storage.version
        self._build.origins = before
        return alias.value

    def write(self, alias: Alias, new: Value) -> None:
        """Let the alias, and what shares its memory, become `new`; raises StateChanged for a parameter or buffer."""
        self.check_writable(alias)
        if new.type != self.read(alias).type:
            raise TypeMismatch(f"a write of {new.type} to a value of {self.read(alias).type} is not supported")
        changed = [(alias, new)]
        while alias.parent is not None:
            if alias.view is None:
                raise TypeMismatch(f"a write to the result of {alias.node.target} cannot be followed")
            new = alias.view.written(self._build, self.read(alias.parent), new)
            alias = alias.parent
            changed.append((alias, new))
        alias.storage.known = False
        alias.storage.version += 1
        for one, value in changed:
            one.value, one.version = value, alias.storage.version

    def check_writable(self, alias: Alias) -> None:
        """Raise StateChanged for an alias of a parameter or buffer."""
        if alias.storage.stored:
            raise StateChanged(
                f"the model changes {alias.storage.stored!r} in its forward pass",
                where=tuple(f"origin  {origin.readable}" for origin in self._build.origins if origin.readable),
                help="take the old value as an argument, return the new one: trace(states={'h': 'h_next'})",
            )
