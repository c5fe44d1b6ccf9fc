"""On which processors the default interpreter gives these bytes: what `verify` says beside its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qgraph.ir import Graph, Value
from qgraph.runtimes import Processor
from qgraph.targets.litert.agreement import float_notes

ARM = ("aarch64", "arm64")
DOT_PRODUCT = "asimddp"


def notes_of(target: str) -> Callable[[Graph, Processor], Sequence[str]]:
    """The notes of a target of the family: a word where the runtime answered on the other kind of processor."""

    def notes(graph: Graph, processor: Processor) -> Sequence[str]:
        fitting = "litert-xnnpack-arm64" if processor.machine in ARM else "litert-xnnpack"
        found = [*float_notes(graph, processor)]
        if fitting != target:
            found.append(
                f"the interpreter's kernels differ in places on {processor.machine}: verify with {fitting} there"
            )
        elif processor.machine in ARM and DOT_PRODUCT not in processor.features and _may_meet_lowest(graph):
            found.append("this core has no dot product: BATCH_MATMUL is wrong on it where -128 meets -128")
        return found

    return notes


def _may_meet_lowest(graph: Graph) -> bool:
    """Whether -128 can stand in both operands of an int8 BATCH_MATMUL: two such products are added in int16 there."""
    products = [node for node in graph.find("litert.batch_matmul") if node.operand(0).type.dtype == "i8"]
    return not all(any(_is_narrow(value) for value in node.inputs) for node in products)


def _is_narrow(value: Value) -> bool:
    return value.is_constant and int(value.data.min(initial=0)) > -128
