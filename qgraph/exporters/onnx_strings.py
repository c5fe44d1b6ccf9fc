"""The words of an ONNX model: a damaged file can hold some that are no text, which protobuf gives as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.errors import FileError

if TYPE_CHECKING:
    from google.protobuf.message import Message  # type: ignore[import-untyped]


def check_strings(message: Message) -> None:
    """Raise FileError where a string of the message, or of one inside it, is not UTF-8."""
    for field, value in message.ListFields():
        items = (value,) if isinstance(value, (str, bytes)) or hasattr(value, "ListFields") else value
        if field.type == field.TYPE_STRING:
            if any(isinstance(item, bytes) for item in items):
                raise FileError(
                    f"this is no valid ONNX model: {field.name!r} is not text", help="the file may be damaged"
                )
        elif field.type == field.TYPE_MESSAGE:
            for item in items:
                check_strings(item)
