"""QONNX, row by row: thresholds (x and seven), truncation (x, shift, bits), average pools (four elements)."""

import numpy as np
import onnx.helper as helper
from onnx import TensorProto
from python_rows import groups, serve
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.general.multithreshold import multithreshold
from qonnx.custom_op.general.trunc import trunc_v2


def threshold(table: np.ndarray) -> np.ndarray:
    return multithreshold(table[:, :1].T.astype(np.float64), table[:, 1:].astype(np.float64), 1.0, -4.0).reshape(-1)


def truncated(mode: str):
    def of_rows(table: np.ndarray) -> np.ndarray:
        made = np.empty(len(table))
        for place, (shift, bits) in groups(table, 1):
            x, scale = table[place, 0].astype(np.float64), 2.0**shift
            eight = np.float64(bits)
            made[place] = trunc_v2(x, 1.0, 0.0, 32, False, True, scale, eight, mode) / scale
        return made

    return of_rows


def averaged(table: np.ndarray) -> np.ndarray:
    """Columns: sum, four elements, output bits; inputs of 8 bits, so that the shift is 10 - bits."""
    made = np.empty(len(table))
    for place, (bits,) in groups(table, 5):
        x = table[place, 1:5].astype(np.float32).reshape(-1, 1, 2, 2)
        node = helper.make_node(
            "QuantAvgPool2d",
            ["x"],
            ["y"],
            domain="qonnx.custom_op.general",
            stride=2,
            kernel=2,
            ibits=8,
            obits=int(bits),
            signed=1,
            data_layout="NCHW",
        )
        ends = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
            for n, s in (("x", x.shape), ("y", (len(x), 1, 1, 1)))
        ]
        model = ModelWrapper(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:])))
        made[place] = execute_onnx(model, {"x": x})["y"].reshape(-1)
    return made


serve(
    {
        "threshold": threshold,
        "average": averaged,
        **{f"trunc_{m.lower()}": truncated(m) for m in ("FLOOR", "ROUND", "CEIL")},
    }
)
