"""What holds for every input of a lowered graph: how large its accumulators can get."""

from qgraph.proofs.accumulators import AccumulatorRange, accumulator_ranges, not_looked_at

__all__ = ["AccumulatorRange", "accumulator_ranges", "not_looked_at"]
