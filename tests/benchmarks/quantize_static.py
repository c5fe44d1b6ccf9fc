"""`qgraph quantize FLOAT.onnx -o OUT.onnx` beside onnxruntime's quantize_static, on ten models.

Each quantizes in a process of its own, whose seconds and peak memory (the most that was resident) count from its start
to its end, imports included; Python's byte code is there already, as after an installation. Accuracy is signal over
error of the results, in dB, against the float model on examples that did not calibrate; latency that of ONNX Runtime
with one thread and one example.

`python -m tests.benchmarks.quantize_static [--model NAME] [-o FILE.json] [--page]` prints the table of
all models in Markdown; the page is made with all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

from qgraph.ir import Array
from tests.benchmarks.measure import Result, Size, clock, in_turns

Row = dict[str, Any]
SIDES = ("qgraph", "peer")
SAID = {"LSTM": ["--exclude", "*lstm*"]}
"""What one may say for a model; for the others weights of full range, which need VNNI as quantize_static's do."""
FULL_RANGE = ["--option", "weights=full-range"]
PAGE = Path(__file__).with_suffix(".md")


MEASURED = """
import atexit, resource, runpy, sys
def say():
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("measured", used.ru_utime + used.ru_stime, int(peak) / 1024, file=sys.stderr)
atexit.register(say)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs a module and says its seconds of the processor and its peak memory. That is VmHWM, which begins with the
program: `ru_maxrss` begins with what the parent had when it forked."""


def in_child(arguments: list[str], byte_code: Path) -> Row:
    """Seconds, those of the processor, and peak MB of a Python process; what it said last where it failed."""
    words = {name: word for name, word in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words["PYTHONPYCACHEPREFIX"] = str(byte_code)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, env=words)
    row: Row = {"seconds": time.perf_counter() - start}
    lines = done.stderr.strip().splitlines()
    row["CPU s"], row["MB"] = (float(word) for word in lines[-1].split()[1:])
    return row | ({"failed": "\n".join(lines[-4:-1])} if done.returncode else {})


def sqnr(reference: list[Array], made: list[Array]) -> float:
    """Signal over error in dB, of all results together."""
    signal = sum(float((each.astype(np.float64) ** 2).sum()) for each in reference)
    error = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(reference, made, strict=True))
    return 10 * float(np.log10(signal / error)) if error else 200.0


def session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compare(name: str, repeats: int, byte_code: Path) -> Row:
    """The figures of one model, by side; "failed" where there is no file. `byte_code`: a folder for Python's."""
    from tests.benchmarks.static_models import write

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        source, data = home / "float.onnx", home / "data.npz"
        test = write(name, home)
        command = ["qgraph", "quantize", str(source), "--target", "onnxruntime", "--calibration", str(data), "-o"]
        commands = {"qgraph": command, "peer": ["tests.benchmarks.peer_static", str(source), str(data)]}
        row: Row = {"model": name}
        for side in SIDES:
            arguments = [*commands[side], str(home / f"{side}.onnx")]
            if not (byte_code / side).exists():
                in_child(arguments, byte_code / side)
            row[side] = in_child(arguments, byte_code / side)
        row["said"] = in_child([*command, str(home / "said.onnx"), *SAID.get(name, FULL_RANGE)], byte_code / SIDES[0])
        reference = session(source).run(None, test)
        made = {side: session(home / f"{side}.onnx") for side in (*SIDES, "said") if "failed" not in row[side]}
        one = {key: array[:1] for key, array in test.items()}
        times = in_turns([clock(lambda each=each: each.run(None, one)) for each in made.values()], repeats)  # type: ignore[misc]
        for (side, each), latency in zip(made.items(), times, strict=True):
            row[side] |= {"dB": sqnr(reference, each.run(None, test)), "ms": 1000 * latency}
            row[side]["KB"] = (home / f"{side}.onnx").stat().st_size / 1000
    return row


def ratio(rows: list[Row], key: str) -> float:
    """The geometric mean over models of qgraph's figure over that of quantize_static."""
    return geometric_mean([row["qgraph"][key] / row["peer"][key] for row in rows if all(key in row[s] for s in SIDES)])


def table(rows: list[Row]) -> str:
    """The figures in Markdown: qgraph / quantize_static in each cell; "said": dB and ms with a word more."""
    keys = {"dB": ".1f", "ms": ".3f", "seconds": ".1f", "CPU s": ".1f", "MB": ".0f", "KB": ".0f"}
    lines = ["| model | " + " | ".join(keys) + " | said |", "|---" * (len(keys) + 2) + "|"]
    for row in rows:
        cells = [" / ".join(format(row[s][k], f) if k in row[s] else "failed" for s in SIDES) for k, f in keys.items()]
        said = "failed" if "failed" in row["said"] else "{dB:.1f}, {ms:.3f}".format_map(row["said"])
        lines.append(f"| {row['model']} | " + " | ".join([*cells, said]) + " |")
    return "\n".join(lines)


