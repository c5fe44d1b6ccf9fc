"""Training and evaluation of an image classifier, the same for a float model and for one with fake-quant in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from qgraph.errors import QGraphError
from qgraph.examples.image_data import Dataset, UInt8, to_nchw

if TYPE_CHECKING:
    from rich.progress import Progress

SHIFT = 1  # pixels that a training image may move each way
SHORTEST_SCHEDULE = 10  # steps; a fifth of five is one, and torch's schedule divides by one less


def train(
    model: nn.Module,
    data: Dataset,
    *,
    epochs: int,
    learning_rate: float = 8e-3,
    weight_decay: float = 0.1,
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
    description: str = "training",
) -> None:
    """Train in place on the training images, with AdamW on a one-cycle schedule, and leave the model in eval mode.

    `learning_rate` is the schedule's peak. The order of the images and their shifts depend on `seed` alone.
    Raises `QGraphError` when the loss is no longer a number.
    """
    images, labels = torch.from_numpy(to_nchw(data.train_images)), torch.from_numpy(data.train_labels)
    batch_size = min(batch_size, len(images))
    steps = epochs * (len(images) // batch_size)
    if steps == 0:
        model.eval()
        return
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)
    total_steps = max(steps + 1, SHORTEST_SCHEDULE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=total_steps, pct_start=0.2)
    task = progress.add_task(description, total=steps) if progress else None
    model.train()
    for epoch in range(epochs):
        total = torch.zeros(())
        for batch in shuffled_batches(len(images), batch_size, generator):
            loss = functional.cross_entropy(model(shift(images[batch], generator)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
            if progress and task is not None:
                progress.advance(task)
        if not torch.isfinite(total):
            raise QGraphError(f"the loss is {total.item()} in epoch {epoch + 1}", help="try a lower learning rate")
    model.eval()


def channels_last(model: nn.Module) -> nn.Module:
    """The model with its weights in channels-last memory, in which a CPU trains these convolutions faster."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def shuffled_batches(count: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Indices below `count` in random order, [batch_size] each; the rest that fills no batch is left out."""
    order = torch.randperm(count, generator=generator)
    batches: tuple[Tensor, ...] = order[: count // batch_size * batch_size].split(batch_size)
    return batches


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """A batch [N, C, H, W] moved as one by up to `SHIFT` pixels each way, zeros entering.

    In channels-last memory, in which these convolutions train a quarter faster on a CPU.
    """
    height, width = images.shape[2:]
    top, left = torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator).tolist()
    moved = functional.pad(images, [SHIFT] * 4)[:, :, top : top + height, left : left + width]
    return moved.contiguous(memory_format=torch.channels_last)


def predict(model: nn.Module, images: UInt8, *, batch_size: int = 500) -> NDArray[np.float32]:
    """Logits [n, classes] of images [n, H, W] or [n, H, W, C], by the model in eval mode."""
    model.eval()
    with torch.inference_mode():
        batches = torch.from_numpy(to_nchw(images)).split(batch_size)
        logits: NDArray[np.float32] = torch.cat([model(batch) for batch in batches]).numpy()
    return logits


def accuracy(logits: NDArray[np.generic], labels: NDArray[np.integer]) -> float:
    """The share of rows whose largest entry (the first of equal ones) stands at the label.

    >>> accuracy(np.array([[0, 3], [2, 1]]), np.array([1, 1]))
    0.5
    """
    return float(np.mean(logits.argmax(axis=1) == labels))
