"""Rows of LiteRT's functions of one element, matrix products, reductions, choices and resizes.

Functions that are defined from 0 on have operands whose lowest code is 0: the runtime refuses one below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.ir import Builder, Node, QuantParams, TensorType, Value
from qgraph.ir.types import integer_range
from qgraph.ops.quant import INT32, grid_of, is_known, quantize, unquantized
from qgraph.targets.correspondence import Attrs, Call, Codec, Correspondence, Pair, Refusal
from qgraph.targets.litert.limits import ratio_limits
from qgraph.targets.lowering import CALIBRATE

# ---- functions

LARGEST_SCALE = 2.0**100


def function_scale(call: Call) -> Refusal | None:
    """Scales whose float32 quotients and products stay finite."""
    scales = [float(call.xs[0].type.q.scales[0]), float(call.quant.scales[0])]
    if all(1 / LARGEST_SCALE <= scale < LARGEST_SCALE for scale in scales):
        return None
    return Refusal(f"scales of {scales[0]:.3g} and {scales[1]:.3g}: float32 overflows", CALIBRATE)


def from_zero(call: Call) -> Refusal | None:
    """An operand without codes below 0; those of 16 bits are cut off (`root`)."""
    lowest, _ = integer_range(call.xs[0].type.dtype)
    if call.xs[0].type.q.zero_points[0] == lowest or call.xs[0].type.dtype == "i16":
        return function_scale(call)
    op = call.node.op.partition(".")[2].upper()
    return Refusal(f"LiteRT's {op} refuses values below 0, and the operand has codes of such", CALIBRATE)


LARGEST_OF_ROOT = 2.0**12
"""Of sqrt(x_scale) * result_scale, up to which RSQRT's multiplier is shifted by no more than 31 bits."""


LARGEST_OF_WIDE_ROOT = 2.0**-8
"""The same of 16 bits, up to which the inverse root of the largest code is a code of the result at least."""
HIGHEST = integer_range("i16")[1]
FAR_BEYOND = 2.0**17
"""A quotient that is saturated, in codes of 16 bits."""


def root_limits(call: Call) -> Refusal | None:
    """Those of the operand, and a result's scale that is not too large: RSQRT gives arbitrary codes beyond."""
    product = float(np.sqrt(call.xs[0].type.q.scales[0], dtype=np.float64)) * float(call.quant.scales[0])
    most = LARGEST_OF_WIDE_ROOT if call.element[0] == "i16" else LARGEST_OF_ROOT
    if product <= most:
        return from_zero(call)
    what = f"sqrt(x_scale) * result_scale is {product:.3g}, LiteRT's RSQRT takes {most:.4g} at most"
    return Refusal(what, "calibrate without examples of zeros, or add a larger epsilon")


def root(row: Correspondence, call: Call) -> Value:
    """A root; of 16 bits of what is cut off at 0."""
    call.xs[0] = _at_least(call, call.xs[0], 0)
    return row.lowered(call)


def inverse_root(row: Correspondence, call: Call) -> Value:
    """RSQRT; of 16 bits the quotient of 1 and the root, since LiteRT's own interpolates between 1/512 of all codes.

    The root has a step at least, or more where the quotient is beyond the result's last code anyway, as at the pole:
    so it never leaves int32.
    """
    (x,), build = call.xs, call.build
    if call.in_float or x.type.dtype != "i16":
        return row.lowered(call)
    largest = np.sqrt(float(x.type.q.scales[0]) * HIGHEST)
    below, one = (QuantParams.of(np.array([number / HIGHEST], np.float32), 0) for number in (largest, 1.0))
    of_one_step = HIGHEST / largest / float(call.quant.scales[0])
    divisor = build.litert.sqrt(_at_least(call, x, 0), element=("i16", below))
    divisor = _at_least(call, divisor, max(1, int(of_one_step / FAR_BEYOND)))
    dividend = build.constant(np.full((1,) * x.type.rank, HIGHEST, np.int16), "one", one)
    return build.node("litert.div", [dividend, divisor], {}, element=call.element).result


