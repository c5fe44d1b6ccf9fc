"""`qgraph.calibrate` and `qgraph.freeze`: ranges from data, and holding them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar, overload

import torch
from torch import Tensor, fx, nn

from qgraph.calibration.batches import Batch, checked, is_open, rebatched
from qgraph.calibration.calibrating import check_endless, with_progress
from qgraph.calibration.dead_values import Observed as Seen
from qgraph.calibration.dead_values import settle_scales
from qgraph.errors import InputError
from qgraph.ir import Graph
from qgraph.training.batches import device_of, module_inputs
from qgraph.training.bit_true import Integers
from qgraph.training.conversion import (
    Source,
    activation_quantizers,
    from_torch,
    graph_module,
    refresh_weight_scales,
    source_of,
    tensors_by_path,
    to_torch,
)
from qgraph.training.layers import BatchNorm, LayerBatchNorm
from qgraph.training.observers import ActivationQuantizer, FakeQuantizer, RoundsByOthers
from qgraph.training.processes import ALONE, Group, dealt_out, put_together, spread_parts, whole
from qgraph.training.streams import with_states

Module = TypeVar("Module", bound=nn.Module)


@overload
def calibrate(module_or_graph: Graph, batches: Iterable[Batch], progress: bool = ..., sharded: bool = ...) -> Graph: ...
@overload
def calibrate(
    module_or_graph: Module, batches: Iterable[Batch], progress: bool = ..., sharded: bool = ...
) -> Module: ...
def calibrate(
    module_or_graph: Graph | nn.Module, batches: Iterable[Batch], progress: bool = False, sharded: bool = True
) -> Graph | nn.Module:
    """`qgraph.calibrate`: examples are put together again, and run by `CHUNK` of them."""
    if isinstance(module_or_graph, Graph):
        return from_torch(calibrate(to_torch(module_or_graph), batches, progress, sharded))
    traced = graph_module(module_or_graph)
    if spread_parts(traced):
        raise InputError("the module's parameters are spread over processes", help="calibrate first, then fully_shard")
    inputs = source_of(traced).graph.inputs
    group = Group.present() if sharded else ALONE
    examples = dealt_out(batches)
    batches = with_states(module_or_graph, with_progress(checked(batches, inputs), progress and not group.rank))
    given = (module_inputs(traced, inputs, batch, f"batch {count}") for count, batch in enumerate(batches, 1))
    together = put_together(group, given, examples, whole=not is_open(inputs))
    with _observing(traced) as quantizers, torch.no_grad():
        chunks = rebatched(inputs, together)
        any_given = _run(traced, list(_with_parameters(traced, quantizers)), chunks, group)
        if any_given:
            for quantizer, scale, zero_point in _with_parameters(traced, quantizers):
                quantizer.end_calibration(scale, zero_point)
            refresh_weight_scales(traced)
            source = source_of(traced)
            _settle_scales(source, tensors_by_path(traced), quantizers, traced)
            for quantizer, scale, zero_point in _with_parameters(traced, quantizers):
                quantizer.begin(scale, zero_point)
            refresh_weight_scales(traced)
            _check_scales(source.graph, tensors_by_path(traced), source.paths)
    if not any_given:
        raise InputError("calibration needs at least one batch, none is given")
    return module_or_graph


Observed = list[tuple[ActivationQuantizer, Tensor, Tensor]]
"""Quantizers with scale and zero point."""


def _run(traced: fx.GraphModule, observed: Observed, chunks: Iterator[list[Tensor]], group: Group) -> bool:
    """Run the chunks, every process those whose turn is its own, and let all take in what each has shown; whether there
    was one."""
    device = device_of(traced)
    for first in itertools.count(1, group.size):
        turn = list(itertools.islice(chunks, group.size))
        if first == 1 and turn:
            _start_anew(observed)
        if not turn:
            break
        before = [quantizer.range.clone() for quantizer, *_ in observed]
        if group.rank < len(turn):
            for quantizer, *_ in observed:
                quantizer.observing = first + group.rank
            traced(*(tensor.to(device) for tensor in turn[group.rank]))
        if group.several and observed:
            _take_in(observed, before, group, range(first, first + len(turn)))
    if group.several and first > 1:
        for quantizer, _, _ in observed:
            _add_up(quantizer, group)
    return first > 1


def _take_in(observed: Observed, before: list[Tensor], group: Group, numbers: Iterable[int]) -> None:
    """Take in what the chunks of these numbers have shown, in their order, from the ranges before them on."""
    for (quantizer, _, _), start in zip(observed, before, strict=True):
        quantizer.range.copy_(start)
    seen = group.stacked(torch.cat([quantizer.seen.flatten() for quantizer, *_ in observed]))
    for number, shown in zip(numbers, seen, strict=False):
        parts = shown.split([quantizer.seen.numel() for quantizer, *_ in observed])
        for (quantizer, scale, zero_point), part in zip(observed, parts, strict=True):
            quantizer.observing = number
            quantizer.take(quantizer.range.clone(), part.reshape(2, -1), scale, zero_point)


def _add_up(quantizer: ActivationQuantizer, group: Group) -> None:
    """Give each process the histogram of all."""
    device, own = quantizer.range.device, quantizer.histogram
    found = [each for each in group.exchanged(None if own is None else own.to("cpu")) if each is not None]
    quantizer.histogram = None
    for each in found:
        quantizer.add(each.to(device))


def _settle_scales(
    source: Source, tensors: Mapping[str, Tensor], quantizers: list[ActivationQuantizer], traced: fx.GraphModule
) -> None:
    """Set the scales that follow from those of others, in place."""
    names = {path: name for name, path in source.paths.items()}
    calls = [node for node in traced.graph.nodes if node.op == "call_module"]
    owners = [(call, traced.get_submodule(str(call.target))) for call in calls]
    seen = {
        names[str(call.args[1].target)]: Seen(owner.quant_range, owner.symmetric, owner.range.cpu().numpy())
        for call, owner in owners
        if isinstance(owner, ActivationQuantizer) and owner in quantizers
    }
    small = {name: path for name, path in source.paths.items() if source.graph.constants[name].type.rank <= 1}
    of = {name: tensors[path].detach().cpu().numpy() for name, path in small.items()}
    for name, scale in settle_scales(source.graph, of, seen).items():
        tensors[source.paths[name]].copy_(torch.from_numpy(scale))


def _check_scales(graph: Graph, tensors: Mapping[str, Tensor], paths: Mapping[str, str]) -> None:
    """Raise InputError for every value that was infinite: it has no scale."""
    nodes = [node for node in graph.nodes if node.op == "quant.fake_quant"]
    check_endless([node for node in nodes if bool(tensors[paths[node.operand(1).name]].isinf().any())])


def freeze(module: Module, batchnorm: bool = True, observers: bool = True) -> Module:
    """Use running statistics, and hold ranges and weights' scales, from here on, in training too; returns the module.

    `batchnorm`: batch normalization no longer looks at the batch. `observers`: scales and zero points stay as they are.
    A flag that is False lets that part move (again). What is frozen stands in the `state_dict`, and is so in a module
    that loads it.
    """
    traced = graph_module(module)
    source_of(traced)
    with whole(traced):
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
    rounding = [part for part in traced.modules() if isinstance(part, (RoundsByOthers, Integers))]
    modes = {part: part.training for part in traced.modules()}
    before = [each.observing for each in rounding]
    traced.eval()
    for each in rounding:
        each.observing = True
    try:
        yield quantizers
    finally:
        for quantizer in quantizers:
            quantizer.observing = 0
        for each, observing in zip(rounding, before, strict=True):
            each.observing = observing  # a delay of quantization goes on
        for part, mode in modes.items():
            part.training = mode


def _start_anew(observed: Observed) -> None:
    """Forget ranges and scales: the next batch sets them."""
    for quantizer, scale, _ in observed:
        quantizer.forget()
        scale.fill_(torch.nan)


def _with_parameters(
    traced: fx.GraphModule, quantizers: list[ActivationQuantizer]
) -> Iterator[tuple[ActivationQuantizer, Tensor, Tensor]]:
    """These quantizers with scale and zero point."""
    return (found for found in activation_quantizers(traced) if found[0] in quantizers)
