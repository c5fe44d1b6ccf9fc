"""What ops become in C99 where TFLite Micro does not compute as LiteRT's reference kernels do."""

from __future__ import annotations

from functools import partial

import numpy as np

from qgraph.targets.litert.c_forms import add, multiply, prelu, reduce_sum, svdf
from qgraph.targets.target import CForm

C_FORMS: dict[str, CForm] = {
    "litert.add": add,
    "litert.sub": add,
    "litert.mul": partial(multiply, precision=np.float64),
    "litert.prelu": partial(prelu, precision=np.float64),
    "litert.svdf": partial(svdf, real=np.float64),
    "litert.sum": reduce_sum,
}
