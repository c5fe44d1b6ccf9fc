"""From a fake-quantized graph to one target's integer ops: the driver that reads the target's correspondences.

It walks a graph whose layout is the target's. A `quant.fake_quant` of an activation fixes the integer type of the value
before it; a row of `Target.correspondences` builds the dialect's op from lowered operands. Everything that cannot be
lowered is reported, not only the first; what no scale would change is known before there are any (`illegal`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qgraph.errors import LoweringError, NotCalibrated, QGraphError
from qgraph.ir import (
    IO_LAYOUT,
    RESULTS,
    Array,
    Attr,
    Builder,
    Element,
    Graph,
    Node,
    QuantParams,
    TensorType,
    Value,
    op_def,
    states_of,
)
from qgraph.ir.trained import TRAINED
from qgraph.ir.types import integer_range
from qgraph.ops.quant import FAKE_QUANTS, INT32, integer_bias, is_known, quantize, unquantized
from qgraph.targets.correspondence import Call, Correspondence, Refusal, Weight

if TYPE_CHECKING:
    from qgraph.targets.target import Target

FALLBACK = "fallback"
"""The metadata word that says that ops without an integer form stay in "float"."""
CALIBRATE = "calibrate with data that are like those in use"


def fail(node: Node, reason: str, help: str = "") -> LoweringError:
    """A LoweringError about a node of the source graph."""
    return LoweringError(reason, where=node.where, help=help)


def is_index(node: Node) -> bool:
    """Whether a node makes no floats: indices and conditions have no scale."""
    return not any(value.type.is_float for value in node.results)


def illegal(graph: Graph, target: Target) -> list[tuple[Node, Refusal]]:
    """The nodes that the target cannot lower whatever their scales are, and why: all of them, in order.

    The graph, in the target's layout, may lack its fake-quantization.
    """
    found: list[tuple[Node, Refusal]] = []
    for node in graph.nodes:
        if node.dialect != "quant" and not all(value.is_constant for value in node.inputs):
            chosen = choose(node, target, in_float=is_index(node))
            if isinstance(chosen, Refusal):
                found.append((node, chosen))
    return found


def choose(node: Node, target: Target, in_float: bool = False) -> Correspondence | Refusal:
    """The target's row that lowers a node, or keeps it `in_float`; or why there is none."""
    found = choices(node, target, in_float)
    return found if isinstance(found, Refusal) else found[0]


def choices(node: Node, target: Target, in_float: bool = False) -> list[Correspondence] | Refusal:
    """All rows that lower a node whatever its scales are, the best first; or why there is none."""
    source = node.op.partition(".")[2]
    lowerings = target.plain_lowerings if is_index(node) else target.float_lowerings if in_float else target.lowerings
    found, refusals = [], []
    for row in lowerings.get(f"nn.{source}", ()):
        if row.applies(node):
            made = target.float_ops.get(row.target, row.target) if in_float else row.target
            plain = is_index(node) or not any(value.type.is_float for value in node.inputs)
            lacking = target.lacks(made) or (_not_plain(made, node, target) if plain else "")
            against = Refusal(lacking) if lacking else row.against(node, target.name)
            if against is None:
                found.append(row)
            else:
                refusals.append(against)
    if found:
        return found
    if not refusals:
        reason = target.refusals.get(f"nn.{source}", "")
        what = f"{target.name} cannot lower nn.{source}"
        return Refusal(f"{what}: {reason}" if reason else what, f"see `qgraph targets {target.name}`")
    return Refusal("; ".join(dict.fromkeys(each.reason for each in refusals)), refusals[0].help)


