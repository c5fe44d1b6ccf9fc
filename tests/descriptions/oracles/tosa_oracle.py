"""The TOSA reference model: RESCALE to int32, AVG_POOL2D over x0 to x3, TABLE of 16 bits (i * i % 997 - 300).

It runs in a Python that has qgraph, which starts the one that QGRAPH_TOSA_PYTHON names.
"""

from collections.abc import Callable, Sequence

import numpy as np
from python_rows import groups, serve

from qgraph.ir import Builder, Graph, TensorType
from qgraph.runtimes import Worker
from qgraph.targets.tosa.file_writer import to_tosa

TABLE = (np.arange(513) ** 2 % 997 - 300).astype(np.int16)
STORAGE = {1: "i8", 2: "i16", 4: "i32"}


def answered(op: str, x: np.ndarray, constants: Sequence[np.ndarray], dtype: str, words: dict) -> np.ndarray:
    """What one op gives."""
    graph = Graph("op", "integer", {"target": "tosa", "layout": "NHWC", "io": "integer"})
    value = graph.add_input("x", TensorType(x.shape, STORAGE[x.dtype.itemsize]))
    made = Builder(graph).node(op, [value, *map(graph.add_constant, constants)], words, element=(dtype, None))
    made.result.name = "y"
    graph.set_outputs([made.result])
    return worker.run(to_tosa(graph), [[x]]).runs[0].outputs[0].data


def rescaled(mode: str, bits: int) -> Callable[[np.ndarray], np.ndarray]:
    def of_rows(table: np.ndarray) -> np.ndarray:
        made = np.empty(len(table), np.int64)
        for place, (multiplier, shift) in groups(table, 1):
            constants = [np.array([multiplier], f"<i{bits // 8}"), np.array([shift], np.int8)]
            words = {"rounding_mode": mode, "scale32": bits == 32}
            made[place] = answered("tosa.rescale", table[place, 0].astype(np.int32), constants, "i32", words)
        return made

    return of_rows


def averaged(table: np.ndarray) -> np.ndarray:
    x = table[:, 1:].astype(np.int8).reshape(1, -1, 2, 1)  # windows of 2 x 2, one below the other
    return answered("tosa.avg_pool2d", x, [], "i8", {"kernel": (2, 2), "stride": (2, 2)}).reshape(-1)


def looked_up(table: np.ndarray) -> np.ndarray:
    return answered("tosa.table", table[:, 0].astype(np.int16), [TABLE], "i32", {})


with Worker("tosa") as worker:
    serve(
        {
            "single_32": rescaled("SINGLE_ROUND", 32),
            "double_32": rescaled("DOUBLE_ROUND", 32),
            "single_16": rescaled("SINGLE_ROUND", 16),
            "average": averaged,
            "table_16": looked_up,
        }
    )