def _at_least(call: Call, x: Value, code: int) -> Value:
    """A value of 16 bits whose codes are not below this one."""
    if call.in_float or x.type.dtype != "i16":
        return x
    made: Value = call.lowering.target.clamp(call.lowering, x, code, HIGHEST)
    return made


def of_16_bits(node: Node) -> Refusal | None:
    """A quotient of a constant and a divisor of 16 bits alone has an integer form, as an inverse root has it."""
    grid = grid_of(node.operand(1))
    if is_known(node.operand(0)) and grid is not None and grid.attrs["type"] == "i16":
        return None
    return Refusal("LiteRT divides a constant by what has 16 bits; 8 bits, and what is next to nothing, it gets wrong")


GELU = Pair("approximate", down=lambda word: word == "tanh", up=lambda view: "tanh" if view.approximate else "none")
FUNCTIONS = [
    Correspondence(source="gelu", target="litert.gelu", attrs={"approximate": GELU}, limits=function_scale),
    Correspondence(source="exp", target="litert.exp", limits=function_scale),
    Correspondence(source="log", target="litert.log", limits=from_zero),
    Correspondence(source="sqrt", target="litert.sqrt", limits=from_zero, lower=root),
    Correspondence(source="rsqrt", target="litert.rsqrt", limits=root_limits, lower=inverse_root),
    Correspondence(source="div", target="litert.div", always={"activation": "NONE"}, when=of_16_bits),
    Correspondence(
        source="elu", target="litert.elu", only={"alpha": 1.0, "scale": 1.0, "input_scale": 1.0}, limits=function_scale
    ),
    Correspondence(source="abs", target="litert.abs", limits=ratio_limits),
]


# ---- matrix products

LARGEST_PRODUCT = 2.0**8


def product_limits(call: Call) -> Refusal | None:
    """The factor of the product, and the sums, which have to fit into int32 (of 16 bits: into 47 bits)."""
    a, b = (value.type for value in call.xs)
    factor = float(a.q.scales[0]) * float(b.q.scales[0]) / float(call.quant.scales[0])
    if factor >= LARGEST_PRODUCT:
        return Refusal(f"a_scale * b_scale / result_scale is {factor:.3g}, LiteRT takes factors below 256", CALIBRATE)
    inner = call.node.operand(0).type.shape[-1]
    reach = [_reach(value) for value in (a, b)]
    total = reach[0] * reach[1] * (int(inner) if isinstance(inner, int) else 2**12)
    wide = call.element[0] == "i16"
    if total * (factor if wide else max(factor, 1.0)) < INT32[1] and total < 2.0**47:
        return None
    return Refusal(f"a sum of {inner} products may leave int32", "split the product")


def _reach(type: Any) -> float:
    """How far a code may lie from the zero point."""
    low, high = integer_range(type.dtype)
    zero = int(type.q.zero_points[0])
    return float(max(zero - low, high - zero))


def last_two(rank: int) -> tuple[int, ...]:
    """The order of dimensions that exchanges the last two."""
    return (*range(rank - 2), rank - 1, rank - 2)


def matmul(row: Correspondence, call: Call) -> Value:
    """BATCH_MATMUL; a transpose of the right operand alone is its option."""
    x, y = call.xs
    maker = y.producer
    if maker is None or maker.op != "litert.transpose" or maker.attrs["perm"] != last_two(y.type.rank):
        return row.lowered(call)
    return row.lowered(replace(call, xs=[x, maker.operand(0)]), adj_y=True)


