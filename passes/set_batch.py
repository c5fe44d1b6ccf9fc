"""Give all inputs another batch size, as a file that states one example (1) is run on many at once.

    set-batch{size=32}    set-batch{size=N}

    graph @g (%x: i8<..>[1,28,28,1])                      graph @g (%x: i8<..>[N,28,28,1])
      %1 = litert.reshape(%x) {shape=[1,784]}      ->       %1 = litert.reshape(%x) {shape=[-1,784]}

`size` is a number, or a symbol for any. The types of all values are inferred again; a reshape to the old batch size
goes to the new one. Raises TypeMismatch where an op needs the old size, InputError where an input has no batch or an
output loses it. Each example's result stays exact bit for bit.
"""

from __future__ import annotations

from qgraph.errors import InputError
from qgraph.ir import Dim, Graph
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.infer_types import infer_results


@graph_pass(exact="bits")
def set_batch(graph: Graph, size: str) -> None:
    batch: Dim = int(size) if size.isdigit() else size
    if not (size.isidentifier() or (isinstance(batch, int) and batch > 0)):
        raise InputError(f"size={size} is not a batch size", help="give a positive number, or a symbol such as N")
    olds = {value.type.shape[0] if value.type.shape else None for value in graph.inputs}
    if len(olds) != 1 or None in olds:
        raise InputError(f"the inputs {graph.inputs} do not share a batch size", help="extract a part that does")
    old = olds.pop()
    for value in graph.inputs:
        value.type = value.type.with_shape((batch, *value.type.shape[1:]))
    for node in graph.nodes:
        shape = node.attrs.get("shape")
        if isinstance(shape, tuple) and shape[:1] == (old,) and -1 not in shape:
            node.attrs["shape"] = (-1, *shape[1:])
        infer_results(node)
    for value in graph.outputs:
        if not value.is_constant and value.type.shape[:1] != (batch,):
            raise InputError(f"output {value} has no batch of {batch}", help="its examples are mixed in the graph")
