"""What is true of an op, said once in its definition: passes, differ, viewer and targets ask for it.

    @op("nn.add", commutative=True, elementwise=True)

Nothing of it has to be said: an op without a word is of a kind of its own. What follows from operands and attributes
is a property of the op's `OpDef` (`carries_activation`, `operand_index`).
"""

from __future__ import annotations

from dataclasses import dataclass

ROLES = (
    *("activation", "weight", "bias", "parameter", "statistic", "indices", "mask", "state"),
    *("scale", "zero_point", "x_scale"),
)
"""What an operand is. "parameter": another number that is learned, such as the gain of a normalization; "statistic":
of a normalization; "indices": of elements, or a shape; "mask": what may be seen, as booleans, or as numbers that are
added, infinities among them; "scale" and "zero_point": of a fake-quantization; "x_scale": of a layer's input, in whose
steps its bias is rounded."""

LEARNED = ("weight", "bias", "parameter")
"""Roles of operands that are trained, unless the graph says otherwise (`qgraph.ir.trained`)."""


@dataclass(frozen=True)
class Traits:
    """Facts of one op."""

    kind: str = ""
    """What it does, in one word for all dialects: `nn.conv`, `litert.depthwise_conv_2d` and `ort.QLinearConv` are all
    "conv". By default its own name. The differ compares nodes by their kinds."""
    family: str = ""
    """Its colour in the viewer (`qgraph.viewer.families`); "" where it follows from all else."""
    commutative: bool = False
    """The first two operands may change places, and no bit of the result differs."""
    elementwise: bool = False
    """The result at an index depends on the operands, broadcast, at that index."""
    whole: bool = False
    """Every element of the result is an integer, whatever the operands are."""
    moves_data: bool = False
    """Each element of the result is one of an operand's, or of the op's own (padding), unchanged."""
    linear: bool = False
    """Linear in its input but for the bias: a factor of each channel moves into the weight."""
    homogeneous: bool = False
    """A positive factor of each channel of its first operand is one of its result."""
    acts_in_training: bool = False
    """Training does something else than `evaluate`, so that it is not computed beforehand."""
    keeps_state: bool = False
    """Its last result is what its operand of the role "state" becomes; a file may hold both as one tensor."""
    idle: bool = False
    """Outside of training the result is the operand."""
    draws: bool = False
    """Random in training: two equal nodes are not one."""
    other_layout: str = ""
    """The op that does the same with the channels at the other place, first or last; "" for none."""
