"""From an exported program to a float graph: a walk over its nodes that calls the rows of `torch_ops`, `torch_views`.

What is computed from parameters, buffers and numbers alone is evaluated with torch and becomes a constant; in-place
ops go by their functional counterparts and write to `Memory`.
"""

from __future__ import annotations

import copy
import operator
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qgraph.errors import InputError, QGraphError, TypeMismatch, UnsupportedOp
from qgraph.frontends.expanded_constants import ExpandedConstants
from qgraph.frontends.torch_dims import Dims
from qgraph.frontends.torch_memory import Alias, Memory, StateChanged, Storage
from qgraph.frontends.torch_node_reader import NodeReader
from qgraph.frontends.torch_nodes import (
    arguments_of,
    as_pairs,
    functional_form,
    is_size,
    origin_of,
    share,
    size_of_data,
    writes,
)
from qgraph.frontends.torch_ops import COMPLEX_ROWS, IGNORED, ROWS, NoBatch
from qgraph.frontends.torch_views import VIEWS, Dropped, Same, View
from qgraph.ir import Builder, Graph, Origin, TensorType, Value
from qgraph.ir.derived import adopt

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

ROLES = ("weight", "bias", "running_mean", "running_var")
"""Arguments of layers: what is computed for one is named after the layer, as its parameter would be."""


WRAPPERS = {"wrap_with_autocast": 4, "wrap_with_set_grad_enabled": 1}
"""Ops that run a part of the program under settings: how many of those stand before it."""


