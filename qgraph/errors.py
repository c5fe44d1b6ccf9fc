"""The errors that qgraph raises: each says what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class QGraphError(Exception):
    """Base of every error that qgraph raises on purpose.

    Parts: `what` is wrong (one line), `where` it stands (lines such as "origin  head (model.py:41)"), `help`: what to
    do.
    """

    def __init__(self, what: str, *, where: tuple[str, ...] = (), help: str = "") -> None:
        super().__init__(what, where, help)
        self.what, self.where, self.help = what, where, help

    def __str__(self) -> str:
        lines = [self.what, *(f"  {line}" for line in self.where)]
        return "\n".join([*lines, f"  help    {self.help}"] if self.help else lines)


class InputError(QGraphError):
    """An argument, array or option that cannot be used."""


class FileError(InputError):
    """A file that cannot be read or written."""


class ParseError(InputError):
    """Graph text that does not follow the grammar."""


class TypeMismatch(QGraphError):
    """Operands or attributes that an op's definition does not admit."""


class VerificationError(QGraphError):
    """A graph that breaks the rules of its level; lists every violation."""


class ValidationError(VerificationError):
    """A pass that changed what a graph computes; `inputs` are those, by name, on which it shows."""

    inputs: Mapping[str, Any] = {}


class PassError(QGraphError):
    """A pass that failed: it raised, made a graph that does not verify, or stands in the wrong place of a pipeline."""


class UnsupportedOp(QGraphError):
    """A source op that has no counterpart in qgraph."""


class LoweringError(QGraphError):
    """A graph that cannot be lowered to a target."""


class NotCalibrated(LoweringError):
    """A fake-quant node whose scale has not been set."""


class ExportError(QGraphError):
    """A lowered graph that a file format cannot hold."""


class RuntimeFailure(QGraphError):
    """A runtime that is missing, crashed or did not answer."""


class PrecisionWarning(UserWarning):
    """A model of another float type than float32 was converted."""


class FixedSizeWarning(UserWarning):
    """A size that was to stay open is a number in the graph."""
