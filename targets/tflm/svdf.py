"""SVDF on TFLite Micro: the state may have 8 bits, and factors are formed in float64.

Source: tensorflow/lite/micro/kernels/svdf_common.cc.
"""

from __future__ import annotations

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array
from qgraph.targets.litert.dialect.svdf import Svdf, step
from qgraph.targets.target import Kernel


def svdf(op: Svdf, *arrays: Array) -> tuple[Array, Array]:
    """The family's arithmetic by factors formed in float64, also on states of 8 bits.

    Raises UnsupportedOp without a bias, which the kernel reads unasked.
    """
    if op.bias is None:
        raise UnsupportedOp("TFLite Micro crashes on an SVDF without a bias", help="give it one of zeros")
    return step(op, np.float64, *arrays)


KERNELS: dict[str, Kernel] = {"litert.svdf": svdf}
