"""Per-channel parameters on long rows.

An array [..., C] with few channels is slow to combine with parameters [C]: NumPy then loops over C elements at a time.
Seen as rows of many whole channel groups, with the parameters repeated to the same length, the same operation runs
over thousands of contiguous elements at a time, within the processor's first caches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

ROW = 16384  # elements: 128 KiB of float64


class ChannelRows:
    """Cuts contiguous arrays [..., C] of `size` elements into flat rows of whole channel groups.

    >>> rows = ChannelRows(channels=3, size=12)
    >>> [(part.start, part.stop) for part in rows], rows.repeated(np.array([1, 2, 3])).tolist()
    ([(0, 12)], [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3])
    """

    def __init__(self, channels: int, size: int) -> None:
        self.channels, self.size = channels, size
        self.groups = max(1, min(ROW, size) // max(1, channels))
        self.length = self.groups * channels

    def __iter__(self) -> Iterator[slice]:
        """The flat rows; only the last may be shorter."""
        return (slice(start, min(start + self.length, self.size)) for start in range(0, self.size, self.length or 1))

    def repeated(self, parameter: NDArray[Scalar]) -> NDArray[Scalar]:
        """A parameter [C] repeated to one row's length; one that is the same for all channels as a scalar array."""
        parameter = parameter.reshape(-1)
        if parameter.size == 0 or np.all(parameter == parameter[0]):
            return parameter[:1].reshape(()) if parameter.size else np.zeros((), parameter.dtype)
        return np.tile(parameter, self.groups)


class PerChannel:
    """Parameters, scalars or [C], beside arrays [..., C]: repeated to rows, and kept for other arrays."""

    def __init__(self, *parameters: NDArray[np.generic]) -> None:
        self.parameters = parameters
        self._kept: tuple[ChannelRows, tuple[Any, ...]] | None = None

    def beside(self, array: NDArray[np.generic]) -> tuple[Any, ...]:
        """The rows of a contiguous array, and each parameter at their length."""
        channels = array.shape[-1] if array.ndim else 1
        rows = ChannelRows(channels, array.size)
        if self._kept is None or self._kept[0].channels != channels or self._kept[0].length < rows.length:
            self._kept = rows, tuple([rows.repeated(each) for each in self.parameters])
        return rows, *self._kept[1]


def cut(parameter: NDArray[Scalar], length: int) -> NDArray[Scalar]:
    """The first `length` elements of a repeated parameter, for a row that may be the short last one."""
    return parameter[:length] if parameter.ndim else parameter


def add_per_channel(acc: NDArray[np.generic], values: PerChannel) -> None:
    """Add values [C], of acc's dtype, to a contiguous acc [..., C], in place."""
    flat = acc.reshape(-1)
    rows, repeated = values.beside(acc)
    for part in rows:
        row = flat[part]
        np.add(row, cut(repeated, row.size), row)
