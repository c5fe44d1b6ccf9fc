"""Rows of what takes a size of a value, and of what is indexed: arange, expand, gather_elements, index.

No shape is computed in a file: a size is that of a value, through ops that broadcast, so that a file takes any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from qgraph.ir import Node, Value
from qgraph.ops.quant import is_known
from qgraph.targets.correspondence import Attrs, Call, Correspondence, Refusal
from qgraph.targets.litert.plain_rows import coded, makes, open_sizes
from qgraph.targets.litert.tensor_rows import gathered

# ---- what takes a size of a value


def counted(call: Call, like: Value, kept: Sequence[int]) -> Value:
    """Of a lowered value one element along every dimension that is not kept, as plain integers; their numbers are of
    no interest."""
    build, rank = call.lowering.build, like.type.rank
    first = [axis for axis in range(rank) if axis not in kept and like.type.shape[axis] != 1]
    if first:
        mask = sum(1 << axis for axis in range(rank) if axis not in first)
        ends = tuple(int(axis in first) for axis in range(rank))
        words: Attrs = {"begin": (0,) * rank, "end": ends, "strides": (1,) * rank}
        like = build.litert.strided_slice(like, **words, begin_mask=mask, end_mask=mask)
    return like if like.type.dtype == "i32" else build.litert.cast(like, element=("i32", None))


def lowered_like(call: Call, value: Value) -> Value:
    """What a value has become of which only a size counts; not its floats."""
    return call.lowering.lowered.get(value) or call.lowering.operand(call.node, call.node.inputs.index(value))


def one_taken(node: Node) -> Refusal | None:
    """Of a value that gives its sizes all others are known, so that one element can be taken along them."""
    like, sizes = node.inputs[-1].type.shape, node.attrs.get("shape", ())
    taken = {node.attrs["axis"]} if node.op == "nn.arange" else {-2 - size for size in sizes if size < -1}
    if not taken or all(isinstance(size, int) for axis, size in enumerate(like) if axis not in taken):
        return None
    return Refusal(f"{node.op} takes a size of {node.inputs[-1].type}, which has other open ones", "fix the batch")


def numbered(row: Correspondence, call: Call) -> Value:
    """Ones, as many as the dimension has, added up: so the file takes any size."""
    build, a, like = call.lowering.build, call.attrs, lowered_like(call, call.node.operand(0))
    x = build.litert.reshape(counted(call, like, [a["axis"]]), shape=(-1,))
    for op, number in (("mul", 0), ("add", a["step"])):
        x = build.node(f"litert.float_{op}", [x, number_of(call, number)], {}).result
    x = build.litert.cumsum(x, axis=0, exclusive=True)
    return x if not a["start"] else build.litert.float_add(x, number_of(call, a["start"]))


def number_of(call: Call, number: int) -> Value:
    """A constant of one dimension."""
    return call.lowering.build.constant(np.array([number], np.int32), f"number_{number}")


def repeated(row: Correspondence, call: Call) -> Value:
    """BROADCAST_TO."""
    shape = tuple(int(size) for size in call.node.result.type.shape)
    made: Value = call.build.litert.broadcast_to(expanded(call), shape=shape)
    return made


def expanded(call: Call) -> Value:
    """What is repeated: a value, or a constant on the grid of the result."""
    x = call.node.operand(0)
    if not call.in_float and is_known(x):
        return coded(call, x)
    return call.xs[0]


def repeated_openly(row: Correspondence, call: Call) -> Value:
    """SELECT_V2 of x or x, by a condition that has the sizes."""
    x, condition = expanded(call), everywhere(call)
    made: Value = call.lowering.build.litert.select(condition, x, x, element=(x.type.dtype, x.type.quant))
    return made


def everywhere(call: Call) -> Value:
    """A condition, which may be anything, of the shape of the result."""
    node, build = call.node, call.lowering.build
    known = [size if isinstance(size, int) else 1 for size in node.result.type.shape]
    whole = build.constant(np.ones(known, bool), "everywhere")
    sizes = node.attrs["shape"]
    taken = {place: -2 - size for place, size in enumerate(sizes) if size < -1}
    if not taken:
        return whole
    like = lowered_like(call, node.operand(1))
    truth = build.litert.cast(counted(call, like, [*taken.values()]), element=("bool", None))
    shape = [like.type.shape[taken[place]] if place in taken else 1 for place in range(len(sizes))]
    truth = build.litert.reshape(truth, shape=open_sizes(shape))
    made: Value = truth if set(known) == {1} else build.litert.logical_or(truth, whole)
    return made


def repeated_plainly(row: Correspondence, call: Call) -> Value:
    """x + 0 of integers, x or false of conditions, of the shape of the result."""
    x, build, node = call.xs[0], call.lowering.build, call.node
    nowhere = build.litert.logical_and(everywhere(call), build.constant(np.zeros((1,) * node.result.type.rank, bool)))
    other = nowhere if x.type.dtype == "bool" else build.litert.cast(nowhere, element=(x.type.dtype, None))
    return row.lowered(replace(call, xs=[x, other]))


def all_known(node: Node) -> bool:
    """Whether the shape of a node's result is."""
    return all(isinstance(size, int) for size in node.result.type.shape)


