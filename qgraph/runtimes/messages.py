"""The near side of the protocol in programs/serving.py: requests as bytes, answers as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from qgraph.errors import InputError
from qgraph.runtimes.programs.serving import ArraySpec, Request

Array: TypeAlias = NDArray[np.generic]
InputSet: TypeAlias = Sequence[Array] | Mapping[str, Array]  # by position, or by the names in the file


@dataclass(frozen=True)
class Processor:
    """The processor that answered, as the program found it out there."""

    machine: str  # "x86_64", "aarch64" ...
    name: str  # the model's name; "emulated" where /proc/cpuinfo contradicts the processor
    features: tuple[str, ...] = ()  # those that change integer kernels: "avx512_vnni", "asimddp" ...
    saturates_u8s8: bool | None = None  # onnxruntime only, tried out: uint8 x int8 products saturate in int16

    def __str__(self) -> str:
        notes = [*self.features, *(["u8 x s8 saturates"] if self.saturates_u8s8 else [])]
        return f"{self.name} ({', '.join([self.machine, *notes])})"


@dataclass(frozen=True)
class RuntimeVersion:
    """The runtime that answered."""

    name: str
    version: str
    python: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, eq=False)
class NamedArray:
    """A value of the model under its name in the file."""

    name: str
    data: Array


@dataclass(frozen=True, eq=False)
class Run:
    """What one input set gave."""

    outputs: tuple[NamedArray, ...]  # in the file's order
    tensors: tuple[NamedArray, ...]  # the intermediate values asked for, in the order asked
    seconds: tuple[float, ...]  # of each repeat, without the copying of inputs and outputs


@dataclass(frozen=True, eq=False)
class RunResult:
    """The answer to one request: a `Run` for each input set, and who answered."""

    runs: tuple[Run, ...]
    runtime: RuntimeVersion
    processor: Processor


class RunHeader(TypedDict):
    """One input set's part of an answer's header."""

    outputs: list[ArraySpec]
    tensors: list[ArraySpec]
    seconds: list[float]


class ProcessorHeader(TypedDict, total=False):
    """What programs/processor.py and a runtime's `facts` tell."""

    machine: str
    name: str
    features: list[str]
    saturates_u8s8: bool


class Answer(TypedDict, total=False):
    """An answer's header."""

    missing: str
    refused: str
    runtime: dict[str, str]
    processor: ProcessorHeader
    results: list[RunHeader]


class NotAnAnswer(Exception):
    """The program's standard output holds something else; the argument is its first line."""


def pack_array(name: str | None, array: Array) -> tuple[ArraySpec, bytes]:
    """Header and bytes (little endian, C order) of an input; InputError for a dtype that NumPy alone does not have."""
    if array.dtype.kind not in "biufc":
        raise InputError(
            f"an input array has dtype {array.dtype}, which no runtime takes", help="give numbers or booleans"
        )
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {"name": name, "dtype": little.dtype.str, "shape": list(array.shape)}, little.tobytes()


def pack_request(
    model: bytes, inputs: Sequence[InputSet], options: Mapping[str, object], tensors: Sequence[str], repeats: int
) -> list[bytes]:
    """The request as the pieces to write one after the other."""
    if repeats < 1:
        raise InputError(f"repeats is {repeats}: a model runs at least once")
    sets: list[list[ArraySpec]] = []
    payload = [model]
    for input_set in inputs:
        named = input_set.items() if isinstance(input_set, Mapping) else ((None, array) for array in input_set)
        packed = [pack_array(name, np.asarray(array)) for name, array in named]
        sets.append([spec for spec, _ in packed])
        payload.extend(data for _, data in packed)
    header: Request = {
        "model": len(model),
        "options": dict(options),
        "tensors": list(tensors),
        "repeats": repeats,
        "inputs": sets,
    }
    return [json.dumps(header).encode() + b"\n", *payload]


def read_arrays(stream: BinaryIO, specs: Sequence[ArraySpec]) -> tuple[NamedArray, ...]:
    """The arrays that an answer announces; EOFError where the stream ends before."""
    arrays = []
    for spec in specs:
        dtype = np.dtype(spec["dtype"])
        size = dtype.itemsize * int(np.prod(spec["shape"], dtype=np.int64))
        data = stream.read(size)
        if len(data) != size:
            raise EOFError(f"the answer ends after {len(data)} of {size} bytes of {spec['name']!r}")
        array = np.frombuffer(bytearray(data), dtype).reshape(spec["shape"])  # a bytearray makes it writable
        arrays.append(NamedArray(spec["name"] or "", array))
    return tuple(arrays)


def read_header(stream: BinaryIO) -> Answer:
    """The answer's first line; EOFError where the stream has ended, NotAnAnswer where it is something else."""
    line = stream.readline(1 << 24)
    if not line:
        raise EOFError("no answer")
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or not header.keys() & {"results", "missing", "refused"}:
        raise NotAnAnswer(line[:200].decode(errors="replace").strip())
    return cast(Answer, header)


def read_result(stream: BinaryIO, header: Answer) -> RunResult:
    """The values of an answer whose header has been read."""
    runs = tuple(
        Run(read_arrays(stream, run["outputs"]), read_arrays(stream, run["tensors"]), tuple(run["seconds"]))
        for run in header["results"]
    )
    about = header["processor"]
    processor = Processor(about["machine"], about["name"], tuple(about["features"]), about.get("saturates_u8s8"))
    return RunResult(runs, RuntimeVersion(**header["runtime"]), processor)
