"""Functions of one element, sums, batch normalization, linear layers and means by simpler ops."""

from __future__ import annotations

import math

import numpy as np

from qgraph.ir import Array, Attr, Builder, Value
from qgraph.ir.derived import derived
from qgraph.passes.batchnorm_to_scale_shift import scale_and_shift
from qgraph.passes.rewriter import Declined, Match, Replacement
from qgraph.passes.rules.clamps import node_bounds
from qgraph.passes.ways.attention import LEAST
from qgraph.passes.ways.registry import negated, numeral, plus, times, way


@way("nn.relu", "nn.clamp")
@way("nn.relu6", "nn.clamp")
def as_clamp(match: Match, build: Builder) -> Replacement:
    """A clamp to [0, 6], or to [0, inf]."""
    low, high = node_bounds(match.root)
    return build.nn.clamp(match.root.operand(0), min=low, max=high)


@way("nn.relu6", "nn.relu", "nn.add", "nn.mul")
@way("nn.clamp", "nn.relu", "nn.add", "nn.mul")
def as_relus(match: Match, build: Builder) -> Replacement:
    """max(x, low) = relu(x - low) + low; min(x, high) = high - relu(high - x)."""
    low, high = node_bounds(match.root)
    x = match.root.operand(0)
    if low == 0:
        x = build.nn.relu(x)
    elif low > -math.inf:
        x = plus(build, build.nn.relu(plus(build, x, -low)), low)
    if high < math.inf:
        x = plus(build, times(build, build.nn.relu(plus(build, times(build, x, -1), high)), -1), high)
    return x


@way("nn.hard_sigmoid", "nn.relu6", "nn.add", "nn.mul")
def hard_sigmoid(match: Match, build: Builder) -> Replacement:
    """relu6(x + 3) / 6."""
    return times(build, build.nn.relu6(plus(build, match.root.operand(0), 3)), 1 / 6)


@way("nn.hard_swish", "nn.hard_sigmoid", "nn.mul")
def hard_swish(match: Match, build: Builder) -> Replacement:
    """x * hard_sigmoid(x)."""
    x = match.root.operand(0)
    return build.nn.mul(x, build.nn.hard_sigmoid(x))


@way("nn.leaky_relu", "nn.relu", "nn.add", "nn.mul")
def leaky_relu(match: Match, build: Builder) -> Replacement:
    """relu(x) - slope * relu(-x)."""
    x, slope = match.root.operand(0), match.root.attrs["negative_slope"]
    below = times(build, build.nn.relu(times(build, x, -1)), -slope)
    return build.nn.add(build.nn.relu(x), below)


@way("nn.sigmoid", "nn.tanh", "nn.add", "nn.mul")
def sigmoid(match: Match, build: Builder) -> Replacement:
    """tanh(x / 2) / 2 + 1 / 2."""
    return plus(build, times(build, build.nn.tanh(times(build, match.root.operand(0), 0.5)), 0.5), 0.5)


@way("nn.tanh", "nn.sigmoid", "nn.add", "nn.mul")
def tanh(match: Match, build: Builder) -> Replacement:
    """2 * sigmoid(2 * x) - 1."""
    return plus(build, times(build, build.nn.sigmoid(times(build, match.root.operand(0), 2)), 2), -1)


@way("nn.sub", "nn.add", "nn.mul")
def sub(match: Match, build: Builder) -> Replacement:
    """a + b * -1; a constant b is negated itself."""
    a, b = match.root.operand(0), match.root.operand(1)
    return build.nn.add(a, negated(build, b) if b.is_constant else times(build, b, -1))


@way("nn.batch_norm", "nn.mul", "nn.add")
def batch_norm(match: Match, build: Builder) -> Replacement:
    """x * gain + shift, where the parameters are constants."""
    return _by_rule(match, build)


