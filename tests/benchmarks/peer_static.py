"""onnxruntime's own quantize_static as its documentation says: `python -m tests.benchmarks.peer_static FLOAT DATA OUT`.

With its pre-processing, 8 bits a channel for weights, u8 activations, MinMax; examples go in one by one, as in its
documented examples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from qgraph.ir import Array


class Examples(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """The arrays of an .npz file, example by example."""

    def __init__(self, path: str) -> None:
        arrays = dict(np.load(path))
        count = len(next(iter(arrays.values())))
        self.rows: Iterator[dict[str, Array]] = iter(
            [{n: a[i : i + 1] for n, a in arrays.items()} for i in range(count)]
        )

    def get_next(self) -> dict[str, Array] | None:
        return next(self.rows, None)


def main(source: str, data: str, made: str) -> None:
    quant_pre_process(source, f"{made}.pre")
    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(f"{made}.pre", made, Examples(data), per_channel=True, **types)


if __name__ == "__main__":
    main(*sys.argv[1:])
