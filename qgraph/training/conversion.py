"""Graphs to torch modules and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from qgraph.errors import InputError
from qgraph.ir import Array, Builder, Graph, Value, op_def
from qgraph.ir.derived import as_nodes
from qgraph.ir.expressions import Expression, sources
from qgraph.ops.nn.normalization import counter_name
from qgraph.training.emission import BitTrueEmitter, Emitter, check_mode
from qgraph.training.layers import LayerBatchNorm
from qgraph.training.observers import ActivationQuantizer, WeightQuantizer
from qgraph.training.processes import whole

KEY = "qgraph"
"""Where a module keeps its `Source`, in `GraphModule.meta`, which copies of the module keep."""


@dataclass(frozen=True)
class Source:
    """The graph that a module was made from (never changed), and where its constants stand in the module tree."""

    graph: Graph
    paths: dict[str, str]
    mode: str
    tied: Mapping[str, Expression]  # the constants that are computed of others


STATE = ("training", "_parameters", "_buffers", "_modules")
"""What of a module is pickled beside its source; its code is emitted again."""


class TrainableGraph(fx.GraphModule):
    """What `to_torch` makes: a GraphModule that keeps its source when it is pickled, too."""

    @staticmethod
    def of(root: nn.Module, traced: fx.Graph, source: Source) -> TrainableGraph:
        """The module of a traced graph over the tree `root`."""
        module = TrainableGraph(root, traced, "".join(c if c.isalnum() else "_" for c in source.graph.name) or "Graph")
        module.meta[KEY] = source
        return module

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (self.meta[KEY], {name: self.__dict__[name] for name in STATE})


def _unpickled(source: Source, state: dict[str, object]) -> TrainableGraph:
    module = _emitted(source.graph, source.mode)
    module.__dict__.update(state)
    return module


def _emitted(graph: Graph, mode: str) -> TrainableGraph:
    emitter = (BitTrueEmitter if mode == "bit-true" else Emitter)(graph)
    emitter.emit_graph()
    return TrainableGraph.of(emitter.root, emitter.traced, Source(graph, emitter.paths, mode, emitter.tied))


def to_torch(graph: Graph, mode: str = "fake-quant") -> nn.Module:
    """A module that computes and trains a float or fake-quant graph; its `state_dict` has the names of the constants.

    Inputs are positional, in the graph's order. Results come in dictionaries and tuples as the traced model gave them,
    several of another graph as a tuple. It starts in training mode, as every
    new module. In eval mode it computes what `qgraph.run` computes: with `mode="bit-true"` what it computes of the
    graph lowered to the target that it was prepared for, bit for bit (see `qgraph.training.bit_true`). Raises
    InputError for an unknown mode or an integer graph.
    """
    check_mode(graph, mode)
    return _emitted(graph.clone(), mode)


def from_torch(module: nn.Module) -> Graph:
    """The graph of a module made by `to_torch`, with the module's present weights, statistics, scales and zero points.

    Scales of weights are those of the present weights, unless they are frozen. Where `fully_shard` has spread the
    parameters over processes, each has to call this, and has the whole graph.
    """
    traced = graph_module(module)
    source = source_of(traced)
    with whole(traced):
        refresh_weight_scales(traced)
        for quantizer, *parameters in activation_quantizers(traced):
            quantizer.settle(*parameters)
        graph = source.graph.clone()
        tensors = tensors_by_path(traced)
        arrays = {name: _array(tensors[path], graph.constants[name].data.dtype) for name, path in source.paths.items()}
    arrays.update(_of_others(source, arrays))
    replaced = {
        name: Value(value.type, name, data=arrays.get(name, value.data)) for name, value in graph.constants.items()
    }
    constants, graph.constants = graph.constants, replaced
    for name, old in constants.items():
        graph.replace_uses(old, replaced[name])
    for node in graph.nodes:
        if node.attrs.get("batches") is not None:
            mean = op_def(node.op).view(node).mean
            node.attrs["batches"] = int(tensors[counter_name(source.paths[mean.name])])
    return graph


def _of_others(source: Source, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The present arrays of the constants that are computed of others, as the module computes them."""
    if not source.tied:
        return {}
    scratch = Graph("tied")
    names = dict.fromkeys(name for expression in source.tied.values() for name in sources(expression))
    copies = {name: scratch.add_constant(arrays.get(name, source.graph.constants[name].data), name) for name in names}
    made = [as_nodes(each, Builder(scratch), copies.__getitem__) for each in source.tied.values()]
    scratch.set_outputs([value for value in made if value is not None])
    emitter = Emitter(scratch)
    emitter.emit_graph()
    with torch.no_grad():
        given = fx.GraphModule(emitter.root, emitter.traced).eval()()  # without dropout
    tensors = given if isinstance(given, tuple) else (given,)
    return {
        name: _array(tensor, source.graph.constants[name].data.dtype)
        for name, tensor in zip(source.tied, tensors, strict=True)
    }


