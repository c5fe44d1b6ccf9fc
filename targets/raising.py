"""From a target's ops back to `nn`, by the rows that lower them: integers with fake-quant around, or floats.

`raise_graph` makes a deployed model one that can be trained: each value keeps the scale and zero point of the file, and
what is lowered again gives the same integers; what a row, or an int8 graph, cannot say is refused by name.
`float_graph` and `evaluate` take ops on floats. The two differ in what an operand is, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph import targets
from qgraph.errors import LoweringError, QGraphError, TypeMismatch, UnsupportedOp
from qgraph.ir import Array, Attr, Builder, Graph, Node, TensorType, Value, op_def
from qgraph.ir.op import OpDef
from qgraph.ir.states import STATE_WORDS, STATES, states_of
from qgraph.ir.trained import declare_summands
from qgraph.ir.types import integer_range
from qgraph.ops.quant import integer_bias, per_axis
from qgraph.quantizers.rounding import get_rounding
from qgraph.targets.correspondence import Correspondence, Refusal, Weight
from qgraph.targets.lowering import FALLBACK, combined, fail
from qgraph.targets.rules import QuantRules

if TYPE_CHECKING:
    from qgraph.targets.target import Target

EXTRACT = "extract the part that can be raised"
Rows = Callable[[str], Correspondence | None]
"""The row that raises an op, by its name."""
Kept = dict[str, tuple[str, int]]
"""Storage of integers -> that which a raised value has, and how much lower its codes are."""


class Upward:
    """Builds the counterparts of nodes in the graph `new`, on operands that are floats."""

    layout = "NHWC"
    """Of spatial ops, whose rows name those of `nn`."""

    def __init__(self, new: Graph, rows: Rows) -> None:
        self.new, self.rows = new, rows
        self.build = Builder(new)
        self.values: dict[Value, Value] = {}

    def counterpart(self, node: Node) -> Value:
        """The row's op of `nn` on the operands that the node's have become; raises UnsupportedOp without one."""
        row, definition = self.rows(node.op), op_def(node.op)
        if row is None:
            raise UnsupportedOp(f"nn has no counterpart of {node.op}")
        refusal = None if row.raised is not None else row.refused(definition.view(node))
        if refusal is not None:
            raise UnsupportedOp(refusal.reason)
        roles = roles_of(definition, row)
        operands: list[Value | None] = []
        for index, value in enumerate(node.operands):
            role = roles.get(index, "activation")
            if value is None:
                operands.append(None)
            elif role == "weight":
                assert row.form is not None
                operands.append(self.weight(node, value, row.form))
            else:
                operands.append(self.bias(node, value) if role == "bias" else self.activation(value))
        if definition.traits.elementwise:
            operands = self._of_one_width(operands)
        return row.counterpart(self.build, definition.view(node), definition.grouped(operands), self.layout)

    def _of_one_width(self, operands: list[Value | None]) -> list[Value | None]:
        """Operands of which indices, which `nn` has in int64, go with other integers."""
        dtypes = {value.type.dtype for value in operands if value is not None}
        if dtypes != {"i32", "i64"}:
            return operands
        return [self.build.nn.cast(x, dtype="i64") if x is not None and x.type.dtype == "i32" else x for x in operands]

    def activation(self, value: Value) -> Value:
        """What a value has become; a constant: the floats that it stands for."""
        if value not in self.values and value.is_constant:
            self.values[value] = self.new.add_constant(real(value), value.name)
        return self.values[value]

    def weight(self, node: Node, value: Value, form: Weight) -> Value:
        """A weight in the order of dimensions that `nn` has."""
        order = form.order
        back = tuple(int(i) for i in np.argsort(order)) if order else tuple(range(value.type.rank))
        if value.is_constant:
            return self.build.constant(np.ascontiguousarray(real(value).transpose(back)), value.name)
        return self.build.nn.transpose(self.activation(value), perm=back) if order else self.activation(value)

    def bias(self, node: Node, value: Value) -> Value:
        """A bias."""
        return self.activation(value)


def roles_of(definition: OpDef, row: Correspondence) -> dict[int, str]:
    """place -> "weight" or "bias", of the operands that a row takes for such."""
    roles = ("weight", "bias") if row.form is not None else ()
    return {place: role for role in roles for place in definition.operand_indices(role)}


def real(value: Value) -> Array:
    """The numbers that a constant stands for, float32; computed in float64."""
    quant = value.type.quant
    if quant is None:
        return value.data
    axis = quant.axis if len(quant.scale) > 1 else None
    numbers = (quant.scales.astype(np.float64), quant.zero_points)
    scale, zero = (per_axis(each, value.data.ndim, axis) for each in numbers)
    return np.asarray((value.data.astype(np.float64) - zero) * scale, np.float32)


# ---- floats


def float_graph(graph: Graph, rows: Rows) -> Graph | None:
    """The graph in the `nn` dialect; None where it holds integers other than indices, or an op without counterpart."""
    from qgraph.passes.convert_layout import convert_layout

    if any(value.type.dtype != "f32" for value in [*graph.inputs, *graph.outputs]):
        return None
    words = {key: word for key, word in graph.metadata.items() if key in ("repaired", "hybrid", *STATE_WORDS)}
    upward = Upward(Graph(graph.name, "float", words), rows)
    upward.values.update({value: upward.new.add_input(value.name, value.type) for value in graph.inputs})
    for value in graph.constants.values():
        upward.activation(value)
    try:
        for node in graph.nodes:
            upward.build.origins = node.origins
            made = upward.counterpart(node)
            if made.producer is not None and not made.name:
                made.name = node.result.name
            upward.values[node.result] = made
    except QGraphError:
        return None
    names = graph.output_names if STATES in words else graph.given_output_names
    upward.new.set_outputs([upward.values[value] for value in graph.outputs], names)
    upward.new.drop_unused_constants()
    declare_summands(upward.new)
    converted: Graph = convert_layout(upward.new, to="NCHW")
    return converted


def evaluate(op: str, view: Any, operands: Sequence[Value | None], arrays: Sequence[Array | None], rows: Rows) -> Array:
    """The result of an op on floats: its counterpart in `nn`, in NumPy's float32; integer weights as their floats."""
    graph, new = Graph("op", "integer"), Graph("op")
    given = [
        None
        if value is None or array is None
        else graph.add_constant(array, f"x{i}", value.type.quant, value.type.dtype)
        for i, (value, array) in enumerate(zip(operands, arrays, strict=True))
    ]
    attrs = {name: getattr(view, name) for name in op_def(op).attrs}
    result = Upward(new, rows).counterpart(graph.insert(op, given, attrs, [view.result.type]))
    known: dict[Value, Array] = {}
    for node in new.nodes:
        feed = [None if v is None else v.data if v.is_constant else known[v] for v in node.operands]
        known.update(zip(node.results, op_def(node.op).evaluate(node, feed), strict=True))
    return known[result] if not result.is_constant else result.data