def _by_rule(match: Match, build: Builder) -> Replacement:
    parameters = match.root.inputs[1:]
    if not all(value.is_constant for value in parameters):
        return Declined("a parameter is not a constant")
    match.nodes["bn"], match.values["x"] = match.root, match.root.operand(0)
    return scale_and_shift.rewrite(match, build)


@way("nn.linear", "nn.conv", "nn.reshape")
def linear(match: Match, build: Builder) -> Replacement:
    """A 1x1 convolution of [N, I, 1, 1]."""
    node = match.root
    x, w = node.operand(0), node.operand(1)
    if x.type.rank != 2 or not w.is_constant:
        return Declined("x is no matrix, or the weight not a constant")
    columns = build.nn.reshape(x, shape=(-1, int(x.type.shape[1]), 1, 1))
    weight = derived(build, w.name, lambda build, w: build.nn.reshape(w, shape=(*w.type.shape, 1, 1)), w)
    window: dict[str, Attr] = {"stride": (1, 1), "pads": (0,) * 4, "dilation": (1, 1)}
    made = build.node("nn.conv", [columns, weight, *node.operands[2:]], window).result
    return build.nn.reshape(made, shape=(-1, int(w.type.shape[0])))


@way("nn.mean", "nn.avg_pool", "nn.reshape")
def mean(match: Match, build: Builder) -> Replacement:
    """One window over all of the spatial dimensions."""
    x, axes = match.root.operand(0), match.root.attrs["axes"]
    spatial = x.type.shape[2:]
    known = all(isinstance(size, int) for size in x.type.shape[1:])
    if not spatial or axes != tuple(range(2, x.type.rank)) or not known:
        return Declined("the mean is not over the spatial dimensions, of known size")
    sizes = tuple(int(size) for size in spatial)
    pooled = build.nn.avg_pool(x, kernel=sizes, stride=sizes, pads=(0, 0) * len(sizes))
    return pooled if match.root.attrs["keepdims"] else build.nn.reshape(pooled, shape=(-1, int(x.type.shape[1])))


@way("nn.avg_pool", "nn.mean", "nn.avg_pool", "nn.reshape", "nn.pad", "nn.slice")
def average(match: Match, build: Builder) -> Replacement:
    """As `global_average`; a window over three dimensions as a mean over parts of the first, or a window over it, and
    one over the last two. The mean comes first, as its result may have a finer grid. Padding that does not count as
    `evenly_padded` writes it."""
    made, a = global_average(match, build), match.root.attrs
    if isinstance(made, Declined):
        made = evenly_padded(match, build)
    kernel, stride, pads = ([*a[name]] for name in ("kernel", "stride", "pads"))
    still = [(k, s) == (1, 1) for k, s in zip(kernel, stride, strict=True)]
    if not isinstance(made, Declined) or len(kernel) != 3 or still[0] or all(still[1:]):
        return made
    x = match.root.operand(0)
    plane = {"kernel": (1, *kernel[1:]), "stride": (1, *stride[1:]), "pads": (0, *pads[1:3], 0, *pads[4:])}
    depth = {"kernel": (kernel[0], 1, 1), "stride": (stride[0], 1, 1), "pads": (pads[0], 0, 0, pads[3], 0, 0)}
    tiles = kernel[0] == stride[0] and not (pads[0] or pads[3])
    over_depth = _mean_of_parts(build, x, kernel[0]) if tiles else None
    if over_depth is not None:
        return build.node("nn.avg_pool", [over_depth], {**a, **plane}).result
    over_plane = build.node("nn.avg_pool", [x], {**a, **plane}).result
    return build.node("nn.avg_pool", [over_plane], {**a, **depth}).result