def is_expanded(node: Node, known: bool, constant: bool) -> bool:
    """Whether all sizes of a result are known, and what is repeated."""
    return (all_known(node), is_known(node.operand(0))) == (known, constant)


SIZES = [
    *(
        Correspondence(
            source="expand",
            target=f"litert.{target}",
            applies=partial(is_expanded, known=known, constant=constant),
            of_computed=True,
            result="own" if constant else "operand",
            when=one_taken,
            lower=lower,
            raises=False,
        )
        for target, known, lower in (("broadcast_to", True, repeated), ("select", False, repeated_openly))
        for constant in (False, True)
    ),
]
WITHOUT_SELECT = [
    Correspondence(
        source="expand",
        target=f"litert.{op}",
        applies=makes(dtype),
        of_computed=True,
        when=one_taken,
        lower=repeated_plainly,
        raises=False,
    )
    for op, dtype in (("float_add", "i32"), ("logical_or", "bool"))
]
COUNTS = [Correspondence(source="arange", target="litert.cumsum", when=one_taken, lower=numbered, raises=False)]


# ---- elements by their indices


def elements(row: Correspondence, call: Call) -> Value:
    """GATHER in which all dimensions but one go together; that one is brought to the end, and back."""
    axis, rank, build = call.attrs["axis"], call.xs[0].type.rank, call.build
    perm = [*range(rank)]
    perm[axis], perm[-1] = rank - 1, axis
    moved = call.xs if axis == rank - 1 else [build.litert.transpose(x, perm=tuple(perm)) for x in call.xs]
    made = row.lowered(replace(call, xs=moved), axis=rank - 1, batch_dims=rank - 1)
    return made if axis == rank - 1 else build.litert.transpose(made, perm=tuple(perm))


def go_together(node: Node) -> Refusal | None:
    """The other dimensions have the same sizes."""
    axis = node.attrs["axis"]
    x, indices = ([*value.type.shape[:axis], *value.type.shape[axis + 1 :]] for value in node.inputs)
    if x == indices and not is_known(node.operand(1)) and not is_known(node.operand(0)):
        return None
    what = f"{node.operand(0).type} and indices {node.operand(1).type}"
    return Refusal(f"LiteRT gathers elements by computed indices where all other sizes are the same, not of {what}")


ELEMENTS = [
    Correspondence(
        source="gather_elements",
        target="litert.gather",
        result="operand",
        when=go_together,
        lower=elements,
        raises=False,
    )
]


def stacked(row: Correspondence, call: Call) -> Value:
    """GATHER_ND at the indices beside each other."""
    build, (x, *indices) = call.build, call.xs
    shape = call.node.result.type.shape[: call.node.result.type.rank - x.type.rank + len(indices)]
    zeros = np.zeros([size if isinstance(size, int) else 1 for size in shape], np.int32)
    columns = []
    for each in indices:
        whole = each if each.type.shape == shape else build.litert.float_add(each, build.constant(zeros, "zeros"))
        for other in indices:  # what has an open size that this one lacks
            if whole.type.shape != shape:
                whole = build.litert.float_add(whole, build.litert.float_mul(other, number_of(call, 0)))
        columns.append(build.litert.reshape(whole, shape=(*open_sizes(shape), 1)))
    places = build.litert.concatenation(*columns, axis=len(shape))
    made: Value = build.litert.gather_nd(x, places)
    return made


def leading(node: Node) -> Refusal | None:
    """Indices of the first dimensions, of which one size at most is open."""
    axes, indices = node.attrs["axes"], node.inputs[1:]
    shape = node.result.type.shape[: node.result.type.rank - node.operand(0).type.rank + len(axes)]
    if list(axes) != [*range(len(axes))] or is_known(node.operand(0)):
        return Refusal(f"LiteRT indexes the first dimensions of a computed value, not the axes {list(axes)}")
    if any(value.is_constant and value.data.min(initial=0) < 0 for value in indices):
        return Refusal("LiteRT's indices do not count from the end", "add the size")
    if sum(isinstance(size, str) for size in shape) < 2:
        return None
    return Refusal(f"several sizes of {node.result.type} are open", "fix the batch: set-batch")


INDEXED = [
    Correspondence(
        source="index", target="litert.gather_nd", result="operand", when=leading, lower=stacked, raises=False
    )
]
GATHERED = [
    Correspondence(source="gather", target="litert.gather", attrs={"axis": "axis"}, lower=gathered, raises=False)
]

OF_SIZES = (*SIZES, *ELEMENTS, *INDEXED)
PLAIN_OF_SIZES = (*COUNTS, *OF_SIZES, *GATHERED, *WITHOUT_SELECT)
