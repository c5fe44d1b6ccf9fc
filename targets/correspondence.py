"""A correspondence: one op of `nn` and one of a target's dialect, read in both directions.

A row says which attributes answer which, how a weight lies in either op, how the result gets its parameters, what keeps
a node from being lowered (`when`: known before any scale, so that `prepare` asks it), which scales the target refuses
(`limits`), and what stands around the op. `Target.correspondences` lists a target's rows. Several may have one source
op: the first that applies and has nothing against a node lowers it; the first of a target's op raises it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from qgraph.ir import Attr, Builder, Element, Node, QuantParams, Value, op_def
from qgraph.ops.nn.activation import BOUNDS

if TYPE_CHECKING:
    from qgraph.targets.lowering import Lowering, QuantizedWeight

Attrs = dict[str, Any]


class Refusal(NamedTuple):
    """Why a node cannot be lowered, or raised, and what to do."""

    reason: str
    help: str = ""


@dataclass
class Call:
    """A node that is lowered: its lowered activations `xs`, weight and bias, and the element type of its result."""

    lowering: Lowering
    node: Node
    xs: list[Value]
    element: Element
    weight: QuantizedWeight | None = None
    w: Value | None = None  # the weight as the target has it
    bias: Value | None = None
    more: list[Value] = field(default_factory=list)  # what a row makes of the node's results but the first
    in_float: bool = False  # the operands are floats, and `element` is f32

    @property
    def attrs(self) -> Attrs:
        """The node's attributes."""
        return self.node.attrs

    @property
    def build(self) -> Builder:
        """Builds in the lowered graph; where the node stays in float, the ops on floats."""
        return self.lowering.float_build if self.in_float else self.lowering.build

    @property
    def quant(self) -> QuantParams:
        """The parameters of the result."""
        quant = self.element[1]
        assert quant is not None
        return quant


@dataclass(frozen=True)
class Pair:
    """What an attribute is called and how it is written in the target's op; `up` reads it from an instance of that."""

    target: str
    down: Callable[[Any], Attr] = lambda value: value  # of an attribute's value
    up: Callable[[Any], Attr] | None = None


@dataclass(frozen=True)
class Codec:
    """Attributes that do not go over one by one; `reads`: those of the target's op that are taken care of.

    `down` may change the operands of the call, and `up` gives none for what `raised` puts behind the op.
    """

    reads: tuple[str, ...] = ()
    down: Callable[[Call], Attrs] = lambda call: {}
    up: Callable[[Any], Attrs] = lambda view: {}
    when: Callable[[Node], Refusal | None] = lambda node: None


@dataclass(frozen=True)
class Weight:
    """How the target's weight lies: its dimensions as places in the source's [O, I, *K], the axis of its channels.

    `channels`: the dimension of the output channels in the source. `zero_bias`: the target wants a bias where the
    source has none. `bias_first`: a file has the bias before the weight.
    """

    order: tuple[int, ...] = ()  # the source's own
    axis: int = 0
    channels: int = 0
    zero_bias: bool = False
    bias_first: bool = False