def _not_plain(op: str, node: Node, target: Target) -> str:
    """Why an op of the dialect cannot make the indices or conditions of a node, or read those that alone it does; ""
    where it can."""
    made = target.as_stored(node.results[0].type)
    if is_index(node) and not op_def(op).results[0].pattern.admits(made):
        return f"{target.name} has {node.op} of floats, not of {node.results[0].type.dtype}"
    read = next((target.as_stored(value.type) for value in node.inputs if not value.type.is_float), None)
    return target.lacks_storage(op, read, made)


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight as integers in the source's layout [O, I, *K] or [O, I], and what they mean (`axis` is that of O, or
    None); of a transposed convolution O is at 1."""

    data: NDArray[np.integer]
    quant: QuantParams
    name: str
    channels: int = 0  # the dimension of O

    @property
    def by_channel(self) -> NDArray[np.integer]:
        """The integers that each output channel has: [O, all others]."""
        first = np.moveaxis(self.data, self.channels, 0)
        return first.reshape(len(first), -1)


class FloatBuilder(Builder):
    """Builds a target's ops on floats where a row names those on integers."""

    def __init__(self, build: Builder, float_ops: Mapping[str, str]) -> None:
        super().__init__(build.graph, origins=build.origins)
        self.float_ops = float_ops

    def node(self, op: str, operands: Sequence[Value | None], attrs: dict[str, Attr], **words: Any) -> Node:
        """Insert the node; floats have no element type to choose."""
        return super().node(self.float_ops.get(op, op), operands, attrs, names=words.get("names", ()))


