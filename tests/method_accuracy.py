"""What each method is worth: `python -m tests.method_accuracy` prints the accuracy of integer models, mean and standard
deviation over seeds, and the time that each method took. `tests/method_accuracy.md` has what it printed.

Of each domain a float model is trained once for each seed; every row quantizes that same model: PTQ by a quantizer and
methods of `qgraph.ptq`, QAT by a quantizer, a gradient of rounding, a mode, an epoch by the same schedule. What is
counted is the lowered graph in the interpreter, which equals the runtime. One row alone: `--only "W4A4 PTQ adaround"`
(a part of the name); `--domain images --seeds 3`; `--list` names all rows.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.examples import fashion_mnist, keyword_spotting
from qgraph.examples.classification import shift, shuffled_batches
from qgraph.examples.image_data import to_nchw
from qgraph.examples.residual_cnn import ResidualCnn
from qgraph.ir import Graph
from qgraph.training import OscillationFreezer, Schedule, dampening, distillation, parameter_groups

TARGET = "litert"
SETTINGS = {"W8A8": (8, 8), "W4A8": (4, 8), "W4A4": (4, 4)}
CALIBRATION = 512
"""Examples from which ranges come, and by which methods go."""
RATE, BATCH = 1e-3, 64
MSE = {"activation": "mse", "weight": "mse"}
Array = NDArray[np.generic]


@dataclass(frozen=True)
class Domain:
    """Data, and a model for it."""

    model: Callable[[], nn.Module]
    train: Array
    target: Array
    test: Array
    labels: Array
    epochs: int
    augment: Callable[[Tensor, torch.Generator], Tensor] = lambda x, generator: x


def images() -> Domain:
    """The demo's network and images (Fashion-MNIST)."""
    data = fashion_mnist.load()
    x = to_nchw(data.train_images), to_nchw(data.test_images)
    return Domain(ResidualCnn, x[0], data.train_labels, x[1], data.test_labels, epochs=6, augment=shift)


def keywords(path: Path | None = None) -> Domain:
    """The depthwise separable network for spoken digits; synthetic syllables where there is no file of them."""
    task = keyword_spotting.task(path, 0)
    model = keyword_spotting.DsCnn
    return Domain(model, task.train["x"], task.train_target, task.test["x"], task.test_target, epochs=12)


DOMAINS = {"images": images, "keywords": keywords}


@dataclass(frozen=True)
class Way:
    """How a row quantizes: PTQ where it trains for no epoch."""

    observers: Mapping[str, str] = field(default_factory=dict)
    ptq: str = ""
    epochs: int = 0
    mode: str = "fake-quant"
    teacher: bool = False
    averaged: bool = False
    damped: bool = False
    frozen: bool = False


PTQ = {
    "min-max": Way(),
    "percentile": Way({"activation": "percentile:99.9"}),
    "entropy": Way({"activation": "entropy", "weight": "mse"}),
    "mse": Way(MSE),
    "mse, powers of two": Way({"activation": "mse:power_of_two", "weight": "mse:power_of_two"}),
    "bias-correction": Way(MSE, "bias-correction"),
    "equalize, bias-correction": Way(MSE, "equalize,bias-correction"),
    "batchnorm": Way(MSE, "batchnorm"),
    "gptq": Way(MSE, "gptq"),
    "gptq, bias-correction": Way(MSE, "gptq,bias-correction"),
    "adaround": Way(MSE, "adaround"),
    "adaround, bias-correction": Way(MSE, "adaround,bias-correction"),
    "brecq": Way(MSE, "brecq"),
    "qdrop": Way(MSE, "qdrop"),
}
LSQ = {"activation": "lsq", "weight": "mse"}
QAT = {
    "moving average": Way(epochs=1),
    "moving average, bit-true": Way(epochs=1, mode="bit-true"),
    "mse": Way(MSE, epochs=1),
    "lsq": Way(LSQ, epochs=1),
    "lsq, bit-true": Way(LSQ, epochs=1, mode="bit-true"),
    "lsq_plus": Way(LSQ | {"activation": "lsq_plus"}, epochs=1),
    "pact": Way(LSQ | {"activation": "pact"}, epochs=1),
    "tqt, powers of two": Way({"activation": "tqt", "weight": "mse:power_of_two"}, epochs=1),
    "lsq, ewgs": Way({"activation": "lsq:ewgs", "weight": "mse:ewgs"}, epochs=1),
    "lsq, dsq": Way({"activation": "lsq:dsq", "weight": "mse:dsq"}, epochs=1),
    "lsq, stochastic": Way({"activation": "lsq", "weight": "mse:stochastic"}, epochs=1),
    "lsq, dampening": Way(LSQ, epochs=1, damped=True),
    "lsq, freezing": Way(LSQ, epochs=1, frozen=True),
    "lsq, distillation": Way(LSQ, epochs=1, teacher=True),
    "lsq, averaged weights": Way(LSQ, epochs=1, averaged=True),
}


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    setting: str
    kind: str
    method: str
    way: Way

    @property
    def name(self) -> str:
        return f"{self.setting} {self.kind} {self.method}"


ROWS = [
    Row(setting, kind, method, way)
    for setting in SETTINGS
    for kind, table in (("PTQ", PTQ), ("QAT", QAT))
    for method, way in table.items()
]


