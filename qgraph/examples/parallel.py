"""Quantization-aware training in several processes, each with a share of the demo's images.

    python -m qgraph.examples.parallel                           # one process
    torchrun --nproc-per-node=2 -m qgraph.examples.parallel      # two

The first process prints how many images a second all of them train on, and the accuracy as trained and as deployed, in
which they share the test images too; it writes `parallel.tflite`. On GPUs each process has one of them, over NCCL.
"""

from __future__ import annotations

import argparse
import os
import time

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import qgraph
from qgraph.examples.fashion_mnist import load
from qgraph.examples.image_data import to_nchw
from qgraph.examples.residual_cnn import ResidualCnn

Images = DataLoader[tuple[Tensor, ...]]
TARGET = "litert"


def loader(images: Tensor, labels: Tensor, batch: int, *, shuffle: bool) -> Images:
    """The share of this process: every one of `batch` images is in some process's."""
    data = TensorDataset(images, labels)
    rank, size = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(data, size, rank, shuffle=shuffle)
    return DataLoader(data, batch // size, sampler=sampler)


def train(module: nn.Module, images: Images, epochs: int, device: torch.device) -> float:
    """Train in place; gives the seconds that it took."""
    parallel = nn.parallel.DistributedDataParallel(module) if distributed.is_initialized() else module
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    start = time.perf_counter()
    for epoch in range(epochs):
        assert isinstance(images.sampler, DistributedSampler)
        images.sampler.set_epoch(epoch)  # another order, the same in all processes
        for x, y in images:
            optimizer.zero_grad()
            functional.cross_entropy(parallel(x.to(device)), y.to(device)).backward()
            optimizer.step()
    return time.perf_counter() - start


def right(results: Tensor, labels: Tensor) -> Tensor:
    """Whether the largest result is the label's."""
    return results.argmax(1) == labels


def main() -> None:
    """Calibrate, train, evaluate, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000, help="so many images to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128, help="images of a step, of all processes together")
    parser.add_argument("--mode", default="bit-true", choices=("fake-quant", "bit-true"))
    words = parser.parse_args()
    device = torch.device("cpu")
    if "WORLD_SIZE" in os.environ:  # started by torchrun
        if torch.cuda.is_available():
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    torch.manual_seed(0)
    data = load()
    images = torch.from_numpy(to_nchw(data.train_images[: words.images]))
    labels = torch.from_numpy(data.train_labels[: words.images])
    graph = qgraph.prepare(qgraph.trace(ResidualCnn().eval(), images[:2]), TARGET)
    module = qgraph.to_torch(graph, mode=words.mode).to(device)
    qgraph.calibrate(module, loader(images[:512], labels[:512], words.batch, shuffle=False))
    seconds = train(module.train(), loader(images, labels, words.batch, shuffle=True), words.epochs, device)
    test = torch.from_numpy(to_nchw(data.test_images)), torch.from_numpy(data.test_labels)
    low = qgraph.lower(qgraph.from_torch(module), TARGET)
    scores = [qgraph.evaluate(each, loader(*test, 200, shuffle=False), right) for each in (module, low)]
    qgraph.export(low, "parallel.tflite")  # the first process alone writes
    processes = distributed.get_world_size() if distributed.is_initialized() else 1
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        speed = words.epochs * len(images) / seconds
        print(f"{processes} processes: {speed:.0f} images/s; accuracy {scores[0]:.4f}, deployed {scores[1]:.4f}")
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
