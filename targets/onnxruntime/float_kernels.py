"""Ops that stay in float, as ONNX Runtime computes them (MLAS on an x86 with AVX512): float32, step by step.

Measured against onnxruntime 1.32.0 at all four optimization levels: 0 differing bits. A fused multiply-add is a float64
product, which is exact, and a float64 sum rounded to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.c_library import logf
from qgraph.arith.windows import padded, pooled_shape, window_pads
from qgraph.ir import Array, Node
from qgraph.ops.nn.resizing import enlargement

Float = NDArray[np.float32]
f32, f64 = np.float32, np.float64


def fma(x: Any, y: Any, z: Any) -> Float:
    """x * y + z of float32 values, rounded to float32 once."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(np.asarray(x, f64) * np.asarray(y, f64) + np.asarray(z, f64), f32)


def polynomial(x: Float, *coefficients: float) -> Float:
    """The polynomial by Horner's rule, highest coefficient first, with fused multiply-adds."""
    total = np.full_like(x, f32(coefficients[0]))
    for each in coefficients[1:]:
        total = fma(total, x, f32(each))
    return total


def logistic(x: Float) -> Float:
    """1 / (1 + exp(-x)) as a rational function of x in [-18, 18]. Source: MlasLogisticKernel."""
    x = np.clip(x, f32(-18), f32(18))
    square = x * x
    above = polynomial(
        square,
        4.37031012579801e-11,
        1.15627324459942e-07,
        6.08574864600143e-05,
        8.51377133304701e-03,
        2.48287947061529e-01,
    )
    below = polynomial(
        square,
        6.10247389755681e-13,
        5.76102136993427e-09,
        6.29106785017040e-06,
        1.70198817374094e-03,
        1.16817656904453e-01,
        9.93151921023180e-01,
    )
    return np.asarray(np.maximum(f32(0), (x * above) / below + f32(0.5)))