# ---- integers


class Integers(Upward):
    """Raises integers: constants and results are fake-quantized with the parameters that they have in the file."""

    def __init__(self, old: Graph, new: Graph, target: Target, rules: QuantRules) -> None:
        rows = target.raising_of
        super().__init__(new, rows)
        self.rules, self.kept, self.layout = rules, kept_storage(target), target.layout
        self.parents: dict[Value, Value] = {}  # value -> another with the same parameters, between which integers move
        self.parameters: dict[Value, tuple[Value, Value]] = {}
        self.scales: dict[Value, Value] = {}  # weight -> the constant of its scales
        for node in old.nodes:
            row = rows(node.op)
            if row is not None and row.result == "operand" and not is_plain(node.result.type):
                self._share([value for value in [*node.inputs, node.result] if value.type.quant is not None])
        for state in states_of(old):
            if state.input.type.quant is not None:
                self._share([state.input, old.outputs[state.output]])

    def _share(self, values: list[Value]) -> None:
        first = self._root(values.pop())
        for value in values:
            other = self._root(value)
            if other is not first:
                self.parents[first], first = other, other

    def _root(self, value: Value) -> Value:
        while value in self.parents:
            value = self.parents[value]
        return value

    def activation(self, value: Value) -> Value:
        """What a value has become; a constant, fake-quantized."""
        if value not in self.values:
            constant = self.build.constant(real(value), value.name)
            self.values[value] = self.quantized(constant, value) if value.type.quant is not None else constant
        return self.values[value]

    def quantized(self, made: Value, old: Value, source: Value | None = None, **attrs: Attr) -> Value:
        """`made`, fake-quantized with the parameters that `old` has in the file; `source`: whose integers it was."""
        root, (dtype, shift) = self._root(old), self.kept[old.type.dtype]
        if root not in self.parameters:
            name = old.name or f"v{len(self.parameters)}"
            zero = np.array([old.type.q.zero_point[0] - shift], np.int32)
            scale = self.build.constant(old.type.q.scales[:1], f"{name}_scale")
            self.parameters[root] = scale, self.build.constant(zero, f"{name}_zero_point")
        given: dict[str, Attr] = {"type": dtype, "range": integer_range(dtype), **attrs}
        given["symmetric"] = (
            self.rules.wide is not None and dtype == self.rules.wide.dtype and not old.type.q.zero_point[0]
        )
        before = [] if source is None else [self.parameters[self._root(source)][0]]
        return self.build.node("quant.fake_quant", [made, *self.parameters[root], *before], given).result

    def weight(self, node: Node, value: Value, form: Weight) -> Value:
        """A weight in `nn`'s order of dimensions, fake-quantized per output channel or as a whole."""
        if value.type.quant is None:  # of a layer that stays in float
            return super().weight(node, value, form)
        constant, quant = super().weight(node, value, form), value.type.q
        dtype, shift = self.kept[value.type.dtype]
        row = self.rows(node.op)
        rule = self.rules.ops.get(f"nn.{row.source}") if row is not None else None
        spec = next(iter(rule.weights.values()), None) if rule is not None else None
        low, high = integer_range(dtype)
        attrs: dict[str, Attr] = {
            "type": dtype,
            "range": (min(int(value.data.min()) - shift, low + 1), high),
            "axis": form.channels if len(quant.scale) > 1 else None,
            "symmetric": True,
            "observer": spec.observer if spec is not None and spec.dtype == dtype else "min_max",
        }
        scale = self.scales[value] = self.build.constant(quant.scales, f"{value.name}_scale")
        zero = self.build.constant((quant.zero_points - shift).astype(np.int32), f"{value.name}_zero_point")
        return self.build.node("quant.fake_quant", [constant, scale, zero], attrs).result

    def bias(self, node: Node, value: Value) -> Value:
        """A bias as the real values of its integers; raises LoweringError for one that float32 does not hold."""
        if value.type.dtype == "f32":
            return self.activation(value)
        scale = bias_scale(node, value)
        floats = (value.data * scale.astype(np.float64)).astype(np.float32)
        lost = integer_bias(floats, scale) != value.data
        if lost.any():
            code = value.data[int(np.argmax(lost))]
            raise fail(node, f"nn.{node.op} cannot carry the bias {code}: float32 has 24 bits", "make it smaller")
        x, w = factors(node, value)
        x_scale, _ = self.parameters[self._root(x)]
        return self.build.quant.fake_quant_bias(self.build.constant(floats, value.name), x_scale, self.scales[w])