def raised_matmul(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """The product of what the options transpose."""
    pairs = zip(operands, (view.adj_x, view.adj_y), strict=True)
    a, b = (build.nn.transpose(x, perm=last_two(x.type.rank)) if turned else x for x, turned in pairs)
    made: Value = build.nn.matmul(a, b)
    return made


def _unlike(view: Any) -> Refusal | None:
    """Operands of two storage types, which fake-quant would bring to one."""
    if view.x.type.dtype == view.y.type.dtype:
        return None
    return Refusal(f"nn.matmul cannot carry operands of {view.x.type.dtype} and {view.y.type.dtype}")


PRODUCTS = [
    Correspondence(
        source="matmul",
        target="litert.batch_matmul",
        codecs=(Codec(("adj_x", "adj_y")),),
        limits=product_limits,
        lower=matmul,
        raised=raised_matmul,
        refused=_unlike,
    )
]


# ---- reductions and choices

REDUCTION: dict[str, str | Pair] = {"axes": Pair("axes", up=lambda view: view.places()), "keepdims": "keep_dims"}


def known_sizes(node: Node) -> Refusal | None:
    """The sizes of the axes of a reduction are known."""
    sizes = [node.operand(0).type.shape[axis] for axis in node.attrs["axes"]]
    symbolic = next((size for size in sizes if isinstance(size, str)), None)
    what = f"{node.op} over the size {symbolic}, which is not known"
    return None if symbolic is None else Refusal(what, "fix it: see the pass set-batch")


REDUCTIONS = [
    Correspondence(source=op, target=f"litert.reduce_{op}", attrs=REDUCTION, result="operand", when=known_sizes)
    for op in ("max", "min")
]


def levelled(call: Call) -> None:
    """Give every operand the rank of the result: dimensions are counted from the end."""
    rank = call.node.result.type.rank
    for place, x in enumerate(call.xs):
        if x.type.rank < rank:
            sizes = (-1 if isinstance(size, str) else size for size in x.type.shape)
            call.xs[place] = call.build.litert.reshape(x, shape=((1,) * (rank - x.type.rank)) + tuple(sizes))


def one_open_size(node: Node) -> Refusal | None:
    """An operand of a lower rank is reshaped, which leaves one size open."""
    rank = node.result.type.rank
    lower = [value.type for value in node.inputs if not is_known(value) and value.type.rank < rank]
    open_ones = [type for type in lower if sum(isinstance(size, str) for size in type.shape) > 1]
    if not open_ones:
        return None
    return Refusal(f"an operand of {open_ones[0]}, of several open sizes, beside {rank} dimensions", "reshape it")


def larger(row: Correspondence, call: Call) -> Value:
    """MAXIMUM, MINIMUM of operands of one rank."""
    levelled(call)
    return row.lowered(call)


LARGER = [
    Correspondence(source=op, target=f"litert.{op}", result="operand", when=one_open_size, lower=larger, raises=False)
    for op in ("maximum", "minimum")
]


def of_table(row: Correspondence, call: Call) -> Value:
    """GATHER of a constant, whose codes are on the grid of the result: rounding each element before or after it is
    chosen is the same."""
    w, q = unquantized(call.node.operand(int(call.node.op == "nn.embedding"))), call.quant
    codes = quantize(w.data, q.scales, q.zero_points, integer_range(call.element[0]), None)
    table = call.build.constant(codes.astype(TensorType((), call.element[0]).numpy), w.name, q)
    made: Value = call.build.litert.gather(table, call.xs[0], axis=call.attrs.get("axis", 0))
    return made


def chosen_rows(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """GATHER: of the rows of a constant by computed indices an embedding, any other as it is."""
    if view.batch_dims:
        raise UnsupportedOp(f"nn.gather cannot carry batch_dims={view.batch_dims}")
    x, indices = operands
    if view.x.is_constant and not view.indices.is_constant and view.x.type.rank == 2 and view.places()[0] == 0:
        return build.node("nn.embedding", [indices, x], {}).result
    return build.node("nn.gather", [x, indices], {"axis": view.places()[0]}).result


def gathered(row: Correspondence, call: Call) -> Value:
    """GATHER by known or computed indices, which count from the front."""
    indices = call.node.operand(1)
    if indices.is_constant:
        size = call.xs[0].type.shape[call.attrs["axis"]]
        known = np.where(indices.data < 0, indices.data + int(size), indices.data).astype(np.int32)
        call.xs[1:] = [call.build.constant(known, indices.name)]
    return row.lowered(call)


def _open_axis(node: Node) -> Refusal | None:
    """Indices that are known may count from the end of an axis of known size."""
    size, indices = node.operand(0).type.shape[node.attrs["axis"]], node.operand(1)
    if isinstance(size, int) or not indices.is_constant or indices.data.min() >= 0:
        return None
    return Refusal(f"indices count from the end of the size {size}, which is not known", "fix it: see `set-batch`")


def _batches(view: Any) -> Refusal | None:
    return Refusal(f"nn.gather cannot carry batch_dims={view.batch_dims}") if view.batch_dims else None


CHOICES = [
    *REDUCTIONS,
    *LARGER,
    *(
        Correspondence(
            source=op,
            target="litert.gather",
            applies=lambda node: node.op == "nn.embedding" or is_known(node.operand(0)),
            of_computed=True,
            lower=of_table,
            raises=False,
        )
        for op in ("embedding", "gather")
    ),
    Correspondence(
        source="gather",
        target="litert.gather",
        applies=lambda node: not is_known(node.operand(0)),
        attrs={"axis": Pair("axis", up=lambda view: view.places()[0])},
        codecs=(Codec(("batch_dims",)),),
        of_computed=True,
        result="operand",
        when=_open_axis,
        lower=gathered,
        raised=chosen_rows,
        refused=lambda view: (
            Refusal(f"nn.gather cannot carry batch_dims={view.batch_dims}") if view.batch_dims else None
        ),
    ),
]


# ---- resizes


def _two_dimensions(node: Node) -> Refusal | None:
    """Height and width, by the quotient of the sizes."""
    rank = node.operand(0).type.rank
    if rank != 4:
        return Refusal(f"LiteRT resizes two spatial dimensions, not {rank - 2}", "reshape to two dimensions")
    return by_quotient(node)


def by_quotient(node: Node) -> Refusal | None:
    """Steps that are those of the sizes."""
    steps, sizes = node.attrs["steps"], zip(node.operand(0).type.shape[1:-1], node.attrs["size"], strict=True)
    quotients = [np.float32(old) / np.float32(new) for old, new in sizes]
    if steps is None or [np.float32(step) for step in steps] == quotients:
        return None
    return Refusal(f"LiteRT resizes by the quotient of the sizes, not in steps of {list(steps)}", "give the size")


def centres(call: Call) -> Attrs:
    """Whether places are those of the centres of pixels."""
    return {"half_pixel_centers": not call.attrs["align_corners"]}


def _resize(mode: str, target: str, codec: Codec, **words: Any) -> Correspondence:
    return Correspondence(
        source="resize",
        target=f"litert.{target}",
        applies=lambda node: node.attrs["mode"] == mode,
        attrs={"size": "size"},
        codecs=(codec,),
        when=_two_dimensions,
        result="operand",
        **words,
    )


def _not_torch(view: Any, aligned: bool) -> Refusal | None:
    """Positions that torch does not have."""
    if view.half_pixel_centers != (aligned and not view.align_corners) or (view.align_corners and not aligned):
        words = f"align_corners={view.align_corners}, half_pixel_centers={view.half_pixel_centers}"
        return Refusal(f"nn.resize cannot carry {words}")
    return None


PLACES = ("align_corners", "half_pixel_centers")
RESIZES = [
    _resize(
        "nearest",
        "resize_nearest_neighbor",
        Codec(PLACES, up=lambda view: {"mode": "nearest"}),
        refused=lambda view: _not_torch(view, False),
    ),
    _resize(
        "linear",
        "resize_bilinear",
        Codec(
            PLACES,
            lambda call: {"align_corners": call.attrs["align_corners"], **centres(call)},
            lambda view: {"mode": "linear", "align_corners": view.align_corners},
        ),
        refused=lambda view: _not_torch(view, True),
    ),
]

TENSORS = (*FUNCTIONS, *PRODUCTS, *CHOICES, *RESIZES)