class Lowering:
    """The state of one lowering: `source` read, `graph` built, and which lowered value each source value became."""

    def __init__(
        self, source: Graph, target: Target, io: str, named: Mapping[Node, Node] | None = None, fallback: str = ""
    ) -> None:
        self.source = source
        self.named = named or {}  # how errors name a node: by another one
        self.target = target
        self.io = io
        words = {word: text for word, text in source.metadata.items() if word not in (RESULTS, TRAINED)}
        metadata = {**words, "target": target.name, **target.metadata, IO_LAYOUT: target.layout, "io": io}
        self.graph = Graph(source.name, "integer", metadata)
        self.build = Builder(self.graph)
        self.fallback = fallback == "float"
        states = states_of(source) if target.keeps_states else []
        self.kept = {state.input: state.output for state in states}  # by the runtime, as integers
        self.real: dict[Value, Value] = {}  # integers of the graph -> their floats
        self.lowered: dict[Value, Value] = {}  # of the source -> of the graph
        self.clamped: dict[Value, tuple[int, int]] = {}  # of the graph, whose codes are fewer than its dtype has
        self._elements: dict[Node, Element] = {}  # of fake-quants
        self.rows: dict[Node, list[Correspondence] | Refusal] = {}  # the choices, which another lowering may share

    # ---- what a target's rows use

    def operand(self, node: Node, index: int = 0) -> Value:
        """The lowered value of an operand: an activation, or a fake-quantized constant among activations."""
        value = node.operand(index)
        if value not in self.lowered:
            if value.is_constant and not value.type.is_float:
                return self.plain_constant(value, _rank(node))
            maker = value.producer
            if maker is None or maker.op != "quant.fake_quant":  # of a constant: what is computed is lowered
                raise fail(node, f"operand {value} of {node.op} is neither computed from an input nor fake-quantized")
            return self._constant_operand(maker, node.result.type.rank)
        return self.lowered[value]

    def _constant_operand(self, fake_quant: Node, rank: int) -> Value:
        """A fake-quantized constant as integers, broadcast to `rank` dimensions."""
        source = fake_quant.operand(0)
        dtype, quant = self._element_of(fake_quant)
        assert quant is not None
        integers = quantize(source.data, quant.scales, quant.zero_points, _range(fake_quant), quant.axis)
        integers = integers.astype(TensorType((), dtype).numpy).reshape((1,) * (rank - integers.ndim) + integers.shape)
        return self.build.constant(integers, source.name, quant)

    def weight(self, node: Node, form: Weight, index: int = 1) -> QuantizedWeight:
        """The integers of a weight, which must be a fake-quantized constant."""
        maker = node.operand(index).producer
        if maker is None or maker.op != "quant.fake_quant" or not maker.operand(0).is_constant:
            raise fail(node, f"{self.target.name} needs a constant, fake-quantized weight for {node.op}")
        dtype, quant = self._element_of(maker)
        assert quant is not None
        source = maker.operand(0)
        attrs = maker.attrs
        integers = quantize(
            source.data, quant.scales, quant.zero_points, _range(maker), quant.axis, str(attrs["rounding"])
        )
        return QuantizedWeight(integers.astype(TensorType((), dtype).numpy), quant, source.name, form.channels)

    def weight_constant(self, weight: QuantizedWeight, form: Weight) -> Value:
        """A weight as a constant in the form that the target's op wants."""
        data = np.ascontiguousarray(weight.data.transpose(form.order)) if form.order else weight.data
        quant = weight.quant if weight.quant.axis is None else replace(weight.quant, axis=form.axis)
        return self.build.constant(data, weight.name, quant)

    def bias(self, node: Node, weight: QuantizedWeight, x: Value, index: int = 2) -> Value | None:
        """The bias as int32 constant of scale `x_scale * w_scale`; None where the layer has none.

        Raises LoweringError for a bias that does not fit into int32.
        """
        bias = node.operands[index] if index < len(node.operands) else None
        if bias is None:
            return None
        bias = unquantized(bias)
        if not bias.is_constant:
            raise fail(node, f"{self.target.name} needs a constant bias for {node.op}")
        return self.bias_constant(node, bias.data, weight, x, bias.name)

    def bias_constant(self, node: Node, bias: Array, weight: QuantizedWeight, x: Value, name: str) -> Value:
        """`bias` (real values, [O]) as constant of int32, or wider, of scale `x_scale * w_scale`."""
        with np.errstate(over="ignore", under="ignore"):
            scale = np.broadcast_to(x.type.q.scales * weight.quant.scales, bias.shape).astype(np.float32)
        if scale.min() < np.finfo(np.float32).tiny or not np.isfinite(scale).all():
            span = f"{scale.min():.3g} to {scale.max():.3g}"
            raise fail(node, f"x_scale * w_scale is {span}, outside float32's normal range", CALIBRATE)
        integers = integer_bias(bias, scale)
        if not np.all((integers >= INT32[0]) & (integers <= INT32[1])):
            channel = int(np.argmax(np.abs(integers)))
            raise fail(
                node,
                f"the bias of channel {channel} is {bias[channel]:.4g}, at scale {scale[channel]:.3g} outside int32",
                self.tiny_weights(),
            )
        quant = QuantParams.of(scale, 0, 0) if weight.quant.axis is not None else QuantParams.of(scale[:1], 0)
        wide = self.target.wide_bias.get(x.type.dtype, "i32")
        return self.build.constant(integers.astype(TensorType((), wide).numpy), name, quant, wide)

    def element(self, node: Node) -> Element:
        """Dtype and parameters of a node's result: what the fake-quant behind it says, else those of its first
        operand, behind conditions and places."""
        behind = fake_quant_of(node.results[0])
        if behind is not None:
            return self._element_of(behind)
        floats = (i for i, value in enumerate(node.operands) if value is not None and value.type.is_float)
        first = self.operand(node, next(floats, 0)).type
        return first.dtype, first.quant

    def tiny_weights(self) -> str:
        """What to do about a channel whose weights are tiny beside its bias."""
        option = self.target.options.get("weights")
        per_tensor = ", or use weights=per-tensor" if option and "per-tensor" in option.choices else ""
        return f"the channel's weights are tiny beside its bias: remove the channel{per_tensor}"

    # ---- the driver

    def run(self) -> None:
        """Lower everything into `graph`; raises one LoweringError that names every node that cannot be."""
        self.begin()
        errors: list[QGraphError] = []
        broken: set[Value] = set()
        for node in self.source.nodes:
            if any(value in broken for value in node.inputs):
                broken.update(node.results)
                continue
            try:
                self.advance(node)
            except QGraphError as error:
                named = self.named.get(node, node)
                errors.append(LoweringError(error.what, where=named.where, help=error.help))
                broken.update(node.results)
        if errors:
            raise combined(errors, f"{self.target.name} cannot lower")
        self._lower_outputs()
        self._check_states()
        self.graph.drop_unused_constants()

    def begin(self) -> None:
        """Lower the inputs; raises NotCalibrated."""
        self._check_calibrated()
        self._lower_inputs()

    def _check_calibrated(self) -> None:
        missing = [node for node in self.source.find("quant.fake_quant") if np.isnan(node.operand(1).data).any()]
        if missing:
            raise NotCalibrated(
                f"values without a scale: {len(missing)}, the first is {missing[0].operand(0)}",
                where=missing[0].where,
                help="calibrate first: qgraph.calibrate(graph, batches)",
            )

    def _check_states(self) -> None:
        """Raise LoweringError for a state whose next value is of another type."""
        for state in states_of(self.source):
            before, after = self.graph.inputs[self.source.inputs.index(state.input)], self.graph.outputs[state.output]
            if before.type != after.type:
                where = after.producer.where if after.producer is not None else ()
                raise LoweringError(
                    f"the state {before} has {after.type} as its next value",
                    where=where,
                    help="`prepare` gives both one scale; train and calibrate what it gives",
                )

    def _lower_inputs(self) -> None:
        for value in self.source.inputs:
            shape = value.type.shape
            if not value.type.is_float:
                self.lowered[value] = self.graph.add_input(value.name, self.target.as_stored(value.type))
                continue
            fake_quant = fake_quant_of(value)
            if fake_quant is None:
                if not value.users and not value.is_output:  # kept for whoever calls the model: it has no scale
                    self.lowered[value] = self.graph.add_input(value.name, TensorType(shape))
                    continue
                raise LoweringError(f"input %{value.name} is not fake-quantized", help="run insert-fake-quant first")
            dtype, quant = self._element_of(fake_quant)
            integer = self.io == "integer" or value in self.kept
            made = self.graph.add_input(value.name, TensorType(shape, dtype, quant) if integer else TensorType(shape))
            if not integer:
                self.build.origins = fake_quant.origins
                made = self.build.node(self.target.quantize_op, [made], {}, element=(dtype, quant)).result
            self.build.origins = fake_quant.origins
            self.lowered[value] = self._within(made, fake_quant)

    def advance(self, node: Node) -> None:
        """Lower the next node: what is built for it is not changed by those behind it."""
        self.build.origins = node.origins
        if node.op == "quant.fake_quant_bias":
            return
        if node.op == "quant.fake_quant":
            if not node.operand(0).is_constant:
                self._lower_fake_quant(node)
            return
        if is_index(node):
            self.lowered[node.results[0]] = self._in_float(node)
            return
        if node not in self.rows:
            self.rows[node] = choices(node, self.target)
        rows = self.rows[node]
        if self._stays_float(node, rows if isinstance(rows, Refusal) else rows[0]):
            self.lowered[node.results[0]] = self._in_float(node)
            return
        try:
            self.lowered[node.results[0]] = self._as_integers(node, rows)
        except LoweringError:
            if not self.fallback:
                raise
            self.lowered[node.results[0]] = self._in_float(node)

    def _as_integers(self, node: Node, rows: Sequence[Correspondence] | Refusal) -> Value:
        """The node by the first row's op on integers that its scales admit; raises LoweringError where none is."""
        if isinstance(rows, Refusal):
            raise fail(node, *rows)
        refusals = []
        for row in rows:
            call = self._call(row, node)
            own = self.target.limits.get(row.target)
            refusal = row.limits(call) or (own(call) if own is not None else None)
            if refusal is None:
                return self._by_row(node, row, call)
            refusals.append(refusal)
        raise fail(node, *refusals[0])

    def _by_row(self, node: Node, row: Correspondence, call: Call) -> Value:
        """The node by a row, requantized and clamped as the fake-quant behind it says."""
        made = self._made(row, call)
        if row.result == "fixed":
            wanted = self.element(node)
            made = made if wanted[1] == call.element[1] else self.target.requantize(self, made, wanted)
        behind = fake_quant_of(node.results[0])
        on_its_grid = behind is not None and self._element_of(behind) == (made.type.dtype, made.type.quant)
        return self._within(made, behind) if behind is not None and on_its_grid else made

    def _made(self, row: Correspondence, call: Call) -> Value:
        """What a row makes of a node: its first result; the others are noted, unless nobody reads them."""
        made = row.lowered(call) if row.lower is None else row.lower(row, call)
        others = call.node.results[1:]
        if call.more or any(value.users or value.is_output for value in others):
            self.lowered.update(zip(others, call.more, strict=True))
        return made

    def _within(self, value: Value, fake_quant: Node) -> Value:
        """The value within the codes that a fake-quant lets through: fewer bits may be asked for than its dtype has."""
        low, high = self.clamped.get(value, integer_range(value.type.dtype))
        lowest, highest = fake_quant.attrs["range"]
        wanted = max(low, int(lowest)), min(high, int(highest))
        if wanted != (low, high):
            value = self.target.clamp(self, value, *wanted)
            self.clamped[value] = wanted
        return value

    # ---- ops that stay in float

    @property
    def float_build(self) -> Builder:
        """Builds the target's ops on floats."""
        return FloatBuilder(self.build, self.target.float_ops)

    def _stays_float(self, node: Node, row: Correspondence | Refusal) -> bool:
        """Whether a node has no integer form, reads floats, or makes what something reads unquantized, and may."""
        if isinstance(row, Refusal):
            return self.fallback
        if not self.fallback and self.target.exact_in_float is None:
            return False
        read = [self.lowered[value] for value in node.inputs if value in self.lowered]
        if any(value.type.is_float for value in read):
            return True
        if row.on_floats and is_read_both_ways(node.results[0]):
            return True
        only_without_form = self.target.exact_in_float is None
        quantized = any(user.op == "quant.fake_quant" for user in node.results[0].users) or (
            only_without_form and fake_quant_of(node.results[0]) is not None
        )
        return row.result != "operand" and not quantized

    def _in_float(self, node: Node) -> Value:
        """The node by the target's op on floats, behind what makes floats of its operands."""
        row = choose(node, self.target, in_float=True)
        if isinstance(row, Refusal):
            raise fail(node, *row)
        rank = _rank(node)
        given = node.operands if row.weight is None else node.operands[:1]
        operands: list[Any] = [None if value is None else self.as_float(value, rank) for value in given]
        call = Call(self, node, operands, ("f32", None))
        call.in_float = True
        if row.weight is not None:
            w, order = node.operand(1), row.weight.order
            data = known_data(w)
            call.w = self.build.constant(
                np.ascontiguousarray(data.transpose(order)) if order else data, _source(w).name
            )
            call.bias = self._float_bias(node, row.weight)
        return self._made(row, call)

    def _float_bias(self, node: Node, form: Weight) -> Value | None:
        bias = node.operands[2] if len(node.operands) > 2 else None
        if bias is not None:
            return self.build.constant(known_data(bias), _source(bias).name)
        if not form.zero_bias:
            return None
        name = f"{_source(node.operand(1)).name}.bias"
        return self.build.constant(np.zeros(known_data(node.operand(1)).shape[form.channels], np.float32), name)

    def plain_constant(self, value: Value, rank: int) -> Value:
        """A constant as it is, broadcast to `rank` dimensions; indices in the target's storage of them.

        Raises LoweringError for an integer that has no place there.
        """
        data, name = known_data(value), _source(value).name
        if data.dtype == np.int64 and self.target.indices:
            low, high = integer_range(self.target.indices)
            beyond = data[(data < low) | (data > high)]
            if beyond.size:
                kind = self.target.indices.replace("i", "int")
                raise LoweringError(
                    f"{self.target.name} has integers of {kind}, in which the constant {name} has no {beyond[0]}"
                )
            data = data.astype(TensorType((), self.target.indices).numpy)
        return self.build.constant(data.reshape((1,) * (rank - data.ndim) + data.shape), name)

    def as_float(self, value: Value, rank: int) -> Value:
        """The floats of an operand, or the integers that have no scale; constants are broadcast to `rank`
        dimensions."""
        if value not in self.lowered:
            return self.plain_constant(value, rank)
        made = self.lowered[value]
        if made.type.quant is None:
            return made
        if made not in self.real:
            self.real[made] = self.build.node(self.target.dequantize_op, [made], {}).result
        return self.real[made]

    def _call(self, row: Correspondence, node: Node) -> Call:
        """The lowered operands of a node, and the element type that its result gets."""
        if row.weight is None:
            places = [
                i
                for i, value in enumerate(node.operands)
                if not (row.of_computed and (value is None or is_known(value)))
            ]
            xs = [self.operand(node, index) for index in places]
            return Call(self, node, xs, self._result_element(row, node, xs[0]))
        x, weight = self.operand(node), self.weight(node, row.weight)
        if row.weight.bias_first:
            bias = self._bias(row.weight, node, weight, x)
            w = self.weight_constant(weight, row.weight)
        else:
            w = self.weight_constant(weight, row.weight)
            bias = self._bias(row.weight, node, weight, x)
        return Call(self, node, [x], self._result_element(row, node, x), weight, w, bias)

    def _bias(self, form: Weight, node: Node, weight: QuantizedWeight, x: Value) -> Value | None:
        bias = self.bias(node, weight, x)
        if bias is not None or not form.zero_bias:
            return bias
        return self.bias_constant(node, np.zeros(len(weight.by_channel)), weight, x, f"{weight.name}.bias")

    def _result_element(self, row: Correspondence, node: Node, x: Value) -> Element:
        if row.result == "operand":
            return x.type.dtype, x.type.quant
        if row.result == "own":
            return self.element(node)
        rules = self.target.quant_rules()
        wide = rules.wide is not None and x.type.dtype == rules.wide.dtype
        fixed = rules.ops[f"nn.{row.source}"].fixed(wide)
        assert fixed is not None
        return rules.spec(wide).dtype, QuantParams.of(*fixed)

    def _lower_fake_quant(self, node: Node) -> None:
        value = self.lowered[node.operand(0)]
        dtype, quant = self._element_of(node)
        if value.type.quant is None:
            value = self.build.node(self.target.quantize_op, [value], {}, element=(dtype, quant)).result
        elif (value.type.dtype, value.type.quant) != (dtype, quant):
            value = self.target.requantize(self, value, (dtype, quant))
        self.lowered[node.result] = self._within(value, node)

    def _element_of(self, fake_quant: Node) -> Element:
        if fake_quant not in self._elements:
            scale, zero_point = fake_quant.operand(1), fake_quant.operand(2)
            quant = QuantParams.of(scale.data, zero_point.data, fake_quant.attrs["axis"])
            self._elements[fake_quant] = str(fake_quant.attrs["type"]), quant
        return self._elements[fake_quant]

    def _lower_outputs(self) -> None:
        outputs: list[Value] = []
        for index, value in enumerate(self.source.outputs):
            if value not in self.lowered:
                raise LoweringError(
                    f"output {index} is not computed from an input", help="a graph of constants has no use"
                )
            made = self.lowered[value]
            if self.io == "float" and made.type.quant is not None and index not in self.kept.values():
                self.build.origins = made.producer.origins if made.producer else ()
                made = self.build.node(self.target.dequantize_op, [made], {}).result
            outputs.append(made)
        default = ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
        names = [given or name for given, name in zip(self.source.given_output_names, default, strict=True)]
        taken = {value.name for value in self.graph.inputs}
        for made, name in zip(outputs, names, strict=True):
            if not made.name:
                made.name = name if name not in taken else f"{name}.output"
        clear = [made.name for made in outputs] == names
        self.graph.set_outputs(outputs, () if clear else names)


