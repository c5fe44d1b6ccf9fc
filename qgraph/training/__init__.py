"""Graphs as torch modules: calibration and fake-quant training.

**What fake-quant sees of the integers, and what not** (`python -m tests.fake_quant_agreement` prints the share of equal
codes by op and target). Modelled: the grid of every value, requantization on the edges of joins, as the target rounds
there, numbers that a pad brings in, fewer bits than eight, the integers of biases, how a target rounds floats, and how
it rounds means and leaky_relu. Predicted in full: moves, pools, means, joins, leaky_relu, sigmoid, tanh, softmax (not
that of onnxruntime, whose kernel rounds twice), and sums with constants. Off by a code now and then:

* Sums and products with a quotient of scales are rounded twice, or with a multiplier of 31 bits, by LiteRT's reference
  kernels and TFLM, and in float32 by others: 0.1 to 0.7% of the codes of convolutions, sums and products.
* While batch normalization uses the statistics of a batch there is no folded bias that could be rounded.

`to_torch(..., mode="bit-true")` leaves no difference: see `qgraph.training.bit_true`.

`to_torch(...).eval()` and `run` of the prepared graph differ where float sums, which each adds up in its own order,
fall on two sides of a rounding border: by one step there, and by what follows from it downstream.
"""

from qgraph.imports import require_torch

require_torch()

from qgraph.training.calibration import calibrate, freeze  # noqa: E402  they import torch: the check comes first
from qgraph.training.conversion import from_torch, to_torch  # noqa: E402
from qgraph.training.evaluation import evaluate  # noqa: E402
from qgraph.training.oscillations import OscillationFreezer, dampening  # noqa: E402
from qgraph.training.schedule import Schedule, delay_quantization, distillation, parameter_groups  # noqa: E402

__all__ = [
    "OscillationFreezer",
    "Schedule",
    "calibrate",
    "dampening",
    "delay_quantization",
    "distillation",
    "evaluate",
    "freeze",
    "from_torch",
    "parameter_groups",
    "to_torch",
]
