"""Insert fake-quantization as a target's rules say; the graph moves to the fake-quant level.

    %1 = nn.conv(%x, @w, @b)     ->   %1 = quant.fake_quant(%x, @x_scale, @x_zero_point)
                                      %2 = quant.fake_quant(@w, @w_scale, @w_zero_point) {axis=0}
                                      %3 = quant.fake_quant_bias(@b, @x_scale, @w_scale)
                                      %4 = nn.conv(%1, %2, %3)
                                      %5 = quant.fake_quant(%4, @conv_scale, @conv_zero_point)

Scales of weights follow from the weights. Scales of activations are NaN until calibration (`qgraph.calibrate`) or
training sets them. Values that must share parameters name the same constants; `qgraph.targets.grids` says which do.
Where an operand of a concat cannot have the parameters of the result, a `quant.fake_quant` with those stands between:

    %3 = nn.concat(%1, %2)       ->   %3 = quant.fake_quant(%2, @concat_scale, @concat_zero_point)
                                      %4 = nn.concat(%1, %3)

A convolution or linear layer followed by batch normalization becomes `quant.conv_batch_norm` or
`quant.linear_batch_norm`, which keeps the normalization alive in training, or with `batchnorm=fold` takes it in; a
batch normalization that follows no such layer becomes one (see `fold-batchnorm`).

With `fallback=float` ops that have no integer form on the target stay in float: they read what is fake-quantized, their
weights are not, and their results only where an integer op reads them or the graph returns them. Batch normalization
behind such a layer is folded into it. So it is, without being asked for, with ops that the target computes on floats
anyway and what lies between them (`passes/rules/islands`); where lowered graphs give floats, a result of theirs whose
bits are known is returned as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from qgraph import quantizers, targets
from qgraph.errors import InputError
from qgraph.ir import Array, Builder, Graph, Node, Value, op_def
from qgraph.ir.origin import union
from qgraph.ops.nn.activation import activation_attrs
from qgraph.ops.nn.normalization import batch_norm_gain
from qgraph.ops.quant import grid_of, per_axis, unquantized
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_batchnorm import (
    LIVE_LAYERS,
    NORMALIZATION_ATTRS,
    become_layer,
    fold_into_layer,
    is_foldable,
)
from qgraph.passes.lower import check_fallback, float_nodes
from qgraph.passes.rewriter import Declined, Match, Replacement, rewrite, rule
from qgraph.passes.rules.islands import of_16_bits, of_floats, of_known_bits, reads_finely
from qgraph.passes.rules.overrides import FLOAT, CheckedOverrides, Overrides
from qgraph.passes.rules.rounded_inside import round_inside
from qgraph.passes.strip_fake_quant import check_prepared
from qgraph.quantizers.masked import BOUND, FLOOR
from qgraph.quantizers.rounding import get_rounding
from qgraph.quantizers.weight_scale import weight_scale
from qgraph.quantizers.whole import STEPS
from qgraph.targets.grids import Grid, Grids, brought, is_activation
from qgraph.targets.lowering import FALLBACK
from qgraph.targets.masks import Held, held_scores, masks_of
from qgraph.targets.rules import OpRule, QuantRules, QuantSpec

__all__ = ["Observers", "Overrides", "insert_fake_quant"]

Observers = Mapping[str, str]
"""Operand ("activation", "weight") -> quantizer ("percentile:99.9")."""

LIVE = {layer: live for live, layer in LIVE_LAYERS.items()}


@graph_pass(
    exact="no",
    needs={"level": "float", "layout": "NCHW"},
    gives={"level": "fake_quant", "calibrated": "no", "target": "{target}"},
    check=check_prepared,
)
def insert_fake_quant(
    graph: Graph,
    /,
    *,
    target: str,
    batchnorm: str = "live",
    overrides: Overrides | None = None,
    observers: Observers | None = None,
    fallback: str | None = None,
    **options: str,
) -> None:
    check_fallback(fallback, targets.get(target))
    if batchnorm not in ("live", "fold"):
        raise InputError(f"batchnorm={batchnorm!r} is not a choice", help="choose live or fold")
    rules = chosen(targets.get(target).quant_rules(**options), observers or {})
    checked = CheckedOverrides(graph, overrides or {}, 8 if rules.wide is None else 16)
    chosen_target = targets.get(target)
    if not fallback and checked.in_float():
        raise InputError(f"bits={FLOAT} keep nodes in float", help="allow it: fallback='float'")
    never_alive = graph.find("nn.conv_transpose")
    if fallback:
        never_alive += [*float_nodes(graph, chosen_target), *checked.in_float()]
        graph.metadata[FALLBACK] = fallback
    _fold_behind(graph, never_alive if batchnorm == "live" else graph.nodes)
    graph.level = "fake_quant"
    graph.metadata.update({"target": chosen_target.name, **chosen_target.metadata, **options})
    inserter = _Inserter(graph, rules, checked)
    if batchnorm == "live":
        inserter.keep_batch_norms()
    rewrite(graph, [become_layer])
    refused = [*float_nodes(graph, chosen_target), *checked.in_float()] if fallback else []
    tied = lambda node: checked.bits(node, "activation_bits") is not None  # noqa: E731
    inserter.floats = {*refused, *of_floats(graph, chosen_target, refused, tied)}
    inserter.fine = () if rules.by_default else of_16_bits(graph, chosen_target, tied)
    if chosen_target.io == "float":
        inserter.returned = of_known_bits(graph, chosen_target, inserter.floats)
    inserter.masks = masks_of(graph)
    inserter.held = held_scores(graph, inserter.masks)
    _bound(graph, inserter.held.makers)
    inserter.quantize_weights()
    inserter.quantize_activations()
    inserter.quantize_constants()
    inserter.quantize_biases()
    inserter.quantize_inner()
    round_inside(graph)
    checked.check_effect()
    graph.drop_unused_constants()


def _fold_behind(graph: Graph, layers: Collection[Node]) -> None:
    """Fold batch normalization into layers in which it is not kept alive."""
    if not layers:
        return

    def fold(match: Match, build: Builder) -> Replacement:
        if match.nodes["layer"] not in layers:
            return Declined("it stays alive in this layer")
        return fold_into_layer.rewrite(match, build)

    rewrite(graph, [rule(fold_into_layer.pattern)(fold)])


def _bound(graph: Graph, makers: Collection[Node]) -> None:
    """Put what stands for infinity in place of larger constants of which masks are made."""
    for node in [node for node in graph.nodes if node in makers]:
        build = Builder(graph, node, node.origins)
        for i, x in enumerate(node.operands):
            if x is not None and x.is_constant and x.type.is_float and bool((np.abs(x.data) > BOUND).any()):
                bounded = build.constant(np.clip(x.data, -BOUND, BOUND).astype(np.float32), x.name)
                graph.set_operands(node, [*node.operands[:i], bounded, *node.operands[i + 1 :]])


def chosen(rules: QuantRules, observers: Observers) -> QuantRules:
    """The rules with the quantizers that the user names for "activation" and "weight".

    Raises InputError for another operand, a quantizer that is not for it, or one in place of scales that the target
    needs for its integers to be the same everywhere.
    """
    for operand, name in observers.items():
        if operand not in ("activation", "weight"):
            raise InputError(f"observers name {operand!r}", help="choose for activation, weight")
        if operand not in quantizers.get(name).uses:
            fitting = ", ".join(each for each in quantizers.names() if operand in quantizers.get(each).uses)
            raise InputError(f"quantizer {name!r} is not for {operand}s", help=f"choose from {fitting}")
    activation = observers.get("activation", rules.activation.observer)
    ops = {
        op: replace(
            rule, weights={name: _observed(spec, observers.get("weight")) for name, spec in rule.weights.items()}
        )
        for op, rule in rules.ops.items()
    }
    wide = None if rules.wide is None else replace(rules.wide, observer=activation)
    return replace(rules, activation=replace(rules.activation, observer=activation), wide=wide, ops=ops)


def _observed(spec: QuantSpec, name: str | None) -> QuantSpec:
    if name is None or name == spec.observer:
        return spec
    if quantizers.get(spec.observer).binding and quantizers.get(name).name != quantizers.get(spec.observer).name:
        raise InputError(
            f"quantizer {name!r} would replace {spec.observer!r}, on which the target's integers depend",
            help="choose other weights for the target: see its options, `qgraph targets NAME`",
        )
    return replace(spec, observer=name)


@dataclass
class _Inserter:
    graph: Graph
    rules: QuantRules
    overrides: CheckedOverrides
    weights: dict[tuple[Value, QuantSpec], Value] = field(default_factory=dict)  # shared ones are quantized once
    reciprocals: set[Value] = field(default_factory=set)  # whose ranges leave out those of next to nothing
    grids: dict[tuple[Value, bool], tuple[Value, Value]] = field(default_factory=dict)
    """root of a grid, and whether it has 16 bits -> its constants"""
    read_on: Mapping[Node, Grid] = field(default_factory=dict)  # where a first operand is brought to another grid
    wide: Collection[Node] = ()  # nodes whose results have 16 bits
    fine: Collection[Node] = ()  # those of them that have it without being asked
    floats: Collection[Node] = ()  # nodes that stay in float
    masks: Collection[Value] = ()  # of the graph before anything is quantized
    held: Held = field(default_factory=Held)  # what lies around masks, likewise
    returned: Collection[Node] = ()  # those of them whose floats the graph may return

    def keep_batch_norms(self) -> None:
        """conv + batch_norm -> quant.conv_batch_norm, where the layer takes the batch normalization in."""
        for bn in self.graph.find("nn.batch_norm"):
            layer = bn.operand(0).producer
            if not is_foldable(bn) or layer is None or not all(value.is_constant for value in bn.inputs[1:]):
                continue
            ((name, spec),) = self.rules.ops[layer.op].weights.items()  # a layer has one
            spec, w = self._weight_spec(layer, spec), layer.operand(op_def(layer.op).place(name))
            gain = batch_norm_gain(bn.operand(1).data, bn.operand(4).data, bn.attrs["eps"])
            scale, zero_point = self._weight_constants(w, w.data * per_axis(gain, w.type.rank, 0), spec)
            bias = layer.operands[2] if len(layer.operands) > 2 else None
            attrs = {
                **layer.attrs,
                **activation_attrs(bn.attrs),
                **{name: bn.attrs[name] for name in NORMALIZATION_ATTRS},
                "type": spec.dtype,
                "range": (spec.quant_min, spec.quant_max),
                "observer": spec.observer,
            }
            build = Builder(self.graph, bn, union((layer.origins, bn.origins)))
            operands = [layer.operand(0), w, bias, *bn.inputs[1:], scale, zero_point]
            made = build.node(LIVE[layer.op], operands, attrs, names=[bn.result.name]).result
            self.graph.replace_uses(bn.result, made)
            self.graph.erase(bn)
            self.graph.erase(layer)

    def quantize_weights(self) -> None:
        """Fake-quantize the constant weights of every layer."""
        for node in self.graph.nodes:
            rule = self.rules.ops.get(node.op)
            for name, spec in rule.weights.items() if rule and node not in self.floats else ():
                w = _operand(node, name)
                if w is not None and w.is_constant:
                    self._set_operand(node, name, self._quantized_weight(node, w, self._weight_spec(node, spec)))

    def _quantized_weight(self, node: Node, w: Value, spec: QuantSpec) -> Value:
        if (w, spec) not in self.weights:
            scale, zero_point = self._weight_constants(w, w.data, spec)
            made = self._fake_quant(Builder(self.graph, node, node.origins), w, scale, zero_point, spec)
            self.weights[w, spec] = made
        return self.weights[w, spec]

    def quantize_activations(self) -> None:
        """Fake-quantize the graph's inputs, every result that is not yet on its grid, and operands of joins."""
        grids = Grids(
            self.graph, self.rules, partial(self.overrides.bits, word="activation_bits"), self.floats, self.fine
        )
        edges = grids.edges()
        self.read_on = {node: grid for node, index, grid in edges if index == 0}
        self.wide = {node for node in self.graph.nodes if is_activation(node) and grids.of(node.results[0]).wide}
        for value in grids.activations():
            node = value.producer
            rule = "own" if node is None else grids.rule(node)
            if rule == "same" or (rule == "join" and not brought(node)):  # type: ignore[arg-type]  # a join has a node
                continue
            observed = rule != "shared" or not brought(node)  # type: ignore[arg-type]
            self._quantize_result(value, grids, observed)
        self._requantize(edges)
        self._narrow_outputs(grids)

    def _narrow_outputs(self, grids: Grids) -> None:
        """Return what has 16 bits without being asked for on a grid as every other result has it."""
        for value in dict.fromkeys(self.graph.outputs):
            mark = grid_of(value)
            of = None if mark is None else mark.operand(0)
            if mark is None or of is None or of not in grids or not grids.is_fine(of):
                continue
            spec, scale, zero_point = self._parameters(grids.narrowed(grids.of(of)))
            build = Builder(self.graph, None, mark.origins)
            word = self.rules.requantizing_of(spec.dtype, str(mark.attrs["type"]))
            made = self._fake_quant(build, value, scale, zero_point, spec, word, mark.operand(1))
            self.graph.replace_uses(value, made, keep=value.users)

    def _quantize_result(self, value: Value, grids: Grids, observed: bool) -> None:
        """Fake-quantize what an input or a result is for its readers; one that is not observed is clamped to its
        grid."""
        node = value.producer
        users, kept = value.users, []
        if node in self.floats:
            returned = node in self.returned
            kept = [user for user in users if reads_finely(user, self.floats, returned)]
            if len(kept) == len(users) and (returned or not value.is_output):
                return
        spec, scale, zero_point = self._parameters(grids.of(value))
        origins = node.origins if node else users[0].origins if users else ()
        build = Builder(self.graph, self.graph.after(node), origins)
        spec = spec if observed else replace(spec, observer="fixed")
        of_op = self._of_op(node, spec, users)
        if of_op == "reciprocal":
            self.reciprocals.add(value)
        spec = replace(spec, observer=self._special(self._of_masks(value) or of_op) or spec.observer)
        rule = self.rules.ops.get(node.op, OpRule()) if node else None
        rounded = rule is not None and node is not None and node not in self.floats
        rounding = rule.rounding_of(node) if rounded else self.rules.input_rounding  # type: ignore[union-attr,arg-type]
        source = self._source(node, grids) if node is not None and get_rounding(rounding).needs_source else None
        made = self._fake_quant(build, value, scale, zero_point, spec, rounding, source)
        assert made.producer is not None
        self.graph.replace_uses(value, made, keep=[made.producer, *kept])

    def _special(self, observer: str) -> str:
        """A quantizer that a value asks for, with the words of the one that the user chose; "" for ""."""
        return observer and observer + quantizers.get(self.rules.activation.observer).words

    def _of_op(self, node: Node | None, spec: QuantSpec, users: Collection[Node]) -> str:
        """How the range of a result follows from what is seen where its op, or those that read it, say more of it; ""
        for any other."""
        if node is None or spec.observer == "fixed":
            return ""
        if op_def(node.op).traits.whole and spec.quant_max - spec.quant_min == STEPS:
            return "whole"
        if node.op == "nn.div" and node.operand(0).is_constant and all(user.op == "nn.mul" for user in users):
            return "reciprocal"
        return "open_ended" if node in self.fine and node.op == "nn.rsqrt" else ""

    def _of_masks(self, value: Value) -> str:
        """How the range of a mask, or of what a mask is added to, follows from what is seen; "" for any other value."""
        node = value.producer
        if value in self.masks:
            return "mask"
        operands = enumerate(node.operands) if node is not None else ()
        read = (each for i, each in operands if each is not None and _is_activation(node, i))  # type: ignore[arg-type]
        factor = node is not None and node.op in ("nn.mul", "nn.div")  # of a mask, in which no scores are
        masked = not factor and any(unquantized(each) in self.masks for each in read)
        return "masked" if masked else self.held.observers.get(value, "")

    def _source(self, node: Node, grids: Grids) -> Value:
        """The scale of the grid on which a node reads its first operand."""
        grid = self.read_on.get(node) or grids.of(unquantized(node.operand(0)))
        return self._parameters(grid)[1]

    def _requantize(self, edges: list[tuple[Node, int, Grid]]) -> None:
        """Put a fake-quant with the parameters of a join before each operand that has others."""
        made: dict[tuple[Node, Value], Value] = {}
        for node, index, grid in edges:
            value = node.operand(index)
            if (node, value) not in made:
                spec, scale, zero_point = self._parameters(grid)
                build = Builder(self.graph, node, node.origins)
                before = grid_of(value)
                source = before.operand(1) if before is not None else None
                dtypes = (spec.dtype, str(before.attrs["type"])) if before is not None else (spec.dtype,)
                rounding = self.rules.requantizing_of(*dtypes) if source is not None else "half_even"
                if not grid.fixed:
                    of_op = "reciprocal" if grid.root in self.reciprocals else ""
                    spec = replace(spec, observer=self._special(self._of_masks(grid.root) or of_op) or spec.observer)
                made[node, value] = self._fake_quant(build, value, scale, zero_point, spec, rounding, source)
            self.graph.set_operands(node, [*node.operands[:index], made[node, value], *node.operands[index + 1 :]])

    def _parameters(self, grid: Grid) -> tuple[QuantSpec, Value, Value]:
        """How a grid is quantized, and its constants."""
        spec, scale = self.rules.spec(grid.wide), np.nan
        if grid.bits is not None and grid.fixed is None:
            spec = _of_bits(spec, grid.bits[0])
        if grid.fixed is not None:
            scale, zero_point = grid.fixed
            spec = replace(spec, zero_point=zero_point, observer="fixed")
        key = grid.root, grid.wide
        if key not in self.grids:
            self.grids[key] = self._constants(_stem(grid.root), np.full(1, scale, np.float32), spec)
        return spec, *self.grids[key]

    def quantize_constants(self) -> None:
        """Fake-quantize constants that stand among activations (x + constant), by their own range."""
        for node in self.graph.nodes:
            rule = self.rules.ops.get(node.op)
            rounded = rule is not None and rule.constants and not rule.weights and rule.result == "own"
            if not rounded or node in self.floats:
                continue
            for index, value in enumerate(node.operands):
                if value is not None and value.is_constant and value.type.is_float and _is_activation(node, index):
                    fixed = value in self.masks or not value.data.any()  # training has no say in them
                    observer = self._special("min_max")
                    spec = replace(self.rules.spec(node in self.wide), observer="fixed" if fixed else observer)
                    data = np.maximum(value.data, np.float32(FLOOR)) if value in self.masks else value.data
                    scale, zero = _parameters_of(data, spec, quantizers.get(observer))
                    spec = replace(spec, zero_point=zero, symmetric=spec.symmetric and not fixed)
                    pair = self._constants(value.name, np.full(1, scale, np.float32), spec)
                    made = self._fake_quant(Builder(self.graph, node, node.origins), value, *pair, spec)
                    self.graph.set_operands(node, [*node.operands[:index], made, *node.operands[index + 1 :]])

    def quantize_biases(self) -> None:
        """Round the constant biases of every layer with a fake-quantized weight to the steps of its integers."""
        for node in self.graph.nodes:
            rule = self.rules.ops.get(node.op)
            scale = self._scale_of(node.operand(0)) if node.op in LIVE_LAYERS else None
            if scale is not None:
                self.graph.set_operands(node, [*node.operands, scale])
            for bias, (x, weight) in rule.biases.items() if rule else ():
                self._quantize_bias(node, bias, x, weight)

    def _scale_of(self, x: Value | None) -> Value | None:
        """The scale of an activation; None for one without a grid, or with a scale for each channel."""
        grid = grid_of(x) if x is not None else None
        scale = grid.operand(1) if grid is not None else None
        return scale if scale is not None and scale.type.shape == (1,) else None

    def _quantize_bias(self, layer: Node, name: str, x: str, weight: str) -> None:
        bias, w, x_scale = _operand(layer, name), _operand(layer, weight), self._scale_of(_operand(layer, x))
        maker = w.producer if w is not None else None
        if x_scale is None or bias is None or not bias.is_constant or maker is None or maker.op != "quant.fake_quant":
            return
        if maker.operand(1).type.shape not in ((1,), bias.type.shape):
            return  # scales of another axis than the bias has
        build = Builder(self.graph, layer, layer.origins)
        self._set_operand(layer, name, build.quant.fake_quant_bias(bias, x_scale, maker.operand(1)))

    def quantize_inner(self) -> None:
        """Fake-quantize, for calibration to see, the results that ops round inside."""
        for node in self.graph.nodes:
            rule = self.rules.ops.get(node.op)
            for name, spec in rule.inner.items() if rule is not None and node not in self.floats else ():
                value = node.results[[result.name for result in op_def(node.op).results].index(name)]
                parameters = self._constants(f"{_stem(value)}.{name}", np.full(1, np.nan, np.float32), spec)
                self._fake_quant(Builder(self.graph, self.graph.after(node), node.origins), value, *parameters, spec)

    def _set_operand(self, node: Node, name: str, value: Value) -> None:
        place = op_def(node.op).place(name)
        self.graph.set_operands(node, [*node.operands[:place], value, *node.operands[place + 1 :]])

    def _weight_spec(self, node: Node, spec: QuantSpec) -> QuantSpec:
        asked = self.overrides.bits(node, "bits")
        if asked is not None:
            largest = 2 ** (asked[0] - 1) - 1
            spec = replace(spec, quant_min=spec.zero_point - largest, quant_max=spec.zero_point + largest)
        return replace(spec, observer=quantizers.get(spec.observer).for_layer(node))

    def _weight_constants(self, w: Value, folded: Array, spec: QuantSpec) -> tuple[Value, Value]:
        scale = weight_scale(folded, spec.quant_max - spec.zero_point, spec.axis, quantizers.get(spec.observer))
        return self._constants(w.name, scale, spec)

    def _constants(self, stem: str, scale: Array, spec: QuantSpec) -> tuple[Value, Value]:
        """`<stem>_scale` and `<stem>_zero_point`, with a number behind the stem where the names are taken."""
        name, number = stem, 1
        while f"{name}_scale" in self.graph.constants:
            name, number = f"{stem}_{number}", number + 1
        zero_point = np.full(scale.shape, spec.zero_point, np.int32)
        return self.graph.add_constant(scale, f"{name}_scale"), self.graph.add_constant(
            zero_point, f"{name}_zero_point"
        )

    def _fake_quant(
        self,
        build: Builder,
        x: Value,
        scale: Value,
        zero_point: Value,
        spec: QuantSpec,
        rounding: str = "half_even",
        source: Value | None = None,
    ) -> Value:
        return build.quant.fake_quant(
            x,
            scale,
            zero_point,
            *([source] if source is not None and get_rounding(rounding).needs_source else []),
            type=spec.dtype,
            range=(spec.quant_min, spec.quant_max),
            axis=spec.axis,
            symmetric=spec.symmetric,
            observer=spec.observer,
            rounding=rounding,
        )


