"""Run a .tflite model on TFLite Micro: the runtime's part of the program that serving.py describes.

Options: `arena`, bytes of its memory (default: ten times the model, at least 1 MiB); `steps`: the input sets are steps
of one stream, whose state goes on from each to the next (without it, it is reset for each). Its Python interpreter
tells no names: inputs are `input0`, `input1`, ..., outputs `output0`, ...; intermediate values are not to be had.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tflite_micro.python.tflite_micro.runtime import Interpreter

    from qgraph.runtimes.programs.serving import Feed, InputSpec, Runtime, Session, Values


class TFLMSession:
    """An interpreter whose shapes are those of the file."""

    def __init__(self, interpreter: Interpreter, steps: bool) -> None:
        import numpy as np

        self.interpreter, self.steps = interpreter, steps
        details = collect(interpreter.get_input_details)
        self.inputs = [
            InputSpec(f"input{i}", np.dtype(d["dtype"]), tuple(map(int, d["shape"]))) for i, d in enumerate(details)
        ]
        self.output_count = len(collect(interpreter.get_output_details))

    def feed(self, feed: Feed) -> None:
        if not self.steps:
            self.interpreter.reset()
        for index, spec in enumerate(self.inputs):
            self.interpreter.set_input(feed[spec.name], index)

    def invoke(self) -> None:
        self.interpreter.invoke()

    def outputs(self) -> Values:
        return [(f"output{i}", self.interpreter.get_output(i).copy()) for i in range(self.output_count)]

    def tensors(self, names: Sequence[str]) -> Values:
        if names:
            raise ValueError("TFLite Micro keeps no intermediate tensors: compare on litert's reference kernels")
        return []


def collect(details: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    """The details of each index from 0 on; the interpreter tells their number only by refusing the next one."""
    found: list[dict[str, Any]] = []
    while True:
        try:
            found.append(details(len(found)))
        except IndexError:  # noqa: PERF203  the end of the list
            return found


class TFLM:
    """tflite-micro."""

    name = "tflm"
    options: tuple[str, ...] = ("arena", "steps")
    refusals: tuple[type[Exception], ...] = (RuntimeError, ValueError, struct.error)  # the last: no flatbuffer

    def __init__(self) -> None:
        from importlib.metadata import version

        import tflite_micro  # noqa: F401  missing here is told as such

        self.version = version("tflite-micro")

    def open(self, model: bytes, options: Mapping[str, object], tensors: Sequence[str]) -> Session:
        from tflite_micro.python.tflite_micro.runtime import Interpreter

        arena = options.get("arena", max(10 * len(model), 1 << 20))
        return TFLMSession(Interpreter.from_bytes(model, arena_size=arena), bool(options.get("steps")))

    def facts(self) -> dict[str, bool]:
        return {}


def start() -> Runtime:
    """The runtime; ImportError where it is not installed."""
    return TFLM()
