"""qgraph as a backend of ONNX, by which its own tests, and those of others, run models.

    python -m qgraph.frontends.onnx_backend [PATTERN]

runs the node tests of the installed onnx whose names contain PATTERN and prints how many passed, which were refused and
why, and which failed.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend as OnnxBackend
from onnx.backend.base import BackendRep
from onnx.backend.test.runner import BackendIsNotSupposedToImplementIt

from qgraph.errors import QGraphError
from qgraph.exporters.content import Content
from qgraph.frontends.readers import readers
from qgraph.interpreter import execute, quantize_inputs
from qgraph.ir import Array, Graph


def read(model: onnx.ModelProto) -> Graph:
    """The graph of a model, of floats or integers; the latter node by node, as ONNX defines it."""
    content = Content("model.onnx", model.SerializeToString(), "disabled")
    return next(reader for reader in readers() if reader.claims(content)).read(content)


class Prepared(BackendRep):
    """A model that may be run; where parameters such as scales or axes are inputs of it, it is read as it is run."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.names = [info.name for info in model.graph.input if info.name not in _initializers(model)]
        self.graph: Graph | None = None
        self.reason: QGraphError | None = None
        try:
            self.graph = read(model)
        except QGraphError as error:
            self.reason = error

    def run(self, inputs: Sequence[Any] | Mapping[str, Any], **_: Any) -> tuple[Array, ...]:
        """The outputs; raises BackendIsNotSupposedToImplementIt with the reason why a model cannot be read."""
        given = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(self.names, inputs, strict=True))
        if not all(isinstance(each, (np.ndarray, np.generic, onnx.TensorProto)) for each in given.values()):
            raise BackendIsNotSupposedToImplementIt("an input that is no tensor is not supported")
        arrays = {name: _array(each) for name, each in given.items()}
        if any(array.dtype.kind == "f" and np.isnan(array).any() for array in arrays.values()):
            raise BackendIsNotSupposedToImplementIt("inputs that contain NaN are refused")
        graph = self.graph or self._with_parameters(arrays)
        feed = {value.name: arrays[value.name] for value in graph.inputs}
        try:
            with np.errstate(all="ignore"):
                return tuple(execute(graph, quantize_inputs(graph, feed) if feed else {}))
        except QGraphError as error:
            raise BackendIsNotSupposedToImplementIt(error.what) from None

    def _with_parameters(self, arrays: Mapping[str, Array]) -> Graph:
        """The graph in which all inputs but the first are constants."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        known = {name: array for name, array in arrays.items() if name != self.names[0]}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in known.items())
        left = [info for info in model.graph.input if info.name not in known]
        del model.graph.input[:]
        model.graph.input.extend(left)
        try:
            return read(model)
        except QGraphError:
            raise BackendIsNotSupposedToImplementIt(str(self.reason)) from None


def _initializers(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def _array(given: object) -> Array:
    """An array; those of some dtypes are stored as protobufs."""
    return onnx.numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)


class Backend(OnnxBackend):
    """`qgraph.run` for onnx: `Backend.prepare(model).run(inputs)`, `Backend.run_model(model, inputs)`."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> Prepared:
        """A model, ready to be run."""
        return Prepared(model)

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> bool:
        """Whether a model can be read as it is."""
        return cls.supports_device(device) and Prepared(model).graph is not None

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """NumPy runs on the CPU."""
        return device == "CPU"


# ---- onnx's own tests


def node_tests(pattern: str = "") -> Iterator[Any]:
    """The node tests of the installed onnx whose names contain the pattern."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some compute with infinities
        cases = load_model_tests(kind="node")
    return (case for case in cases if pattern in case.name)


def difference(case: Any) -> str:
    """How the outputs of a test depart from what it expects, "" where they do not: floats within its tolerance, all
    else exactly. Raises BackendIsNotSupposedToImplementIt for what is refused."""
    prepared = Backend.prepare(case.model)
    for given, expected in case.data_sets:
        for made, right in zip(prepared.run(given), map(_array, expected), strict=True):
            if made.dtype != right.dtype or made.shape != right.shape:
                return f"{made.dtype}{list(made.shape)} instead of {right.dtype}{list(right.shape)}"
            floats = right.dtype.kind in "fc"
            near = floats and np.allclose(made, right, rtol=case.rtol, atol=case.atol, equal_nan=True)
            if not near and not np.array_equal(made, right):
                return f"{made} instead of {right}"
    return ""


def main(pattern: str = "") -> int:
    """Run the tests and print what came of them; 1 where one failed."""
    passed, refused, failed = 0, {}, {}
    for case in node_tests(pattern):
        try:
            wrong = difference(case)
        except BackendIsNotSupposedToImplementIt as error:
            refused[case.name] = str(error).partition("\n")[0]
            continue
        passed += not wrong
        failed.update({case.name: wrong} if wrong else {})
    for word, found in (("refused", refused), ("failed", failed)):
        for name, reason in found.items():
            print(f"{word}  {name}: {reason}")
    print(f"{passed} passed, {len(refused)} refused, {len(failed)} failed (onnx {onnx.__version__})")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
