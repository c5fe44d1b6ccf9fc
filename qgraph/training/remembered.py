"""What a module knows beside its parameters and buffers, in its `state_dict`: so training that is resumed gives the
same bits as training that was not interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class Remembering(nn.Module):
    """A module with `flags`, of which those that are set stand in its `state_dict`, as tensors.

    Loading sets the flags that are there, and leaves the others; so the `state_dict` of a module that has seen and set
    nothing has the names of the graph's constants alone, and is what loads into any.
    """

    flags: ClassVar[tuple[str, ...]] = ()
    others: ClassVar[tuple[str, ...]] = ()  # names of what `remembered` gives beside flags

    def remembered(self) -> Mapping[str, Tensor]:
        """What stands in the `state_dict` beside parameters and buffers, by name."""
        return {name: torch.tensor(True) for name in self.flags if getattr(self, name)}

    def remember(self, given: Mapping[str, Tensor]) -> None:
        """Go on from what `remembered` gave."""
        for name in self.flags:
            if name in given:
                setattr(self, name, bool(given[name]))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, value in self.remembered().items():
            destination[prefix + name] = value if keep_vars else value.detach()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        names = [*self.flags, *self.others]
        self.remember({name: state_dict.pop(prefix + name) for name in names if prefix + name in state_dict})
        super()._load_from_state_dict(state_dict, prefix, *args)
