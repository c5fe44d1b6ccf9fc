"""`qgraph.trace`: a torch module as a float graph, by `torch.export` (non-strict, eval mode, before decomposition).

Batch normalization and dropout arrive whole and stay; every node keeps the module path and the source line.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import InputError, QGraphError, UnsupportedOp
from qgraph.frontends.stack_trace import traced_origin
from qgraph.frontends.torch_ops import IGNORED, ROWS
from qgraph.ir import Builder, Graph, Origin, TensorType, Value, verify_graph
from qgraph.ir.types import NUMPY_DTYPE, dtype_name

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    Example = torch.Tensor | np.ndarray


def trace(
    model: torch.nn.Module, example: Example | Sequence[Example], *, dynamic_batch: bool = True, name: str | None = None
) -> Graph:
    """The float graph of a model, for inputs like `example` (a tensor or a sequence of them, float32, batch first).

    `dynamic_batch` makes the first dimension of every input the symbolic `N`. The model is left as it was, and its
    parameters are copied. Raises UnsupportedOp naming every op that has no counterpart, with module path and source
    line, and InputError for a model that `torch.export` refuses.
    """
    _check_arguments(model, example)
    examples = _tensors(example, dynamic_batch)
    program = _exported(model, examples, dynamic_batch)
    importer = Importer(program, name or type(model).__name__, dynamic_batch)
    graph = importer.run()
    verify_graph(graph)
    return graph


def _check_arguments(model: object, example: object) -> None:
    import torch

    if not isinstance(model, torch.nn.Module):
        raise InputError(f"a {type(model).__name__} cannot be traced", help="give a torch.nn.Module")
    wide = (torch.float32, torch.float64)
    items = [example] if isinstance(example, (torch.Tensor, np.ndarray)) else example
    if not isinstance(items, (list, tuple)) or not all(isinstance(i, (torch.Tensor, np.ndarray)) for i in items):
        raise InputError(f"the example is a {type(example).__name__}", help="give a tensor, or a list of tensors")
    tensors = (*(torch.as_tensor(item) for item in items), *model.parameters(), *model.buffers())
    narrow = next((t.dtype for t in tensors if t.is_floating_point() and t.dtype not in wide), None)
    if narrow is not None:
        raise InputError(f"the model or its example has values of {narrow}", help="convert both by .float()")


def _tensors(example: Example | Sequence[Example], dynamic_batch: bool) -> tuple[torch.Tensor, ...]:
    import torch

    given = [example] if isinstance(example, (torch.Tensor, np.ndarray)) else list(example)
    tensors = []
    for tensor in (torch.as_tensor(item) for item in given):
        if dynamic_batch and tensor.ndim and tensor.shape[0] == 1:  # export takes a size of 1 for a constant
            tensor = torch.cat([tensor, tensor])
        tensors.append(tensor)
    return tuple(tensors)


def _exported(model: torch.nn.Module, examples: tuple[torch.Tensor, ...], dynamic_batch: bool) -> ExportedProgram:
    import torch

    auto = torch.export.Dim.AUTO
    shapes = tuple({0: auto} if dynamic_batch and tensor.ndim else None for tensor in examples)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes of torch's about its own internals
            return torch.export.export(
                model, examples, dynamic_shapes=(shapes,) if _variadic(model) else shapes, strict=False
            )
    except Exception as error:  # torch.export raises whatever the model's code raises, and a dozen classes of its own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        user = traced_origin("", str(error))
        where = (f"origin  {user.readable}",) if user else ()
        raise InputError(
            f"torch.export cannot trace {type(model).__name__}: {lines[0]}",
            where=where,
            help="see torch.export's documentation on data-dependent control flow and input mutation",
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def _variadic(model: torch.nn.Module) -> bool:
    import inspect

    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    return bool(kinds) and kinds[0] is inspect.Parameter.VAR_POSITIONAL


class Importer:
    """Walks an exported program and builds the graph; rows of `torch_ops` call its methods."""

    def __init__(self, program: ExportedProgram, name: str, dynamic_batch: bool) -> None:
        self.program = program
        self.graph = Graph(name)
        self.build = Builder(self.graph)
        self._dynamic = dynamic_batch
        self._values: dict[str, Value] = {}  # by the traced node's name
        self._lists: dict[str, list[Value]] = {}  # of nodes with several results
        self._constants: dict[tuple[int, tuple[int, ...]], Value] = {}  # tied parameters are one constant
        self._node: Any = None

    # ---- for the rows

    def value(self, argument: Any, dtype: str = "f32") -> Value:
        """The value of an argument: a traced node, or a number, which becomes a constant."""
        if isinstance(argument, (int, float)):
            return self.graph.add_constant(np.array(argument, NUMPY_DTYPE[dtype]))
        return self._values[argument.name]

    def pair(self, a: Any, b: Any) -> tuple[Value, Value]:
        """The values of two arguments; a number takes the other's dtype."""
        known = self.value(b if isinstance(a, (int, float)) else a)
        return self.value(a, known.type.dtype), self.value(b, known.type.dtype)

    def optional(self, argument: Any) -> Value | None:
        """As `value`; None stays None."""
        return None if argument is None else self.value(argument)

    def filled(self, like: Value, number: float) -> Value:
        """A constant of the shape of another, filled with a number."""
        return self.graph.add_constant(np.full_like(like.data, number), f"{like.name}.{number}")

    def result_shape(self) -> tuple[int, ...]:
        """The shape that the trace computed for the node at hand, with -1 for a symbolic size."""
        return tuple(size if isinstance(size, int) else -1 for size in self._node.meta["val"].shape)

    def result_sizes(self, axis: int) -> list[int]:
        """The sizes along a dimension that the trace computed for the results of the node at hand."""
        return [int(value.shape[axis]) for value in self._node.meta["val"]]

    # ---- the walk

    def run(self) -> Graph:
        """Build the whole graph."""
        self._add_placeholders()
        problems: list[str] = []
        helps: list[str] = []
        for node in self.program.graph.nodes:
            if node.op != "call_function" or str(node.target) in IGNORED or self._is_size(node):
                continue
            try:
                self._call(node)
            except QGraphError as error:
                problems.append(f"{node.target}: {error.what}{_at(_origin(node, self.graph.name))}")
                helps += [error.help] if error.help else []
                self._stand_in(node)
        if problems:
            count = len(problems)
            raise UnsupportedOp(
                f"{count} op{'s' * (count > 1)} of the model {'have' if count > 1 else 'has'} no counterpart in qgraph",
                where=tuple(problems),
                help="replace them in the model; `qgraph.frontends.torch_ops` lists what there is",
            )
        outputs = next(node for node in self.program.graph.nodes if node.op == "output").args[0]
        self.graph.set_outputs(self.value(node) for node in outputs)
        self.graph.drop_unused_constants()
        return self.graph

    def _add_placeholders(self) -> None:
        signature = self.program.graph_signature
        stored = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        if getattr(signature, "buffers_to_mutate", None) or getattr(signature, "user_inputs_to_mutate", None):
            raise InputError(
                "the model changes an input or a buffer in its forward pass", help="return the new value instead"
            )
        for node in self.program.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in stored:
                self._values[node.name] = self._constant(stored[node.name])
            else:
                value = node.meta["val"]
                shape = tuple(size if isinstance(size, int) else "N" for size in value.shape)
                dtype = str(value.dtype).removeprefix("torch.")
                self._values[node.name] = self.graph.add_input(
                    node.name, TensorType(shape, dtype_name(np.dtype(dtype)))
                )

    def _constant(self, name: str) -> Value:
        tensors: Mapping[str, Any] = {**self.program.constants, **self.program.state_dict}
        tensor = tensors[name]
        key = (tensor.data_ptr() or id(tensor), tuple(tensor.shape))
        if key not in self._constants:
            array = tensor.detach().cpu().numpy().copy()
            self._constants[key] = self.graph.add_constant(array, name)
        return self._constants[key]

    def _is_size(self, node: Any) -> bool:
        value = node.meta.get("val")
        return not hasattr(value, "shape") and not isinstance(value, (tuple, list))

    def _call(self, node: Any) -> None:
        self._node = node
        self.build.origins = (_origin(node, self.graph.name),)
        if node.target is operator.getitem:
            self._values[node.name] = self._lists[node.args[0].name][node.args[1]]
            return
        row = ROWS.get(str(node.target))
        if row is None:
            raise UnsupportedOp("there is no such op in qgraph")
        made = row(self, _arguments(node))
        if isinstance(made, list):
            self._lists[node.name] = made
        else:
            self._values[node.name] = made

    def _stand_in(self, node: Any) -> None:
        """Go on behind an op that failed, so that the others are reported too: a value of the right type."""
        value = node.meta["val"]
        stand_ins = [
            Value(TensorType(tuple(size if isinstance(size, int) else "N" for size in item.shape)), node.name)
            for item in (value if isinstance(value, (tuple, list)) else [value])
        ]
        self._lists[node.name], self._values[node.name] = stand_ins, stand_ins[-1]


def _arguments(node: Any) -> dict[str, Any]:
    """The call's arguments by the names of the op's schema, defaults filled in."""
    arguments = {}
    for index, parameter in enumerate(node.target._schema.arguments):
        if index < len(node.args):
            arguments[parameter.name] = node.args[index]
        else:
            arguments[parameter.name] = node.kwargs.get(parameter.name, parameter.default_value)
    return arguments


def _origin(node: Any, model: str) -> Origin:
    """Module path and source line of a traced node; the model's name where torch knows neither."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    path = re.sub(r"\[['\"]?(\w+)['\"]?\]", r".\1", path.removeprefix("L['self']")).lstrip(".")
    return traced_origin(path, node.meta.get("stack_trace") or "") or Origin(model)


def _at(origin: Origin) -> str:
    return f"  at {origin.readable}" if origin.readable else ""
