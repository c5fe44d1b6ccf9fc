"""The main road in three calls: `prepare` (to fake-quant), `lower` (to integers), and `quantize` (both, with
calibration)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

from qgraph import passes
from qgraph.errors import InputError
from qgraph.imports import has_torch
from qgraph.ir import Graph
from qgraph.ir.finite import check_finite
from qgraph.passes.engine.manager import PassManager
from qgraph.passes.insert_fake_quant import Observers, Overrides
from qgraph.passes.lower import check_lowered

if TYPE_CHECKING:
    from torch import nn

    from qgraph.calibration.batches import Batch
    from qgraph.targets.target import Target

    Module = TypeVar("Module", bound=nn.Module)


def check_graph(graph: object) -> None:
    """Raise InputError for what is no graph."""
    if not isinstance(graph, Graph):
        raise InputError(f"a {type(graph).__name__} is no graph", help="trace a model: qgraph.trace(model, example)")


def prepare(
    graph: Graph,
    target: str | Target,
    *,
    batchnorm: str = "live",
    overrides: Overrides | None = None,
    observers: Observers | None = None,
    fallback: str | None = None,
    check: bool = False,
    **options: str,
) -> Graph:
    """The float graph fused and fake-quantized as the target's rules say, ready to be calibrated and trained.

    `target`: the name of one, or the path of a description of a chip (`qgraph.description`), "chip.toml". `batchnorm`:
    "live" keeps batch normalization alive in training behind a convolution or a linear layer (behind a
    transposed convolution, and alone, it becomes factors and summands of its running statistics, which are trained),
    "fold" folds it beforehand. `overrides` maps patterns of origins to {"bits": n, "activation_bits": n};
    `observers` names quantizers (`qgraph.quantizers`) for "activation" and "weight", such as {"activation":
    "percentile:99.9"}. What the model writes by exponentials, such as a softmax, becomes the op that the target has
    (`recognize`). `fallback="float"`: what the target has no integer form for stays in float. `check`: run the
    graph after each step on random inputs; without its fake-quant it must compute what it was made of. Further
    options are the target's (`qgraph targets NAME`).
    """
    check_graph(graph)
    graph = PassManager(["canonicalize"], check=check).run(graph)
    check_finite(graph, masks=fallback is None)
    steps: list[object] = ["recognize"]
    if batchnorm == "fold":
        steps.append("fold-batchnorm")
    insertion = {"target": target, "batchnorm": batchnorm, "overrides": overrides, "observers": observers, **options}
    kept = {"fallback": fallback} if fallback is not None else {}
    steps += [
        ("drop-unreachable", {"target": target, **kept}),
        ("legalize", {"target": target, "overrides": overrides, **options, **kept}),
        "fuse-conv-relu",
        ("check-lowerable", {"target": target, **kept}),
        ("insert-fake-quant", insertion | kept),
    ]
    return PassManager(steps, check=check).run(graph)  # type: ignore[arg-type]  # a list of steps


@overload
def calibrate(module_or_graph: Graph, batches: Iterable[Batch], progress: bool = ..., sharded: bool = ...) -> Graph: ...
@overload
def calibrate(
    module_or_graph: Module, batches: Iterable[Batch], progress: bool = ..., sharded: bool = ...
) -> Module: ...
def calibrate(
    module_or_graph: Graph | nn.Module, batches: Iterable[Batch], progress: bool = False, sharded: bool = True
) -> Graph | nn.Module:
    """Set the ranges of activations from data; returns the module that was given, or a new graph.

    `batches`: arrays, tensors, tuples whose first elements are the inputs (a DataLoader works), or dictionaries by
    input name. A range covers everything that was seen of a value in float (moving averages are for training), so that
    it does not depend on how the examples are split into batches, to the last bit: they are put together again, and run
    by chunks. Runs in eval mode without gradients, and starts anew: earlier ranges do not count, unless they
    are frozen. Under an initialized group of `torch.distributed` every process gives its share of the examples, an
    empty one maybe, and has the ranges of all in the end, bit for bit those of one process that is given the first
    example of each in turn, then the second, ... (which undoes a DistributedSampler; what it fills up does not count);
    `sharded=False`: each gives all of them. A graph with states takes a batch that lacks them for the steps of one
    stream, which begins with their first values and goes on in float. The floats are torch's; those of a graph are
    `quantize`'s where torch is not installed. Raises InputError where there is no batch, one contains NaN or does not
    fit, or a value is infinite.
    """
    if isinstance(module_or_graph, Graph) and not has_torch():
        from qgraph.calibration import calibrated

        return calibrated(module_or_graph, batches, progress)
    from qgraph import training

    return training.calibrate(module_or_graph, batches, progress, sharded)


def lower(
    graph: Graph, target: str, *, io: str | None = None, fallback: str | None = None, check: bool = False
) -> Graph:
    """The calibrated fake-quantized graph as integer ops of the target.

    `io` "integer" or "float": what the graph takes and gives; the target's choice by default. `fallback="float"` keeps
    in float what has no integer form, also under the scales that there are; the choice of `prepare` by default.
    `check`: hold each lowered op against the fake-quantized one that it was made of, on random inputs. Raises
    LoweringError.
    """
    check_graph(graph)
    lowered = passes.lower(graph, target=target, io=io, fallback=fallback)
    if check:
        check_lowered(graph, lowered)
    return lowered


def quantize(
    graph: Graph,
    target: str,
    *,
    calibration: Iterable[Batch],
    io: str | None = None,
    overrides: Overrides | None = None,
    observers: Observers | None = None,
    fallback: str | None = None,
    ptq: str | Sequence[str] = (),
    check: bool = False,
    **options: str,
) -> Graph:
    """Post-training quantization: prepare, calibrate on batches, lower.

    The floats that are observed are those of the target's runtime, where it runs floats too, as ONNX Runtime does: no
    torch is needed then. `ptq`: methods that come to that (`qgraph.ptq`), such as ["equalize", "gptq"].
    """
    from qgraph.calibration.batches import checked
    from qgraph.ptq import before_preparing, check_methods, improved, with_ranges

    check_graph(graph)
    methods, batches = check_methods(ptq), checked(calibration, graph.inputs)
    batches = list(batches) if methods else batches  # which are gone through twice
    prepared = prepare(
        before_preparing(graph, batches, methods, check),
        target,
        overrides=overrides,
        observers=observers,
        fallback=fallback,
        check=check,
        **options,
    )
    return lower(improved(with_ranges(prepared, batches), batches, methods), target, io=io, check=check)
