"""Answer requests to run a model, over standard input and output: the far side of `qgraph.runtimes.process`.

This file, processor.py and one runtime's file (litert.py, onnxruntime.py, tflm.py) make one self-contained program:
their text is sent to a Python that may be older, on another machine and without qgraph. So: standard library and NumPy
only, Python >= 3.9.

    request   one line of JSON (`Request`), then the bytes that it announces, back to back: the model, the input arrays
    answer    one line of JSON, then the bytes of the arrays that it announces
              {"runtime": {...}, "processor": {...},
               "results": [{"seconds": [...], "outputs": [...], "tensors": [...]}, ...]}
              or, without bytes, {"refused": reason} or {"missing": module}

Requests are answered one after the other until the end of input. What the runtime prints goes to standard error.
"""

# ruff: noqa: B905  zip(strict=...) is not in Python 3.9

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, TypedDict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qgraph.runtimes.programs.processor import describe_processor

    Array = NDArray[np.generic]
    ArraySet = Sequence[tuple[str | None, Array]]
    Feed = Mapping[str, Array]
    Values = list[tuple[str, Array]]
    Header = dict[str, object]


class ArraySpec(TypedDict):
    """An array that follows as bytes in C order; `name` is null for an input given by position."""

    name: str | None
    dtype: str
    shape: list[int]


class Request(TypedDict):
    """Run one model on some inputs."""

    model: int  # bytes
    options: dict[str, object]  # of the runtime: what its `open` takes
    tensors: list[str]  # intermediate values to send back too
    repeats: int  # timed runs of each input set
    inputs: list[list[ArraySpec]]  # one list for each input set


class InputSpec(NamedTuple):
    """What a model's input takes; an extent of -1 stands for any."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


class Session(Protocol):
    """A model that a runtime has loaded."""

    inputs: list[InputSpec]

    def feed(self, feed: Feed) -> None:
        """Take the input arrays; their dtypes and shapes have been checked."""

    def invoke(self) -> None:
        """Run the model; this call alone is timed."""

    def outputs(self) -> Values:
        """Copies of the last run's outputs, in the file's order."""

    def tensors(self, names: Sequence[str]) -> Values:
        """Copies of the last run's intermediate values of these names."""


class Runtime(Protocol):
    """A runtime that has been imported."""

    name: str
    version: str
    options: tuple[str, ...]  # the names that `open` knows
    refusals: tuple[type[Exception], ...]  # ValueError, and what it raises for what it does not accept

    def open(self, model: bytes, options: Mapping[str, object], tensors: Sequence[str]) -> Session:
        """Load a model; `tensors` are the intermediate values to keep."""

    def facts(self) -> dict[str, bool]:
        """What only a trial run tells about this processor."""


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes of the stream; EOFError where it ends before."""
    data = stream.read(size)
    if len(data) != size:
        raise EOFError(f"the request ends after {len(data)} of {size} bytes")
    return data


def read_array(stream: BinaryIO, spec: ArraySpec) -> Array:
    """The array that `spec` announces."""
    import numpy as np

    dtype = np.dtype(spec["dtype"])
    count = 1
    for extent in spec["shape"]:
        count *= extent
    return np.frombuffer(read_exactly(stream, count * dtype.itemsize), dtype).reshape(spec["shape"])


def name_arrays(arrays: ArraySet, inputs: Sequence[InputSpec]) -> Feed:
    """The arrays by input name, in the file's order; ValueError if their number or names do not match the inputs."""
    names = [spec.name for spec in inputs]
    if len(arrays) != len(names):
        raise ValueError(f"{len(arrays)} arrays for {len(names)} inputs: {', '.join(names)}")
    given = {default if name is None else name: array for default, (name, array) in zip(names, arrays)}
    if set(given) != set(names):
        raise ValueError(f"arrays for {', '.join(given)}, but the inputs are {', '.join(names)}")
    return {name: given[name] for name in names}


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape has the wanted extents, -1 standing for any."""
    return len(shape) == len(wanted) and all(want in (-1, have) for have, want in zip(shape, wanted))


def check_arrays(feed: Feed, inputs: Sequence[InputSpec]) -> None:
    """ValueError unless each array has its input's dtype and, beyond axis 0, its shape."""
    for spec in inputs:
        array = feed[spec.name]
        if array.dtype != spec.dtype or array.ndim != len(spec.shape) or not fits(array.shape[1:], spec.shape[1:]):
            wanted, given = f"{spec.dtype} {list(spec.shape)}", f"{array.dtype} {list(array.shape)}"
            raise ValueError(f"input {spec.name!r} takes {wanted}, not {given}")


