"""`qgraph.calibrate` and `qgraph.freeze`: ranges from data, and holding them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar, overload

import torch
from torch import Tensor, fx, nn

from qgraph.errors import InputError
from qgraph.ir import Graph
from qgraph.training.batches import Batch, module_inputs, rebatched
from qgraph.training.bit_true import Integers
from qgraph.training.conversion import (
    activation_quantizers,
    from_torch,
    graph_module,
    refresh_weight_scales,
    source_of,
    tensors_by_path,
    to_torch,
)
from qgraph.training.dead_values import settle_scales
from qgraph.training.layers import BatchNorm, LayerBatchNorm
from qgraph.training.observers import ActivationQuantizer, BiasQuantizer, FakeQuantizer
from qgraph.training.streams import with_states

Module = TypeVar("Module", bound=nn.Module)


@overload
def calibrate(module_or_graph: Graph, batches: Iterable[Batch], progress: bool = ...) -> Graph: ...
@overload
def calibrate(module_or_graph: Module, batches: Iterable[Batch], progress: bool = ...) -> Module: ...
def calibrate(
    module_or_graph: Graph | nn.Module, batches: Iterable[Batch], progress: bool = False
) -> Graph | nn.Module:
    """Set the ranges of activations from data; returns the module that was given, or a new graph.

    `batches`: arrays, tensors, tuples whose first elements are the inputs (a DataLoader works), or dictionaries by
    input name. A range covers everything that was seen of a value in float (moving averages are for training), so that
    it does not depend on how the examples are split into batches, to the last bit: they are put together again, and run
    by `CHUNK` examples. Runs in eval mode without gradients, and starts anew: earlier ranges do not count, unless they
    are frozen. A graph with states takes a batch that lacks them for the steps of one stream, which begins with their
    first values and goes on in float. Raises InputError where there is no batch, one contains NaN or does not fit, or a
    value is infinite.
    """
    if isinstance(module_or_graph, Graph):
        return from_torch(calibrate(to_torch(module_or_graph), batches, progress))
    traced = graph_module(module_or_graph)
    inputs = source_of(traced).graph.inputs
    batches = with_states(module_or_graph, _shown(batches, progress))
    given = (module_inputs(traced, inputs, batch, f"batch {count}") for count, batch in enumerate(batches, 1))
    count = 0
    with _observing(traced) as quantizers, torch.no_grad():
        for count, tensors in enumerate(rebatched(inputs, given), 1):
            if count == 1:
                _start_anew(traced, quantizers)
            for quantizer in quantizers:
                quantizer.observing = count
            traced(*tensors)
        if count:
            for quantizer, scale, zero_point in _with_parameters(traced, quantizers):
                quantizer.end_calibration(scale, zero_point)
            refresh_weight_scales(traced)
            source = source_of(traced)
            settle_scales(traced, source.graph, tensors_by_path(traced), source.paths)
            for quantizer, scale, zero_point in _with_parameters(traced, quantizers):
                quantizer.begin(scale, zero_point)
            refresh_weight_scales(traced)
            _check_scales(source.graph, tensors_by_path(traced), source.paths)
    if not count:
        raise InputError("calibration needs at least one batch, none is given")
    return module_or_graph


def _check_scales(graph: Graph, tensors: Mapping[str, Tensor], paths: Mapping[str, str]) -> None:
    """Raise InputError for every value that was infinite: it has no scale."""
    nodes = [node for node in graph.nodes if node.op == "quant.fake_quant"]
    endless = [node for node in nodes if bool(tensors[paths[node.operand(1).name]].isinf().any())]
    if endless:
        raise InputError(
            f"{len(endless)} value{'s' * (len(endless) > 1)} of the model became infinite in calibration",
            where=tuple(line for node in endless for line in node.where),
            help="integers have no infinity: mask with a number such as -1e4, or keep such ops in float (fallback)",
        )


def freeze(module: Module, batchnorm: bool = True, observers: bool = True) -> Module:
    """Use running statistics, and hold ranges and weights' scales, from here on, in training too; returns the module.

    `batchnorm`: batch normalization no longer looks at the batch. `observers`: scales and zero points stay as they are.
    A flag that is False lets that part move (again). The flags are not in the `state_dict`, which holds tensors alone:
    freeze again after loading one into another module.
    """
    traced = graph_module(module)
    source_of(traced)
    refresh_weight_scales(traced)
    for quantizer, *parameters in activation_quantizers(traced):
        quantizer.settle(*parameters)
    for part in traced.modules():
        if isinstance(part, (BatchNorm, LayerBatchNorm)):
            part.frozen_statistics = batchnorm
        if isinstance(part, FakeQuantizer):
            part.frozen = observers
    return module


@contextmanager
def _observing(traced: fx.GraphModule) -> Iterator[list[ActivationQuantizer]]:
    """Eval mode with observers on; afterwards everything is as before."""
    found = [part for part in traced.modules() if isinstance(part, ActivationQuantizer)]
    quantizers = [part for part in found if not part.frozen and part.quantizer.observes]
    rounding = [part for part in traced.modules() if isinstance(part, (BiasQuantizer, Integers))]
    modes = {part: part.training for part in traced.modules()}
    traced.eval()
    for each in rounding:
        each.observing = True
    try:
        yield quantizers
    finally:
        for quantizer in quantizers:
            quantizer.observing = 0
        for each in rounding:
            each.observing = False
        for part, mode in modes.items():
            part.training = mode


def _start_anew(traced: fx.GraphModule, quantizers: list[ActivationQuantizer]) -> None:
    """Forget ranges and scales: the next batch sets them."""
    for quantizer, scale, _ in _with_parameters(traced, quantizers):
        quantizer.forget()
        scale.fill_(torch.nan)


def _with_parameters(
    traced: fx.GraphModule, quantizers: list[ActivationQuantizer]
) -> Iterator[tuple[ActivationQuantizer, Tensor, Tensor]]:
    """These quantizers with scale and zero point."""
    return (found for found in activation_quantizers(traced) if found[0] in quantizers)


def _shown(batches: Iterable[Batch], progress: bool) -> Iterable[Batch]:
    if not progress:
        return batches
    from rich.progress import track

    return track(batches, "calibrate")
