"""What ops become in C99 where TFLite Micro does not compute as LiteRT's reference kernels do."""

from __future__ import annotations

from functools import partial

import numpy as np

from qgraph.targets.litert.c_forms import add, multiply, prelu, reduce_sum, svdf
from qgraph.targets.litert.c_lstm import InC, lstm
from qgraph.targets.target import CForm
from qgraph.targets.tflm.lstm import MICRO

OF_TABLES = InC(MICRO, "qg_logistic_of_table", "qg_tanh_of_table", 0, 12)
C_FORMS: dict[str, CForm] = {
    "litert.add": add,
    "litert.sub": add,
    "litert.mul": partial(multiply, precision=np.float64),
    "litert.prelu": partial(prelu, precision=np.float64),
    "litert.svdf": partial(svdf, real=np.float64),
    "litert.sum": reduce_sum,
    "litert.unidirectional_sequence_lstm": partial(lstm, family=OF_TABLES),
}