def split_batch(feed: Feed, inputs: Sequence[InputSpec]) -> list[Feed]:
    """The feed itself where the model takes it, else pieces of the model's fixed batch; ValueError if neither fits."""
    if all(fits(feed[spec.name].shape, spec.shape) for spec in inputs):
        return [feed]
    sizes = {spec.name: spec.shape[0] for spec in inputs if spec.shape}
    counts = {len(feed[name]) / size if size > 0 else 0 for name, size in sizes.items()}
    count = counts.pop()
    if counts or len(sizes) < len(inputs) or not count or count % 1:
        given = {name: len(feed[name]) for name in sizes}
        raise ValueError(f"the model's batch is fixed: its inputs take {sizes}, the arrays have {given}")
    return [{n: feed[n][i * size : (i + 1) * size] for n, size in sizes.items()} for i in range(int(count))]


def join_batch(pieces: Sequence[Values], batch: int) -> Values:
    """Values of several runs concatenated along axis 0; ValueError for one without a batch there."""
    import numpy as np

    if len(pieces) == 1:
        return pieces[0]
    joined = []
    for values in zip(*pieces):
        name, first = values[0]
        if first.shape[:1] != (batch,):
            raise ValueError(
                f"{name!r} of shape {list(first.shape)} has no batch of {batch}: give the inputs one by one"
            )
        joined.append((name, np.concatenate([array for _, array in values])))
    return joined


def run_feed(session: Session, feed: Feed, tensors: Sequence[str], repeats: int) -> tuple[list[float], Values, Values]:
    """Seconds of each repeat, outputs and wanted intermediate values for one input set."""
    check_arrays(feed, session.inputs)
    pieces = split_batch(feed, session.inputs)
    seconds = [0.0] * repeats
    outputs, intermediate = [], []
    for piece in pieces:
        for repeat in range(repeats):
            session.feed(piece)  # again before each run: TFLite Micro reuses the memory of its inputs
            start = time.perf_counter()
            session.invoke()
            seconds[repeat] += time.perf_counter() - start
        outputs.append(session.outputs())
        intermediate.append(session.tensors(tensors))
    batch = 1 if len(pieces) == 1 else session.inputs[0].shape[0]
    return seconds, join_batch(outputs, batch), join_batch(intermediate, batch)


def pack(values: Values, payload: list[bytes]) -> list[ArraySpec]:
    """Append the arrays' bytes to `payload`; returns their specs. ValueError for a dtype that NumPy alone lacks."""
    specs: list[ArraySpec] = []
    for name, array in values:
        if array.dtype.kind not in "biufc":
            raise ValueError(f"{name!r} has dtype {array.dtype}, which cannot be sent")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        specs.append({"name": name, "dtype": little.dtype.str, "shape": list(array.shape)})
        payload.append(little.tobytes())
    return specs


def run(runtime: Runtime, request: Request, model: bytes, sets: Sequence[ArraySet], payload: list[bytes]) -> Header:
    """The header of the answer for input sets run on a loaded model; the arrays' bytes go to `payload`."""
    unknown = request["options"].keys() - set(runtime.options)
    if unknown:
        raise ValueError(f"no option {', '.join(unknown)}: {runtime.name} has {', '.join(runtime.options)}")
    session = runtime.open(model, request["options"], request["tensors"])
    results = []
    for arrays in sets:
        feed = name_arrays(arrays, session.inputs)
        seconds, outputs, tensors = run_feed(session, feed, request["tensors"], request["repeats"])
        results.append({"seconds": seconds, "outputs": pack(outputs, payload), "tensors": pack(tensors, payload)})
    about = {"name": runtime.name, "version": runtime.version, "python": sys.version.split()[0]}
    return {"runtime": about, "processor": {**describe_processor(), **runtime.facts()}, "results": results}


def answer(start: Callable[[], Runtime], request: Request, stream: BinaryIO) -> tuple[Header, list[bytes]]:
    """The answer to a request whose first line has been read: header and the bytes that follow it."""
    model = read_exactly(stream, request["model"])
    try:
        sets = [[(spec["name"], read_array(stream, spec)) for spec in specs] for specs in request["inputs"]]
        runtime = start()
    except ImportError as error:
        return {"missing": str(error)}, []
    payload: list[bytes] = []
    try:
        return run(runtime, request, model, sets, payload), payload
    except runtime.refusals as error:
        return {"refused": f"{type(error).__name__}: {error}"}, []


def serve(start: Callable[[], Runtime]) -> None:
    """Answer requests from standard input until it ends; `start` imports the runtime."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a runtime prints must not stand among the answers
    for line in requests:
        header, payload = answer(start, json.loads(line), requests)
        answers.write(json.dumps(header).encode() + b"\n")
        answers.writelines(payload)
        answers.flush()
