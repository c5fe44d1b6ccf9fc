"""NE16's functional model of pulp-nnx, to unsigned 8 bits: accumulator, bias in its steps, scale, shift."""

import sys
import types

import numpy as np
import torch
from python_rows import groups, serve


class IntegerType:
    """What the model asks of TestClasses.IntegerType."""

    def __init__(self, name: str) -> None:
        signed, self._bits = not name.startswith("u"), int(name.lstrip("uint"))
        self.min = -(1 << (self._bits - 1)) if signed else 0
        self.max = (1 << (self._bits - signed)) - 1


classes = types.ModuleType("TestClasses")
classes.IntegerType, classes.Padding, classes.Stride = IntegerType, object, object
sys.modules["TestClasses"] = classes
from NeuralEngineFunctionalModel import NeuralEngineFunctionalModel  # noqa: E402  # which imports it


def quantized(table: np.ndarray) -> np.ndarray:
    made = np.empty(len(table), np.int64)
    for place, (bias, scale, shift) in groups(table, 1):
        acc = torch.from_numpy(table[place, 0]).type(torch.int32)
        made[place] = (
            NeuralEngineFunctionalModel()
            ._norm_quant(
                acc,
                torch.tensor([int(scale)]),
                torch.tensor([int(bias * scale)]).type(torch.int32),
                torch.tensor(int(shift), dtype=torch.int32),
                IntegerType("uint8"),
                IntegerType("int32"),
                has_bias=True,
                has_relu=True,
                verbose=False,
            )
            .numpy()
        )
    return made


serve({"quantized": quantized})
