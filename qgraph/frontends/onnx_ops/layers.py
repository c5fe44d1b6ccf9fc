"""Layers with weights, norms, and softmax."""

from __future__ import annotations

import math

import numpy as np

from qgraph.frontends.composed import cast, number, one_hot_conditions, scaled
from qgraph.frontends.einsum import einsum
from qgraph.frontends.onnx_node import OnnxNode, shortest
from qgraph.frontends.onnx_ops.rows import axis_of, reads
from qgraph.frontends.target_shapes import reshaped
from qgraph.ir import Builder, Value


@reads("BatchNormalization")
def _batch_norm(node: OnnxNode, build: Builder) -> Value:
    node.is_defined = False  # by its definition, which a model in training mode would take, it is no batchnorm
    node.expect("training_mode", 0)
    node.expect("spatial", 1)
    momentum = shortest(1 - node.attr("momentum", 0.9))  # ONNX weighs the running statistics, torch the batch's
    operands = [node.operand(index) for index in range(5)]
    return build.nn.batch_norm(*operands, eps=node.attr("epsilon", 1e-5), momentum=momentum)


@reads("Gemm")
def _gemm(node: OnnxNode, build: Builder) -> Value:
    """A linear layer where its bias is one of the outputs' axis, else a product and a sum."""
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    x = node.operand(0)
    x = build.nn.transpose(x, perm=(1, 0)) if node.attr("transA", 0) else x
    x = scaled(build, x, alpha)
    weight = node.operand(1) if node.attr("transB", 0) else _transposed(node, build, 1)
    if not node.has(2):
        return build.nn.linear(x, weight)
    data, outputs = node.known(2), weight.type.shape[:1]
    if beta == 1 and data is not None and data.ndim == 2 and (data.size, *data.shape[1:]) == outputs * 2:
        return build.nn.linear(x, weight, build.constant(data[0], node.inputs[2]))
    bias = node.operand(2)
    if beta == 1 and bias.type.shape == outputs:
        return build.nn.linear(x, weight, bias)
    return build.nn.add(build.nn.linear(x, weight), scaled(build, bias, beta))


@reads("Einsum")
def _einsum(node: OnnxNode, build: Builder) -> Value:
    return einsum(build, str(node.attr("equation", "")), node.operands())


@reads("MatMul")
def _matmul(node: OnnxNode, build: Builder) -> Value:
    x, weight = node.operand(0), node.known(1)
    if weight is not None and weight.ndim == 2 and x.type.rank >= 2:
        return build.nn.linear(x, _transposed(node, build, 1))
    y = node.operand(1)
    row, column = x.type.rank == 1, y.type.rank == 1
    x = reshaped(build, x, (1, *x.type.shape)) if row else x
    y = reshaped(build, y, (*y.type.shape, 1)) if column else y
    made = build.nn.matmul(x, y)
    batch, sides = made.type.shape[:-2], made.type.shape[-2:]
    return reshaped(build, made, (*batch, *sides[row : 2 - column]))


def _transposed(node: OnnxNode, build: Builder, index: int) -> Value:
    data = node.known(index)
    if data is None:
        return build.nn.transpose(node.operand(index), perm=(1, 0))
    return build.constant(np.ascontiguousarray(data.T), node.inputs[index].removesuffix(".T"))


@reads("Add")
def _add(node: OnnxNode, build: Builder) -> Value:
    """An add of a constant vector to a layer without bias, which nothing else reads, is that layer's bias."""
    for layer, bias in ((0, 1), (1, 0)):
        data = node.known(bias)
        linear = None if data is None else node.operand(layer).producer
        if data is None or linear is None or linear.op != "nn.linear" or node.reader.reads[node.inputs[layer]] > 1:
            continue
        if len(linear.operands) == 2 and data.shape == linear.result.type.shape[-1:]:
            build.origins = tuple(dict.fromkeys((*linear.origins, *build.origins)))
            made = build.nn.linear(*linear.inputs, node.operand(bias))
            node.reader.graph.erase(linear)
            return made
    return build.nn.add(node.operand(0), node.operand(1))


# ---- norms


@reads("LayerNormalization", "RMSNormalization")
def _layer_norm(node: OnnxNode, build: Builder) -> Value:
    x, axis = node.operand(0), node.attr("axis", -1)
    node.attr("stash_type", 1)
    axes = -axis if axis < 0 else x.type.rank - axis
    eps, gamma = node.attr("epsilon", 1e-5), _of_all(node, build, 1, axes)
    if node.op == "RMSNormalization":
        return build.nn.rms_norm(x, gamma, axes=axes, eps=eps)
    return build.nn.layer_norm(x, gamma, _of_all(node, build, 2, axes), axes=axes, eps=eps)