def evenly_padded(match: Match, build: Builder) -> Replacement:
    """Windows over padding that does not count, with as much of it at the end as at the start, or one more: what
    windows add beyond the end is such padding, and where none reaches it, the dimension grows by a window for now."""
    node, x = match.root, match.root.operand(0)
    a, sizes = node.attrs, x.type.shape[2:]
    if not (any(a["pads"]) or a["ceil_mode"]) or (any(a["pads"]) and a["count_include_pad"]):
        return Declined("there is no padding, or it counts")
    if not all(isinstance(size, int) for size in x.type.shape[1:]):
        return Declined(f"the sizes of {x.type} are not known")
    outs, rank = [int(size) for size in node.result.type.shape[2:]], len(sizes)
    before, kernel, stride = a["pads"][:rank], a["kernel"], a["stride"]
    dims = [*zip(map(int, sizes), outs, kernel, stride, before, strict=True)]
    ends = [(out - 1) * s + k - b - size for size, out, k, s, b in dims]
    more = [
        out * s + k - 2 * b - size if b and end <= 0 < k - 2 * b <= s else 0
        for (size, out, k, s, b), end in zip(dims, ends, strict=True)
    ]
    after = [b if added else max(end, 0) for b, end, added in zip(before, ends, more, strict=True)]
    if (not any(more) and (*before, *after) == a["pads"]) or any(
        b != (b + end) // 2 for b, end in zip(before, after, strict=True)
    ):
        return Declined("it is padded as it is reached, or unevenly")
    made = build.nn.pad(x, pads=(0,) * (rank + 2 + 2) + tuple(more)) if any(more) else x
    even: dict[str, Attr] = {"pads": (*before, *after), "ceil_mode": False, "count_include_pad": False}
    made = build.node("nn.avg_pool", [made], {**a, **even}).result
    for axis, (out, added) in enumerate(zip(outs, more, strict=True), 2):
        made = build.nn.slice(made, axis=axis, start=0, end=out) if added else made
    return made


