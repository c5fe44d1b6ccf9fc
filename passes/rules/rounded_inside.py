"""Ops that read their own results, as an LSTM its states: they round them as what stands behind them does.

    %1, %2 = nn.sequence_lstm(%x, ...)                        %1, %2 = quant.sequence_lstm(%x, ..., @h_scale,
    %3 = quant.fake_quant(%1, @h_scale, @h_zero_point)   ->                                @h_zero_point, @c_scale)
    %4 = quant.fake_quant(%2, @c_scale, @c_zero_point)        %3, %4 as before

Of a result but the first the scale alone is told: it is symmetric. Nobody may read its fake-quant, which is there to be
calibrated.
"""

from __future__ import annotations

from qgraph.ir import Builder, Graph, Node, op_def

ROUNDING = {"nn.sequence_lstm": "quant.sequence_lstm"}
"""Op -> the one that rounds."""


def round_inside(graph: Graph) -> None:
    """Edit the graph in place."""
    for node in [node for node in graph.nodes if node.op in ROUNDING]:
        marks = [next((each for each in value.users if each.op == "quant.fake_quant"), None) for value in node.results]
        if all(mark is not None for mark in marks):
            _round(graph, node, [mark for mark in marks if mark is not None])


def _round(graph: Graph, node: Node, marks: list[Node]) -> None:
    first, *others = marks
    scales = [*first.operands[1:3], *(mark.operand(1) for mark in others)]
    operands = [*op_def(node.op).grouped(node.operands), *scales]
    build = Builder(graph, node, node.origins)
    made = build.node(ROUNDING[node.op], operands, {**node.attrs, "type": first.attrs["type"]}).results
    for old, new in zip(node.results, made, strict=True):
        new.name = old.name
        graph.replace_uses(old, new)
    graph.erase(node)
