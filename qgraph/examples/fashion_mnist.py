"""The part of Fashion-MNIST that the package ships, so that the demo downloads nothing."""

from __future__ import annotations

from pathlib import Path

from qgraph.examples.image_data import Dataset, load_npz

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load() -> Dataset:
    """10,000 training and 2,000 test images, uint8 [n, 28, 28], labels in the order of `CLASSES`.

    >>> load().train_images.shape
    (10000, 28, 28)
    """
    return load_npz(Path(__file__).with_name("fashion_mnist.npz"))
