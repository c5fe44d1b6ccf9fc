"""Where bit-true training pays: `python -m tests.bit_true_accuracy` prints accuracies after deployment, mean and
standard deviation over seeds, of the same model, data and schedule, trained with fake-quant and bit-true.

A residual CNN is trained on the demo's images in float, prepared, calibrated and trained on in both modes. "Printed" is
the accuracy of the module in eval mode, as training prints it, "deployed" that of its lowered graph in the interpreter,
which equals the runtime; "differ" counts the test images to which the two give another class. `--seeds 3 --cases NAME`.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import mean, stdev

import numpy as np
import torch
from torch import nn

import qgraph
from qgraph.examples import fashion_mnist
from qgraph.examples.classification import accuracy, predict, train
from qgraph.examples.image_data import Dataset, to_nchw
from qgraph.examples.residual_cnn import ResidualBlock, ResidualCnn
from qgraph.ir import Graph

MODES = ("fake-quant", "bit-true")
CALIBRATION = 500
"""Images from which ranges come."""


@dataclass(frozen=True)
class Case:
    """A setting: target, bits of weights and of activations, and how many blocks more the model has."""

    target: str
    bits: int
    activation_bits: int
    more_blocks: int = 0
    overrides: Mapping[str, Mapping[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        bits = {"bits": self.bits, "activation_bits": self.activation_bits}
        object.__setattr__(self, "overrides", {} if self.bits == 8 else {"*": bits})


CASES = {
    "W8A8": Case("litert", 8, 8),
    "W4A4": Case("litert", 4, 4),
    "W2A4": Case("litert", 2, 4),
    "W8A8, 10 blocks more": Case("litert", 8, 8, 10),
    "W4A4, 10 blocks more": Case("litert", 4, 4, 10),
}


def network(more_blocks: int, seed: int) -> nn.Module:
    """The demo's network, with blocks appended to its second one."""
    torch.manual_seed(seed)
    model = ResidualCnn()
    model.block2 = nn.Sequential(*[ResidualBlock(64) for _ in range(more_blocks + 1)])  # type: ignore[assignment]  # called alike
    return model


@dataclass(frozen=True)
class Outcome:
    """Accuracies of one model."""

    printed: float
    deployed: float
    differ: int


def outcome(prepared: Graph, mode: str, case: Case, data: Dataset, epochs: int, seed: int) -> Outcome:
    """Train on in a mode, and deploy."""
    module = qgraph.to_torch(prepared, mode=mode)
    train(module, data, epochs=epochs, learning_rate=1e-3, weight_decay=0.0, seed=seed)
    printed = predict(module, data.test_images)
    low = qgraph.lower(qgraph.from_torch(module), target=case.target)
    deployed = qgraph.run(low, to_nchw(data.test_images), dequantize=True, layout="NCHW")
    assert isinstance(deployed, np.ndarray)
    differ = int((printed.argmax(1) != deployed.argmax(1)).sum())
    return Outcome(accuracy(printed, data.test_labels), accuracy(deployed, data.test_labels), differ)


def rows(names: list[str], data: Dataset, seeds: int, epochs: int, float_epochs: int) -> Iterator[str]:
    """The table, line by line."""
    yield "| setting | float | PTQ | mode | printed | deployed | images that differ |"
    yield "|---|---|---|---|---|---|---|"
    floats: dict[tuple[int, int], nn.Module] = {}
    for name in names:
        case = CASES[name]
        real, ptq, found = [], [], {mode: [] for mode in MODES}  # type: ignore[var-annotated]  # lists of Outcome
        for seed in range(seeds):
            key = case.more_blocks, seed
            if key not in floats:
                floats[key] = network(*key)
                train(floats[key], data, epochs=float_epochs, seed=seed)
            model = copy.deepcopy(floats[key])
            real.append(accuracy(predict(model, data.test_images), data.test_labels))
            images = to_nchw(data.train_images[:CALIBRATION])
            graph = qgraph.trace(model, torch.from_numpy(images[:2]))
            prepared = qgraph.prepare(graph, target=case.target, overrides=case.overrides)
            prepared = qgraph.calibrate(prepared, [images])
            ptq.append(outcome(prepared, "fake-quant", case, data, 0, seed).deployed)
            for mode in MODES:
                found[mode].append(outcome(prepared, mode, case, data, epochs, seed))
        for mode in MODES:
            outcomes = found[mode]
            differ = sum(each.differ for each in outcomes)
            cells = [real, ptq, [each.printed for each in outcomes], [each.deployed for each in outcomes]]
            float_cell, ptq_cell, printed, deployed = (_percent(values) for values in cells)
            total = f"{differ} of {seeds * len(data.test_labels):,}"
            yield f"| {name} | {float_cell} | {ptq_cell} | {mode} | {printed} | {deployed} | {total} |"


def _percent(values: list[float]) -> str:
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{spread}"


def main() -> None:
    """Print the table for the cases that the command line names."""
    parser = argparse.ArgumentParser("python -m tests.bit_true_accuracy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", action="append", choices=CASES, help="one setting; give it again for more")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="of training in each mode")
    parser.add_argument("--float-epochs", type=int, default=3)
    arguments = parser.parse_args()
    data = fashion_mnist.load()
    for line in rows(arguments.cases or list(CASES), data, arguments.seeds, arguments.epochs, arguments.float_epochs):
        print(line, flush=True)


if __name__ == "__main__":
    main()
