"""What `test_processes.py` starts in several processes by torchrun: each writes what it has found as arrays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import qgraph
from qgraph.ir import Array, Graph
from qgraph.training.conversion import graph_module, tensors_by_path

COUNT = 77
"""Examples: neither shares nor chunks of one size."""
OBSERVERS = ("moving_average", "min_max", "percentile:99.9", "mse", "entropy", "mse:power_of_two")
Found = dict[str, Array]


class Small(nn.Module):
    """Convolutions without batch normalization, whose statistics would be those of each process."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, stride=2)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        result: Tensor = self.head(self.second(x + x.tanh()).relu().mean((2, 3)))
        return result


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 5)

    def forward(self, x: Tensor, h: Tensor) -> dict[str, Tensor]:
        h = self.cell(x, h)
        return {"y": h * 2, "h_next": h}


def examples() -> Tensor:
    x = np.random.default_rng(0).normal(0, 1, (COUNT, 2, 7, 7)) * np.linspace(0.5, 3, COUNT)[:, None, None, None]
    return torch.from_numpy(x.astype(np.float32))


def labels() -> Tensor:
    return torch.arange(COUNT) % 4


def float_graph() -> Graph:
    torch.manual_seed(0)
    return qgraph.trace(Small().eval(), examples()[:2])


def prepared(observer: str = "moving_average", target: str = "litert") -> Graph:
    return qgraph.prepare(float_graph(), target, observers={"activation": observer})


def ranges(module: nn.Module) -> Found:
    """All scales and zero points of a module."""
    tensors = tensors_by_path(graph_module(module))
    return {
        name: tensor.detach().numpy().copy()
        for name, tensor in tensors.items()
        if name.endswith(("_scale", "_zero_point"))
    }


def streaming() -> Graph:
    torch.manual_seed(1)
    example = (torch.ones(1, 3), torch.zeros(1, 5))
    return qgraph.prepare(qgraph.trace(Cell(), example, states={"h": "h_next"}), "tflm")


def streams() -> list[Array]:
    return [np.random.default_rng(i).normal(0, 1 + i, (9, 3)).astype(np.float32) for i in range(3)]


# ---- what each process does; `rank` 0 of 1 is what one process does


def calibrating(rank: int, size: int) -> Iterator[tuple[str, Found]]:
    x = examples()
    for observer in OBSERVERS:
        share = x[rank::size].split(10)
        yield observer, ranges(qgraph.calibrate(qgraph.to_torch(prepared(observer)), share))
    lazy = size - 1 if size > 1 else 1  # so many processes have examples, the last one has none
    share = [] if rank >= lazy else list(x[rank::lazy].split(8))
    yield "one has none", ranges(qgraph.calibrate(qgraph.to_torch(prepared("percentile:99")), share))
    module = qgraph.to_torch(prepared("entropy"), mode="bit-true")
    yield "loader", ranges(qgraph.calibrate(module, loader(rank, size)))
    mine = streams()[rank::size]
    yield "streams", ranges(qgraph.calibrate(qgraph.to_torch(streaming()), mine))


def loader(rank: int, size: int) -> DataLoader[tuple[Tensor, ...]]:
    """Shares of one size: what fills the last ones up are the first examples again."""
    data = TensorDataset(examples(), labels())
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(data, size, rank, shuffle=False)
    return DataLoader(data, 6, sampler=sampler)


def training(rank: int, size: int, parallel: Callable[[nn.Module], nn.Module]) -> Iterator[tuple[str, Found]]:
    """Steps on halves of 16 and more examples each: the same examples whatever the number of processes."""
    for mode in ("fake-quant", "bit-true"):
        for observer in ("moving_average", "percentile:99", "lsq"):
            if (mode, observer) == ("bit-true", "percentile:99"):
                continue
            module = qgraph.calibrate(qgraph.to_torch(prepared(observer), mode=mode), examples()[rank::size].split(32))
            wrapped = parallel(module)
            optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
            for step in range(3):
                x, y = (each[step * 16 : step * 16 + 16][rank::size] for each in (examples(), labels()))
                optimizer.zero_grad()
                nn.functional.cross_entropy(wrapped(x), y).backward()
                optimizer.step()
                if step in (0, 2):
                    yield f"{mode} {observer} step {step}", ranges(module)


def measuring(rank: int, size: int) -> Iterator[tuple[str, Found]]:
    x, y = examples(), labels()
    for measure in ("sqnr", "fisher"):
        words = {"loss": nn.functional.cross_entropy, "labels": y.numpy()} if measure == "fisher" else {}
        found = qgraph.sensitivity(float_graph(), "litert", x.numpy(), measure=measure, **words)  # type: ignore[arg-type]
        scores = [(s.value, s.standard_error, s.noise) for row in found.rows for s in row.scores]
        yield measure, {"scores": np.array(scores)}
    graph = qgraph.calibrate(prepared(), [x.numpy()], sharded=False)
    right = lambda results, labels: results.argmax(1) == labels  # noqa: E731
    models = {"module": qgraph.to_torch(graph), "integers": qgraph.lower(graph, "litert")}
    scores = {name: np.array(qgraph.evaluate(model, loader(rank, size), right)) for name, model in models.items()}
    yield "evaluate", scores


def deploying(rank: int, size: int, spread: Callable[[nn.Module], nn.Module], out: Path) -> Iterator[tuple[str, Found]]:
    """A module whose parameters are spread over the processes: trained, deployed, saved, and loaded by another one."""
    for mode in ("fake-quant", "bit-true"):
        for observer in ("moving_average", "lsq"):
            module = spread(
                qgraph.calibrate(qgraph.to_torch(prepared(observer), mode=mode), [examples()], sharded=False)
            )
            optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
            for _ in range(2):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(examples()[rank::size]), labels()[rank::size]).backward()
                optimizer.step()
            graph = qgraph.from_torch(module.eval())
            results = module(examples()).detach()
            low = qgraph.run(qgraph.lower(graph, "litert"), examples().numpy(), dequantize=True, layout="NCHW")
            kept = get_model_state_dict(module)
            checkpoint.save(kept, checkpoint_id=out / f"{mode} {observer}")
            other = spread(qgraph.to_torch(prepared(observer), mode=mode))
            loaded = get_model_state_dict(other)
            checkpoint.load(loaded, checkpoint_id=out / f"{mode} {observer}")
            set_model_state_dict(other, loaded)
            again = other.eval()(examples()).detach()
            found = {"results": results.numpy(), "deployed": np.asarray(low), "again": again.numpy()}
            found["step"] = graph.outputs[0].producer.operand(1).data  # type: ignore[union-attr]  # a fake-quant
            yield f"{mode} {observer} spread", found


def fully_sharded(module: nn.Module) -> nn.Module:
    return fully_shard(module, mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))


def write(out: Path, rank: int, found: Iterator[tuple[str, Found]]) -> None:
    for name, arrays in found:
        np.savez(out / f"{name.replace(' ', '_').replace(':', '_')}.{rank}.npz", **arrays)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    write(out, rank, calibrating(rank, size))
    write(out, rank, training(rank, size, nn.parallel.DistributedDataParallel))
    write(out, rank, measuring(rank, size))
    write(out, rank, deploying(rank, size, fully_sharded, out))
    qgraph.save(prepared(), out / f"saved.{rank}.qg")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
