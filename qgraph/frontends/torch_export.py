"""`qgraph.trace`: a torch module as a float graph, by `torch.export` (non-strict, eval mode, before decomposition).

Batch normalization and dropout arrive whole and stay; every node keeps the module path and the source line.
"""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import FixedSizeWarning, InputError, PrecisionWarning
from qgraph.frontends.stack_trace import traced_origin
from qgraph.frontends.torch_check import check_against
from qgraph.frontends.torch_decomposition import decomposed
from qgraph.frontends.torch_importer import Importer
from qgraph.frontends.torch_settings import tracing_settings
from qgraph.frontends.torch_structure import (
    as_tensors,
    leaves,
    map_leaves,
    nested,
    output_names,
    output_paths,
    register_dataclasses,
)
from qgraph.imports import require_torch
from qgraph.ir import Graph, set_states, verify_graph
from qgraph.ir.finite import check_finite
from qgraph.ir.graph import RESULTS
from qgraph.ir.trained import declare
from qgraph.passes.drop_dead_code import erase_dead_code

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


def trace(
    model: torch.nn.Module | ExportedProgram,
    example: object = (),
    kwargs: Mapping[str, object] | None = None,
    *,
    dynamic_batch: bool = True,
    dynamic_dims: Sequence[int] = (),
    states: Mapping[str, str | int] | None = None,
    name: str | None = None,
    check: bool = True,
) -> Graph:
    """The float graph of a model, for inputs like `example`: a tensor, or a sequence of the arguments of `forward`.

    Arguments, also those in `kwargs`, may be tensors, arrays (batch first), nested containers of them, and None,
    numbers or words, which become part of the graph. `dynamic_batch` makes the first dimension of every input the
    symbolic `N`; further `dynamic_dims` of inputs, such as the lengths of sequences, become `T`, `T2`, ... where the
    model takes other sizes there. `states` says which result (its name or number) is the next value of which argument,
    {"h": "h_next"}: what a streaming model hands on from step to step, beginning with 0 (`qgraph.Stream`). An exported
    program is taken as it is, with its own example where none is given. Where the model's code makes a size that was to
    stay open a number, the graph has that number, with a FixedSizeWarning.

    The model is left as it was, and its parameters are copied; float64, float16 and bfloat16 become float32, with a
    PrecisionWarning, also where its code casts to the latter two or is under autocast. What is computed from
    parameters alone becomes a constant. `check` runs the graph beside the model on the example, and refuses where
    they differ beyond rounding. Raises UnsupportedOp naming every op that has no counterpart, with module path and
    source line, and InputError for a model that `torch.export` refuses, that changes its state, that has parameters
    which are not finite, or whose graph computes something else.
    """
    require_torch()
    import torch

    given = _arguments(model, example, kwargs or {})
    _check_dims(dynamic_dims, given)
    _check_elements(given)
    with _prepared(model), torch.no_grad():
        program, args, named = _exported(model, *given, _open(dynamic_batch, dynamic_dims))
        program = decomposed(program)
        importer = Importer(program, name or type(model).__name__, _averages(model))
        graph = importer.run()
        _set_outputs(graph, importer)
        check_finite(graph)
        if check:
            run = model if isinstance(model, torch.nn.Module) else program.module()
            check_against(run, args, named, importer)
            if _are_others((args, named), given):  # the batch was repeated: a model may do other things for one example
                check_against(run, *given, importer)
    erase_dead_code(graph)
    set_states(graph, states or {})
    declare(graph, importer.trained)
    verify_graph(graph)
    if isinstance(model, torch.nn.Module):
        _warn_of_fixed_sizes(graph, _open(dynamic_batch, dynamic_dims))
    return graph


def _check_elements(given: object) -> None:
    """Raise InputError for an example of which a tensor has no elements: nothing can be traced with it."""
    import torch

    for leaf in leaves(given):
        if isinstance(leaf, torch.Tensor) and not leaf.numel():
            raise InputError(
                f"the example has a tensor of shape {[*leaf.shape]}, without elements", help="give one or more"
            )


def _warn_of_fixed_sizes(graph: Graph, dims: Sequence[int]) -> None:
    """Warn of a dimension that was to stay open and is a number in every input: torch.export does not say so."""
    for dim in dims:
        sizes = [value.type.shape[dim] for value in graph.inputs if value.type.rank > dim]
        if sizes and all(isinstance(size, int) for size in sizes):
            what = "the batch" if dim == 0 else f"dimension {dim}"
            warnings.warn(
                f"{what} of {graph.name} is {sizes[0]} in the graph, as in the example: the model's code asks for a "
                "number there, as len(x), int(size) or a comparison does (x.shape[0] does not)",
                FixedSizeWarning,
                stacklevel=3,
            )