def factors(node: Node, bias: Value) -> tuple[Value, Value]:
    """What is multiplied where a layer adds a bias: its input and a weight, of several the one of the same number."""
    weights, biases = (op_def(node.op).operand_indices(role) for role in ("weight", "bias"))
    number = next(i for i, place in enumerate(biases) if node.operands[place] is bias)
    return next(value for value in node.inputs if not value.is_constant), node.operand(weights[number])


def bias_scale(node: Node, bias: Value) -> Array:
    """x_scale * w_scale [O], which is the scale of a bias whatever the file says of it."""
    x, w = factors(node, bias)
    return np.broadcast_to(x.type.q.scales[0] * w.type.q.scales, bias.data.shape).astype(np.float32)


def uncarried(node: Node, row: Correspondence, kept: Kept, wide_bias: Mapping[str, str]) -> Refusal | None:
    """What of a node graphs of fake-quant cannot say, so that it could not be lowered to the same integers."""
    definition = op_def(node.op)
    defaults = {name: spec.default for name, spec in definition.attrs.items()}
    roles = roles_of(definition, row)
    for index, value in enumerate(definition.grouped(node.operands) if row.form else node.operands):
        role = roles.get(index, "activation")
        if role == "bias":
            refusal = _uncarried_bias(value, wide_bias.get(node.result.type.dtype, "i32"))
        elif value is None or _is_index(definition, index, value):
            continue
        else:
            types = _uncarried_activation(value.type, kept)
            refusal = _uncarried_weight(value, row, kept) if role == "weight" else types
        if refusal is not None:
            return refusal
    quants = {
        value.type.quant
        for value in [*node.inputs, node.result]
        if (value.type.is_float and not value.is_constant) or value.type.quant
    }
    if row.result == "operand" and len(quants) > 1:
        return Refusal(f"nn.{row.source} cannot carry parameters of its own: {node.result.type}")
    refused = _uncarried_activation(node.result.type, kept)
    return refused or row.uncarried(definition.view(node), node.attrs, defaults)


def _is_index(definition: OpDef, index: int, value: Value) -> bool:
    """Whether an operand is known indices."""
    return definition.spec_of(index).role == "indices" and value.is_constant and value.type.quant is None


def is_plain(type: TensorType) -> bool:
    """Whether integers or conditions have no scale, and stand for themselves."""
    return type.quant is None and not type.is_float


