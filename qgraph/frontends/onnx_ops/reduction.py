"""Reductions over axes, and places along one."""

from __future__ import annotations

from qgraph.frontends.composed import cast
from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops.rows import axis_of, reads
from qgraph.ir import Builder, Value

PLAIN = {"ReduceMax": "max", "ReduceMean": "mean", "ReduceMin": "min", "ReduceProd": "prod", "ReduceSum": "sum"}


@reads(*PLAIN)
def _plain(node: OnnxNode, build: Builder) -> Value:
    return _reduced(node, build, PLAIN[node.op], node.operand(0))


def _axes(node: OnnxNode, x: Value) -> tuple[int, ...]:
    """The axes, all where none is given; empty where the node then changes nothing."""
    axes = tuple(sorted({axis % x.type.rank for axis in node.integers("axes", 1, ()) or ()}))
    idle = node.attr("noop_with_empty_axes", 0)
    return axes if axes or idle else tuple(range(x.type.rank))


def _reduced(node: OnnxNode, build: Builder, op: str, x: Value) -> Value:
    axes, keep = _axes(node, x), bool(node.attr("keepdims", 1))
    if op in ("max", "min"):
        _check_extreme(node, x, axes)
    return build.value(f"nn.{op}", [x], {"axes": axes, "keepdims": keep}) if axes else x


def _check_extreme(node: OnnxNode, x: Value, axes: tuple[int, ...]) -> None:
    if any(x.type.shape[axis] == 0 for axis in axes):
        raise node.unsupported("the extreme of no element is not supported")


@reads("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")
def _norm(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    if node.op != "ReduceLogSum":
        x = build.nn.abs(x) if node.op == "ReduceL1" else build.nn.mul(x, x)
    total = _reduced(node, build, "sum", x)
    last = {"ReduceL2": "sqrt", "ReduceLogSum": "log"}.get(node.op)
    return build.value(f"nn.{last}", [total], {}) if last else total


@reads("ReduceLogSumExp")
def _log_sum_exp(node: OnnxNode, build: Builder) -> Value:
    """The largest element comes out of the sum, so that no power overflows."""
    x = node.operand(0)
    axes, keep = _axes(node, x), bool(node.attr("keepdims", 1))
    if not axes:
        return x
    _check_extreme(node, x, axes)
    largest = build.nn.max(x, axes=axes, keepdims=True)
    total = build.nn.sum(build.nn.exp(build.nn.sub(x, largest)), axes=axes, keepdims=keep)
    return build.nn.add(build.nn.log(total), largest if keep else build.nn.max(x, axes=axes, keepdims=False))


@reads("ArgMax", "ArgMin")
def _place(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    node.expect("select_last_index", 0)
    axis, keep = axis_of(node, x, 0), bool(node.attr("keepdims", 1))
    return (build.nn.argmax if node.op == "ArgMax" else build.nn.argmin)(x, axis=axis, keepdims=keep)


@reads("TopK")
def _topk(node: OnnxNode, build: Builder) -> list[Value]:
    x = node.operand(0)
    k, axis, largest = int(node.number("k", 1, 0)), axis_of(node, x), bool(node.attr("largest", 1))
    node.attr("sorted", 1)
    return list(build.node("nn.topk", [x], {"k": k, "axis": axis, "largest": largest}).results)


@reads("CumSum")
def _cumsum(node: OnnxNode, build: Builder) -> Value:
    """The sum of all elements up to each; `exclusive`: without itself; `reverse`: from the end."""
    x, axis = node.operand(0), int(node.number("axis", 1, 0))
    axis %= x.type.rank
    made = build.nn.cumsum(x, axis=axis)
    if node.attr("reverse", 0):
        total = build.nn.sum(x, axes=(axis,), keepdims=True)
        made = build.nn.add(build.nn.sub(total, made), x)
    made = cast(build, made, x.type.dtype)
    return build.nn.sub(made, x) if node.attr("exclusive", 0) else made
