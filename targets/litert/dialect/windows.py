"""What ops with windows share: sizes, pads, words."""

from __future__ import annotations

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, TensorType
from qgraph.ir.types import Shape
from qgraph.targets.litert.padding import output_size, same_pads
from qgraph.targets.litert.rows import FUSED

PADDINGS = ("SAME", "VALID")
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def window_type(
    x: TensorType, kernel: Shape, stride: tuple[int, int], dilation: tuple[int, int], padding: str
) -> Shape:
    """Spatial sizes of a window op's result."""
    if min(*stride, *dilation) < 1:
        raise TypeMismatch(f"stride {stride} and dilation {dilation} must be steps of at least 1")
    sizes = []
    for size, k, s, d in zip(x.shape[1:3], kernel, stride, dilation, strict=True):
        if not isinstance(size, int) or not isinstance(k, int):
            raise TypeMismatch(f"the spatial sizes of {x} must be known")
        sizes.append(output_size(size, k, s, d, padding))
    if min(sizes) < 1:
        raise TypeMismatch(f"the window {list(kernel)} does not fit into {x}")
    return tuple(sizes)


def pads_of(
    x: Array, kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int], padding: str
) -> tuple[int, ...]:
    """The pads (begins, ends) that "SAME" stands for; zeros for "VALID"."""
    if padding == "VALID":
        return (0, 0, 0, 0)
    return same_pads(x.shape[1:3], kernel, stride, dilation)


def same_parameters(x: TensorType, result: TensorType, what: str) -> None:
    """Raise TypeMismatch where an op's result has other quantization parameters than its operand."""
    if x.quant != result.quant:
        raise TypeMismatch(f"{what}: operand {x} and result {result} must have the same quantization parameters")


STRIDED: dict[str, str | tuple[str, ...]] = {
    "stride": ("stride_h", "stride_w"),
    "padding": "padding",
    "activation": FUSED,
}
"""Options of operators with windows."""
DILATED = STRIDED | {"dilation": ("dilation_h_factor", "dilation_w_factor")}
POOLED = STRIDED | {"kernel": ("filter_height", "filter_width")}