def _uncarried_activation(type: TensorType, kept: Kept) -> Refusal | None:
    if is_plain(type):
        return None
    if type.quant is None or type.dtype not in kept:
        widths = "16" if "i16" in kept else "8"
        return Refusal(f"fake-quant of {widths} bits cannot carry {type}", "raise the part between")
    if len(type.quant.scale) > 1:
        return Refusal(f"fake-quant of activations cannot carry the axis of {type}")
    return _infinite(type)


def _infinite(type: TensorType) -> Refusal | None:
    """Codes that stand for a number beyond float32, as which they would not come back."""
    low, high = integer_range(type.dtype)
    with np.errstate(over="ignore"):
        reach = max(high, *map(abs, type.q.zero_point)) - min(low, *type.q.zero_point)
        infinite = ~np.isfinite(type.q.scales * np.float32(reach))
    return Refusal(f"floats cannot carry the scale {type.q.scales[infinite][0]:.4g}") if infinite.any() else None


def _uncarried_weight(value: Value, row: Correspondence, kept: Kept) -> Refusal | None:
    if not value.is_constant or value.type.quant is None:
        return Refusal("nn's layers cannot carry a weight that is computed", "give a constant")
    if value.type.dtype not in kept or value.type.numpy.itemsize > 1:
        return Refusal(f"an int8 weight cannot carry {value.type.dtype}: kernels compute it otherwise")
    quant, symmetric = value.type.quant, 128 if value.type.dtype == "u8" else 0
    if any(zero != symmetric for zero in quant.zero_point):
        return Refusal(f"a symmetric int8 weight cannot carry zero_point={quant.zero_point[0]} of {value.type.dtype}")
    if row.form is not None and len(quant.scale) > 1 and quant.axis != row.form.axis:
        return Refusal(f"a scale per output channel cannot carry axis={quant.axis} of the weight")
    return _infinite(value.type)


def _uncarried_bias(value: Value | None, dtype: str) -> Refusal | None:
    """A bias that is not a constant of `dtype`; with wide ones, kernels go by its type where there is none, too."""
    if value is None:
        return None if dtype == "i32" else Refusal("layers of nn cannot carry that kernels of 16 bits have no bias")
    if value.is_constant and value.type.dtype == dtype:
        return None
    return Refusal(f"an {dtype.replace('i', 'int')} constant cannot carry the bias {value.type}")


def kept_storage(target: Target) -> Kept:
    """What becomes of storage: it stays where the target's rules know it for activations, else u8 becomes i8."""
    choices = target.options["activations"].choices if "activations" in target.options else ()
    rules = [target.quant_rules(activations=choice) for choice in choices] or [target.quant_rules()]
    known = {each.activation.dtype for each in rules} & {"i8", "u8"}
    known |= {each.wide.dtype for each in rules if each.wide is not None}
    return {"u8": ("i8", 128), **{dtype: (dtype, 0) for dtype in known}}


def raise_graph(graph: Graph) -> Graph:
    """A fake-quant graph of `nn` ops, NCHW, that computes what an integer graph of the target stands for.

    Raises LoweringError naming every op that has no counterpart, or what a counterpart cannot carry.
    """
    from qgraph.passes.convert_layout import convert_layout
    from qgraph.passes.drop_dead_code import erase_dead_code
    from qgraph.passes.rules.rounded_inside import round_inside

    target = targets.of(graph)
    _refuse(graph, target)
    options = {name: graph.metadata[name] for name in target.options if name in graph.metadata}
    states = {word: graph.metadata[word] for word in STATE_WORDS if word in graph.metadata}
    words = {"target": graph.target, "raised": "yes", **options, **states}
    if any(stays_float(node) for node in graph.nodes):
        words[FALLBACK] = "float"
    rules = target.quant_rules(**options)
    new = Graph(graph.name, "fake_quant", words)
    upward = Integers(graph, new, target, rules)
    for value in graph.inputs:
        type = value.type if value.type.quant is None else TensorType(value.type.shape)
        upward.values[value] = made = upward.new.add_input(value.name, type)
        if value.type.quant is not None:
            upward.values[value] = upward.quantized(made, value, rounding=rules.input_rounding)
    for node in graph.nodes:
        upward.build.origins = node.origins
        try:
            upward.values.update(zip(node.results, _raised(upward, node, rules), strict=True))
        except TypeMismatch as error:
            raise fail(node, f"{node.op} has no counterpart in nn here: {error.what}", EXTRACT) from None
    names = graph.output_names if states else graph.given_output_names
    upward.new.set_outputs([upward.values[value] for value in graph.outputs], names)
    round_inside(upward.new)
    erase_dead_code(upward.new)  # constants that have become attributes
    upward.new.drop_unused_constants()
    declare_summands(upward.new)
    if target.layout == "NHWC":
        return convert_layout(upward.new, to="NCHW", io="images")
    return upward.new


