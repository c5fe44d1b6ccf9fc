"""The graph of `tests.benchmarks.graphs` in torch.fx and in onnx-ir, and the same work in the manner of each."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch.nn import functional

Jobs = dict[str, Callable[[], object]]


def jobs(library: str, count: int) -> Jobs:
    """The jobs of a library on a graph of so many nodes."""
    return {"torch.fx": _torch_fx, "onnx-ir": _onnx_ir}[library](count)


def _torch_fx(count: int) -> Jobs:
    graph = torch.fx.Graph()
    value, weight, *rest = (graph.placeholder(name) for name in ("x", "w", "mean", "var", "gamma", "beta"))
    for _ in range(count // 7):
        before = value
        for half in range(2):
            value = graph.call_function(functional.conv2d, (value, weight), {"stride": (1, 1), "padding": (0, 0)})
            value = graph.call_function(functional.batch_norm, (value, *rest))
            value = graph.call_function(operator.add, (value, before)) if half else value
            value = graph.call_function(functional.relu, (value,))
    graph.output(value)

    def rewrite() -> None:
        for old, new in ((functional.relu, functional.relu6), (functional.relu6, functional.relu)):
            for node in graph.nodes:
                if node.target is old and node.args[0].target is operator.add:
                    with graph.inserting_before(node):
                        made = graph.call_function(new, node.args)
                    node.replace_all_uses_with(made)
                    graph.erase_node(node)

    def walk() -> None:
        found: dict[object, int] = {}
        for node in graph.nodes:
            found[node.target] = found.get(node.target, 0) + 1

    def clone() -> torch.fx.Graph:
        copy = torch.fx.Graph()
        copy.output(copy.graph_copy(graph, {}))
        return copy

    return {"print": lambda: str(graph), "verify": graph.lint, "clone": clone, "walk": walk, "rewrite": rewrite}


def _onnx_ir(count: int) -> Jobs:
    import onnx_ir as ir

    value, weight, *rest = inputs = [ir.Value(name=name) for name in ("x", "w", "gamma", "beta", "mean", "var")]
    nodes = []

    def add(op: str, *operands: ir.Value, **attrs: tuple[int, ...]) -> ir.Value:
        nodes.append(ir.node(op, operands, attrs or None))
        return nodes[-1].outputs[0]

    for _ in range(count // 7):
        before = value
        for half in range(2):
            value = add("Conv", value, weight, strides=(1, 1), pads=(0, 0, 0, 0))
            value = add("BatchNormalization", value, *rest)
            value = add("Relu", add("Add", value, before) if half else value)
    graph = ir.Graph(inputs, [value], nodes=nodes, opset_imports={"": 18})

    def rewrite() -> None:
        for old, new in (("Relu", "HardSwish"), ("HardSwish", "Relu")):  # ONNX has no op relu6; the cost is the same
            for node in graph:
                if node.op_type == old and node.inputs[0].producer().op_type == "Add":
                    made = ir.node(new, node.inputs)
                    ir.convenience.replace_nodes_and_values(graph, node, [node], [made], node.outputs, made.outputs)

    def walk() -> None:
        found: dict[str, int] = {}
        for node in graph:
            found[node.op_type] = found.get(node.op_type, 0) + 1

    return {"clone": graph.clone, "walk": walk, "rewrite": rewrite}
