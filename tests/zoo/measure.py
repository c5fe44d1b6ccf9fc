"""One model from torch to exact integers, step by step: what holds, what it costs, how near the integers are."""

from __future__ import annotations

import importlib.util
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

import qgraph
from qgraph.errors import PrecisionWarning, QGraphError
from qgraph.ir import Array, Graph
from tests.zoo.models import Case, Entry, Inputs

TARGETS = ("onnxruntime", "litert")
CALIBRATION, TEST = 32, 8
"""Examples."""
T = TypeVar("T")
Row = dict[str, Any]


def measure(entry: Entry, targets: tuple[str, ...] = TARGETS, peer: bool = True) -> Row:
    """The row of one model; what fails is said in the words of the error."""
    warnings.simplefilter("ignore", PrecisionWarning)
    torch.manual_seed(0)
    case = entry.make()
    _let_all_count(case.model)
    case.model.eval()
    row: Row = {"domain": entry.domain, "seconds": {}}
    _load_all(targets)
    row["parameters"] = sum(each.numel() for each in case.model.parameters())
    example = tuple(case.draw(2).values())
    with _said(row, "traced"), _timed(row, "trace"):
        graph = qgraph.trace(case.model, example)
    if row["traced"] is not True:
        return row
    calibration, test = case.draw(CALIBRATION), case.draw(TEST)
    with torch.no_grad():
        reference = _flat(case.model(*test.values()))
    feeds = [
        {value.name: array for value, array in zip(graph.inputs, given, strict=True)}
        for given in _arrays(test, calibration)
    ]
    with _said(row, "equal"):
        row["float_db"] = sqnr(reference, _flat(qgraph.run(graph, feeds[0])))
    for target in targets:
        row[target] = _lowered(graph, target, feeds[1], feeds[0], reference, row)
    if peer:
        row["peer"] = {}
        with _said(row["peer"], "made"), _timed(row, "peer"):
            row["peer"]["db"] = _peer(graph, feeds[1], feeds[0], reference)
        if importlib.util.find_spec("torchao") is not None:
            row["torchao"] = {}
            with _said(row["torchao"], "made"), _timed(row, "torchao"):
                row["torchao"]["db"] = _torchao(case, calibration, test, reference)
    for _ in range(2):  # as much is loaded for the one as for the other; the faster time counts
        with _timed(row, "torch.export"):
            _exported(case, example)
        with _timed(row, "trace"):
            qgraph.trace(case.model, example)
    return row


def _load_all(targets: tuple[str, ...]) -> None:
    """Load what is loaded once, which is no part of the times."""
    graph = qgraph.trace(torch.nn.Linear(2, 2), torch.zeros(2, 2))
    for target in targets:
        qgraph.quantize(graph, target, calibration=[torch.rand(4, 2).numpy()])


def _let_all_count(model: torch.nn.Module) -> None:
    """Random numbers for weights that are all zero: some heads begin so, and every result would be 0."""
    for weight in model.parameters():
        if weight.ndim > 1 and not weight.any():
            torch.nn.init.normal_(weight, std=0.02)


def _arrays(*given: Inputs) -> Iterator[list[Array]]:
    for inputs in given:
        yield [tensor.numpy() for tensor in inputs.values()]


def _exported(case: Case, example: tuple[Any, ...]) -> torch.export.ExportedProgram:
    """What torch makes of it by itself, with the same open batch."""
    open_batch = torch.export.ShapesCollection()
    for each in example:
        open_batch[each] = {0: torch.export.Dim.AUTO}
    return torch.export.export(case.model, example, dynamic_shapes=open_batch.dynamic_shapes(case.model, example))


def _lowered(graph: Graph, target: str, calibration: Inputs, test: Inputs, reference: Array, row: Row) -> Row:
    """In integers throughout where that goes, else with float islands; with an open batch where that goes."""
    found: Row = {}
    for fallback, fixed in ((None, False), (None, True), ("float", False), ("float", True)):
        found = {"islands": 0, "fixed_batch": fixed}
        with _said(found, "prepared"), _timed(row, f"{target} prepare"):
            source = qgraph.passes.set_batch(graph, size=str(TEST)) if fixed else graph
            prepared = qgraph.prepare(source, target, fallback=fallback)
        if found["prepared"] is not True:
            row.setdefault("refused", {}).setdefault(target, found["prepared"])
            continue
        batches = [
            {name: array[i : i + TEST] for name, array in calibration.items()} for i in range(0, CALIBRATION, TEST)
        ]
        with _said(found, "calibrated"), _timed(row, f"{target} calibrate"):
            prepared = qgraph.calibrate(prepared, batches)
        if found["calibrated"] is True and "trained" not in row:
            with _said(row, "trained"), _timed(row, "step"):
                _step(prepared, batches[0])
        with _said(found, "lowered"), _timed(row, f"{target} lower"):
            low = qgraph.lower(prepared, target)
            found["islands"] = _float_ops(low)
        if found["lowered"] is True:
            break
    if found.get("lowered") is True:
        with _said(found, "exact"), _timed(row, f"{target} verify"):
            result = qgraph.verify(low, inputs=test, layout="NCHW")
            if not result.bit_exact:
                raise QGraphError(f"{result.mismatches} of {result.compared} differ, first {result.first_difference}")
        with _said(found, "run"):
            found["db"] = sqnr(reference, _flat(qgraph.run(low, test, dequantize=True, layout="NCHW")))
    return found