def _array(tensor: Tensor, dtype: np.dtype) -> Array:
    """A copy as an array of that dtype, whatever the module was cast to."""
    wide = tensor.detach().to("cpu", torch.float64 if tensor.is_floating_point() else tensor.dtype)
    return wide.numpy().astype(dtype)


def graph_module(module: nn.Module) -> fx.GraphModule:
    """The module that `to_torch` made, out of the wrappers of `torch.compile` and data parallelism."""
    inner: object = module
    while not isinstance(inner, fx.GraphModule):
        inner = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
        if inner is None:
            raise InputError(
                f"{type(module).__name__} was not made by qgraph.to_torch", help="trace it: `qgraph.trace`"
            )
    return inner


def source_of(traced: fx.GraphModule) -> Source:
    """What the module was made from; raises InputError for somebody else's module."""
    source = traced.meta.get(KEY)
    if not isinstance(source, Source):
        raise InputError("the GraphModule was not made by qgraph.to_torch", help="trace it: `qgraph.trace`")
    return source


def tensors_by_path(traced: fx.GraphModule) -> dict[str, Tensor]:
    """Every parameter and buffer, also where it has a second name."""
    return {
        **dict(traced.named_parameters(remove_duplicate=False)),
        **dict(traced.named_buffers(remove_duplicate=False)),
    }


def refresh_weight_scales(traced: fx.GraphModule) -> None:
    """Let the scale of every weight that is not frozen fit the present weight."""
    tensors = tensors_by_path(traced)
    for node in traced.graph.nodes:
        owner = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(owner, (WeightQuantizer, LayerBatchNorm)):
            constants = node.args[owner.activations :]
            refresh: Callable[..., None] = owner.refresh  # its constants differ from class to class
            refresh(*(_tensor(a, traced, tensors) if isinstance(a, fx.Node) else None for a in constants))


def activation_quantizers(traced: fx.GraphModule) -> Iterator[tuple[ActivationQuantizer, Tensor, Tensor]]:
    """The quantizers of activations with scale and zero point, as often as they are called."""
    tensors = tensors_by_path(traced)
    for node in traced.graph.nodes:
        owner = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(owner, ActivationQuantizer):
            scale, zero_point = (tensors[str(node.args[place].target)] for place in (1, 2))
            yield owner, scale, zero_point


def _tensor(node: fx.Node, traced: fx.GraphModule, tensors: Mapping[str, Tensor]) -> Tensor:
    """The tensor of a constant, itself where it was copied before the pass, or what is computed of constants."""
    if node.op == "get_attr":
        return tensors[str(node.target)]
    args: Any = fx.node.map_arg(node.args, lambda each: _tensor(each, traced, tensors))
    words: Any = fx.node.map_arg(node.kwargs, lambda each: _tensor(each, traced, tensors))
    function: Any = traced.get_submodule(str(node.target)) if node.op == "call_module" else node.target
    with torch.no_grad():
        made: Tensor = args[0] if function is torch.clone else function(*args, **words)
    return made
