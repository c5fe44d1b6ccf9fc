"""What holds for every input of a lowered graph: how large its accumulators and stages can get."""

from qgraph.proofs.accumulators import AccumulatorRange
from qgraph.proofs.overflow import OverflowProofs, prove_no_overflow
from qgraph.proofs.stages import StageProof

__all__ = ["AccumulatorRange", "OverflowProofs", "StageProof", "prove_no_overflow"]
