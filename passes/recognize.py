"""Write the functions that targets have for what a model writes by exponentials, choices and clamps.

    %1 = nn.exp(%x)
    %2 = nn.sum(%1) {axes=[2], keepdims=true}                 ->  %1 = nn.softmax(%x) {axis=2}
    %3 = nn.div(%1, %2)

A quantized exponential has few steps left for what is small, a whole function none too few. The rules stand in
`passes/rules/exponentials.py` (softmax, log_softmax, sigmoid, tanh, softplus) and `passes/rules/pieces.py` (relu,
leaky_relu, elu). What they take for numbers the model does not train.

Exact in real arithmetic.
"""

from __future__ import annotations

from qgraph.ir import Graph
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.rewriter import rewrite
from qgraph.passes.rules.exponentials import EXPONENTIALS
from qgraph.passes.rules.pieces import PIECES


@graph_pass(exact="real", needs={"level": "float"})
def recognize(graph: Graph) -> None:
    if rewrite(graph, [*EXPONENTIALS, *PIECES]):
        erase_dead_code(graph)
