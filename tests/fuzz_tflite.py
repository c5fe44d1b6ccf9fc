"""Load mutated .tflite files: each must give a graph or a `QGraphError`, in bounded time and memory.

    python -m tests.fuzz_tflite --count 20000 --seed 0

Mutation number n of a seed is always the same file; `--only N` loads that one alone and shows the traceback. The files
come from tests/targets/litert/models, and with QGRAPH_ASSETS also from the small ones of models/ there.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qgraph.errors import FileError, QGraphError
from qgraph.exporters import tflite
from qgraph.exporters.tflite import storage
from qgraph.targets.litert.file_format import from_tflite, to_tflite

FOLDER = Path(__file__).parent / "targets" / "litert" / "models"
LARGEST = 60_000
"""Bytes of the largest file that is mutated."""
MEMORY = 256 << 20
"""Bytes beyond those that the process has at the start."""
SECONDS = 5
"""For one file."""
WORDS = (0, 1, 2, 4, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
SIZES = (-(2**31), -2, -1, 0, 1, 2, 3, 5, 255, 2**16, 2**31 - 1)

Rng = np.random.Generator


class Hang(Exception):
    """A file took too long."""


def originals() -> list[bytes]:
    """The files that are mutated, and some of them as qgraph writes them."""
    assets = os.environ.get("QGRAPH_ASSETS")
    folders = [FOLDER, *([Path(assets) / "models"] if assets else [])]
    paths = sorted(path for folder in folders for path in folder.rglob("*.tflite") if path.stat().st_size <= LARGEST)
    files = [path.read_bytes() for path in paths]
    for data in list(files):
        try:
            files.append(to_tflite(from_tflite(data)))
        except QGraphError:  # noqa: PERF203  a float file, or an op that is refused
            continue
    return files


def truncated(data: bytes, rng: Rng) -> bytes:
    """The file without its end."""
    return data[: rng.integers(len(data))]


def flipped(data: bytes, rng: Rng) -> bytes:
    """Some bytes with other values, mostly among the tables at the end."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        changed[_place(len(data), rng)] ^= int(rng.integers(1, 256))
    return bytes(changed)