@dataclass(frozen=True, kw_only=True)
class Correspondence:
    """One row; see the module."""

    source: str  # in nn, or in nhwc where the op is spatial and the channels are last
    target: str
    attrs: Mapping[str, str | Pair] = field(default_factory=dict)  # the source's -> the target's
    codecs: tuple[Codec, ...] = ()
    only: Mapping[str, Attr] = field(default_factory=dict)  # attributes of the source that must have these values
    always: Mapping[str, Attr] = field(default_factory=dict)  # and of the target
    weight: Weight | None = None
    weights: Weight | None = None  # of an op with several, each with its bias, which `lower` takes care of
    of_computed: bool = False  # `xs` are the computed operands alone: the row takes care of constants
    places: tuple[int, ...] = ()  # where each of the source's operands stands in the target's op; in order by default
    result: Literal["own", "operand", "fixed"] = "own"  # where its parameters come from; fixed: from the target's rules
    on_floats: bool = False  # the target's op is one on floats, between what dequantizes and what quantizes
    raises: bool = True  # False: the target's op comes back by another row
    lowers: bool = True  # False: the target's op is raised by this row, and others lower to it, or to something else
    activations: tuple[str, ...] = (*BOUNDS,)  # that the source's op may carry
    clamps: tuple[tuple[float, float], ...] = ()  # and the bounds of those that are a "clamp"
    applies: Callable[[Node], bool] = lambda node: True
    when: Callable[[Node], Refusal | None] = lambda node: None
    moves: Callable[[Node], bool | None] | None = None  # whether a node, channels first, must get its channels last
    limits: Callable[[Call], Refusal | None] = lambda call: None
    lower: Callable[[Correspondence, Call], Value] | None = None  # instead of `lowered`
    after: Callable[[Call, Value], Value] | None = None
    raised: Callable[[Builder, Any, Sequence[Any]], Value] | None = None  # instead of the source's op
    behind: Callable[[Builder, Value, str], Value] | None = None  # an activation behind it, where it carries none
    refused: Callable[[Any], Refusal | None] = lambda view: None  # instances of the target's op with no counterpart

    @property
    def form(self) -> Weight | None:
        """How weights lie in the target's op; None where it has none."""
        return self.weight or self.weights

    def against(self, node: Node, target: str) -> Refusal | None:
        """What keeps the target from lowering the node by this row, whatever its scales are."""
        activation = node.attrs.get("activation", "none")
        if not self.carries(node):
            reason = f"{target} cannot lower nn.{self.source} with the activation {activation}"
            return Refusal(reason, "keep it apart: fuse-conv-relu without `activations`, or decompose")
        refusals = (codec.when(node) for codec in self.codecs)
        return next(filter(None, refusals), None) or self._not_only(node) or self.when(node)

    def carries(self, node: Node) -> bool:
        """Whether the target's op can carry the node's activation."""
        activation = node.attrs.get("activation", "none")
        return activation in self.activations or (activation == "clamp" and node.attrs["clamp"] in self.clamps)

    def _not_only(self, node: Node) -> Refusal | None:
        for name, value in self.only.items():
            if node.attrs[name] != value:
                op = self.target.partition(".")[2].upper()
                return Refusal(f"{op} has no {name}={node.attrs[name]}, only {value}")
        return None

    def target_attrs(self, call: Call) -> Attrs:
        """The attributes of the target's op."""
        pairs = {name: _pair(pair) for name, pair in self.attrs.items()}
        attrs = {pair.target: pair.down(call.attrs[name]) for name, pair in pairs.items()}
        for codec in self.codecs:
            attrs |= codec.down(call)
        return attrs | dict(self.always)

    def lowered(self, call: Call, **attrs: Attr) -> Value:
        """The target's op for a call; `attrs` go before what the row says."""
        given = self.target_attrs(call) | attrs
        operands: list[Value | None] = [*call.xs]
        if call.w is not None:
            operands += [call.w, call.bias]
        element = None if self.result == "operand" else call.element
        made, *more = call.build.node(self.target, operands, given, element=element).results
        call.more += more
        return self.after(call, made) if self.after is not None else made

    def uncarried(self, view: Any, attrs: Mapping[str, Attr], defaults: Mapping[str, object]) -> Refusal | None:
        """What of an instance of the target's op, with these attributes, the source's op cannot say."""
        pairs = [_pair(pair).target for pair in self.attrs.values()]
        known = {*pairs, *(name for codec in self.codecs for name in codec.reads)}
        known |= {"activation"} if self.behind is not None else set()
        for name, value in attrs.items():
            wanted = self.always.get(name, defaults.get(name))
            if name not in known and value is not None and value != wanted and not (value is False and wanted is None):
                return Refusal(f"nn.{self.source} cannot carry {name}={value}")
        return self.refused(view)

    def counterpart(self, build: Builder, view: Any, operands: Sequence[Any], layout: str = "NHWC") -> Value:
        """The source's op, in `nhwc` where it is spatial and the `layout` is so, for an instance of the target's on
        these operands."""
        if self.raised is not None:
            return self.raised(build, view, operands)
        given: Attrs = dict(self.only)
        for name, each in self.attrs.items():
            pair = _pair(each)
            given[name] = getattr(view, pair.target) if pair.up is None else pair.up(view)
        for codec in self.codecs:
            given |= codec.up(view)
        flat = [value for each in operands for value in (each if isinstance(each, list) else [each])]
        ordered = [flat[place] for place in self.places] or flat
        op = f"nn.{self.source}"
        made = build.node(channels_last(op) if layout == "NHWC" else op, ordered, given).result
        return made if self.behind is None else self.behind(build, made, view.activation)


def _pair(pair: str | Pair) -> Pair:
    return Pair(pair) if isinstance(pair, str) else pair


def channels_last(op: str) -> str:
    """The op on values whose channels are the last dimension, where that makes a difference."""
    return op_def(op).traits.other_layout or op


def bound_to(rows: Sequence[Correspondence]) -> Callable[[Node], bool | None]:
    """Which nodes, channels first, a target's rows want channels last (True) or as they are (False)."""
    moves = {f"nn.{row.source}": row.moves for row in rows if row.moves is not None}
    return lambda node: moves[node.op](node) if node.op in moves else None