def stays_float(node: Node) -> bool:
    """Whether a node of an integer graph is an op of `nn`, between dequantized and quantized values."""
    return node.dialect == "nn"


def _raised(upward: Integers, node: Node, rules: QuantRules) -> Sequence[Value]:
    """What the results of a node become."""
    if not stays_float(node) or len(node.results) == 1:
        return [_raised_alone(upward, node, rules)]
    operands = [None if value is None else upward.activation(value) for value in node.operands]
    return upward.build.node(node.op, operands, dict(node.attrs)).results


def _raised_alone(upward: Integers, node: Node, rules: QuantRules) -> Value:
    if stays_float(node):
        operands = [None if value is None else upward.activation(value) for value in node.operands]
        same = upward.build.node(node.op, operands, dict(node.attrs)).result
        if node.result.type.quant is not None and node.operand(0).is_constant:
            return upward.quantized(same, node.result)
        if node.result.type.quant is not None:
            upward.parents[node.result] = node.operand(0)
        return same
    row = upward.rows(node.op)
    if row is None:  # a conversion between floats and integers
        x = node.operand(0)
        made = upward.activation(x)
        if node.result.type.quant is None:
            return made
        floats, dtypes = x.type.quant is None, (x.type.dtype, node.result.type.dtype)
        word = rules.input_rounding if floats else rules.requantizing_of(*dtypes)
        source = x if get_rounding(word).needs_source else None
        return upward.quantized(made, node.result, source, rounding=word)
    made = upward.counterpart(node)
    moved = op_def(node.op).traits.moves_data and not node.operand(0).is_constant
    if moved or is_plain(node.result.type):
        return made
    return upward.quantized(made, node.result, observer="fixed" if row.result == "fixed" else "moving_average")


def _row_of(node: Node, target: Target) -> Correspondence | None:
    """The row that raises a node; of an op on floats or plain integers only where it computes with these."""
    floats = any(value.type.is_float for value in [*node.inputs, *node.results])
    return target.raisings.get(node.op) if floats else target.raising_of(node.op)


def _refuse(graph: Graph, target: Target) -> None:
    """Raise LoweringError for everything that cannot be raised."""
    conversions = {target.quantize_op, target.dequantize_op}
    for state in states_of(graph):
        if graph.outputs[state.output].type != state.input.type:
            raise LoweringError(
                f"fake-quant cannot carry a state {state.input} whose next value is {graph.outputs[state.output]}",
                help="a state has one scale and zero point",
            )
    nodes = [node for node in graph.nodes if not stays_float(node)]
    rows = {node: _row_of(node, target) for node in nodes}
    unknown = [node for node in nodes if rows[node] is None and node.op not in conversions]
    if unknown:
        ops = ", ".join(sorted({node.op for node in unknown}))
        raise LoweringError(f"no counterpart in nn for {ops}", where=unknown[0].where, help=EXTRACT)
    kept, errors = kept_storage(target), []
    for node in nodes:
        row = rows[node]
        refusal = (
            _uncarried_conversion(node, target, kept) if row is None else uncarried(node, row, kept, target.wide_bias)
        )
        if refusal is not None:
            errors.append(fail(node, *refusal))
    if errors:
        raise combined(errors, f"{graph.target} cannot raise")


def _uncarried_conversion(node: Node, target: Target, kept: Kept) -> Refusal | None:
    x, made = node.operand(0), node.result
    known = {target.quantize_op, target.dequantize_op} if target.requantizes_in_float else set()
    readers = [user for user in made.users if not stays_float(user) and user.op not in known]
    if made.type.quant is None and readers:
        return Refusal("a graph of fake-quant cannot carry floats between integers", "raise the part before")
    maker = x.producer
    if x.type.quant is None and maker is not None and not stays_float(maker) and maker.op not in known:
        return Refusal("a graph of fake-quant cannot carry floats between integers", "raise the part behind")
    types = [value.type for value in (x, made) if value.type.quant is not None]
    return next(filter(None, (_uncarried_activation(type, kept) for type in types)), None)


def float_kinds(graph: Graph) -> list[str]:
    """The ops that compute in float, in alphabetical order."""
    return sorted(node.op for node in graph.nodes if stays_float(node) and not op_def(node.op).traits.moves_data)
