"""Run a .tosa file on the reference model of tosa-tools: the runtime's part of the program that serving.py describes.

Options: `level`, the limits that the model holds a file to ("EIGHTK" or "NONE"). Intermediate values are not to be had.
The model gives int48 to no Python, and what it calls unpredictable is refused.
"""

# ruff: noqa: B905  zip(strict=...) is not in Python 3.9

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qgraph.runtimes.programs.serving import Feed, InputSpec, Runtime, Session, Values

NUMPY = {"BOOL": "bool", "INT8": "int8", "INT16": "int16", "INT32": "int32"}
LEVELS = ("EIGHTK", "NONE")


class TosaSession:
    """A file; the reference model reads it anew for each run."""

    def __init__(self, model: bytes, level: str) -> None:
        self.model, self.level = model, level
        block = only_block(model)
        tensors = {tensor.Name().decode(): tensor for tensor in map(block.Tensors, range(block.TensorsLength()))}
        self.inputs = [spec(name, tensors[name]) for name in names(block.Inputs, block.InputsLength())]
        self.results = [spec(name, tensors[name]) for name in names(block.Outputs, block.OutputsLength())]
        self.fed: list[NDArray[Any]] = []
        self.made: list[NDArray[Any]] = []

    def feed(self, feed: Feed) -> None:
        import numpy as np

        self.fed = [np.ascontiguousarray(feed[each.name]) for each in self.inputs]

    def invoke(self) -> None:
        from tosa_reference_model import GraphStatus, run

        made, status = run(self.model, self.fed, tosa_level=self.level)
        if status != GraphStatus.TOSA_VALID:
            raise ValueError(f"the reference model calls the run {status.name}")
        self.made = made

    def outputs(self) -> Values:
        return [(each.name, array.view(each.dtype).reshape(each.shape)) for each, array in zip(self.results, self.made)]

    def tensors(self, wanted: Sequence[str]) -> Values:
        if wanted:
            raise ValueError("the reference model returns no intermediate tensors: return them from the graph")
        return []


def only_block(model: bytes) -> Any:
    """The block of a file that has one."""
    from tosa.TosaGraph import TosaGraph

    graph = TosaGraph.GetRootAs(model, 0)
    if graph.RegionsLength() != 1 or graph.Regions(0).BlocksLength() != 1:
        raise ValueError("the file has several blocks")
    return graph.Regions(0).Blocks(0)


def names(get: Any, count: int) -> list[str]:
    """A vector of strings."""
    return [get(i).decode() for i in range(count)]


def spec(name: str, tensor: Any) -> InputSpec:
    """Name, dtype and shape of an input or a result."""
    import numpy as np
    from tosa.DType import DType

    kinds = {number: kind for kind, number in vars(DType).items() if kind in NUMPY}
    kind = kinds.get(tensor.Type())
    if kind is None:
        raise ValueError(f"{name!r} is of type {tensor.Type()}, which the reference model gives to no Python")
    shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
    return InputSpec(name, np.dtype(NUMPY[kind]), shape)


class Tosa:
    """tosa-tools."""

    name = "tosa"
    options: tuple[str, ...] = ("level",)
    refusals: tuple[type[Exception], ...] = (ValueError, RuntimeError)

    def __init__(self) -> None:
        from importlib.metadata import version

        import tosa_reference_model  # noqa: F401  missing here is told as such

        self.version = version("tosa-tools")

    def open(self, model: bytes, options: Mapping[str, object], tensors: Sequence[str]) -> Session:
        level = str(options.get("level", LEVELS[0]))
        if level not in LEVELS:
            raise ValueError(f"option level is {level!r}, not one of {', '.join(LEVELS)}")
        return TosaSession(model, level)

    def facts(self) -> dict[str, bool]:
        return {}


def start() -> Runtime:
    """The runtime; ImportError where it is not installed."""
    return Tosa()