class Importer(NodeReader):
    """Walks an exported program and builds the graph; rows call its methods."""

    def __init__(self, program: ExportedProgram, name: str, averages: Container[str] = ()) -> None:
        """`averages`: the buffers that are the average of all batches; the program's momentum does not tell."""
        self.program = program
        self._averages = averages
        self.graph = Graph(name)
        self._stored = {**program.constants, **program.state_dict}
        self._kept = {*self._stored}
        self.build: Builder = ExpandedConstants(self.graph, self._kept)
        self.memory = Memory(self.build, self._known_value)
        self.made: dict[str, Value] = {}  # what each traced node became when it was made, by its name
        self._dims = Dims()
        self._aliases: dict[str, Alias] = {}  # by the traced node's name
        self._lists: dict[str, list[Alias]] = {}  # of nodes with several results
        self._constants: dict[tuple[object, ...], Value] = {}  # tied parameters are one constant
        self._problems: dict[str, list[str]] = defaultdict(list)  # op and reason -> places
        self._learned: set[str] = set()  # the traced nodes that are parameters, or are computed from some
        self.trained: dict[str, bool] = {}  # constant of the model's -> whether it is a parameter
        self._stand_ins: set[str] = set()  # the traced nodes that failed
        self._node: Any = None
        self._arguments: Mapping[str, Any] = {}

    # ---- the walk

    def run(self) -> Graph:
        """Build the whole graph, without its outputs."""
        self._add_placeholders()
        self._walk(self.program.graph.nodes)
        if self._problems:
            raise _unsupported(self._problems)
        return self.graph

    def _walk(self, nodes: Iterable[Any]) -> None:
        for node in nodes:
            if node.op != "call_function" or str(node.target) in IGNORED or is_size(node):
                continue
            try:
                self._call(node)
            except (StateChanged, NoBatch):
                raise
            except QGraphError as error:
                follows = any(each.name in self._stand_ins for each in node.all_input_nodes)
                if not follows or isinstance(error, UnsupportedOp):  # else it may be the stand-in's fault
                    self._problems[f"{node.target}: {error.what}"].append(origin_of(node, self.graph.name).readable)
                self._stand_in(node)

    def outputs(self) -> list[Value | None]:
        """What the program returns, in its flat order: None for what is no tensor."""
        returned = next(node for node in self.program.graph.nodes if node.op == "output").args[0]
        if any(is_size(node) for node in returned if hasattr(node, "meta")):
            raise InputError("the model returns a size", help="return tensors only")
        if any(map(self.is_complex, returned)):
            raise InputError("the model returns complex numbers", help="return torch.view_as_real of them")
        return [self.value(node) if hasattr(node, "meta") else None for node in returned]

    def _add_placeholders(self) -> None:
        signature = self.program.graph_signature
        stored = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
            changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
            raise StateChanged(
                f"the model changes {changed[0]!r} in its forward pass", help="return the new value instead"
            )
        learned, first = _learned(signature.inputs_to_parameters, self._stored), _first_names(self.program.state_dict)
        for node in self.program.graph.nodes:
            if node.op != "placeholder":
                continue
            origin = Origin(self.graph.name)
            if node.name in learned:
                self._learned.add(node.name)
            if node.name in stored:
                name = first.get(stored[node.name], stored[node.name])
                tensor = self._stored[name].detach()
                self._aliases[node.name] = Alias(node, origin, Storage(name, known=True), tensor=tensor)
            elif hasattr(node.meta.get("val"), "shape"):
                value = self.graph.add_input(node.name, self._type(node.meta["val"]))
                self._aliases[node.name] = Alias(node, origin, value=value)

    def _call(self, node: Any) -> None:
        self._node = node
        origin = origin_of(node, self.graph.name)
        self.build.origins = (origin,)
        made: Alias | list[Alias]
        if node.target is operator.getitem:
            if node.args[0].name in self._learned:
                self._learned.add(node.name)
            source = self._lists[node.args[0].name][node.args[1]]
            made = Alias(node, origin, source.storage, source, Same(), source.value, source.tensor, source.version)
        elif str(node.target) in WRAPPERS:
            made = self._inlined(node)
        elif not hasattr(node.target, "_schema"):
            raise UnsupportedOp("there is no such op in qgraph")
        elif self._is_known(node):
            made = self._evaluated(node, origin)
        else:
            made = self._imported(node, origin)
        if isinstance(made, list):
            self._lists[node.name] = made
        else:
            self._aliases[node.name] = made
            if made.value is not None:
                self.made[node.name] = made.value

    def _inlined(self, node: Any) -> list[Alias]:
        """The results of a part of the program that a wrapper runs; its nodes have names of their own."""
        part, *given = node.args[WRAPPERS[str(node.target)] :]
        if "autocast" in str(node.target) and node.args[2]:
            raise TypeMismatch("autocast is not supported: a graph computes in float32")
        nodes = list(getattr(self.program.graph_module, part.target).graph.nodes)
        arguments = [self._aliases[each.name] for each in given]
        outside = self._aliases, self._lists, self.made
        parameters = [each.name for each in nodes if each.op == "placeholder"]
        self._aliases, self._lists, self.made = dict(zip(parameters, arguments, strict=True)), {}, {}
        self._walk(nodes)
        made = [self._aliases[each.name] for each in nodes[-1].args[0]]
        self._aliases, self._lists, self.made = outside
        return made

    # ---- what a row knows

    def _imported(self, node: Any, origin: Origin) -> Alias | list[Alias]:
        op = functional_form(node.target)
        self._arguments = arguments_of(node, op)
        name = str(op)
        if size_of_data(node.meta["val"]):
            raise TypeMismatch("the number of elements of its result depends on the values of its operands")
        if hasattr(node.meta["val"], "shape") and 0 in node.meta["val"].shape and not writes(node.target):
            return Alias(node, origin, value=self.filled(0))  # it has no elements
        if self._reads_or_makes_complex(node):
            if name not in COMPLEX_ROWS:
                raise UnsupportedOp("there is no such op of complex numbers in qgraph")
            pairs = COMPLEX_ROWS[name](self, self._arguments)
            assert isinstance(pairs, Value)  # no such op has several results
            return Alias(node, origin, value=pairs)
        if name in VIEWS:
            return self._viewed(node, origin, VIEWS[name](self, self._arguments, self.value(node.args[0]).type))
        if name not in ROWS:
            raise UnsupportedOp("there is no such op in qgraph")
        if writes(node.target):
            self.memory.check_writable(self._aliases[node.args[0].name])
        made = ROWS[name](self, self._arguments)
        self._check_dtypes(made if isinstance(made, list) else [made])
        if isinstance(made, list):
            return [Alias(node, origin, value=value) for value in made]
        if writes(node.target):
            return self._overwritten(self._aliases[node.args[0].name], node, origin, made)
        sources = [a for a in self._operands(node) if share(node.meta["val"], a.node.meta["val"])]
        return self._part_of(sources[0], node, origin, None, made) if sources else Alias(node, origin, value=made)

    def _reads_or_makes_complex(self, node: Any) -> bool:
        return self.is_complex(node) or any(map(self.is_complex, node.all_input_nodes))

    @property
    def code(self) -> str:
        """The lines of the model's code by which the present node came to be."""
        return str(self._node.meta.get("stack_trace", ""))

    def _check_dtypes(self, made: list[Value]) -> None:
        """Raise TypeMismatch for a result of another dtype than torch's, which no example need show.

        The first result stands for others that nothing may read (`expect_first_only`).
        """
        traced = self._node.meta["val"]
        pairs = zip(made, traced if isinstance(traced, (list, tuple)) else [traced], strict=False)
        for index, (value, tensor) in enumerate(pairs):
            dtype = self._dtype(tensor.dtype)
            if value.type.dtype != dtype and (index == 0 or value is not made[0]):
                raise TypeMismatch(f"a result of {dtype} is not supported, only of {value.type.dtype}")

    def _viewed(self, node: Any, origin: Origin, views: View | list[View]) -> Alias | list[Alias]:
        source = self._aliases[node.args[0].name]
        x = self.memory.read(source)
        if writes(node.target) and isinstance(views, (Dropped, Same)):
            return self._overwritten(source, node, origin, views.read(self.build, x))
        results = node.meta["val"] if isinstance(views, list) else [node.meta["val"]]
        made = []
        for view, result in zip(views if isinstance(views, list) else [views], results, strict=True):
            value = view.read(self.build, x)
            if isinstance(view, Dropped) or share(result, source.node.meta["val"]):
                made.append(self._part_of(source, node, origin, view, value))
            else:
                made.append(Alias(node, origin, value=value))
        return made if isinstance(views, list) else made[0]

    def _overwritten(self, source: Alias, node: Any, origin: Origin, value: Value) -> Alias:
        self.memory.write(source, value)
        return self._part_of(source, node, origin, Same(), value)

    def _part_of(self, source: Alias, node: Any, origin: Origin, view: View | None, value: Value) -> Alias:
        return Alias(node, origin, source.storage, source, view, value, version=source.storage.version)

    def _operands(self, node: Any) -> list[Alias]:
        return [self._aliases[argument.name] for argument in node.all_input_nodes if argument.name in self._aliases]

    # ---- what torch itself computes

    def _is_known(self, node: Any) -> bool:
        """Whether a node depends on parameters, buffers and numbers alone, and not on chance."""
        import torch

        operands = [self._aliases.get(argument.name) for argument in node.all_input_nodes]
        known = all(alias is not None and alias.storage.known and alias.tensor is not None for alias in operands)
        as_it_is = known and str(node.target) == "aten.view_as_complex.default"  # so that a parameter stays itself
        by_chance = torch.Tag.nondeterministic_seeded in node.target.tags and not _is_idle_dropout(node)
        return known and not by_chance and not as_it_is

    def _evaluated(self, node: Any, origin: Origin) -> Alias | list[Alias]:
        """The result of a known node, by torch; in-place ops write to what they write to in the model."""
        import torch

        operands = self._operands(node)
        if not self._learned.isdisjoint(each.node.name for each in operands):
            self._learned.add(node.name)
        if writes(node.target):
            self.memory.check_writable(operands[0])
        tensors: Any = lambda argument: self._aliases[argument.name].tensor  # noqa: E731
        args, kwargs = (torch.fx.node.map_arg(given, tensors) for given in (node.args, node.kwargs))
        with torch.no_grad():
            made = node.target(*args, **kwargs)
        several = isinstance(made, (list, tuple))
        results = list(made) if several else [made]
        views = self._known_views(node, several)
        aliases = [self._known(node, origin, result, view) for result, view in zip(results, views, strict=True)]
        return aliases if several else aliases[0]

    def _known_views(self, node: Any, several: bool) -> list[View | None]:
        """How the results of a known node are read from its first operand, if that is known."""
        count = len(node.meta["val"]) if several else 1
        op = functional_form(node.target)
        if writes(node.target):
            return [Same()]
        if str(op) not in VIEWS:
            return [None] * count
        try:
            views = VIEWS[str(op)](self, arguments_of(node, op), self._type(self._operands(node)[0].node.meta["val"]))
        except TypeMismatch:
            return [None] * count
        return list(views) if isinstance(views, list) else [views]

    def _known(self, node: Any, origin: Origin, tensor: torch.Tensor, view: View | None) -> Alias:
        memory = tensor.untyped_storage().data_ptr()
        for source in self._operands(node):
            if source.tensor is not None and memory and source.tensor.untyped_storage().data_ptr() == memory:
                return Alias(node, origin, source.storage, source, view, tensor=tensor)
        return Alias(node, origin, Storage(known=True), tensor=tensor)

    def _known_value(self, alias: Alias) -> Value:
        """The constant of a known alias; equal parameters, and what is read twice, are one."""
        tensor = alias.tensor
        assert tensor is not None  # known
        address = tensor.data_ptr() or id(tensor)
        key = (address, tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor._version)
        if key not in self._constants:
            array = tensor.detach().cpu()
            wide = array.float() if array.is_floating_point() else as_pairs(array) if array.is_complex() else array
            made = self.graph.add_constant(wide.numpy().copy(), self._known_name(alias))
            self.trained[made.name] = alias.node.name in self._learned
            if self.trained[made.name]:
                self._kept.add(made.name)
                self._tie(alias, made)
            self._constants[key] = made
        return self._constants[key]

    # ---- what a constant that torch has computed of parameters is tied to

    def _tie(self, alias: Alias, constant: Value) -> None:
        """Say in the graph how a constant, the value of a known alias, is made of parameters by ops of `nn`; nothing
        where that is not known: an op without a row, or a write."""
        tensor, stored = alias.tensor, alias.storage.stored  # what is stored is not written to
        if tensor is None or tensor.is_complex() or (alias.parent is None if stored else tensor._version):
            return
        scratch = Graph(constant.name)
        rows, copies = self._anew(scratch), dict[Value, Value]()
        try:
            made = self._made_anew(alias.node, rows, copies)
        except (QGraphError, KeyError):
            return
        others = [value for value in scratch.constants.values() if value not in copies]
        if made.type == constant.type and all(value.data.size == 1 or not value.type.is_float for value in others):
            adopt(self.graph, constant, made, copies)

    def _anew(self, graph: Graph) -> Importer:
        """An importer of the same program into another graph, in which nothing is made yet."""
        other = copy.copy(self)
        other.graph, other.build = graph, Builder(graph)
        other.memory = Memory(other.build, other._known_value)
        other._aliases, other._lists, other.made, other._constants, other.trained = {}, {}, {}, {}, {}
        return other

    def _made_anew(self, node: Any, rows: Importer, copies: dict[Value, Value]) -> Value:
        """The value of a learned node by the rows of another importer; `copies`: what of its constants are of this
        one's, which are added."""
        for each in _before(node, self._learned):
            if each.op == "call_function" and each.name in self._learned:
                if hasattr(each.target, "_schema") and writes(each.target):
                    raise UnsupportedOp("a write")
                rows._call(each)
            elif hasattr(each.meta.get("val"), "shape"):
                ours = self._known_value(self._aliases[each.name])
                value = rows.graph.add_constant(ours.data, ours.name)
                copies[value] = ours
                rows._aliases[each.name] = Alias(each, Origin(self.graph.name), value=value)
        return rows.value(node)

    def _known_name(self, alias: Alias) -> str:
        """A parameter's own name; "conv.weight" for what is computed as the weight of `conv`; else its maker's name."""
        if alias.storage.stored and alias.parent is None:
            return alias.storage.stored
        role = next(
            (name for name, given in self._arguments.items() if getattr(given, "name", "") == alias.node.name), ""
        )
        path = self.build.origins[0].path if self.build.origins else ""
        if role in ROLES:
            name = f"{path}.{role}" if path else role
        else:
            name = f"{alias.origin.path}.{alias.node.name}" if alias.origin.path else alias.node.name
        return f"{name}.folded" if name in self._stored else name

    def _stand_in(self, node: Any) -> None:
        """Go on behind an op that failed, so that the others are reported too: a value of the right type."""
        made = node.meta["val"]
        aliases = []
        for item in made if isinstance(made, (tuple, list)) else [made]:
            shape = tuple(size if isinstance(size, int) else "N" for size in item.shape)
            aliases.append(Alias(node, Origin(self.graph.name), value=Value(TensorType(shape), node.name)))
        self._stand_ins.add(node.name)
        self._lists[node.name], self._aliases[node.name] = aliases, aliases[-1]


