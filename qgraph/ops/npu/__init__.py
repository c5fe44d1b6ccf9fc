"""The dialect `npu`: the few ops of which every accelerator's integer arithmetic is made, the same for all chips.

Accumulating ops make accumulators of integers; `npu.stages` makes anything elementwise of them (bias, requantization,
activation, add, table), as an ordered list of typed stages (`qgraph.arith.stages`); the others move integers. So a
graph says all that is computed, whichever chip it is for. Scales in the types are notes that no kernel reads.
"""

from qgraph.ops.npu import accumulating, host, moving, pooling, stages

__all__ = ["accumulating", "host", "moving", "pooling", "stages"]
