"""What a description may say of each kind of op: which ops of `nn` it is of, its keys, its defaults.

An op is supported where the description has a table of it, `[ops.conv]`, which may be empty; those that only move
integers always are, unless they are said not to be.
"""

from __future__ import annotations

from dataclasses import dataclass

from qgraph.description.expressions import Expression
from qgraph.description.kinds import EXPRESSION, FLAG, TEXT, TEXTS, word
from qgraph.description.schema import LEVELS, Key

COMMON = (
    Key("supported", FLAG, "Whether the chip has it.", True),
    Key("reason", TEXT, "Why not, or what to do instead.", ""),
    Key("evidence", word(*LEVELS), "Of this op, where it is not the target's.", ""),
    Key("sources", TEXTS, "Of this op.", ()),
)
"""Keys of every op."""
FACTORS = "factors"
"""The table of an op with several factors: name -> expression; their operands are `NAME_multiplier`, ..."""


def factor(default: str | None) -> Key:
    """The key of the real factor of an op."""
    meaning = "The real factor of the stages, over the scales. Several: a table [ops.OP.factors]."
    return Key("factor", EXPRESSION, meaning, None if default is None else Expression(default))


@dataclass(frozen=True)
class OpKind:
    """One kind of op. `before`: stages that stand before [requantize]'s, unless the op has stages of its own."""

    name: str
    meaning: str
    sources: tuple[str, ...]  # ops of `nn`
    keys: tuple[Key, ...] = ()
    before: tuple[str, ...] = ()
    second: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # further operands that stages may name
    default: tuple[str, ...] | None = None  # stages where neither the op nor [requantize] has any; None: refused
    adds_up: bool = False  # its stages are those of accumulators
    always: bool = False  # supported without a table

    def key(self, name: str) -> Key | None:
        """The key of that name, None where there is none."""
        return next((key for key in (*self.keys, *COMMON) if key.name == name), None)


LAYER = factor("input_scale * weight_scale / output_scale")
GRID = Key("grid", word("own", "input"), "Whether the result has a scale of its own, or that of its input.", "own")
JOINED = Key("equal_scales", FLAG, "The operands and the result must have one scale and zero point.", False)
MOVES = ("reshape", "transpose", "concat", "slice", "pad", "expand")

OPS = (
    OpKind("conv", "Convolution of two dimensions.", ("conv",), (LAYER,), names=("bias", "weight_sum"), adds_up=True),
    OpKind(
        "depthwise",
        "Convolution of every channel by itself.",
        ("conv",),
        (LAYER,),
        names=("bias", "weight_sum"),
        adds_up=True,
    ),
    OpKind("linear", "Fully connected layer.", ("linear",), (LAYER,), names=("bias", "weight_sum"), adds_up=True),
    OpKind(
        "matmul",
        "Product of two activations.",
        ("matmul",),
        (factor("input_scale * second_scale / output_scale"),),
        names=("second_zero_point",),
        adds_up=True,
    ),
    OpKind(
        "average_pool",
        "Average of a window: stages divide the sum.",
        ("avg_pool",),
        (
            factor("input_scale / (output_scale * count)"),
            GRID,
            Key(
                "divisor",
                word("valid", "kernel"),
                "What `count` is at the border: elements inside, or all of the "
                "kernel. Averages that would divide by the other are refused.",
                "valid",
            ),
        ),
        names=("count",),
        adds_up=True,
    ),
    OpKind(
        "mean",
        "Mean along axes: stages divide the sum.",
        ("mean",),
        (factor("input_scale / (output_scale * count)"), GRID),
        names=("count",),
        adds_up=True,
    ),
    OpKind("sum", "Sum along axes.", ("sum",), (factor("input_scale / output_scale"),), names=("count",), adds_up=True),
    OpKind(
        "max_pool",
        "Largest of a window.",
        ("max_pool",),
        (Key("pad_value", word("lowest", "zero"), "What pads are: below every code, or the code of 0.", "lowest"),),
    ),
    *(
        OpKind(
            name,
            meaning,
            (name,),
            (factor(None), JOINED),
            names=("second", "second_zero_point"),
        )
        for name, meaning in (("add", "Sum of two activations."), ("sub", "Difference of two activations."))
    ),
    OpKind(
        "mul",
        "Product of two activations, element by element.",
        ("mul",),
        (factor("input_scale * second_scale / output_scale"),),
        before=("subtract input_zero_point", "multiply second"),
        second=("subtract second_zero_point",),
        names=("second", "second_zero_point"),
    ),
    *(
        OpKind(
            name,
            f"The {meaning} of two activations of one grid.",
            (name,),
            (Key("equal_scales", FLAG, JOINED.meaning, True),),
            default=(f"{name} second",),
            names=("second",),
        )
        for name, meaning in (("maximum", "larger"), ("minimum", "smaller"))
    ),
    OpKind(
        "rescale",
        "To another scale, where operands must have one; and a relu or clamp that stands alone.",
        ("relu", "relu6", "clamp"),
        (factor("input_scale / output_scale"),),
        before=("subtract input_zero_point",),
    ),
    OpKind(
        "table",
        "A function of one value, such as a sigmoid, by a table of what it gives for every code.",
        (),
        default=("subtract input_lowest", "table values"),
        names=("values", "input_lowest"),
    ),
    *(OpKind(name, "Moves integers.", (name,), always=True) for name in MOVES),
)
OP_NAMES = tuple(kind.name for kind in OPS)


def op_named(name: str) -> OpKind | None:
    """The kind of that name, None where there is none."""
    return next((kind for kind in OPS if kind.name == name), None)