MOVES = ("nn.reshape", "nn.transpose")


def fake_quant_of(value: Value) -> Node | None:
    """The fake-quantization that says what integers a value becomes, also behind a move that alone reads it."""
    found = next((user for user in value.users if user.op == "quant.fake_quant"), None)
    moved = len(value.users) == 1 and value.users[0].op in MOVES and not value.is_output
    return fake_quant_of(value.users[0].result) if found is None and moved else found


def is_read_both_ways(value: Value) -> bool:
    """Whether something reads the codes of a value, and something else the value itself."""
    quantized = [user.op == "quant.fake_quant" for user in value.users]
    return any(quantized) and not all(quantized)


def known_data(value: Value) -> Array:
    """The floats of a constant, or of the fake-quantized form of one; raises LoweringError for a computed value."""
    if value.is_constant:
        return value.data
    maker = value.producer
    if maker is None or maker.op not in FAKE_QUANTS or not all(each.is_constant for each in maker.inputs):
        raise LoweringError(f"operand {value} is neither a constant nor the fake-quantized form of one")
    return op_def(maker.op).evaluate(maker, [each.data for each in maker.inputs])[0]


def _rank(node: Node) -> int:
    """How many dimensions the constants that a node reads have at least: an elementwise one broadcasts them."""
    return node.result.type.rank if op_def(node.op).traits.elementwise else 0


def _source(value: Value) -> Value:
    """The constant behind a value."""
    return value if value.producer is None else value.producer.operand(0)


def _range(fake_quant: Node) -> tuple[int, int]:
    low, high = fake_quant.attrs["range"]
    return int(low), int(high)


def combined(errors: Sequence[QGraphError], what: str) -> LoweringError:
    """One error for all nodes of which `what` is true ("litert cannot lower")."""
    first, *others = errors
    if not others:
        return LoweringError(first.what, where=first.where, help=first.help)
    where = tuple(line for error in errors for line in (error.what, *(f"  {text}" for text in error.where)))
    help = next((error.help for error in errors if error.help), "")
    return LoweringError(f"{what} {len(errors)} nodes", where=where, help=help)