def page(rows: list[Row]) -> str:
    """The page of the table: what was compared, by whom, and what it comes to."""
    import onnxruntime

    from qgraph.runtimes.programs.onnxruntime import saturates_u8s8
    from qgraph.runtimes.programs.processor import describe_processor

    about = describe_processor()
    vnni = "saturate" if saturates_u8s8() else "do not saturate"
    words = {key: f"{ratio(rows, key):.2f}" for key in ("seconds", "CPU s", "MB", "ms", "KB")}
    better = [row["model"] for row in rows if row["qgraph"]["dB"] >= row["peer"]["dB"]]
    worse = [row["model"] for row in rows if row["model"] not in better]
    return TEXT.format(
        version=onnxruntime.__version__,
        processor=f"{about['name']}, on which u8 x s8 pairs {vnni}",
        ratios=", ".join(f"{key} {word}" for key, word in words.items()),
        better=len(better),
        worse=", ".join(worse) or "none",
        table=table(rows),
    )


TEXT = """# `qgraph quantize` beside `quantize_static`

`python -m tests.benchmarks.quantize_static --page` writes this page: ten float ONNX models, as torch exports them,
become quantized ones, by `qgraph quantize float.onnx --target onnxruntime --calibration data.npz -o out.onnx` and by
`quantize_static` of ONNX Runtime {version}, with its pre-processing, 8 bits a channel for weights, u8 activations,
MinMax. Weights are those that torch begins with, batch normalizations have seen data; 64 random examples calibrate, 16
others judge. Processor: {processor}.

Each cell: qgraph / quantize_static. dB: signal over error of the results against the float model. ms: one example, one
thread. seconds, CPU s, MB (the most that was resident): the whole process, imports included. KB: the file. "said": dB
and ms with `--option weights=full-range`, or for the LSTM with `--exclude '*lstm*'`.

{table}

qgraph over quantize_static, geometric means: {ratios}.

{better} of the models have no more error than
quantize_static's; these have: {worse}.

* Default weights are pair-safe: one file gives the same bytes on every x86. Those of quantize_static saturate in int16
  on an x86 without VNNI; qgraph's of full range too, and `qgraph verify` says so. What pair-safe weights cost is most
  where all weights of a channel are of one size, as in the MLP here, which was not trained.
* An LSTM becomes small integer ops, whose bytes are exact, but which are slow and round its state at every step;
  quantize_static leaves it in float. `--exclude` does so too: its last digits are then those of ONNX Runtime's floats,
  which the interpreter does not promise.
* The U-Net is slower by its transposed convolution: here a convolution over spread zeros, whose Pad takes four tenths
  of the time, there one in float. So is the transformer by GELU, here a table (Cast and Gather), there in float.
"""


def against_quantize_static(size: Size) -> Result:
    """All models (the first alone where `channels` are few): seconds, with the other figures beside them."""
    from tests.benchmarks.static_models import MODELS

    names = list(MODELS)[: None if size.channels[0] >= 16 else 1]
    with tempfile.TemporaryDirectory() as byte_code:
        rows = [compare(name, 20 * size.repeats, Path(byte_code)) for name in names]
    details = {f"{key}, ratio": ratio(rows, key) for key in ("CPU s", "MB", "ms", "KB")}
    details["least gain in dB"] = min(row["qgraph"].get("dB", 0.0) - row["peer"].get("dB", 0.0) for row in rows)
    what = "qgraph quantize over quantize_static, seconds of the process"
    return Result("quantize-static", what, ratio(rows, "seconds"), "times", "<=", 0.5, details)


def main() -> None:
    from tests.benchmarks.static_models import MODELS

    parser = argparse.ArgumentParser("python -m tests.benchmarks.quantize_static")
    parser.add_argument("--model", action="append", choices=MODELS, help="one of them; give it again for more")
    parser.add_argument("-o", "--output", type=Path, help="a file of JSON")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.name}, of all models")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as byte_code:
        rows = [compare(name, 200, Path(byte_code)) for name in arguments.model or MODELS]
    for row in rows:
        for side in SIDES:
            if "failed" in row[side]:
                print(f"{row['model']}, {side}: {row[side]['failed']}", file=sys.stderr)
    print(table(rows))
    if arguments.page:
        PAGE.write_text(page(rows))
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
