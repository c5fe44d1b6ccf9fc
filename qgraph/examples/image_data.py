"""Labelled images in memory, and the .npz files that hold a user's own."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qgraph.errors import FileError, InputError

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]

MAX_CLASSES = 1000
TEST_SHARE = 5  # one image in five is held out when a file does not say which
ONE_SET = ("images", "labels")
TWO_SETS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Dataset:
    """Images uint8 [n, H, W] or [n, H, W, C] and their labels int64 [n], in 0..classes-1."""

    train_images: UInt8
    train_labels: Int64
    test_images: UInt8
    test_labels: Int64

    @property
    def channels(self) -> int:
        """1 for gray images [n, H, W], else their last dimension."""
        return self.train_images.shape[3] if self.train_images.ndim == 4 else 1

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1


def to_nchw(images: UInt8) -> NDArray[np.float32]:
    """Pixels / 255 in [0, 1], as [n, C, H, W].

    Over that range an 8-bit type has the scale 1/255, whose steps are the pixels' own: no value lies between two
    steps, so that a target's rounding of ties does not matter.

    >>> to_nchw(np.full((2, 28, 28), 255, np.uint8)).shape
    (2, 1, 28, 28)
    """
    channels_first = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(channels_first, dtype=np.float32) / np.float32(255)


def load_npz(path: str | Path) -> Dataset:
    """The images and labels of a file, either `images` and `labels` or both with `train_` and `test_` before.

    Images are uint8 [n, H, W] (gray) or [n, H, W, C] (C = 1 or 3), labels are integers [n] from 0. One set alone is
    split: a fifth of it, the same at every call, is held out for testing.
    Raises `FileError` for a file that cannot be read and `InputError` for arrays that do not fit.
    """
    arrays = _read_arrays(Path(path))
    if set(TWO_SETS) <= set(arrays):
        train = _checked(arrays["train_images"], arrays["train_labels"], f"{path}: train_")
        test = _checked(arrays["test_images"], arrays["test_labels"], f"{path}: test_")
        if train[0].shape[1:] != test[0].shape[1:]:
            raise InputError(
                f"{path}: train_images are {list(train[0].shape[1:])}, test_images {list(test[0].shape[1:])}",
                help="give both sets one image size and number of channels",
            )
        return Dataset(*train, *test)
    if set(ONE_SET) <= set(arrays):
        return _split(*_checked(arrays["images"], arrays["labels"], f"{path}: "))
    raise InputError(
        f"{path} holds {', '.join(sorted(arrays)) or 'no array'}",
        help=f"name its arrays {' and '.join(ONE_SET)}, or {', '.join(TWO_SETS)}",
    )


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Every array that a caller may want, by name; nothing pickled is ever loaded."""
    if not path.is_file():
        raise FileError(f"{path}: no such file", help="give the path of a .npz file with images and labels")
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise FileError(f"{path} is a single array", help="save images and labels with numpy.savez_compressed")
            return {name: archive[name] for name in archive.files if name in (*ONE_SET, *TWO_SETS)}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise FileError(
            f"{path} cannot be read as .npz: {error}", help="write it with numpy.savez_compressed, without objects"
        ) from error


def _checked(images: NDArray[np.generic], labels: NDArray[np.generic], prefix: str) -> tuple[UInt8, Int64]:
    """The two arrays in their types, or an error that names the rule which one of them breaks."""
    if images.dtype != np.uint8:
        raise InputError(f"{prefix}images are {images.dtype}", help="give pixels as uint8, 0 to 255")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise InputError(
            f"{prefix}images have the shape {list(images.shape)}", help="give [n, H, W] or [n, H, W, 1 or 3]"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise InputError(f"{prefix}labels are {labels.dtype} {list(labels.shape)}", help="give integers [n]")
    if len(images) != len(labels):
        raise InputError(f"{prefix}images are {len(images)}, labels {len(labels)}", help="give one label an image")
    if images.size == 0:
        raise InputError(f"{prefix}images are empty: {list(images.shape)}", help="give one image or more")
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        raise InputError(
            f"{prefix}labels run from {labels.min()} to {labels.max()}",
            help=f"number the classes from 0; there may be {MAX_CLASSES}",
        )
    return images.astype(np.uint8, copy=False), labels.astype(np.int64)


def _split(images: UInt8, labels: Int64) -> Dataset:
    """A fifth of the images, drawn with a fixed seed, as the test set."""
    held_out = len(images) // TEST_SHARE
    if held_out == 0:
        raise InputError(f"{len(images)} images cannot be split", help=f"give at least {TEST_SHARE}")
    order = np.random.default_rng(0).permutation(len(images))
    test, train = order[:held_out], order[held_out:]
    return Dataset(images[train], labels[train], images[test], labels[test])
