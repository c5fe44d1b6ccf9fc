"""Graphs that the viewer's tests show."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Graph, Origin, QuantParams, TensorType, Value
from qgraph.viewer import Link, Pane

FEATURES = TensorType(("N", 4, 8, 8))
STEPS = (("nn.conv", "conv"), ("nn.batch_norm", "bn"), ("nn.relu", "relu"))


def residual(blocks: int = 3, *, origins: bool = True) -> Graph:
    """A chain of residual blocks, each in a module of its own: conv, batch_norm, relu, add."""
    graph = Graph("residual")
    weight = graph.add_constant(np.random.default_rng(0).normal(size=(4, 4, 3, 3)).astype(np.float32), "weight")
    x = graph.add_input("x", FEATURES)
    for block in range(blocks):
        skip = x
        for op, name in (*STEPS, ("nn.add", "add")):
            operands = [x, *([weight] if name == "conv" else []), *([skip] if name == "add" else [])]
            at = (Origin(f"stages.{block // 8}.block{block}.{name}", "net.py", 10 + block),) if origins else ()
            x = graph.insert(op, operands, {"groups": 1} if name == "conv" else {}, [FEATURES], origins=at).result
    graph.set_outputs([x])
    return graph


def fused(source: Graph) -> Graph:
    """The same with each conv, batch_norm and relu as one integer convolution."""
    graph = Graph("fused", "integer", {"target": "litert"})
    type = TensorType(FEATURES.shape, "i8", QuantParams.of(0.5, 3))
    weight = graph.add_constant(np.ones((4, 3, 3, 4), np.int8), "weight", QuantParams.of([0.1, 0.2, 0.3, 0.4], 0, 0))
    x: Value = graph.add_input("x", type)
    nodes = list(source.nodes)
    for conv, bn, relu, add in zip(*[iter(nodes)] * 4, strict=True):
        skip, origins = x, (*conv.origins, *bn.origins, *relu.origins)
        x = graph.insert("litert.conv_2d", [x, weight], {"activation": "RELU"}, [type], origins=origins).result
        x = graph.insert("litert.add", [x, skip], {}, [type], origins=add.origins).result
    graph.set_outputs([x])
    return graph


def links(before: Graph, after: Graph, panes: tuple[int, int] = (0, 1)) -> list[Link]:
    """How the nodes of `fused(graph)` correspond to those of `graph`, with numbers that get worse."""
    nodes, found = list(before.nodes), []
    for number, (conv, add) in enumerate(zip(*[iter(after.nodes)] * 2, strict=True)):
        group = tuple(nodes[4 * number : 4 * number + 4])
        numbers = {"sqnr_db": 50.0 - 10 * number, "max_error": 0.01 * 2**number, "lsb_histogram": [1.0, 8.0, 2.0]}
        found.append(Link(panes, group[:3], (conv,), "fused", ("op: nn.conv -> litert.conv_2d",), numbers))
        found.append(Link(panes, group[3:], (add,), "changed", ("type: f32 -> i8",), {"sqnr_db": float("inf")}))
    return found


def same(before: Graph, after: Graph, panes: tuple[int, int]) -> list[Link]:
    """Links between a graph and its clone."""
    return [Link(panes, (a,), (b,), "same") for a, b in zip(before.nodes, after.nodes, strict=True)]


def pair() -> tuple[list[Pane], list[Link]]:
    """A float graph beside its integer form."""
    a = residual()
    b = fused(a)
    return [Pane("float", a), Pane("integer", b)], links(a, b)


def pipeline() -> tuple[list[Pane], list[Link]]:
    """Five snapshots; only the last step changes something."""
    stages = [residual()]
    stages += [stages[0].clone() for _ in range(3)]
    stages.append(fused(stages[0]))
    found = [link for i in range(3) for link in same(stages[i], stages[i + 1], (i, i + 1))]
    return [Pane(f"step {i}", graph) for i, graph in enumerate(stages)], [*found, *links(stages[3], stages[4], (3, 4))]


def tangle(seed: int, nodes: int = 60) -> Graph:
    """A random graph whose nodes lie in random modules, so that modules use each other's results in circles."""
    random = np.random.default_rng(seed)
    graph = Graph("tangle")
    values = [graph.add_input("x", FEATURES), graph.add_input("y", FEATURES)]
    for number in range(nodes):
        operands = [values[i] for i in random.integers(max(0, len(values) - 8), len(values), random.integers(1, 4))]
        path = ".".join([*(f"m{i}" for i in random.integers(0, 3, random.integers(0, 4))), f"node{number}"])
        values.append(graph.insert("nn.concat", operands, {}, [FEATURES], origins=(Origin(path),)).result)
    graph.set_outputs(values[-3:])
    return graph
