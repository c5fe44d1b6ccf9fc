"""A file that was read, for whoever wants to know what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from qgraph.exporters.onnx_strings import check_strings


@dataclass(frozen=True)
class Content:
    """A file's path and bytes, and what was parsed from them, once."""

    path: str
    data: bytes
    optimization: str = ""  # the level that a quantized ONNX model is read at; the default of who reads it for ""
    sizes: Mapping[str, int] = field(default_factory=dict)  # of an ONNX model's open dimensions, by their names

    @property
    def suffix(self) -> str:
        """The suffix of its name, such as ".onnx"."""
        return Path(self.path).suffix

    @cached_property
    def onnx(self) -> Any:
        """The bytes as an `onnx.ModelProto`; None where they are none. Raises FileError for words that are no text."""
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        try:
            model = onnx.load_model_from_string(self.data)
        except DecodeError:
            return None
        check_strings(model)
        return model
