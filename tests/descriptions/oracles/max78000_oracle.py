"""The simulator of ai8x-synthesis: one layer of two channels and 1 x 1 kernels, average pools, an addition."""

import numpy as np
from izer import op, simulate, state
from izer import tornadocnn as tc
from izer.compute import pool2d
from python_rows import groups, serve

state.output_layer = [False]
tc.dev = tc.get_device(85)


def layer(activation):
    def of_rows(table: np.ndarray) -> np.ndarray:
        """Columns: two elements, two weights, bias, output shift."""
        made = np.empty(len(table), np.int64)
        for place, (first, second, bias, shift) in groups(table, 2):
            data = table[place, :2].T.reshape(2, -1, 1)
            kernel = np.array([first, second]).reshape(1, 2, 1, 1)
            out, _ = simulate.conv2d_layer(
                0, data.shape, (1, 1), int(shift), 1, (0, 0), (1, 1), (1, 1), activation, kernel, np.array([bias]), data
            )
            made[place] = out.reshape(-1)
        return made

    return of_rows


def averaged(floor: bool):
    def of_rows(table: np.ndarray) -> np.ndarray:
        """Columns: sum, four elements."""
        data = table[:, 1:].reshape(1, -1, 2)  # windows of 2 x 2, one below the other
        return pool2d(data, data.shape, (1, len(table), 1), (2, 2), (2, 2), True, floor=floor).reshape(-1)

    return of_rows


def added(table: np.ndarray) -> np.ndarray:
    data = table.T.reshape(2, 1, -1, 1)
    out, _ = simulate.eltwise_layer(op.ELTWISE_ADD, 0, data[0].shape, 0, data, operands=2)
    return out.reshape(-1)


serve(
    {
        "layer": layer(None),
        "layer_relu": layer(op.ACT_RELU),
        "layer_abs": layer(op.ACT_ABS),
        "average": averaged(True),
        "average_rounded": averaged(False),
        "add": added,
    }
)