def _before(node: Any, learned: Container[str]) -> list[Any]:
    """A node behind all that it is computed of, as far as that is learned."""
    found: dict[Any, None] = {}

    def visit(each: Any) -> None:
        if each not in found:
            for operand in each.all_input_nodes if each.name in learned else ():
                visit(operand)
            found[each] = None

    visit(node)
    return [*found]


def _is_idle_dropout(node: Any) -> bool:
    """Whether a node is a dropout that drops nothing: of parameters it stays so in training."""
    return "dropout" in str(node.target) and not arguments_of(node, functional_form(node.target)).get("train", True)


def _learned(parameters: Mapping[str, str], stored: Mapping[str, Any]) -> Collection[str]:
    """The inputs of a program that are learned: parameters, without those that are frozen where not all of them are."""
    free = {node for node, name in parameters.items() if stored[name].requires_grad}
    return free or parameters.keys()


def _first_names(stored: Mapping[str, Any]) -> dict[str, str]:
    """The name by which a parameter is known, the first, for each that it has."""
    known: dict[tuple[object, ...], str] = {}
    keys = {name: (x.data_ptr() or name, x.shape, x.stride(), x.dtype) for name, x in stored.items()}
    return {name: known.setdefault(key, name) for name, key in keys.items()}


def _unsupported(problems: Mapping[str, list[str]]) -> UnsupportedOp:
    """One error for all: each op and reason once, with the first place and how many there are."""
    ops, places = len({problem.partition(":")[0] for problem in problems}), sum(map(len, problems.values()))
    count = f"{ops} op{'s' * (ops > 1)} of the model {'have' if ops > 1 else 'has'} no counterpart in qgraph"
    where = (
        f"{problem}  at {at[0]}" if len(at) == 1 else f"{problem}: {len(at)} places, the first at {at[0]}"
        for problem, at in problems.items()
    )
    return UnsupportedOp(
        count if places == ops else f"{count}, in {places} places",
        where=tuple(where),
        help="replace them in the model; `qgraph.frontends.torch_ops` lists what there is",
    )
