"""On which processors a file gives the same bytes: what `verify` says beside its verdict."""

from __future__ import annotations

from collections.abc import Sequence

from qgraph.ir import Graph, Node
from qgraph.runtimes import Processor
from qgraph.targets.onnxruntime.float_kernels import KERNELS, is_exact
from qgraph.targets.onnxruntime.saturation import saturating_nodes

SHOWN = 3
"""Nodes that a note names."""
ARM = ("aarch64", "arm64")


def notes(graph: Graph, processor: Processor) -> Sequence[str]:
    """Which ops on floats are not bit-exact, whether u8 x s8 pairs can saturate somewhere, or did here, and what 64-bit
    ARM computes differently."""
    found = []
    floats = sorted({node.op for node in graph.nodes if node.dialect == "nn" and not is_exact(node)})
    if floats:
        found.append(f"floats of {', '.join(floats)}: their last digits may differ from the runtime's")
    measured = sorted({node.op for node in graph.nodes if node.op in KERNELS or node.op == "ort.QLinearSigmoid"})
    if measured and (processor.saturates_u8s8 or processor.machine in ARM):
        found.append(
            f"{', '.join(measured)}: as an x86 with AVX512 and VNNI computes them, which this processor is not"
        )
    nodes = saturating_nodes(graph)
    if nodes:
        names = ", ".join(map(_name, nodes[:SHOWN]))
        more = f" and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
        where = "this processor" if processor.saturates_u8s8 else "an x86 without VNNI"
        found.append(
            f"u8 x s8 pairs of {names}{more} can saturate on {where}; "
            "the file holds on x86 with VNNI and on 64-bit ARM. "
            "Weights that hold everywhere: prepare with weights=pair-safe or weights=u8"
        )
    if processor.machine in ARM and graph.find("ort.QLinearAdd"):
        found.append("ONNX Runtime's QLinearAdd rounds differently on 64-bit ARM: this target is exact on x86")
    return found


def _name(node: Node) -> str:
    """A node's first origin, or its op."""
    return node.origins[0].readable if node.origins else node.op
