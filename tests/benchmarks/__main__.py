"""The command `python -m tests.benchmarks`; see the package's docstring."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import tests.benchmarks

if TYPE_CHECKING:
    from tests.benchmarks.measure import Result, Size

BENCHMARKS = {
    "onnx": ("interpreter", "against_onnx"),
    "litert": ("interpreter", "against_litert"),
    "models": ("published_models", "against_kernels"),
    "latency": ("published_models", "one_example"),
    "c99": ("c_programs", "against_tflm"),
    "import": ("importing", "large_file"),
    "training": ("training", "step_cost"),
    "bit-true": ("training", "bit_true_cost"),
    "peer-steps": ("peer_steps", "against_peers"),
    "compiling": ("compiling", "trace_to_lowered"),
    "help": ("compiling", "help_text"),
    "graphs": ("graphs", "scale"),
    "quantize-static": ("quantize_static", "against_quantize_static"),
}


def benchmark(name: str) -> Callable[[Size], Result]:
    """The function of a benchmark; loads what it needs."""
    module, function = BENCHMARKS[name]
    found: Callable[[Size], Result] = getattr(importlib.import_module(f"tests.benchmarks.{module}"), function)
    return found


def main() -> None:
    """Run the benchmarks that the command line names."""
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks", description=(tests.benchmarks.__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="one benchmark; give it again for more")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each side (5)")
    arguments = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # read when the numerical libraries load, which is later
    from tests.benchmarks.measure import Size

    results = []
    for name in arguments.only or BENCHMARKS:
        results.append(benchmark(name)(Size(repeats=arguments.repeats)))
        if not arguments.json:
            print(results[-1], flush=True)
    if arguments.json:
        print(json.dumps([{**dataclasses.asdict(result), "reached": result.reached} for result in results], indent=2))


if __name__ == "__main__":
    main()
