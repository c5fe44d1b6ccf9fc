"""The traced graph and the module tree as they are built."""

from __future__ import annotations

import json
import keyword
import operator
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from qgraph import quantizers
from qgraph.errors import InputError, UnsupportedOp
from qgraph.ir import Builder, Graph, Node, Value, op_def
from qgraph.ir.derived import as_nodes, tied
from qgraph.ir.expressions import Expression, sources
from qgraph.ir.graph import RESULTS
from qgraph.ir.trained import declared, is_trained
from qgraph.ops.nn.normalization import counter_name
from qgraph.ops.quant import grid_of, unquantized
from qgraph.training.emission.rows import ROWS

ACTIVATION = {"relu": F.relu, "relu6": F.relu6, "hard_swish": F.hardswish}


@dataclass
class Emitter:
    """Builds the traced graph and the module tree; rows call its methods."""

    graph: Graph
    root: nn.Module = field(default_factory=nn.Module)
    traced: fx.Graph = field(default_factory=fx.Graph)
    paths: dict[str, str] = field(default_factory=dict)  # constant -> path in the module tree
    observed: set[str] = field(default_factory=set)  # keys of modules that have been called with an activation
    _values: dict[Value, fx.Node] = field(default_factory=dict)
    _modules: dict[str, str] = field(default_factory=dict)  # key -> path under `ops`

    def __post_init__(self) -> None:
        self._declared = declared(self.graph)
        self.tied = tied(self.graph)  # constants that are computed of parameters in every pass

    def emit_graph(self) -> None:
        """Emit everything, in order."""
        for value, name in zip(self.graph.inputs, _parameters(self.graph), strict=True):
            self._values[value] = self.traced.placeholder(name)
        self.begin()
        for node in self.graph.nodes:
            if node.op not in ROWS:
                raise UnsupportedOp(
                    f"{node.op} cannot be trained", where=node.where, help=f"ops that can: {', '.join(ROWS)}"
                )
            self._keep(node, self.emit(node))
        self.traced.output(_nested(self.graph, [self.value(value) for value in self.graph.outputs]))

    def begin(self) -> None:
        """Emit what stands before the nodes."""

    def emit(self, node: Node) -> fx.Node:
        """Emit one node."""
        return ROWS[node.op](self, node)

    def _keep(self, node: Node, made: fx.Node) -> None:
        """Remember the result; of a node with several the items of what was made."""
        if len(node.results) == 1:
            self._values[node.result] = made
        else:
            items = (self.call(operator.getitem, [made, i]) for i in range(len(node.results)))
            self._values.update(zip(node.results, items, strict=True))

    # ---- for the rows

    def value(self, value: Value) -> fx.Node:
        """The traced node of a value."""
        if value not in self._values:
            made = self.tied.get(value.name) if value.is_constant else None
            if made is None:
                self._values[value] = self.traced.create_node("get_attr", self._add_constant(value))
            else:
                self._values[value] = self._made_of_others(made)
        return self._values[value]

    def _made_of_others(self, expression: Expression) -> fx.Node:
        """The traced node of what is computed of constants."""
        scratch = Graph("tied")
        copies: dict[str, Value] = {}
        for name in dict.fromkeys(sources(expression)):
            copies[name] = scratch.add_constant(self.graph.constants[name].data, name)
            self._values[copies[name]] = self.value(self.graph.constants[name])
        made = as_nodes(expression, Builder(scratch), copies.__getitem__)
        for value in scratch.constants.values():
            if value not in self._values:
                self._values[value] = self._number(value)
        for node in scratch.nodes:
            Emitter._keep(self, node, ROWS[node.op](self, node))
        assert made is not None  # no constant is an absent operand
        return self._values[made]

    def _number(self, value: Value) -> fx.Node:
        """The traced node of a number of an expression, which no `state_dict` has."""
        path = f"ops.number_{len(self._modules)}_{len(self._values)}"
        self._place(path, torch.from_numpy(value.data.copy()), persistent=False)
        return self.traced.create_node("get_attr", path)

    def raw(self, value: Value) -> fx.Node:
        """The traced node of a constant itself, to be written to."""
        return self.value(value)

    def words(self, node: Node) -> dict[str, Any]:
        """What the module of a fake-quantized activation, or of a live layer, is given by keyword."""
        return {}

    def operands(self, node: Node, count: int | None = None) -> tuple[fx.Node | None, ...]:
        """The first `count` operands (all by default), None for absent ones."""
        count = len(node.operands) if count is None else count
        values = [*node.operands, *(None,) * count][:count]
        return tuple(None if value is None else self.value(value) for value in values)

    def call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any] | None = None) -> fx.Node:
        """A call of a function."""
        return self.traced.call_function(function, tuple(args), kwargs)

    def call_module(
        self,
        node: Node,
        make: Callable[[], nn.Module],
        args: Sequence[Any],
        key: str = "",
        words: dict[str, Any] | None = None,
    ) -> fx.Node:
        """A call of the module that `make` gives; equal keys call the same one. `words`: arguments by keyword."""
        key = key or f"{len(self._modules)} {node.op}"
        if key not in self._modules:
            self._modules[key] = self._path_of_module(node)
            self._place(self._modules[key], make())
        return self.traced.call_module(self._modules[key], tuple(args), words)

    def _path_of_module(self, node: Node) -> str:
        """Where the module of a node stands: after its first constant, so that in each mode it is the same place."""
        known = next((value.name for value in node.inputs if value.is_constant), str(len(self._modules)))
        path = f"ops.{node.op.partition('.')[2]}_{re.sub(r'[^0-9A-Za-z_]', '_', known)}"
        taken = set(self._modules.values())
        return path if path not in taken else next(f"{path}_{i}" for i in count(2) if f"{path}_{i}" not in taken)

    def live_operands(self, node: Node) -> list[fx.Node | None]:
        """The operands of a layer with a live batch normalization; the count of its batches before the last."""
        *operands, x_scale = self.operands(node, len(op_def(node.op).operands))
        return [*operands, self.counter(node), x_scale]

    def counter(self, node: Node) -> fx.Node | None:
        """The count of batches of a batch normalization that averages them all; None for one that has a momentum.

        Its operands have been emitted; nodes that share statistics share the count.
        """
        if node.attrs["batches"] is None:
            return None
        path = counter_name(self.paths[op_def(node.op).view(node).mean.name])
        self._place(path, torch.tensor(node.attrs["batches"]))
        return self.traced.create_node("get_attr", path)

    def activated(self, node: Node, result: fx.Node) -> fx.Node:
        """The activation that the op carries, applied to a result that nothing else reads."""
        activation = node.attrs.get("activation", "none")
        if activation == "none":
            return result
        if activation == "clamp":
            return self.call(torch.clamp_, [result, *node.attrs["clamp"]])
        return self.call(ACTIVATION[activation], [result], {"inplace": True})

    def input_scale(self, layer: Node) -> fx.Node | None:
        """The scale of a layer's input; None where it has none."""
        grid = grid_of(layer.operand(0))
        return self.value(grid.operand(1)) if grid is not None and grid.operand(1).type.shape == (1,) else None

    def biases_beside(self, weight: Node) -> list[fx.Node | None]:
        """The bias and the input's scale of every layer that has a fake-quantized weight, in turn."""
        found: list[fx.Node | None] = []
        for layer in weight.result.users:
            scale = self.input_scale(layer) if op_def(layer.op).operand_index("weight") == 1 else None
            if scale is not None:
                bias = bias_of(layer, weight)
                found += [None if bias is None else self.value(bias), scale]
        return found

    # ---- the module tree

    def _add_constant(self, value: Value) -> str:
        path = self.paths[value.name] = self._free_path(value.name)
        tensor = torch.from_numpy(value.data.copy())
        self._place(path, nn.Parameter(tensor) if self._is_learned(value) else tensor)
        return path

    def _is_learned(self, value: Value) -> bool:
        """Whether a constant becomes a Parameter: of the model, or a scale that its quantizer trains."""
        return is_trained(value, self._declared) or any(
            node.operands[place] is value for node in value.users for place in _learned_scales(node)
        )

    def _place(self, path: str, item: nn.Module | torch.Tensor, persistent: bool = True) -> None:
        owner, parts = self.root, path.split(".")
        for part in parts[:-1]:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if isinstance(item, nn.Module):
            owner.add_module(parts[-1], item)
        elif isinstance(item, nn.Parameter):
            owner.register_parameter(parts[-1], item)
        else:
            owner.register_buffer(parts[-1], item, persistent)

    def _free_path(self, name: str) -> str:
        """The constant's name, unless a part of it means something else to torch or stands for another constant."""
        parts = name.split(".")
        taken = hasattr(fx.GraphModule, parts[0]) or any(hasattr(nn.Module, part) for part in parts[1:])
        if not all(parts) or parts[0] == "ops" or taken or self._clashes(name):
            name = "constant_" + name.replace(".", "_")
        return name

    def _clashes(self, name: str) -> bool:
        """Whether another constant stands where a name would have a module."""
        return any(name.startswith(f"{other}.") for other in self.graph.constants if other not in self.tied)