def _mean_of_parts(build: Builder, x: Value, size: int) -> Value | None:
    """The means of so many neighbours along the depth of [N, C, D, H, W]; None where they do not tile it."""
    if not all(isinstance(each, int) for each in x.type.shape[1:]):
        return None
    channels, depth, *plane = (int(each) for each in x.type.shape[1:])
    if depth % size:
        return None
    if depth == size:
        made: Value = build.nn.mean(x, axes=(2,), keepdims=True)
        return made
    parts = build.nn.reshape(x, shape=(-1, channels, depth // size, size, *plane))
    made = build.nn.mean(parts, axes=(3,), keepdims=False)
    return made


@way("nn.avg_pool", "nn.mean")
def global_average(match: Match, build: Builder) -> Replacement:
    """The mean over all spatial dimensions, where the window is all of them."""
    node = match.root
    if tuple(node.attrs["kernel"]) != node.operand(0).type.shape[2:] or any(node.attrs["pads"]):
        return Declined("the window is not all that there is")
    return build.nn.mean(node.operand(0), axes=tuple(range(2, node.result.type.rank)), keepdims=True)


@way("nn.dropout")
def dropout(match: Match, build: Builder) -> Replacement:
    """x: outside of training dropout does nothing."""
    return match.root.operand(0)


@way("nn.detach")
def detach(match: Match, build: Builder) -> Replacement:
    """x: only a gradient tells the two apart."""
    return match.root.operand(0)


@way("nn.div", "nn.mul", "nn.div")
def quotient(match: Match, build: Builder) -> Replacement:
    """As `div`; by any other computed divisor: times 1 over it, a function of one value."""
    made, a = div(match, build), match.root.operand(0)
    if not isinstance(made, Declined) or (a.is_constant and a.data.size == 1):
        return made
    b = match.root.operand(1)
    return build.nn.mul(a, build.nn.div(numeral(build, b, 1), b))


@way("nn.div", "nn.mul")
def div(match: Match, build: Builder) -> Replacement:
    """x times the reciprocal of a constant; of a root: times rsqrt."""
    a, b = match.root.operand(0), match.root.operand(1)
    if b.is_constant and np.all(b.data):
        one = numeral(build, b, 1)
        return build.nn.mul(a, derived(build, f"{b.name}.reciprocal", lambda build, *pair: build.nn.div(*pair), one, b))
    inverse = _inverse_root(build, b)
    return Declined("the divisor is computed, and no root") if inverse is None else build.nn.mul(a, inverse)


def _inverse_root(build: Builder, x: Value) -> Value | None:
    """1 / x, where x is a root, expanded or held above a number as a norm is; None where it is none."""
    node = x.producer
    if node is None:
        return None
    if node.op == "nn.sqrt":
        made: Value = build.nn.rsqrt(node.operand(0))
        return made
    if node.op == "nn.expand" and node.operand(0).type.rank == x.type.rank:
        return _inverse_root(build, node.operand(0))
    root = node.operand(0).producer
    held = node.op == "nn.clamp" and node.attrs["min"] > 0 and math.isinf(node.attrs["max"])
    if not held or root is None or root.op != "nn.sqrt":
        return None
    above: Value = build.nn.rsqrt(build.nn.clamp(root.operand(0), min=node.attrs["min"] ** 2))
    return above


@way("nn.pow", "nn.mul")
def power(match: Match, build: Builder) -> Replacement:
    """Products for the powers 2, 3 and 4; roots for 1/2 and -1/2."""
    x, exponent = match.root.operand(0), match.root.operand(1)
    number = float(exponent.data.reshape(-1)[0]) if exponent.is_constant and exponent.data.size == 1 else 0.0
    if number == 0.5:
        return build.nn.sqrt(x)
    if number == -0.5:
        return build.nn.rsqrt(x)
    if number not in (2.0, 3.0, 4.0):
        return Declined("the exponent is none of 2, 3, 4, 1/2 and -1/2")
    square = build.nn.mul(x, x)
    return square if number == 2 else build.nn.mul(square, x if number == 3 else square)


@way("nn.where", "nn.mul", "nn.add", "nn.cast", "nn.logical_not")
def masked_where(match: Match, build: Builder) -> Replacement:
    """As `where`; a computed condition that leaves out is added as a mask."""
    condition, a, b = (match.root.operand(i) for i in range(3))
    if condition.is_constant:
        return where(match, build)
    for chosen, other, leaves_out in ((a, b, condition), (b, a, None)):
        if _leaves_out(chosen) and not other.is_constant:
            if leaves_out is None:
                leaves_out = build.nn.logical_not(condition)
            mask = times(build, build.nn.cast(leaves_out, dtype=other.type.dtype), LEAST)
            return build.nn.add(other, mask)
    return Declined("the condition is computed, and leaves nothing out")


@way("nn.where", "nn.mul", "nn.add")
def where(match: Match, build: Builder) -> Replacement:
    """A known condition as factors of 0 and 1; numbers next to -inf, of which nothing is left, are added."""
    condition, a, b = (match.root.operand(i) for i in range(3))
    if not condition.is_constant:
        return Declined("the condition is computed")
    branches = ((a, b, condition.data), (b, a, ~condition.data))
    for chosen, other, holds in branches:
        if _leaves_out(chosen) and not other.is_constant:
            mask = np.where(holds, np.float64(LEAST), 0).astype(other.type.numpy)
            return build.nn.add(other, build.constant(mask, f"{condition.name}.mask"))
    return build.nn.add(*(_where_it_holds(build, chosen, holds) for chosen, _, holds in branches))


def _leaves_out(x: Value) -> bool:
    """Whether a value is nothing but numbers next to -inf."""
    return x.is_constant and x.type.is_float and bool((x.data <= LEAST).all())


def _where_it_holds(build: Builder, x: Value, holds: Array) -> Value:
    """x, and 0 elsewhere."""
    if x.is_constant:
        return build.constant(np.where(holds, x.data, 0).astype(x.type.numpy), x.name)
    made: Value = build.nn.mul(x, build.constant(holds.astype(x.type.numpy), "holds"))
    return made
