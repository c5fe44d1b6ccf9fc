"""Run a .tflite model on LiteRT: the runtime's part of the program that serving.py describes.

Options: `kernels`, a key of KERNELS; `threads` (1); `steps`: the input sets are steps of one stream, whose state goes
on from each to the next (resource variables do so in any case; other state begins anew for each set without it).
"""

# ruff: noqa: B905  zip(strict=...) is not in Python 3.9

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

    from qgraph.runtimes.programs.serving import Feed, InputSpec, Runtime, Session, Values

# Kernel family: the interpreter's OpResolverType.
KERNELS = {
    "default": "AUTO",  # what a user gets: XNNPACK for the ops that it takes, the optimized kernels for the rest
    "reference": "BUILTIN_REF",
    "optimized": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
}


class LiteRTSession:
    """An interpreter; its inputs are resized to what they are fed."""

    def __init__(self, interpreter: Interpreter, steps: bool) -> None:
        import numpy as np

        self.interpreter, self.steps = interpreter, steps
        self.details = interpreter.get_input_details()
        self.inputs = [
            InputSpec(d["name"], np.dtype(d["dtype"]), tuple(int(extent) for extent in free_shape(d)))
            for d in self.details
        ]
        self.fed_shapes: list[tuple[int, ...]] = []

    def feed(self, feed: Feed) -> None:
        arrays = [feed[spec.name] for spec in self.inputs]
        shapes = [array.shape for array in arrays]
        if shapes != self.fed_shapes:
            for detail, shape in zip(self.details, shapes):
                self.interpreter.resize_tensor_input(detail["index"], shape)
            self.interpreter.allocate_tensors()
            self.fed_shapes = shapes
        for detail, array in zip(self.details, arrays):
            self.interpreter.set_tensor(detail["index"], array)

    def invoke(self) -> None:
        if not self.steps:
            self.interpreter.reset_all_variables()
        self.interpreter.invoke()

    def outputs(self) -> Values:
        return [(d["name"], self.interpreter.get_tensor(d["index"])) for d in self.interpreter.get_output_details()]

    def tensors(self, names: Sequence[str]) -> Values:
        if not names:
            return []
        index = {d["name"]: d["index"] for d in self.interpreter.get_tensor_details()}
        unknown = [name for name in names if name not in index]
        if unknown:
            raise ValueError(f"the model has no tensor {', '.join(map(repr, unknown))}")
        return [(name, self.interpreter.get_tensor(index[name])) for name in names]


def free_shape(detail: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """The input's shape with -1 where the file leaves it open."""
    signature = detail["shape_signature"]
    return signature if len(signature) == len(detail["shape"]) else detail["shape"]


class LiteRT:
    """ai-edge-litert."""

    name = "litert"
    options: tuple[str, ...] = ("kernels", "threads", "steps")
    refusals: tuple[type[Exception], ...] = (RuntimeError, ValueError)

    def __init__(self) -> None:
        import ai_edge_litert

        self.version: str = ai_edge_litert.__version__

    def open(self, model: bytes, options: Mapping[str, object], tensors: Sequence[str]) -> Session:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kernels = options.get("kernels", "default")
        if kernels not in KERNELS:
            raise ValueError(f"option kernels is {kernels!r}, not one of {', '.join(KERNELS)}")
        interpreter = Interpreter(
            model_content=model,
            num_threads=options.get("threads", 1),
            experimental_op_resolver_type=OpResolverType[KERNELS[str(kernels)]],
            experimental_preserve_all_tensors=bool(tensors),
        )
        return LiteRTSession(interpreter, bool(options.get("steps")))

    def facts(self) -> dict[str, bool]:
        return {}


def start() -> Runtime:
    """The runtime; ImportError where it is not installed."""
    return LiteRT()