def _nested(graph: Graph, outputs: Sequence[fx.Node]) -> Any:
    """The outputs in dictionaries and tuples as the traced model had them; else one, or a tuple."""
    made, used = None, []

    def fill(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: fill(each) for key, each in tree.items()}
        if isinstance(tree, list):
            return tuple(map(fill, tree))
        used.append(tree)
        return outputs[tree] if isinstance(tree, int) and tree < len(outputs) else None

    with suppress(ValueError):  # the word may be anything
        made = fill(json.loads(graph.metadata.get(RESULTS, "")))
    if sorted(number for number in used if isinstance(number, int)) == [*range(len(outputs))]:
        return made
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _learned_scales(node: Node) -> list[int]:
    """Which operands of a fake-quant its quantizer trains."""
    roles = quantizers.get(str(node.attrs["observer"])).trains if "observer" in node.attrs else ()
    return [place for role in roles for place in op_def(node.op).operand_indices(role) if place < len(node.operands)]


def is_weight(node: Node) -> bool:
    """Whether a fake-quant node's scale follows from a constant, and not from what is observed: of nothing else that
    has it, as where a constant joins the grid of activations."""
    scale = node.operand(1)
    marks = [mark for mark in scale.users if mark.op == "quant.fake_quant" and mark.operand(1) is scale]
    return bool(node.attrs["symmetric"]) and all(mark.operand(0).is_constant for mark in marks)