def _of_all(node: OnnxNode, build: Builder, index: int, axes: int) -> Value | None:
    """A scale or bias, one number for each element of the axes that are normalized."""
    data = node.known(index)
    if data is None:
        return node.optional(index)
    shape = node.operand(0).type.shape[-axes:]
    full = np.broadcast_to(data, [size if isinstance(size, int) else 1 for size in shape])
    return build.constant(np.ascontiguousarray(full), node.inputs[index])


@reads("InstanceNormalization", "GroupNormalization")
def _group_norm(node: OnnxNode, build: Builder) -> Value:
    """A group for each channel, or as many as are said; before opset 21 scale and bias were of the groups."""
    x = node.operand(0)
    channels = x.type.shape[1]
    groups = channels if node.op == "InstanceNormalization" else node.attr("num_groups", 1)
    node.attr("stash_type", 1)
    if any(node.operand(index).type.shape != (channels,) for index in (1, 2)):
        raise node.unsupported("its scale and bias are not one number for each channel")
    return build.nn.group_norm(x, node.operand(1), node.operand(2), groups=groups, eps=node.attr("epsilon", 1e-5))


@reads("LpNormalization")
def _lp_norm(node: OnnxNode, build: Builder) -> Value:
    """x over its norm along an axis; 0 where that is 0."""
    x = node.operand(0)
    axis, p = axis_of(node, x), node.attr("p", 2)
    power = build.nn.abs(x) if p == 1 else build.nn.mul(x, x)
    total = build.nn.sum(power, axes=(axis,), keepdims=True)
    norm = total if p == 1 else build.nn.sqrt(total)
    zero = number(build, 0, x.type.dtype)
    return build.nn.div(x, build.nn.where(build.nn.equal(norm, zero), number(build, 1, x.type.dtype), norm))


@reads("Softmax", "LogSoftmax", "Hardmax")
def _softmax(node: OnnxNode, build: Builder) -> Value:
    x, old = node.operand(0), node.reader.opset < 13
    axis = axis_of(node, x, 1 if old else -1)
    if old and axis != x.type.rank - 1:
        return reshaped(build, _along(node, build, _as_rows(node, build, x, axis), 1), x.type.shape)
    return _along(node, build, x, axis)


def _as_rows(node: OnnxNode, build: Builder, x: Value, axis: int) -> Value:
    """All axes from one on as one, and those before it as another: what ops along axes do before opset 13."""
    sizes = [size for size in x.type.shape[axis:] if isinstance(size, int)]
    if len(sizes) != x.type.rank - axis:
        raise node.unsupported(f"the sizes of {x.type} from axis {axis} on, one axis before opset 13, must be known")
    made: Value = build.nn.reshape(x, shape=(-1, math.prod(sizes)))
    return made


def _along(node: OnnxNode, build: Builder, x: Value, axis: int) -> Value:
    if node.op == "Hardmax":
        size = x.type.shape[axis]
        if isinstance(size, str):
            raise node.unsupported(f"axis {axis} has the open size {size}")
        return cast(build, one_hot_conditions(build, build.nn.argmax(x, axis=axis), size, axis), x.type.dtype)
    return (build.nn.softmax if node.op == "Softmax" else build.nn.log_softmax)(x, axis=axis)


@reads("Dropout")
def _dropout(node: OnnxNode, build: Builder) -> Value:
    node.is_defined = False
    training = node.known(2)
    if node.has(2) and (training is None or bool(training)):
        raise node.unsupported("training_mode is not supported")
    node.attr("seed", 0)
    return build.nn.dropout(node.operand(0), p=node.number("ratio", 1, 0.5))


@reads("Attention")
def _attention(node: OnnxNode, build: Builder) -> Value:
    """Heads that come apart [N, H, L, E] without a cache of keys; ONNX's own function writes the other forms."""
    query, key, value = (node.operand(index) for index in range(3))
    if query.type.dtype != "f32":
        raise node.unsupported(f"{query.type.dtype} is written out: ONNX says where it is rounded")
    node.expect("softcap", 0.0)
    node.expect("qk_matmul_output_mode", 0)
    node.attr("softmax_precision", 1)
    if query.type.rank != 4 or any(node.has(index) for index in (4, 5, 6)) or any(node.outputs[1:]):
        raise node.unsupported("only separate heads without past keys are supported")
    scale = node.attrs.pop("scale", None)
    causal = bool(node.attr("is_causal", 0))
    return build.nn.attention(query, key, value, node.optional(3), causal=causal, scale=scale and shortest(scale))