def _float_ops(low: Graph) -> int:
    """How many nodes compute with floats, or move them."""
    target = qgraph.targets.get(low.target)
    conversions = (target.quantize_op, target.dequantize_op)
    return sum(node.op not in conversions and node.results[0].type.is_float for node in low.nodes)


def _step(prepared: Graph, batch: Inputs) -> None:
    """One step of quantization-aware training."""
    module = qgraph.to_torch(prepared)
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), 1e-3)
    few = [torch.from_numpy(np.ascontiguousarray(array)) for array in batch.values()]
    made = [each for each in _tensors(module(*few)) if each.is_floating_point()]
    loss = torch.stack([(each**2).mean() for each in made]).sum()
    loss.backward()
    optimizer.step()
    if not torch.isfinite(loss):
        raise QGraphError("the loss is not finite")


def _peer(graph: Graph, calibration: Inputs, test: Inputs, reference: Array) -> float:
    """SQNR of onnxruntime's own quantization after training, of the same float model on the same data."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    class Reader:
        def __init__(self) -> None:
            size = len(next(iter(calibration.values())))
            self.feeds = iter([{n: a[i : i + 8] for n, a in calibration.items()} for i in range(0, size, 8)])

        def get_next(self) -> Inputs | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "float.onnx", Path(folder) / "peer.onnx"
        qgraph.export(qgraph.passes.fold_batchnorm(graph), source)
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        method = CalibrationMethod.MinMax
        quantize_static(source, made, Reader(), per_channel=True, calibrate_method=method, **types)
        session = onnxruntime.InferenceSession(str(made), providers=["CPUExecutionProvider"])
        return sqnr(reference, _flat(session.run(None, dict(test))))


def _torchao(case: Case, calibration: Inputs, test: Inputs, reference: Array) -> float:
    """SQNR of torchao's quantization after training (PT2E, the quantizer for x86), on the same data."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    program = _exported(case, tuple(array[:2] for array in test.values()))
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    module = prepare_pt2e(program.module(), quantizer)
    for start in range(0, CALIBRATION, TEST):
        module(*(array[start : start + TEST] for array in calibration.values()))
    with torch.no_grad():
        return sqnr(reference, _flat(convert_pt2e(module)(*test.values())))


# ---- words and numbers


@contextmanager
def _said(row: Row, key: str) -> Iterator[None]:
    """Whether the block runs: True, or what went wrong. A fault that qgraph does not name itself is marked."""
    row[key] = True
    try:
        yield
    except QGraphError as error:
        row[key] = str(error)
    except Exception as error:  # the table says so: one model must not end the others
        row[key] = f"!! {type(error).__name__}: {error}"


@contextmanager
def _timed(row: Row, key: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    passed = round(time.perf_counter() - start, 3)
    row["seconds"][key] = min(passed, row["seconds"].get(key, passed))


def _tensors(made: Any) -> list[torch.Tensor]:
    if isinstance(made, torch.Tensor):
        return [made]
    items = made.values() if isinstance(made, Mapping) else made
    return [tensor for item in items if item is not None for tensor in _tensors(item)]


def _flat(made: Any) -> Array:
    """All floats of a result in one row."""
    if isinstance(made, Mapping):
        made = list(made.values())
    if isinstance(made, (list, tuple)):
        return np.concatenate([_flat(each) for each in made if each is not None])
    array = made.detach().numpy() if isinstance(made, torch.Tensor) else np.asarray(made)
    return array.ravel().astype(np.float64)


def sqnr(reference: Array, made: Array) -> float:
    """Signal over error in dB; at most 200."""
    if reference.shape != made.shape:
        raise QGraphError(f"{made.size} results where the model gives {reference.size}")
    error = float(((reference - made) ** 2).sum())
    signal = float((reference**2).sum())
    return round(min(200.0, 10 * float(np.log10(signal / error))), 2) if error and signal else 200.0


def attempted(entry: Entry, run: Callable[[Entry], Row]) -> Row:
    """As `run`, with what keeps the model from being built in the row."""
    row: Row = {"domain": entry.domain}
    with _said(row, "built"):
        row = run(entry) | {"built": True}
    return row