def _arguments(model: object, example: object, kwargs: Mapping[str, object]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments as tensors; raises InputError for what cannot be traced."""
    import torch

    if not isinstance(model, (torch.nn.Module, torch.export.ExportedProgram)):
        raise InputError(f"a {type(model).__name__} cannot be traced", help="give a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            f"a {type(model).__name__} cannot be traced", help="give the torch.nn.Module that TorchScript was made of"
        )
    if isinstance(model, torch.export.ExportedProgram) and example == () and not kwargs:
        example, kwargs = model.example_inputs or ((), {})
    if isinstance(example, (torch.Tensor, np.ndarray)):
        example = (example,)
    if not isinstance(example, (list, tuple)):
        raise InputError(f"the example is a {type(example).__name__}", help="give a tensor, or a list of tensors")
    register_dataclasses((example, kwargs))
    return as_tensors(tuple(example)), as_tensors(dict(kwargs))


@contextmanager
def _prepared(model: torch.nn.Module | ExportedProgram) -> Iterator[None]:
    """The model in eval mode and float32, and afterwards as it was."""
    import torch

    if not isinstance(model, torch.nn.Module):
        yield
        return
    modes = {module: module.training for module in model.modules()}
    other = [
        (tensor, tensor.data)
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.is_floating_point() and tensor.dtype != torch.float32
    ]
    if other:
        names = ", ".join(sorted({str(data.dtype).removeprefix("torch.") for _, data in other}))
        warnings.warn(
            f"{type(model).__name__} has values of {names}: the graph has float32", PrecisionWarning, stacklevel=4
        )
    try:
        _evaluate(model)
        for tensor, data in other:
            tensor.data = data.float()
        with tracing_settings() as asked:
            yield
    finally:
        for tensor, data in other:
            tensor.data = data
        for module, mode in modes.items():
            module.training = mode
    if asked and not other:
        names = ", ".join(sorted({*asked}))
        warnings.warn(
            f"{type(model).__name__} computes in {names}: the graph does in float32", PrecisionWarning, stacklevel=4
        )


def _averages(model: torch.nn.Module | ExportedProgram) -> set[str]:
    """The running means of normalizations without momentum, which average all batches."""
    import torch

    modules = model.named_modules(remove_duplicate=False) if isinstance(model, torch.nn.Module) else ()
    return {
        f"{path}.running_mean".lstrip(".")
        for path, module in modules
        if getattr(module, "momentum", 0.1) is None and hasattr(module, "running_mean")
    }


def _evaluate(model: torch.nn.Module) -> None:
    try:
        model.eval()
    except NotImplementedError:  # a module of an exported program, which has one mode only
        for module in model.modules():
            module.training = False


def _check_dims(dims: Sequence[int], given: tuple[object, ...]) -> None:
    """Raise InputError for what is no dimension behind the batch, of any input."""
    import torch

    most = max((leaf.ndim for leaf in leaves(given) if isinstance(leaf, torch.Tensor)), default=0)
    if not all(isinstance(dim, int) and dim >= 1 for dim in dims):
        help = "numbers, of which the first is 1"
    elif any(dim >= most for dim in dims):
        help = f"the inputs have {most} dimensions: the last of them is {most - 1}"
    else:
        return
    raise InputError(f"dynamic_dims={list(dims)} are not dimensions behind the batch", help=help)


def _open(dynamic_batch: bool, more: Sequence[int]) -> tuple[int, ...]:
    """The dimensions that stay open."""
    return (*((0,) if dynamic_batch else ()), *more)


PACKING = (os.path.join("nn", "utils", "rnn.py"), os.path.join("nn", "modules", "rnn.py"))
"""Where torch packs sequences, and takes packed ones."""


BATCH = 4
"""So many examples are a batch that export keeps open."""


def _exported(
    model: torch.nn.Module | ExportedProgram, args: tuple[Any, ...], named: dict[str, Any], dims: tuple[int, ...]
) -> tuple[ExportedProgram, tuple[Any, ...], dict[str, Any]]:
    """The program, and the arguments as it takes them.

    Export takes a size of 1 for a constant, also one such as N - 1, so a small batch is given several times. Where that
    fails, or leaves a batch fixed, the example counts as it is.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        return model, args, named
    sizes = [len(leaf) for leaf in leaves((args, named)) if isinstance(leaf, torch.Tensor) and leaf.ndim]
    if 0 not in dims or min(sizes, default=BATCH) >= (BATCH if len(set(sizes)) == 1 else 2):
        return _exported_for(model, args, named, dims), args, named
    with suppress(InputError):
        more, more_named = _repeated((args, named), 1 if len(set(sizes)) > 1 else BATCH - 1)
        program = _exported_for(model, more, more_named, dims)
        if _is_open(program):
            return program, more, more_named
    return _exported_for(model, args, named, dims), args, named


def _are_others(checked: object, given: object) -> bool:
    """Whether the first two examples of a repeated batch are not all that is given."""
    pairs = list(zip(leaves(checked), leaves(given), strict=True))
    return any(a is not b for a, b in pairs) and any(getattr(b, "ndim", 0) and len(b) != 2 for _, b in pairs)


def _is_open(program: ExportedProgram) -> bool:
    """Whether no input has a fixed first dimension."""
    inputs = program.graph.find_nodes(op="placeholder")
    values = [node.meta.get("val") for node in inputs if node.name in program.graph_signature.user_inputs]
    return not any(_is_fixed(value.shape[0]) for value in values if getattr(value, "ndim", 0))


def _is_fixed(size: Any) -> bool:
    """Whether a size is a number, also a symbol that export has found to be one: `len(x)` of a tensor does that."""
    return isinstance(size, int) or bool(size.node.expr.is_number)


def _repeated(arguments: Any, most: int) -> Any:
    """Arguments with tensors of up to `most` examples repeated to at least one more than that."""
    import torch

    def repeat(leaf: Any) -> Any:
        few = isinstance(leaf, torch.Tensor) and leaf.ndim and 1 <= len(leaf) <= most
        return torch.cat([leaf] * -(-(most + 1) // len(leaf))) if few else leaf

    return map_leaves(repeat, arguments)


def _exported_for(
    model: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any], dims: tuple[int, ...]
) -> ExportedProgram:
    try:
        with _named_keywords(model, named):
            return _program(model, args, named, dims)
    except Exception as error:  # torch.export raises whatever the model's code raises, and a dozen classes of its own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        user = traced_origin("", str(error))
        if not _runs(model, args, named):
            raise InputError(
                f"{type(model).__name__} cannot be run on the example: {lines[0]}",
                where=(f"origin  {user.readable}",) if user else (),
                help="give an example that the model itself takes",
            ) from error
        raise InputError(
            f"torch.export cannot trace {type(model).__name__}: {lines[0]}",
            where=(f"origin  {user.readable}",) if user else (),
            help=_advice(error),
        ) from error


def _advice(error: BaseException) -> str:
    """What to do about what torch.export refuses, by the code of torch's in which it does."""
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename.endswith(PACKING):
            return "give padded sequences and their mask: how long packed ones are depends on data"
        at = at.tb_next
    return "see torch.export's documentation on data-dependent control flow and input mutation"


def _runs(model: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Whether the model itself takes the arguments, which it may write to."""
    import torch

    args, named = map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, (args, named))
    try:
        model(*args, **named)
    except Exception:  # the model's own code may raise anything
        return False
    return True


@contextmanager
def _named_keywords(model: torch.nn.Module, named: Mapping[str, Any]) -> Iterator[None]:
    """Let `forward(**kwargs)` declare the names that are given: torch.export does not find open sizes behind `**`."""
    signature = inspect.signature(model.forward)
    parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    declared = {p.name for p in parameters if p.kind is not inspect.Parameter.POSITIONAL_ONLY}
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in named if name not in declared]
    if len(parameters) == len(signature.parameters) or not more:
        yield
        return
    own, forward = model.__dict__.get("forward"), model.forward

    def declaring(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    declaring.__signature__ = signature.replace(parameters=[*parameters, *more])  # type: ignore[attr-defined]
    model.forward = declaring
    try:
        yield
    finally:
        del model.forward
        if own is not None:
            model.forward = own


def _program(
    model: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any], dims: tuple[int, ...]
) -> ExportedProgram:
    import torch

    shapes = torch.export.ShapesCollection()
    for leaf in leaves((args, named)):
        if isinstance(leaf, torch.Tensor) and any(dim < leaf.ndim for dim in dims):
            shapes[leaf] = {dim: torch.export.Dim.AUTO for dim in dims if dim < leaf.ndim}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes of torch's about its own internals
        dynamic = shapes.dynamic_shapes(model, args, named) if dims else None
        try:
            return torch.export.export(model, args, named, dynamic_shapes=dynamic, strict=False)
        except Exception:  # torch.export raises what the model raises, and classes of its own; it is raised again below
            if not register_dataclasses(model(*args, **named)):
                raise
            return torch.export.export(model, args, named, dynamic_shapes=dynamic, strict=False)


def _set_outputs(graph: Graph, importer: Importer) -> None:
    values = importer.outputs()
    paths = output_paths(importer.program.call_spec.out_spec)
    kept = [(value, path) for value, path in zip(values, paths, strict=True) if value is not None]
    if not kept:
        raise InputError(f"{graph.name} returns no tensor", help="a graph needs an output")
    graph.set_outputs([value for value, _ in kept], output_names([path for _, path in kept]))
    if any(graph.given_output_names):
        graph.metadata[RESULTS] = json.dumps(nested([path for _, path in kept]))
    taken = {value.name for value in graph.inputs}
    for value, name in zip(graph.outputs, graph.given_output_names, strict=True):
        if name and name not in taken and value.producer is not None and not value.name:
            value.name = name
            taken.add(name)