def overwritten(data: bytes, rng: Rng) -> bytes:
    """Some aligned words (offsets, lengths, dims, scales) with extreme or random values."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        place = _place(len(data) - 4, rng) & ~3
        word = int(rng.choice(WORDS)) if rng.integers(2) else int(rng.integers(0, len(data)))
        changed[place : place + 4] = word.to_bytes(4, "little")
    return bytes(changed)


def copied(data: bytes, rng: Rng) -> bytes:
    """A part of the file over another one."""
    size = int(rng.integers(1, 64))
    source, target = (_place(len(data) - size, rng) for _ in range(2))
    return data[:target] + data[source : source + size] + data[target + size :]


def _place(size: int, rng: Rng) -> int:
    """A place in the file; constants, which fill most of it, are hit in one of four cases only."""
    return int(rng.integers(size)) if rng.integers(4) == 0 else int(size * (1 - rng.random() ** 3 / 2)) % size


def remodelled(data: bytes, rng: Rng) -> bytes:
    """A file whose flatbuffer is whole, but what it says is not: dims, types, quantization, wiring, options."""
    model = tflite.read(data)
    subgraph = model.subgraphs[0]
    for _ in range(rng.integers(1, 4)):
        changes = (_reshaped, _retyped, _requantized, _rewired, _reoptioned, _emptied)
        changes[rng.integers(len(changes))](subgraph, rng)
    return tflite.write(model)


def _reshaped(subgraph: tflite.SubGraph, rng: Rng) -> None:
    index = int(rng.integers(len(subgraph.tensors)))
    tensor = subgraph.tensors[index]
    if tensor.data is None:
        shape = [int(rng.choice(SIZES[3:])) if rng.integers(2) else size for size in tensor.shape]
        shape += [1] * int(rng.integers(3))
        signature = tuple(int(rng.choice((-1, size))) for size in shape) if rng.integers(2) else None
        subgraph.tensors[index] = replace(tensor, shape=tuple(shape), shape_signature=signature)
    elif tensor.data.dtype.kind == "i" and tensor.data.size < 100:
        values = rng.choice(SIZES[:-1], tensor.data.shape).astype(tensor.data.dtype)
        subgraph.tensors[index] = replace(
            tensor, data=np.where(rng.integers(2, size=values.shape), values, tensor.data)
        )


def _retyped(subgraph: tflite.SubGraph, rng: Rng) -> None:
    index = int(rng.integers(len(subgraph.tensors)))
    dtype = str(rng.choice(["i8", "u8", "i16", "i32", "i64", "f32", "bool", "i4", "u32", "f16", "string"]))
    tensor = subgraph.tensors[index]
    data = None if tensor.data is None else np.zeros(tensor.shape, storage.numpy_dtype(dtype))
    subgraph.tensors[index] = replace(tensor, dtype=dtype, data=data)


def _requantized(subgraph: tflite.SubGraph, rng: Rng) -> None:
    index = int(rng.integers(len(subgraph.tensors)))
    count = int(rng.choice([0, 1, 1, 2, 3, 8, 1000]))
    scale = np.full(count, rng.choice([0.0, -1.0, 1e-45, 1e-10, 0.01, 1.0, 3e38, np.inf, np.nan]), np.float32)
    zero = np.full(count, rng.choice([-(2**63), -129, -128, 0, 127, 128, 2**62]), np.int64)
    quant = tflite.Quantization(scale, zero, int(rng.choice([-1, 0, 1, 3, 9, 2**31 - 1])))
    subgraph.tensors[index] = replace(subgraph.tensors[index], quantization=quant)


def _rewired(subgraph: tflite.SubGraph, rng: Rng) -> None:
    """An operator that reads, or makes, another tensor: cycles, results made twice, operands that are absent."""
    place = int(rng.integers(len(subgraph.operators)))
    operator = subgraph.operators[place]
    inputs, outputs = list(operator.inputs), list(operator.outputs)
    if rng.integers(2) and inputs:
        inputs[rng.integers(len(inputs))] = int(rng.integers(-1, len(subgraph.tensors)))
    elif outputs:
        outputs[rng.integers(len(outputs))] = int(rng.integers(len(subgraph.tensors)))
    subgraph.operators[place] = replace(operator, inputs=tuple(inputs), outputs=tuple(outputs))


def _reoptioned(subgraph: tflite.SubGraph, rng: Rng) -> None:
    place = int(rng.integers(len(subgraph.operators)))
    operator = subgraph.operators[place]
    options = dict(operator.options)
    for name, value in operator.options.items():
        if isinstance(value, int) and not isinstance(value, bool) and rng.integers(2):
            options[name] = int(rng.choice(SIZES))
        elif isinstance(value, float):
            options[name] = float(rng.choice([0.0, -1.0, 1e30, np.nan]))
    name = str(rng.choice([other.name for other in subgraph.operators])) if rng.integers(8) == 0 else operator.name
    subgraph.operators[place] = replace(operator, options=options if name == operator.name else {}, name=name)


def _emptied(subgraph: tflite.SubGraph, rng: Rng) -> None:
    """An operator with fewer operands, no results, no options; a subgraph without inputs or outputs."""
    place = int(rng.integers(len(subgraph.operators)))
    operator = subgraph.operators[place]
    choice = rng.integers(5)
    if choice == 0:
        operator = replace(operator, inputs=operator.inputs[: rng.integers(len(operator.inputs) + 1)])
    elif choice == 1:
        operator = replace(operator, outputs=())
    elif choice == 2:
        operator = replace(operator, options={}, options_omitted=True)
    elif choice == 3:
        subgraph.outputs.clear()
    else:
        subgraph.inputs.extend(subgraph.inputs)
    subgraph.operators[place] = operator


MUTATIONS: tuple[Callable[[bytes, Rng], bytes], ...] = (
    *(truncated, flipped, flipped, overwritten, overwritten, overwritten, copied),
    *(remodelled, remodelled, remodelled),
)


def mutation(files: Sequence[bytes], seed: int, number: int) -> bytes | None:
    """Mutated file `number`; None where the writer refuses what was to be written."""
    rng = np.random.default_rng([seed, number])
    data = files[rng.integers(len(files))]
    try:
        return MUTATIONS[rng.integers(len(MUTATIONS))](data, rng)
    except FileError:
        return None


def outcome(data: bytes) -> str:
    """What loading gives: "graph", or the kind of the `QGraphError`; any other exception comes through."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        graph = from_tflite(data)
        str(graph)
    except QGraphError as error:
        return type(error).__name__
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "graph"


def _hang(number: int, frame: object) -> None:
    raise Hang(f"a file took more than {SECONDS} seconds")


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; exit status 1 where a file gave anything but a graph or a clear error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20000, help="how many mutated files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="load this one alone")
    options = parser.parse_args(arguments)
    files = originals()
    signal.signal(signal.SIGALRM, _hang)
    outcome(files[0])  # what is imported lazily does not count
    if options.only is not None:
        data = mutation(files, options.seed, options.only)
        print(outcome(data) if data is not None else "nothing to load")
        return 0
    _limit_memory()
    outcomes: Counter[str] = Counter()
    failed, slowest = [], 0.0
    for number in range(options.count):
        data = mutation(files, options.seed, number)
        if data is None:
            outcomes["not written"] += 1
            continue
        start = time.perf_counter()
        try:
            outcomes[outcome(data)] += 1
        except Exception as error:  # what is looked for
            place = traceback.extract_tb(error.__traceback__)[-1]
            failed.append(f"mutation {number}: {error!r:.200} at {place.filename}:{place.lineno}")
        slowest = max(slowest, time.perf_counter() - start)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(outcomes.items()))
    print(f"seed {options.seed}, {options.count} files from {len(files)}: {counts}; slowest {slowest:.2f} s")
    print("\n".join(failed[:40]) or "no other exception, no hang, no over-allocation")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
