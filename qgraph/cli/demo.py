"""`qgraph demo`: the main job on real images, from torch to three runtimes, with every step kept in a folder."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import qgraph
from qgraph import targets as all_targets
from qgraph.errors import FileError, InputError
from qgraph.interpreter.run_graph import dequantized
from qgraph.runtimes import Worker

if TYPE_CHECKING:
    from torch import nn

    from qgraph.examples.image_data import Dataset
    from qgraph.ir import Array, Graph

TARGETS = ("litert", "litert-xnnpack", "onnxruntime")
EPOCHS = 24
CALIBRATION_IMAGES = 512


@dataclass(frozen=True)
class ResultLine:
    """One line of the table: accuracy in percent, size of the file, differing output bytes."""

    model: str
    accuracy: float
    size: int | None = None
    differing: int | None = None
    compared: int | None = None


def run_demo(*, targets: Sequence[str], out: Path, epochs: int, seed: int, data: Path | None, as_json: bool) -> bool:
    """Run the demo and print its table; whether interpreter and runtimes agreed on every byte."""
    for name in targets:
        if not all_targets.get(name).runtime:
            raise InputError(f"the demo compares with runtimes, and {name} has none")
    if epochs < 0:
        raise InputError(f"--epochs {epochs} is negative", help=f"give a positive number, or 0 for {EPOCHS}")
    dataset = _dataset(data)
    _make_folder(out)
    console = Console(stderr=as_json)
    columns = (
        TextColumn("{task.description:36}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeElapsedColumn(),
    )
    start = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        demo = _Demo(dataset, out, epochs or EPOCHS, seed, progress)
        rows = demo.run(targets or TARGETS)
    seconds = time.perf_counter() - start
    exact = all(not row.differing for row in rows)
    if as_json:
        print(
            json.dumps(
                {"exact": exact, "seconds": seconds, "out": str(out), "rows": [asdict(r) for r in rows]}, indent=2
            )
        )
    else:
        console.print(_table(rows, dataset))
        console.print(f"{seconds:.0f} s; graphs, models and the diff before and after lowering: {out}", soft_wrap=True)
    return exact


def _dataset(data: Path | None) -> Dataset:
    from qgraph.examples import fashion_mnist, image_data

    return fashion_mnist.load() if data is None else image_data.load_npz(data)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{out} cannot be made: {error.strerror}", help="choose another --out") from None


class _Demo:
    def __init__(self, data: Dataset, out: Path, epochs: int, seed: int, progress: Progress) -> None:
        self.data, self.out, self.epochs, self.seed, self.progress = data, out, epochs, seed, progress

    def run(self, targets: Sequence[str]) -> list[ResultLine]:
        """Train, then one PTQ and one QAT model for every family of targets; the rows of the table."""
        from qgraph.examples.classification import predict

        model = self._trained()
        graph = qgraph.trace(model, self._images(1), name="residual_cnn")
        qgraph.save(graph, self.out / "1-float.qg")
        rows = [ResultLine("float, torch", self._accuracy(predict(model, self.data.test_images)))]
        families: dict[str, list[str]] = {}
        for name in targets:
            families.setdefault(all_targets.get(name).dialect, []).append(name)
        for names in families.values():
            rows += self._family(graph, names)
        return rows

    def _family(self, graph: Graph, names: list[str]) -> list[ResultLine]:
        """Targets of one dialect share the trained model and the file."""
        first = names[0]
        prepared = qgraph.prepare(graph, target=first)
        self._save(prepared, first, "2-prepared")
        calibrated = qgraph.calibrate(prepared, self._calibration(first))
        self._save(calibrated, first, "3-calibrated")
        rows = [ResultLine(f"PTQ ({first})", self._integer_accuracy(qgraph.lower(calibrated, target=first), first))]
        module = self._qat(calibrated, first)
        from qgraph.examples.classification import predict

        rows.append(ResultLine(f"QAT, fake-quant ({first})", self._accuracy(predict(module, self.data.test_images))))
        trained = qgraph.from_torch(module)
        self._save(trained, first, "4-trained")
        lowered = qgraph.lower(trained, target=first)
        for name in names:
            variant = lowered.clone()
            variant.metadata["target"] = name  # the same file, on another runtime of the family
            rows += self._target(trained, variant, name)
        return rows

    def _target(self, trained: Graph, lowered: Graph, name: str) -> list[ResultLine]:
        """Export, run interpreter and runtime on all test images, compare."""
        self._save(lowered, name, "5-lowered")
        suffix = next(iter(all_targets.get(name).exporters))
        file = self.out / f"{name}{suffix}"
        qgraph.export(lowered, file)
        difference = qgraph.diff(trained, lowered, inputs=self._images(32))
        difference.to_html(self.out / f"{name}-diff.html")
        (self.out / f"{name}-diff.txt").write_text(f"{difference}\n", encoding="utf-8")
        task = self.progress.add_task(f"{name}: integers and runtime", total=2)
        inputs = qgraph.quantize_inputs(lowered, self._images(None))
        ours = qgraph.run(lowered, inputs)
        assert isinstance(ours, np.ndarray)  # one output
        self.progress.advance(task)
        target = all_targets.get(name)
        with Worker(target.runtime) as worker:
            result = worker.run(file.read_bytes(), [inputs], options=dict(target.runtime_options))
        theirs = result.runs[0].outputs[0].data
        self.progress.advance(task)
        differing = int(np.count_nonzero(_bytes(ours) != _bytes(theirs)))
        size = file.stat().st_size
        output = lowered.outputs[0].type
        title = f"{result.runtime.name} {result.runtime.version} ({name})"
        return [
            ResultLine(f"interpreter ({name})", self._accuracy(dequantized(ours, output)), size),
            ResultLine(title, self._accuracy(dequantized(theirs, output)), size, differing, ours.nbytes),
        ]

    # ---- training

    def _trained(self) -> nn.Module:
        import torch

        from qgraph.examples.classification import channels_last, train
        from qgraph.examples.residual_cnn import ResidualCnn

        torch.manual_seed(self.seed)
        model = channels_last(ResidualCnn(self.data.channels, self.data.classes))
        train(
            model, self.data, epochs=self.epochs, seed=self.seed, progress=self.progress, description="float training"
        )
        return model

    def _qat(self, calibrated: Graph, target: str) -> nn.Module:
        from qgraph.examples.classification import channels_last, train

        module = channels_last(qgraph.to_torch(calibrated))
        fine_tune = functools.partial(train, module, self.data, weight_decay=0.01, progress=self.progress)
        epochs = max(1, self.epochs // 4 - 1)
        fine_tune(epochs=epochs, learning_rate=1e-3, seed=self.seed + 1, description=f"QAT for {target}")
        qgraph.freeze(module, batchnorm=True, observers=True)
        fine_tune(epochs=1, learning_rate=1e-4, seed=self.seed + 2, description="  with frozen statistics")
        return module

    # ---- data

    def _images(self, count: int | None) -> Array:
        from qgraph.examples.image_data import to_nchw

        return to_nchw(self.data.test_images[:count])

    def _calibration(self, target: str) -> list[Array]:
        from qgraph.examples.image_data import to_nchw

        images = self.data.train_images[:CALIBRATION_IMAGES]
        batches = np.array_split(to_nchw(images), max(1, len(images) // 64))
        return list(self.progress.track(batches, description=f"calibration for {target}"))

    def _accuracy(self, logits: Array) -> float:
        from qgraph.examples.classification import accuracy

        return 100 * accuracy(logits, self.data.test_labels)

    def _integer_accuracy(self, lowered: Graph, target: str) -> float:
        logits = qgraph.run(lowered, self._images(None), dequantize=True)
        assert isinstance(logits, np.ndarray)  # one output
        return self._accuracy(logits)

    def _save(self, graph: Graph, target: str, step: str) -> None:
        qgraph.save(graph, self.out / f"{target}-{step}.qg")


def _bytes(array: Array) -> Array:
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def _table(rows: list[ResultLine], data: Dataset) -> Table:
    table = Table(title=f"accuracy on {len(data.test_labels):,} test images", title_justify="left")
    table.add_column("model", no_wrap=True)
    for column in ("accuracy %", "file, bytes", "bytes that differ"):
        table.add_column(column, justify="right")
    for row in rows:
        differing = "" if row.differing is None else f"{row.differing} of {row.compared:,}"
        table.add_row(row.model, f"{row.accuracy:.2f}", "" if row.size is None else f"{row.size:,}", differing)
    return table
