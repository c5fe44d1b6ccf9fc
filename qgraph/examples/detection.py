"""Object detection: clothes of Fashion-MNIST, at random places and sizes in a scene, by a small single-shot detector.

Each scene of 64 x 64 pixels holds one to four images of the demo's data, scaled to 14 to 40 pixels, over noise. The
detector looks at two grids of 8 x 8 and 4 x 4 cells; every cell says whether there is an object, where, how large and
of which class. The metric is COCO's mean average precision over ten overlaps from 0.5 to 0.95 (Lin et al. 2014).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qgraph.examples import fashion_mnist
from qgraph.examples.image_data import load_npz
from qgraph.examples.task import Array, Task

DATA = "fashion_mnist_train.npz"
SIZE, CLASSES, MOST = 64, 10, 4
GRIDS = (8, 4)
LARGEST = 24
"""Pixels up to which an object belongs to the finer grid."""
SCORES = 1 + CLASSES
"""Of a cell: whether there is an object, and of which class."""
OVERLAPS = np.linspace(0.5, 0.95, 10)
CELLS = sum(grid * grid for grid in GRIDS)


class Detector(nn.Module):
    """Strided convolutions with shortcuts; two heads on either grid: scores [N, CELLS * SCORES], boxes [N, CELLS * 4].

    Scores and boxes are results of their own, so that each has a grid of its own in integers: among scores from -20 to
    10 a box would have steps of a tenth of a cell.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_layer(1, width, 2), *_layer(width, width, 2))
        self.fine, self.coarse = (
            nn.Sequential(*_layer(width, 2 * width, 2)),
            nn.Sequential(*_layer(2 * width, 3 * width, 2)),
        )
        self.more = nn.ModuleList(nn.Sequential(*_layer(w * width, w * width, 1)) for w in (2, 3))
        self.scores = nn.ModuleList(nn.Conv2d(w * width, SCORES, 1) for w in (2, 3))
        self.boxes = nn.ModuleList(nn.Conv2d(w * width, 4, 1) for w in (2, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(self.stem(x))
        fine = fine + self.more[0](fine)
        coarse = self.coarse(fine)
        coarse = coarse + self.more[1](coarse)
        scores, boxes = (
            torch.cat([head(feature).flatten(1) for head, feature in zip(heads, (fine, coarse), strict=True)], 1)
            for heads in (self.scores, self.boxes)
        )
        return scores, boxes


def _layer(before: int, after: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


def task(data: Path | None, seed: int) -> Task:
    """Scenes of the images in a file, or of the ones that come with the package."""
    images = fashion_mnist.load() if data is None else load_npz(data)
    rng = np.random.default_rng(seed)
    train, train_objects = scenes(images.train_images, images.train_labels, 3000, rng)
    test, test_objects = scenes(images.test_images, images.test_labels, 500, rng)
    return Task(
        title="object detection, single shot",
        data="scenes of the demo's images" if data is None else f"scenes of {data.name}",
        model=Detector(),
        train={"x": train},
        train_target=np.stack([encoded(objects) for objects in train_objects]),
        test={"x": test},
        test_target=padded(test_objects),
        loss=loss,
        metrics={"mAP@0.5:0.95": lambda made, target: mean_average_precision(decoded(made), target)},
        epochs=20,
        qat_learning_rate=1e-4,
        targets=("litert", "onnxruntime"),
    )


def scenes(images: Array, labels: Array, count: int, rng: np.random.Generator) -> tuple[Array, list[Array]]:
    """Scenes [count, 1, SIZE, SIZE], and the objects [n, 5] of each: x, y (of the middle), width, height, class."""
    made = rng.uniform(0, 0.3, (count, 1, SIZE, SIZE)).astype(np.float32)
    objects = []
    for scene in made[:, 0]:
        here: list[tuple[float, ...]] = []
        for _ in range(rng.integers(1, MOST + 1)):
            index, size = rng.integers(len(images)), int(rng.integers(14, 41))
            left, top = rng.integers(0, SIZE - size + 1, 2)
            box = (left + size / 2, top + size / 2, size, size)
            if any(overlap(np.array([box]), np.array([other[:4]]))[0, 0] > 0.05 for other in here):
                continue
            place = (np.arange(size) * 28 // size)[:, None], np.arange(size) * 28 // size
            part = scene[top : top + size, left : left + size]
            np.maximum(part, images[index][place] / np.float32(255), out=part)
            here.append((*box, float(labels[index])))
        objects.append(np.array(here, np.float32))
    return made, objects


def _cells() -> Array:
    """Of every cell its grid's number of cells, row and column."""
    return np.concatenate([[(grid, y, x) for y in range(grid) for x in range(grid)] for grid in GRIDS])


def encoded(objects: Array) -> Array:
    """What every cell should say [CELLS, 6]: whether there is an object, its place in the cell, sizes' logarithms,
    class."""
    made = np.zeros((CELLS, 6), np.float32)
    for x, y, width, height, kind in objects:
        grid = GRIDS[0] if width <= LARGEST else GRIDS[1]
        step = SIZE / grid
        column, row = int(x // step), int(y // step)
        cell = (0 if grid == GRIDS[0] else GRIDS[0] ** 2) + row * grid + column
        place = (x / step - column, y / step - row, np.log(width / step), np.log(height / step))
        made[cell] = (1, *place, kind)
    return made


def _by_cell(made: Any) -> tuple[Any, Any]:
    """Both results as scores [N, CELLS, SCORES] and boxes [N, CELLS, 4]; NumPy has them joined."""
    if isinstance(made, np.ndarray):
        made = np.split(made, [CELLS * SCORES], 1)
    join = torch.cat if isinstance(made[0], Tensor) else np.concatenate
    fine = GRIDS[0] ** 2
    scores, boxes = (
        join(
            [each.reshape(len(each), fields, -1) for each in (result[:, : fine * fields], result[:, fine * fields :])],
            2,
        )
        for result, fields in zip(made, (SCORES, 4), strict=True)
    )
    return scores.swapaxes(1, 2), boxes.swapaxes(1, 2)


def loss(made: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    """Whether there is an object; where one is, also its box and class."""
    (scores, boxes), there = _by_cell(made), target[..., 0] > 0
    presence = F.binary_cross_entropy_with_logits(scores[..., 0], target[..., 0], reduction="sum")
    box = F.smooth_l1_loss(boxes[there], target[there][:, 1:5], reduction="sum")
    kind = F.cross_entropy(scores[there][:, 1:], target[there][:, 5].long(), reduction="sum")
    return (presence + 5 * box + kind) / len(made)


def decoded(made: Array) -> list[Array]:
    """For each scene the boxes found [n, 6]: x, y, width, height, class, score; of overlapping ones the best."""
    (scores, boxes), places = _by_cell(made), _cells()
    step = SIZE / places[:, :1]
    middle = (boxes[..., :2] + places[:, [2, 1]]) * step
    size = np.exp(np.clip(boxes[..., 2:], -4, 4)) * step
    chances = np.exp(scores[..., 1:] - scores[..., 1:].max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    score = chances.max(-1) / (1 + np.exp(-scores[..., 0]))
    found = np.concatenate([middle, size, chances.argmax(-1)[..., None], score[..., None]], -1)
    return [_suppressed(each[each[:, 5] > 0.02]) for each in found]


def _suppressed(boxes: Array) -> Array:
    """The boxes that no better one of the class overlaps by more than half."""
    boxes = boxes[np.argsort(-boxes[:, 5])]
    close = overlap(boxes, boxes) > 0.5
    kept: list[int] = []
    for i in range(len(boxes)):
        if not any(close[i, j] and boxes[i, 4] == boxes[j, 4] for j in kept):
            kept.append(i)
    return boxes[kept]


def overlap(a: Array, b: Array) -> Array:
    """Intersection over union of boxes [n, 4 or more] and [m, 4 or more] by middle and size: [n, m]."""
    low = np.maximum((a[:, :2] - a[:, 2:4] / 2)[:, None], (b[:, :2] - b[:, 2:4] / 2)[None])
    high = np.minimum((a[:, :2] + a[:, 2:4] / 2)[:, None], (b[:, :2] + b[:, 2:4] / 2)[None])
    common = np.prod(np.maximum(high - low, 0), -1)
    made: Array = common / (np.prod(a[:, 2:4], 1)[:, None] + np.prod(b[:, 2:4], 1)[None] - common)
    return made


def padded(objects: list[Array]) -> Array:
    """Objects of scenes as one array [n, MOST, 5]; the class -1 stands for none."""
    made = np.full((len(objects), MOST, 5), -1, np.float32)
    for row, here in zip(made, objects, strict=True):
        row[: len(here)] = here
    return made


def mean_average_precision(found: list[Array], objects: Array) -> float:
    """The mean over classes and overlaps of the area under precision over recall, at 101 points; in percent."""
    areas = [_average_precision(found, objects, kind) for kind in range(CLASSES)]
    return 100 * float(np.nanmean(areas))


def _average_precision(found: list[Array], objects: Array, kind: int) -> float:
    """The mean over overlaps for one class; NaN where no scene has it."""
    rows: list[tuple[float, Array]] = []
    count = 0
    for boxes, here in zip(found, objects, strict=True):
        mine, wanted = boxes[boxes[:, 4] == kind], here[here[:, 4] == kind]
        count += len(wanted)
        taken = np.zeros((len(OVERLAPS), len(wanted)), bool)
        covers = overlap(mine, wanted)
        for box, cover in zip(mine, covers, strict=True):
            free = np.where(taken, -1.0, cover[None]) if len(wanted) else np.full((len(OVERLAPS), 1), -1.0)
            best = free.argmax(1)
            hit = free[np.arange(len(OVERLAPS)), best] >= OVERLAPS
            taken[np.flatnonzero(hit), best[hit]] = True
            rows.append((float(box[5]), hit))
    if not count:
        return float("nan")
    if not rows:
        return 0.0
    hits = np.cumsum([hit for _, hit in sorted(rows, key=lambda row: -row[0])], 0)
    precision = hits / np.arange(1, len(hits) + 1)[:, None]
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    points = np.linspace(0, 1, 101)
    places = [np.searchsorted(recall, points) for recall in (hits / count).T]
    areas = [np.mean(np.append(p, 0)[place]) for p, place in zip(precision.T, places, strict=True)]
    return float(np.mean(areas))