def accuracy(logits: Array, labels: Array) -> float:
    """In percent."""
    return 100 * float(np.mean(logits.reshape(len(labels), -1).argmax(1) == labels))


def batches(domain: Domain, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of training, shuffled and moved as the seed says."""
    x, y, generator = (
        torch.from_numpy(domain.train),
        torch.from_numpy(domain.target),
        torch.Generator().manual_seed(seed),
    )
    for _ in range(epochs):
        for batch in shuffled_batches(len(x), BATCH, generator):
            yield domain.augment(x[batch], generator), y[batch]


@cache
def float_model(domain: str, seed: int) -> tuple[nn.Module, float]:
    """The trained model, and its accuracy."""
    data = DATA[domain]
    torch.manual_seed(seed)
    model, steps = data.model(), data.epochs * (len(data.train) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), 8e-3, weight_decay=0.1)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, Schedule(steps).rate)
    for x, y in batches(data, data.epochs, seed):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        rates.step()
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(data.test)).numpy()
    return model, accuracy(found, data.labels)


DATA: dict[str, Domain] = {}


def quantized(row: Row, domain: str, seed: int) -> Graph:
    """The lowered graph of a row."""
    data, (model, _) = DATA[domain], float_model(domain, seed)
    spread = np.linspace(0, len(data.train) - 1, CALIBRATION).astype(int)  # data may come class by class
    way, examples = row.way, data.train[spread]
    graph = qgraph.trace(copy.deepcopy(model), torch.from_numpy(examples[:2]))
    bits = dict(zip(("bits", "activation_bits"), SETTINGS[row.setting], strict=True))
    settings = {"overrides": {"*": bits} if bits["bits"] < 8 else None, "observers": way.observers}
    if not way.epochs:
        return qgraph.quantize(
            graph, TARGET, calibration=[examples], ptq=way.ptq.split(",") if way.ptq else (), **settings
        )
    prepared = qgraph.prepare(graph, TARGET, **settings)
    module = qgraph.calibrate(qgraph.to_torch(prepared, mode=way.mode), [examples])
    return qgraph.lower(qgraph.from_torch(trained(module, way, data, model, seed)), TARGET)


def trained(module: nn.Module, way: Way, data: Domain, teacher: nn.Module, seed: int) -> nn.Module:
    """The module after training in a row's way."""
    torch.manual_seed(seed)
    schedule = Schedule(way.epochs * (len(data.train) // BATCH))
    optimizer = torch.optim.AdamW(parameter_groups(module, RATE))
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate)
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(0.98)
    averaged = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=average, use_buffers=True)
    freezer = OscillationFreezer(module)
    module.train()
    schedule.begin(module)
    for x, y in batches(data, way.epochs, seed + 100):
        optimizer.zero_grad()
        loss(module, x, y, way, teacher, schedule).backward()
        optimizer.step()
        rates.step()
        schedule.step(module)
        if way.frozen:
            freezer.step()
        if way.averaged:
            averaged.update_parameters(module)
    return (averaged.module if way.averaged else module).eval()


def loss(module: nn.Module, x: Tensor, y: Tensor, way: Way, teacher: nn.Module, schedule: Schedule) -> Tensor:
    """What a row's training makes least."""
    logits = module(x)
    total = F.cross_entropy(logits, y)
    if way.teacher:
        with torch.no_grad():
            wanted = teacher(x)
        total = total + distillation(logits, wanted)
    if way.damped:
        total = total + 1e-2 * schedule.taken / schedule.steps * dampening(module)
    return total


def line(row: Row, domain: str, seeds: int) -> str:
    """A row of the table in Markdown."""
    found, start = [], 0.0
    for seed in range(seeds):
        float_model(domain, seed)  # which is no part of the time
        begun = time.perf_counter()
        low = quantized(row, domain, seed)
        start += time.perf_counter() - begun
        logits = qgraph.run(low, DATA[domain].test, dequantize=True, layout="NCHW")
        found.append(accuracy(np.asarray(logits), DATA[domain].labels))
    real = spread([float_model(domain, seed)[1] for seed in range(seeds)])
    return f"| {domain} | {row.setting} | {row.kind} | {row.method} | {real} | {spread(found)} | {start / seeds:.1f} |"


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def main() -> None:
    """Print the rows that the command line names."""
    parser = argparse.ArgumentParser("python -m tests.method_accuracy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", help="a part of a row's name; give it again for more")
    parser.add_argument("--domain", action="append", choices=DOMAINS)
    parser.add_argument("--keywords", type=Path, help="fsdd.npz; synthetic syllables by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--list", action="store_true", help="name the rows")
    arguments = parser.parse_args()
    rows = [row for row in ROWS if not arguments.only or any(part in row.name for part in arguments.only)]
    if arguments.list:
        print("\n".join(row.name for row in rows))
        return
    makers = {**DOMAINS, "keywords": partial(keywords, arguments.keywords)}
    print("| domain | bits | kind | method | float, % | integers, % | seconds |\n" + "|---" * 7 + "|", flush=True)
    for domain in arguments.domain or DOMAINS:
        DATA[domain] = makers[domain]()
        for row in rows:
            print(line(row, domain, arguments.seeds), flush=True)


if __name__ == "__main__":
    main()