def bias_of(layer: Node, weight: Node) -> Value | None:
    """The constant bias that stands beside a fake-quantized weight, of several of a layer the one that is rounded in
    its steps; None where there is none."""
    if len(op_def(layer.op).operand_indices("weight")) == 1:
        bias = layer.operands[2] if len(layer.operands) > 2 else None
        bias = None if bias is None else unquantized(bias)
        fits = bias is not None and bias.is_constant and bias.type.shape == weight.result.type.shape[:1]
        return bias if fits else None
    rounded = (x.producer for x in layer.inputs if x.producer is not None and x.producer.op == "quant.fake_quant_bias")
    return next((maker.operand(0) for maker in rounded if maker.operand(2) is weight.operand(1)), None)


MODES = ("fake-quant", "bit-true")


def check_mode(graph: Graph, mode: str) -> None:
    """Raise InputError for a mode that there is not, or a graph that cannot be trained."""
    if mode not in MODES:
        raise InputError(f"mode {mode!r} is not a mode", help=f"use one of {', '.join(MODES)}")
    if graph.level == "integer":
        raise InputError(
            "an integer graph cannot be trained", help="train the graph that it was lowered from, and lower it again"
        )


def _parameters(graph: Graph) -> list[str]:
    """The names of the inputs as parameters of `forward`; other tools' files have such as "serving_default_x:0"."""
    names: list[str] = []
    for value in graph.inputs:
        name = re.sub(r"\W", "_", value.name) or "x"
        name = f"x_{name}" if keyword.iskeyword(name) or not name.isidentifier() else name
        names.append(f"{name}_{len(names)}" if name in names else name)
    return names
