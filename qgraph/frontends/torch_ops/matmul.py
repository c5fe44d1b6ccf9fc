"""Matrix products and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.errors import TypeMismatch
from qgraph.frontends.composed import scaled
from qgraph.frontends.einsum import einsum
from qgraph.frontends.target_shapes import reshaped
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Builder, Value
from qgraph.ir.derived import derived

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("matmul.default", "bmm.default", "mm.default")
def matmul(at: Importer, a: Arguments) -> Value:
    """A matrix product; with a known matrix on the right it is a linear layer."""
    return product(at, at.value(a["self"]), at.value(a["other"] if "other" in a else a["mat2"]))


def product(at: Importer, x: Value, y: Value) -> Value:
    """The matrix product; a vector is a matrix of one row or one column, whose dimension goes away again."""
    if y.is_constant and y.type.rank == 2 and not x.is_constant:
        return at.build.nn.linear(x, _transposed(at, y))
    row, column = x.type.rank == 1, y.type.rank == 1
    x = reshaped(at.build, x, (1, *x.type.shape)) if row else x
    y = reshaped(at.build, y, (*y.type.shape, 1)) if column else y
    made: Value = at.build.nn.matmul(x, y)
    shape = made.type.shape
    if row or column:
        shape = (*shape[:-2], *shape[-2 if not row else -1 : -1 if column else None])
    return reshaped(at.build, made, shape)


@aten("mv.default", "dot.default", "vdot.default")
def product_of_vectors(at: Importer, a: Arguments) -> Value:
    """The product of a matrix and a vector, or of two vectors."""
    name = next(word for word in ("vec", "tensor", "other") if word in a)
    return product(at, at.value(a["self"]), at.value(a[name]))


@aten("addmm.default", "addbmm.default", "baddbmm.default")
def addmm(at: Importer, a: Arguments) -> Value:
    """beta * bias + alpha * (a @ b); with a known b and a bias of its width it is a linear layer."""
    bias, x, y = at.value(a["self"]), at.value(a.get("mat1", a.get("batch1"))), at.value(a.get("mat2", a.get("batch2")))
    plain = a["alpha"] == 1 and a["beta"] == 1
    if plain and y.is_constant and y.type.rank == 2 and bias.type.shape == y.type.shape[1:] and bias.is_constant:
        return at.build.nn.linear(x, _transposed(at, y), bias)
    made = scaled(at.build, product(at, x, y), a["alpha"])
    return at.build.nn.add(made, scaled(at.build, bias, a["beta"])) if a["beta"] else made


@aten("einsum.default")
def sum_of_products(at: Importer, a: Arguments) -> Value:
    """Einstein's sum."""
    return einsum(at.build, a["equation"], [at.value(x) for x in a["tensors"]])


@aten("scaled_dot_product_attention.default")
def attention(at: Importer, a: Arguments) -> Value:
    """Attention, whole."""
    if a["dropout_p"]:
        raise TypeMismatch(f"attention with dropout_p={a['dropout_p']} in eval mode is not supported: it is random")
    operands = [at.value(a[name]) for name in ("query", "key", "value")]
    if operands[0].type.rank == 2:
        raise TypeMismatch("attention without a batch is not supported")
    three = operands[0].type.rank == 3
    operands = [reshaped(at.build, x, (x.type.shape[0], 1, *x.type.shape[1:])) for x in operands] if three else operands
    mask = at.optional(a["attn_mask"])
    if mask is not None and three and mask.type.rank == 3:
        mask = reshaped(at.build, mask, (mask.type.shape[0], 1, *mask.type.shape[1:]))
    made = at.build.nn.attention(*operands, mask, causal=a["is_causal"], scale=a["scale"])
    return reshaped(at.build, made, at.result_type().shape)


@aten("outer.default", "ger.default")
def outer(at: Importer, a: Arguments) -> Value:
    """Every element of a vector times every one of another."""
    x, y = at.pair(a["self"], a["vec2"])
    return at.build.nn.mul(reshaped(at.build, x, (*x.type.shape, 1)), y)


@aten("bilinear.default")
def bilinear(at: Importer, a: Arguments) -> Value:
    """x W y + bias: x times W as a linear layer of all W's, their products with y summed."""
    x, y, w = (at.value(a[name]) for name in ("input1", "input2", "weight"))
    if not w.is_constant:
        raise TypeMismatch("a bilinear layer with a computed weight is not supported")
    out, _, other = w.data.shape
    flat = derived(at.build, f"{w.name}.flat", _rows_of_each, w, trained=at.trained.get(w.name, False))
    parts = reshaped(at.build, at.build.nn.linear(x, flat), (*x.type.shape[:-1], out, other))
    made = at.build.nn.mul(parts, reshaped(at.build, y, (*y.type.shape[:-1], 1, other)))
    made = at.build.nn.sum(made, axes=(made.type.rank - 1,))
    bias = at.optional(a["bias"])
    return made if bias is None else at.build.nn.add(made, bias)


def _rows_of_each(build: Builder, w: Value) -> Value:
    """The matrices [O, I, P] as one of [O * P, I]."""
    out, inner, other = w.data.shape
    return reshaped(build, build.nn.transpose(w, perm=(0, 2, 1)), (out * other, inner))


@aten("cdist.default")
def distances(at: Importer, a: Arguments) -> Value:
    """The Euclidean distance of every row of x to every row of y."""
    if a["p"] != 2:
        raise TypeMismatch(f"distances of the norm {a['p']} are not supported")
    x, y = at.value(a["x1"]), at.value(a["x2"])
    *batch, rows, depth = x.type.shape
    *others, columns, _ = y.type.shape
    x, y = reshaped(at.build, x, (*batch, rows, 1, depth)), reshaped(at.build, y, (*others, 1, columns, depth))
    less = at.build.nn.sub(x, y)
    return at.build.nn.sqrt(at.build.nn.sum(at.build.nn.mul(less, less), axes=(less.type.rank - 1,)))


def _transposed(at: Importer, y: Value) -> Value:
    """A constant matrix with its dimensions exchanged, which is trained if it is."""
    trained = at.trained.get(y.name, False)
    made = derived(at.build, f"{y.name}.T", lambda build, y: build.nn.transpose(y, perm=(1, 0)), y, trained=trained)
    at.trained[made.name] = trained
    return made