def _operand(node: Node, name: str) -> Value | None:
    """The operand that an op declares under a name; None for one that is absent."""
    place = op_def(node.op).place(name)
    return node.operands[place] if place < len(node.operands) else None


def _is_activation(node: Node, index: int) -> bool:
    """Whether an operand is declared as an activation, not as a weight or a parameter."""
    return op_def(node.op).spec_of(index).role == "activation"


def _of_bits(spec: QuantSpec, bits: int) -> QuantSpec:
    """A specification with fewer codes: the lowest ones, or those around zero where it is symmetric."""
    if not spec.symmetric:
        return replace(spec, quant_max=spec.quant_min + 2**bits - 1)
    return replace(spec, quant_min=-(2 ** (bits - 1)), quant_max=2 ** (bits - 1) - 1)


def _parameters_of(data: Array, spec: QuantSpec, quantizer: quantizers.Quantizer) -> tuple[np.float32, int]:
    """Scale and zero point under which all of a constant, and 0, has a code; a scale that the quantizer allows."""
    low, high = min(float(data.min()), 0.0), max(float(data.max()), 0.0)
    if spec.symmetric:
        wanted = np.float32(max(low / spec.quant_min, high / spec.quant_max)) or np.float32(1 / spec.quant_max)
    else:
        wanted = np.float32((high - low) / (spec.quant_max - spec.quant_min)) or np.float32(1)
    scale = np.float32(quantizer.allowed(np.asarray([wanted]))[0])
    if spec.symmetric:
        return scale, spec.zero_point
    return scale, int(np.clip(np.rint(spec.quant_min - low / scale), spec.quant_min, spec.quant_max))


def _stem(value: Value) -> str:
    """What the constants of a value are named after: an input's name, or the last origin and op that made it."""
    node = value.producer
    if node is None:
        return value.name
    op = node.op.partition(".")[2]
    paths = [origin.path for origin in node.origins if origin.path]
    return f"{paths[-1]}.{op}" if paths else op