def tanh(x: Float) -> Float:
    """Tanh as a rational function of x in [-9, 9]. Source: MlasTanhKernel."""
    x = np.clip(x, f32(-9), f32(9))
    square = x * x
    above = polynomial(
        square,
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
    below = polynomial(square, 1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
    return np.asarray((x * above) / below)


def _reduced_exp(x: Float, *coefficients: float) -> Float:
    """exp(x) as 2**m times a polynomial of x - m * log(2)."""
    magic = f32(12582912)  # 1.5 * 2**23: adding it rounds to an integer
    m = fma(x, f32(1.44269504088896341), magic) - magic
    rest = fma(m, f32(-1.42860677e-6), fma(m, f32(-6.93145752e-1), x))
    return np.ldexp(polynomial(rest, *coefficients), m.astype(np.int32)).astype(f32)


EXP = (
    *map(float.fromhex, ("0x1.694p-10", "0x1.125edcp-7", "0x1.555b5ap-5", "0x1.55545p-3", "0x1.fffff6p-2")),
    1.0,
    1.0,
)


def exp(x: Float) -> Float:
    """exp(x) of x <= 88. Source: MlasComputeExpF32Kernel."""
    return _reduced_exp(np.maximum(f32(-103.9720840454), x), *EXP)


ERF_SMALL = (-5.99104969e-4, 4.99339588e-3, -2.67667342e-2, 1.12818025e-1, -3.76124859e-1, 1.28379151e-1)
ERF_BIG = (
    *(1.72948930e-5, -3.83208680e-4, 3.88393435e-3, -2.42545605e-2),
    *(1.06777847e-1, 6.34846687e-1, 1.28717512e-1),
)
ERF_EXP = (1.38319808e-3, 8.37550033e-3, 4.16689515e-2, 1.66664466e-1, 4.99999851e-1, 1.0, 1.0)


def erf(x: Float) -> Float:
    """The error function. Source: MlasErfKernel."""
    size = np.minimum(np.abs(x), f32(3.925))
    small = fma(polynomial(size * size, *ERF_SMALL), size, size)
    big = fma(polynomial(size, *ERF_BIG), size, size)
    return np.copysign(np.where(size > f32(0.921875), f32(1) - _reduced_exp(-big, *ERF_EXP), small), x)


def hard_sigmoid(x: Float) -> Float:
    """x / 6 + 1/2 between 0 and 1, the quotient a product. Source: onnxruntime's HardSigmoid."""
    return np.asarray(np.clip(f32(1 / 6) * x + f32(0.5), f32(0), f32(1)))


def gelu(x: Float) -> Float:
    """x * (1 + erf(x / sqrt(2))) / 2."""
    return np.asarray(f32(0.5) * x * (erf(x * f32(0.7071067811865476)) + f32(1)))


def gelu_tanh(x: Float) -> Float:
    """Its approximation by tanh."""
    inner = tanh(x * (f32(0.035677408136300125) * x * x + f32(0.7978845608028654)))
    return np.asarray(f32(0.5) * x * (inner + f32(1)))


def softmax(x: Float) -> Float:
    """Softmax over the last axis. Source: MlasComputeSoftmax."""
    e = exp(x - x.max(-1, keepdims=True))
    return np.asarray(e * (f32(1) / _sum_in_lanes(e)))


def log_softmax(x: Float) -> Float:
    """Its logarithm, the C library's of the sum. Source: MlasComputeSoftmax; 3,017,600 elements, 1 to 1,000 a row."""
    less = x - x.max(-1, keepdims=True)
    return np.asarray(less - logf(_sum_in_lanes(exp(less))))


def _sum_in_lanes(e: Float) -> Float:
    """The sum over the last axis, [..., 1], in 16 lanes."""
    lanes = np.zeros((*e.shape[:-1], 16), f32)
    for start in range(0, e.shape[-1], 16):
        part = e[..., start : start + 16]
        lanes[..., : part.shape[-1]] += part
    total = lanes[..., 8:] + lanes[..., :8]
    for _ in range(3):
        total = total[..., 0::2] + total[..., 1::2]
    return np.asarray(total)


def layer_norm(x: Float, gain: Float, bias: Float | None, eps: float) -> Float:
    """Layer normalization over the last axis. Source: onnxruntime's LayerNormalization; found by measuring.

    Fewer than 8 values: Welford's running mean and sum of squares. Else the mean in float64, and the squares in 8
    lanes, which are halved; what is left over follows one by one, the first four not fused.
    """
    rows = x.reshape(-1, x.shape[-1])
    made = welford(rows, gain, bias, eps) if rows.shape[1] < 8 else _in_lanes(rows, gain, bias, eps)
    return made.reshape(x.shape)


def welford(x: Float, gain: Float, bias: Float | None, eps: float) -> Float:
    """Layer normalization of rows [R, K] by Welford's running mean and sum of squares."""
    count = x.shape[1]
    mean, squares = np.zeros((len(x), 1), f32), np.zeros((len(x), 1), f32)
    for k in range(count):
        value = x[:, k : k + 1]
        distance = value - mean
        mean = mean + distance / f32(k + 1)
        squares = squares + distance * (value - mean)
    y = (x - mean) / np.sqrt(squares / f32(count) + f32(eps)) * gain
    return np.asarray(y if bias is None else y + bias)


def _in_lanes(x: Float, gain: Float, bias: Float | None, eps: float) -> Float:
    count, whole = x.shape[1], x.shape[1] // 8 * 8
    distance = x - x.astype(f64).mean(1, keepdims=True).astype(f32)
    lanes = np.zeros((len(x), 8), f32)
    for k in range(0, whole, 8):
        part = distance[:, k : k + 8]
        lanes = fma(part, part, lanes)
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    for k in range(whole, count):
        value = distance[:, k : k + 1]
        rounded = count - whole >= 4 and k < whole + 4
        lanes = lanes + value * value if rounded else fma(value, value, lanes)
    y = distance * (f32(1) / np.sqrt(lanes / f32(count) + f32(eps)))
    return np.asarray(y * gain) if bias is None else fma(y, gain, bias)


def row_sums(x: Float) -> Float:
    """The sums of the rows of x [R, K] as Eigen's redux has them: two packets of 4 from the first aligned element on,
    halved; then what stands before, and what is left over, one by one. A row begins where the one before it ends."""
    count, sums = x.shape[1], np.zeros(len(x), f32)
    begins = -np.arange(len(x)) * count % 4
    for begin in range(min(4, count)):
        chosen = begins == begin
        sums[chosen] = _sums_from(x[chosen], begin)
    if count < 4:
        sums = np.add.accumulate(x, axis=1)[:, -1]
    return sums


def _sums_from(x: Float, begin: int) -> Float:
    whole, pairs = (x.shape[1] - begin) // 4 * 4, (x.shape[1] - begin) // 8 * 8
    if not whole:
        return np.asarray(np.add.accumulate(x, axis=1)[:, -1])
    packets = [x[:, begin + k : begin + k + 4] for k in range(0, whole, 4)]
    total = np.array(packets[0])
    if len(packets) > 1:
        other = np.array(packets[1])
        for k in range(2, pairs // 4, 2):
            total, other = total + packets[k], other + packets[k + 1]
        total = total + other
        if whole > pairs:
            total = total + packets[-1]
    halves = total[:, :2] + total[:, 2:]
    made = halves[:, 0] + halves[:, 1]
    for k in (*range(begin), *range(begin + whole, x.shape[1])):
        made = made + x[:, k]
    return np.asarray(made)


def global_mean(x: Float) -> Float:
    """GlobalAveragePool of [N, C, *S]: four lanes, halved, then what is left over one by one, divided.

    Source: MlasPoolGlobalKernel.
    """
    rows = x.reshape(*x.shape[:2], -1)
    count = rows.shape[-1]
    whole = count // 4 * 4
    lanes = np.add.accumulate(rows[..., :whole].reshape(*x.shape[:2], whole // 4, 4), axis=2)[..., -1, :]
    halves = lanes[..., :2] + lanes[..., 2:]
    total = halves[..., 0] + halves[..., 1]
    for k in range(whole, count):
        total = total + rows[..., k]
    return np.asarray(total / f32(count)).reshape(*x.shape[:2], *(1 for _ in x.shape[2:]))


def over_last(axes: Sequence[int], rank: int) -> bool:
    """Whether axes are the last ones, over which `row_sums` are known."""
    return sorted(axes) == [*range(rank - len(axes), rank)]


def reduced(view: Any, x: Array, divide: bool) -> Array:
    """`nn.sum` and `nn.mean`; over other axes than the last ones the order of the sum is not known. Sums of integers
    have no order."""
    if x.dtype.kind != "f" or not over_last(view.axes, x.ndim):
        made: Array = view.evaluate(x)
        return made
    kept = x.ndim - len(view.axes)
    count = int(np.prod(x.shape[kept:]))
    total = row_sums(x.reshape(-1, count))
    shape = (*x.shape[:kept], *(1,) * (len(view.axes) if view.keepdims else 0))
    return np.asarray(total / f32(count) if divide else total).reshape(shape)


def root_mean_square(view: Any, x: Array, gamma: Array | None) -> Array:
    """`nn.rms_norm` by a product, a mean, a root and a quotient."""
    count = int(np.prod(x.shape[x.ndim - view.axes :]))
    rows = x.reshape(-1, count)
    root = np.sqrt(row_sums(rows * rows) / f32(count) + f32(view.eps))
    y = (rows / root[:, None]).reshape(x.shape)
    return y if gamma is None else np.asarray(y * gamma)


def resized(view: Any, x: Array) -> Array:
    """`nn.resize`; bilinear: the sum of four elements, one after another, each by its weight of both dimensions. The
    nearest are the same in any file: where the runtime's own places are others, the writer names them.

    Source: onnxruntime's UpsampleBilinear; found by measuring.
    """
    if view.mode != "linear" or x.ndim != 4:
        made: Array = view.evaluate(x)
        return made
    rows, columns = (_between(x.shape[2 + i], view.size[i], view.align_corners) for i in range(2))
    total: Array | None = None
    for place_y, weight_y, place_x, weight_x in (
        (rows[0], rows[3], columns[0], columns[3]),
        (rows[0], rows[3], columns[1], columns[2]),
        (rows[1], rows[2], columns[0], columns[3]),
        (rows[1], rows[2], columns[1], columns[2]),
    ):
        part = (weight_x[None, :] * weight_y[:, None]) * x[:, :, place_y][:, :, :, place_x]
        total = part if total is None else total + part
    return np.asarray(total)


def _between(size: int, out: int, aligned: bool) -> tuple[Array, Array, Array, Array]:
    """The two elements between which each of `out` places lies, and its distance from either."""
    index = np.arange(out).astype(f32)
    if aligned:
        places = index * f32(size - 1) / f32(out - 1) if out > 1 else np.zeros(1, f32)
    else:
        places = (index + f32(0.5)) / enlargement(size, out) - f32(0.5)
    places = np.clip(places, f32(0), f32(size - 1))
    first = places.astype(np.int64)
    second = np.minimum(first + 1, size - 1)
    near, far = (np.abs(places - each.astype(f32)) for each in (first, second))
    alone = first == second
    return first, second, np.where(alone, f32(0.5), near), np.where(alone, f32(0.5), far)


def window_means(
    x: Float, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], count_include_pad: bool
) -> Float:
    """AveragePool of [N, C, *S]: the sums of windows over how many elements count; see `average`."""
    total = sum_in_order(padded(x, pads, 0.0), kernel, strides)
    return np.asarray(total / counts(x, kernel, strides, pads, count_include_pad))


def counts(
    x: Float, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], count_include_pad: bool
) -> Float:
    """How many elements of each window count."""
    if count_include_pad:
        return np.asarray(f32(np.prod(kernel)))
    return sum_in_order(padded(np.ones((1, 1, *x.shape[2:]), f32), pads, 0.0), kernel, strides)


def sum_in_order(x: Float, kernel: Sequence[int], strides: Sequence[int]) -> Float:
    """The sums of the windows of [N, C, *S], element by element, row-major."""
    out = pooled_shape(x.shape[2:], kernel, strides)
    total = np.zeros((*x.shape[:2], *out), np.float32)
    for position in product(*map(range, kernel)):
        ends = [p + (size - 1) * step + 1 for p, size, step in zip(position, out, strides, strict=True)]
        taps = (slice(p, end, step) for p, end, step in zip(position, ends, strides, strict=True))
        total += x[(slice(None), slice(None), *taps)]
    return total


STRIDE_OF_COLUMNS, LONGEST_ROW = 2, 1984
"""Up to this step along the last dimension, and this size of it with its pads, columns of a window are added first."""


def averaged(view: Any, x: Array) -> Array:
    """`nn.avg_pool`: sums of the columns of a window are added one after another, or its elements, row-major.

    Whether padding counts that `ceil_mode` adds to counted padding is not known. Source: MlasPoolVectorKernel,
    MlasPoolGenericKernel; 0 of 340,740 elements of 1 to 3 dimensions.
    """
    if not_averaged(view.ceil_mode, view.count_include_pad, view.pads):
        made: Array = view.evaluate(x)
        return made
    ones = (1,) * len(view.kernel)
    out = pooled_shape(x.shape[2:], view.kernel, view.stride, view.pads, ones, view.ceil_mode)
    pads = window_pads(x.shape[2:], view.kernel, view.stride, view.pads, ones, out)
    counted = view.count_include_pad and any(view.pads)
    if view.stride[-1] > STRIDE_OF_COLUMNS or x.shape[-1] + pads[len(ones) - 1] + pads[-1] > LONGEST_ROW:
        return window_means(x, view.kernel, view.stride, pads, counted)
    columns = sum_in_order(padded(x, pads, 0.0), (*view.kernel[:-1], 1), (*view.stride[:-1], 1))
    total = sum_in_order(columns, (*ones[:-1], view.kernel[-1]), (*ones[:-1], view.stride[-1]))
    return np.asarray(total / counts(x, view.kernel, view.stride, pads, counted))


def not_averaged(ceil_mode: bool, count_include_pad: bool, pads: Sequence[int]) -> bool:
    """Whether an average may count what the runtime does not."""
    return ceil_mode and count_include_pad and any(pads)


def over_axis(function: Callable[[Float], Float]) -> Callable[..., Array]:
    """`nn.softmax` or `nn.log_softmax` over any axis."""
    return lambda view, x: np.moveaxis(function(np.moveaxis(x, view.axis, -1)), -1, view.axis)


def normalized(
    view: Any, x: Array, gamma: Array | None, beta: Array | None, of_rows: Callable[..., Array] = layer_norm
) -> Array:
    """`nn.layer_norm`, whose last axes are as one; without a gain the file has one of ones. `of_rows`: of [R, K], the
    gain [K], the bias, and eps."""
    count = int(np.prod(x.shape[x.ndim - view.axes :]))
    gain = np.ones(count, f32) if gamma is None else gamma.reshape(-1)
    bias = None if beta is None else beta.reshape(-1)
    return of_rows(x.reshape(-1, count), gain, bias, view.eps).reshape(x.shape)


KERNELS: dict[str, Callable[..., Array]] = {
    "nn.sigmoid": lambda view, x: logistic(x),
    "nn.tanh": lambda view, x: tanh(x),
    "nn.softmax": over_axis(softmax),
    "nn.log_softmax": over_axis(log_softmax),
    "nn.exp": lambda view, x: exp(x),
    "nn.erf": lambda view, x: erf(x),
    "nn.gelu": lambda view, x: gelu_tanh(x) if view.approximate == "tanh" else gelu(x),
    "nn.layer_norm": normalized,
    "nn.resize": resized,
    "nn.rms_norm": root_mean_square,
    "nn.mean": lambda view, x: reduced(view, x, divide=True),
    "nn.sum": lambda view, x: reduced(view, x, divide=False),
    "nn.avg_pool": averaged,
    "nn.hard_sigmoid": lambda view, x: hard_sigmoid(x),
    "nn.hard_swish": lambda view, x: np.asarray(x * hard_sigmoid(x)),
}
"""Op of `nn` that stays in float -> what the runtime computes for it."""
EXACT = {
    *("nn.reshape", "nn.transpose", "nn.pad", "nn.concat", "nn.slice", "nn.expand", "nn.gather", "nn.gather_elements"),
    *("nn.index", "nn.max", "nn.min", "nn.argmax", "nn.argmin", "nn.where", "nn.cast", "nn.arange", "nn.max_pool"),
    *("nn.equal", "nn.not_equal", "nn.less", "nn.less_equal"),
    *("nn.logical_and", "nn.logical_or", "nn.logical_xor", "nn.logical_not"),
    *("nn.relu", "nn.relu6", "nn.clamp", "nn.add", "nn.sub", "nn.mul", "nn.div", "nn.leaky_relu", "nn.prelu"),
    *("nn.sqrt", "nn.rsqrt", "nn.abs", "nn.sign", "nn.floor", "nn.ceil", "nn.round", "nn.maximum", "nn.minimum"),
    *KERNELS,
}
"""Ops that give the runtime's bits in float; `nn.mean` and `nn.sum` over the last axes, `nn.resize` but for cubic."""


ON_CODES = ("nn.hard_sigmoid", "nn.hard_swish", "nn.avg_pool")
"""Ops that are exact in float, too, but are better computed of codes than made part of an island."""


def belongs_to_islands(node: Node) -> bool:
    """Whether an op on floats may be part of an island."""
    return is_exact(node) and node.op not in ON_CODES


def is_exact(node: Node) -> bool:
    """Whether an op on floats, or on indices and conditions, gives the runtime's bits."""
    rank = node.operand(0).type.rank
    if not node.results[0].type.is_float:
        return True
    if node.op == "nn.avg_pool":
        return not not_averaged(node.attrs["ceil_mode"], node.attrs["count_include_pad"], node.attrs["pads"])
    if node.op == "nn.resize":
        return node.attrs["mode"] == "nearest" or (node.attrs["mode"] == "linear" and rank == 4)
    return node.op in EXACT and (node.op not in ("nn.mean", "nn.sum") or over_last(node.attrs["axes"], rank))
