"""Functions of one element, and reductions, by simpler ones."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np

from qgraph.ir import Array, Builder, Value
from qgraph.ir.trained import declare
from qgraph.ir.types import dim_product
from qgraph.ops.nn.resizing import adaptive_windows
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.ways.registry import by_channel, negated, plus, times, way

SUMS = ("nn.add", "nn.mul")


@way("nn.gelu", "nn.erf", "nn.tanh", *SUMS)
def gelu(match: Match, build: Builder) -> Replacement:
    """x / 2 * (1 + erf(x / sqrt 2)), or by its approximation with tanh."""
    x = match.root.operand(0)
    if match.root.attrs["approximate"] == "none":
        bent = build.nn.erf(times(build, x, math.sqrt(0.5)))
    else:
        cube = build.nn.mul(build.nn.mul(x, x), x)
        bent = build.nn.tanh(times(build, build.nn.add(x, times(build, cube, 0.044715)), math.sqrt(2 / math.pi)))
    return build.nn.mul(times(build, x, 0.5), plus(build, bent, 1))


@way("nn.elu", "nn.relu", "nn.exp", *SUMS)
def elu(match: Match, build: Builder) -> Replacement:
    """scale * relu(x) + scale * alpha * (exp(input_scale * min(x, 0)) - 1)."""
    x, attrs = match.root.operand(0), match.root.attrs
    below = times(build, build.nn.relu(times(build, x, -1)), -attrs["input_scale"])
    curve = times(build, plus(build, build.nn.exp(below), -1), attrs["scale"] * attrs["alpha"])
    return build.nn.add(times(build, build.nn.relu(x), attrs["scale"]), curve)


@way("nn.mish", "nn.softplus", "nn.tanh", "nn.mul")
def mish(match: Match, build: Builder) -> Replacement:
    """x * tanh(softplus(x))."""
    x = match.root.operand(0)
    return build.nn.mul(x, build.nn.tanh(build.nn.softplus(x)))


@way("nn.softplus", "nn.relu", "nn.exp", "nn.log", "nn.abs", *SUMS)
def softplus(match: Match, build: Builder) -> Replacement:
    """relu(x) + log(1 + exp(-|x|)), which overflows nowhere; beyond the threshold that is x to float32."""
    x, beta = match.root.operand(0), match.root.attrs["beta"]
    if match.root.attrs["threshold"] < 20:
        return Declined(f"threshold={match.root.attrs['threshold']} cuts the function off where it bends")
    z = x if beta == 1 else times(build, x, beta)
    soft = build.nn.log(plus(build, build.nn.exp(times(build, build.nn.abs(z), -1)), 1))
    made = build.nn.add(build.nn.relu(z), soft)
    return made if beta == 1 else times(build, made, 1 / beta)


@way("nn.softsign", "nn.abs", "nn.div", "nn.add")
def softsign(match: Match, build: Builder) -> Replacement:
    """x / (1 + |x|)."""
    x = match.root.operand(0)
    return build.nn.div(x, plus(build, build.nn.abs(x), 1))


@way("nn.abs", "nn.relu", *SUMS)
def absolute(match: Match, build: Builder) -> Replacement:
    """relu(x) + relu(-x)."""
    x = match.root.operand(0)
    if not x.type.is_float:
        return Declined(f"{x.type} holds integers")
    return build.nn.add(build.nn.relu(x), build.nn.relu(times(build, x, -1)))


@way("nn.soft_shrink", "nn.relu", "nn.sub", *SUMS)
def soft_shrink(match: Match, build: Builder) -> Replacement:
    """relu(x - bound) - relu(-x - bound)."""
    x, bound = match.root.operand(0), match.root.attrs["bound"]
    above, below = (build.nn.relu(plus(build, each, -bound)) for each in (x, times(build, x, -1)))
    return build.nn.sub(above, below)


@way("nn.prelu", "nn.relu", *SUMS)
def prelu(match: Match, build: Builder) -> Replacement:
    """relu(x) - slope * relu(-x)."""
    x, slope = match.root.operand(0), match.root.operand(1)
    if not slope.is_constant:
        return Declined("the slope is computed")
    factor = by_channel(build, negated(build, slope), x.type.rank)
    return build.nn.add(build.nn.relu(x), build.nn.mul(build.nn.relu(times(build, x, -1)), factor))


@way("nn.log_softmax", "nn.max", "nn.sub", "nn.exp", "nn.sum", "nn.log")
def log_softmax(match: Match, build: Builder) -> Replacement:
    """x - max - log(sum of exp(x - max)): of a softmax, in steps of 1/256, the logarithm would lose what is small."""
    x, axes = match.root.operand(0), (match.root.attrs["axis"],)
    less = build.nn.sub(x, build.nn.max(x, axes=axes, keepdims=True))
    return build.nn.sub(less, build.nn.log(build.nn.sum(build.nn.exp(less), axes=axes, keepdims=True)))


@way("nn.log_sigmoid", "nn.relu", "nn.abs", "nn.exp", "nn.log", "nn.add", "nn.mul")
def log_sigmoid(match: Match, build: Builder) -> Replacement:
    """-(relu(-x) + log(1 + exp(-|x|))): of a sigmoid, in steps of 1/256, the logarithm would lose what is small."""
    x = match.root.operand(0)
    near = build.nn.log(plus(build, build.nn.exp(times(build, build.nn.abs(x), -1)), 1))
    return times(build, build.nn.add(build.nn.relu(times(build, x, -1)), near), -1)


@way("nn.maximum", "nn.relu", "nn.sub", "nn.add")
def maximum(match: Match, build: Builder) -> Replacement:
    """a + relu(b - a)."""
    a, b = match.root.operand(0), match.root.operand(1)
    if not a.type.is_float:
        return Declined(f"{a.type} holds integers")
    return build.nn.add(a, build.nn.relu(build.nn.sub(b, a)))


@way("nn.minimum", "nn.relu", "nn.sub")
def minimum(match: Match, build: Builder) -> Replacement:
    """a - relu(a - b)."""
    a, b = match.root.operand(0), match.root.operand(1)
    if not a.type.is_float:
        return Declined(f"{a.type} holds integers")
    return build.nn.sub(a, build.nn.relu(build.nn.sub(a, b)))


@way("nn.sum", "nn.mean", "nn.mul")
def total(match: Match, build: Builder) -> Replacement:
    """The mean times the count."""
    x, axes = match.root.operand(0), match.root.attrs["axes"]
    count = dim_product([x.type.shape[axis] for axis in axes])
    if isinstance(count, str) or not x.type.is_float:
        return Declined(f"{count} elements of {x.type} are summed: no known number of floats")
    return times(build, build.nn.mean(x, axes=axes, keepdims=match.root.attrs["keepdims"]), count)


@way("nn.cumsum", "nn.matmul", "nn.transpose")
def cumulated(match: Match, build: Builder) -> Replacement:
    """A product with ones, on and above the diagonal."""
    x, axis = match.root.operand(0), match.root.attrs["axis"]
    size, last = x.type.shape[axis], x.type.rank - 1
    if not isinstance(size, int) or not x.type.is_float or last < 1:
        return Declined(f"{x.type} holds no floats, or {size} of them, or has one dimension")
    perm = [*range(last + 1)]
    perm[axis], perm[last] = last, axis
    ones = build.constant(np.triu(np.ones((size, size), x.type.numpy)), "triangle")
    if axis == last:
        return build.nn.matmul(x, ones)
    moved = build.nn.matmul(build.nn.transpose(x, perm=tuple(perm)), ones)
    return build.nn.transpose(moved, perm=tuple(perm))


MOST_FACTORS = 32
"""Of a product that is written out."""


@way("nn.prod", "nn.mul", "nn.slice", "nn.reshape")
def product(match: Match, build: Builder) -> Replacement:
    """Products of two at a time, one dimension after the other."""
    x, axes, shape = match.root.operand(0), match.root.attrs["axes"], match.root.result.type.shape
    sizes = [x.type.shape[axis] for axis in axes]
    count = dim_product(sizes)
    if isinstance(count, str) or not x.type.is_float or not 0 < count <= MOST_FACTORS:
        return Declined(f"{count} elements of {x.type} are multiplied: not {MOST_FACTORS} floats at most")
    if sum(isinstance(size, str) for size in shape) > 1:
        return Declined(f"several sizes of {match.root.result.type} are symbolic")
    for axis in axes:
        parts = [build.nn.slice(x, axis=axis, start=i, end=i + 1) for i in range(int(x.type.shape[axis]))]
        while len(parts) > 1:
            pairs = [build.nn.mul(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(pairs) * 2 :]
        (x,) = parts
    return build.nn.reshape(x, shape=tuple(-1 if isinstance(size, str) else size for size in shape))


@way("nn.embedding", "nn.gather")
def embedding(match: Match, build: Builder) -> Replacement:
    """The rows of the weight."""
    return build.nn.gather(match.root.operand(1), match.root.operand(0), axis=0)


BAG = ("nn.embedding", "nn.reshape", "nn.sum", "nn.mean", "nn.max", "nn.mul")


@way("nn.embedding_bag", *BAG, "nn.add", "nn.div", "nn.clamp")
def padded_bag(match: Match, build: Builder) -> Replacement:
    """As `embedding_bag`; rows are multiplied by 0 where the index is that of the padding, else by 1: by the rows of a
    table, which every target takes. Where a maximum is meant they become less than all, and a bag of them alone 0."""
    indices, w = match.root.operand(0), match.root.operand(1)
    mode, padding = match.root.attrs["mode"], match.root.attrs["padding"]
    rows = _rows(match, build)
    if padding is None or isinstance(rows, Declined):
        return embedding_bag(match, build)
    counts = _of_padding(build, indices, w, padding, (0, 1))
    rows = build.nn.mul(rows, counts)
    if mode == "max":
        if not w.is_constant:
            return Declined("a maximum of bags with padding, of rows that are computed")
        least = _of_padding(build, indices, w, padding, (-float(np.abs(w.data).max(initial=0)), 0))
        largest = build.nn.max(build.nn.add(rows, least), axes=(1,))
        return build.nn.mul(largest, build.nn.max(counts, axes=(1,)))
    total = build.nn.sum(rows, axes=(1,))
    if mode == "sum":
        return total
    return build.nn.div(total, build.nn.clamp(build.nn.sum(counts, axes=(1,)), min=1.0))


def _of_padding(build: Builder, indices: Value, w: Value, padding: int, numbers: tuple[float, float]) -> Value:
    """The first number where the index is that of the padding, else the second: [N, L, 1], of which none is trained."""
    table = np.full((int(w.type.shape[0]), 1), numbers[1], w.type.numpy)
    table[padding] = numbers[0]
    numbered = build.constant(table, "of_padding")
    made: Value = build.nn.embedding(indices, numbered)
    declare(build.graph, {numbered.name: False})
    return made


@way("nn.embedding_bag", *BAG)
def embedding_bag(match: Match, build: Builder) -> Replacement:
    """The rows, and what is made of them."""
    if match.root.attrs["padding"] is not None:
        return Declined("bags with padding")
    rows = _rows(match, build)
    if isinstance(rows, Declined):
        return rows
    reduce = {"sum": build.nn.sum, "mean": build.nn.mean, "max": build.nn.max}[match.root.attrs["mode"]]
    made: Value = reduce(rows, axes=(1,))
    return made


def _rows(match: Match, build: Builder) -> Value | Declined:
    """The rows of each bag [N, L, D], times their weights."""
    indices, w, weights = [*match.root.operands, None][:3]
    assert indices is not None  # neither is optional
    assert w is not None
    length = indices.type.shape[1]
    if not isinstance(length, int):
        return Declined("bags of a symbolic size")
    rows: Value = build.nn.embedding(indices, w)
    if weights is not None:
        rows = build.nn.mul(rows, build.nn.reshape(weights, shape=(-1, length, 1)))
    return rows


PIECES = 64
"""Indices that are not next to each other: from so many on, taking them one by one is no way."""


@way("nn.gather", "nn.slice", "nn.concat", "nn.reshape")
def gather(match: Match, build: Builder) -> Replacement:
    """Known indices as slices, one for each run of neighbours."""
    x, indices, axis = match.root.operand(0), match.root.operand(1), match.root.attrs["axis"]
    size, result = x.type.shape[axis], match.root.result.type.shape
    if not indices.is_constant or not isinstance(size, int) or not indices.data.size:
        return Declined("the indices are computed, or none, or the size is symbolic")
    flat = indices.data.reshape(-1) % size
    runs = np.split(flat, np.flatnonzero(np.diff(flat) != 1) + 1)
    if len(runs) > PIECES or sum(isinstance(each, str) for each in result) > 1:
        return Declined(f"{len(runs)} pieces are too many, or several sizes symbolic")
    parts = [build.nn.slice(x, axis=axis, start=int(run[0]), end=int(run[-1]) + 1) for run in runs]
    made = parts[0] if len(parts) == 1 else build.nn.concat(*parts, axis=axis)
    if indices.type.rank == 1:
        return made
    return build.nn.reshape(made, shape=tuple(each if isinstance(each, int) else -1 for each in result))


def _apart(build: Builder, value: Value, at: int) -> Value:
    """The value with a new dimension of one element."""
    sizes = [*value.type.shape[:at], 1, *value.type.shape[at:]]
    made: Value = build.nn.reshape(value, shape=tuple(-1 if isinstance(each, str) else each for each in sizes))
    return made


RANKED = ("nn.reshape", "nn.gather_elements")
MOST_RANKED = 256
"""Elements that are compared with each other: of more there are too many pairs."""


@way("nn.topk", "nn.less", "nn.equal", "nn.logical_or", "nn.logical_and", "nn.where", "nn.sum", *RANKED)
def topk(match: Match, build: Builder) -> Replacement:
    """By ranks: how many elements are larger than each, or equal and before it; the first of each rank is at the sum of
    the places that have it."""
    node = match.root
    x, axis, k = node.operand(0), node.attrs["axis"], node.attrs["k"]
    shape, size = x.type.shape, x.type.shape[axis]
    if not isinstance(size, int) or size > MOST_RANKED or sum(isinstance(each, str) for each in shape) > 1:
        return Declined(f"{x.type}: more than {MOST_RANKED} elements, or an open number of them")
    behind = (1,) * (x.type.rank - 1 - axis)

    def numbers(data: Array, name: str) -> Value:
        return build.constant(data.reshape(*data.shape, *behind), name)

    own, other = _apart(build, x, axis + 1), _apart(build, x, axis)
    larger = build.nn.less(own, other) if node.attrs["largest"] else build.nn.less(other, own)
    earlier = numbers(np.tri(size, size, -1) > 0, "earlier")
    ahead = build.nn.logical_or(larger, build.nn.logical_and(build.nn.equal(own, other), earlier))
    none, one = (build.constant(np.array(number), f"number_{number}") for number in (0, 1))
    rank = build.nn.sum(build.nn.where(ahead, one, none), axes=(axis + 1,))
    has_it = build.nn.equal(_apart(build, rank, axis), numbers(np.arange(k)[:, None], "ranks"))
    places = build.nn.sum(build.nn.where(has_it, numbers(np.arange(size), "places"), none), axes=(axis + 1,))
    return [build.nn.gather_elements(x, places, axis=axis), places]


JOINED = {"add": ("nn.sum", "nn.add"), "max": ("nn.max", "nn.maximum"), "min": ("nn.min", "nn.minimum")}
"""How updates are joined with each other, and with what is there."""


@way("nn.scatter_elements", "nn.where", "nn.equal", "nn.slice", "nn.reshape", *chain(*JOINED.values()))
def scatter_elements(match: Match, build: Builder) -> Replacement:
    """Choices by whether an index is that of an element: one behind the other, or of all updates, which are joined."""
    node = match.root
    (x, indices, updates), axis, reduce = node.inputs, node.attrs["axis"], node.attrs["reduce"]
    shape, size, count = indices.type.shape, x.type.shape[axis], indices.type.shape[axis]
    others = [[*value.type.shape[:axis], *value.type.shape[axis + 1 :]] for value in (x, indices)]
    if not isinstance(size, int) or not isinstance(count, int) or others[0] != others[1]:
        return Declined(f"{indices.type} into {x.type}: sizes that are open, or not the same in other dimensions")
    if reduce == "mul" or sum(isinstance(each, str) for each in shape) > 1 or (reduce == "none" and count > PIECES):
        return Declined(f"{count} updates by {reduce}, or several sizes symbolic")
    places = np.arange(size, dtype=indices.type.numpy).reshape(-1, *(1,) * (x.type.rank - 1 - axis))
    numbers = build.constant(places, "places")
    if reduce == "none":
        for k in range(count):
            place, update = (build.nn.slice(each, axis=axis, start=k, end=k + 1) for each in (indices, updates))
            x = build.nn.where(build.nn.equal(place, numbers), update, x)
        return x

    hit = build.nn.equal(_apart(build, indices, axis + 1), numbers)
    otherwise = build.constant(np.zeros((), x.type.numpy), "nothing") if reduce == "add" else _apart(build, x, axis)
    chosen = build.nn.where(hit, _apart(build, updates, axis + 1), otherwise)
    together, joined = JOINED[reduce]
    return build.node(joined, [x, build.node(together, [chosen], {"axes": (axis,)}).result], {}).result


@way("nn.adaptive_avg_pool", "nn.slice", "nn.mean", "nn.concat")
@way("nn.adaptive_max_pool", "nn.slice", "nn.max", "nn.concat")
def adaptive_pool(match: Match, build: Builder) -> Replacement:
    """The mean, or the maximum, of each window, one dimension after the other."""
    x, op = match.root.operand(0), "nn.mean" if "avg" in match.root.op else "nn.max"
    for axis, out in enumerate(match.root.attrs["size"], 2):
        windows = adaptive_windows(int(x.type.shape[axis]), out)
        parts = [build.nn.slice(x, axis=axis, start=start, end=end) for start, end in windows]
        pooled = [build.node(op, [part], {"axes": (axis,), "keepdims": True}).result for part in parts]
        x = pooled[0] if out == 1 else build.nn.concat(*pooled, axis=axis)
    return x
