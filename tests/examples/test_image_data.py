from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qgraph.errors import FileError, InputError
from qgraph.examples import fashion_mnist
from qgraph.examples.image_data import load_npz, to_nchw

GRAY = np.arange(10 * 4 * 5, dtype=np.uint8).reshape(10, 4, 5)
RGB = np.arange(10 * 4 * 5 * 3, dtype=np.uint16).astype(np.uint8).reshape(10, 4, 5, 3)
LABELS = np.arange(10, dtype=np.uint8) % 3


def save(folder: Path, **arrays: Any) -> Path:
    path = folder / "data.npz"
    np.savez_compressed(path, **arrays)
    return path


def test_fashion_mnist_has_the_documented_shapes_types_and_classes() -> None:
    data = fashion_mnist.load()
    assert (data.train_images.shape, data.test_images.shape) == ((10_000, 28, 28), (2_000, 28, 28))
    assert (data.train_images.dtype, data.train_labels.dtype) == (np.uint8, np.int64)
    assert (data.channels, data.classes) == (1, len(fashion_mnist.CLASSES))
    assert np.bincount(data.train_labels).min() > 900
    assert np.bincount(data.test_labels).min() > 170


def test_fashion_mnist_file_is_a_few_megabytes() -> None:
    assert Path(fashion_mnist.__file__).with_name("fashion_mnist.npz").stat().st_size < 6_000_000


def test_fashion_mnist_is_the_head_of_the_published_sets(assets: Path) -> None:
    data = fashion_mnist.load()
    train, test = (np.load(assets / "data" / f"fashion_mnist_{part}.npz") for part in ("train", "test"))
    assert np.array_equal(data.train_images, train["images"][:10_000])
    assert np.array_equal(data.train_labels, train["labels"][:10_000])
    assert np.array_equal(data.test_images, test["images"][:2_000])
    assert np.array_equal(data.test_labels, test["labels"][:2_000])


def test_pixels_become_floats_whose_8_bit_quantization_is_the_pixel_again() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    steps = to_nchw(pixels) / np.float32(1 / 255)
    assert np.abs(steps - np.rint(steps)).max() < 1e-4
    assert np.array_equal(np.rint(steps).astype(np.uint8)[:, 0], pixels)


def test_to_nchw_moves_the_channels_forward() -> None:
    assert np.array_equal(np.rint(to_nchw(RGB) * 255), RGB.transpose(0, 3, 1, 2))
    assert to_nchw(GRAY).shape == (10, 1, 4, 5)


@pytest.mark.parametrize(("images", "channels"), [(GRAY, 1), (GRAY[..., None], 1), (RGB, 3)])
def test_one_set_is_split_the_same_way_each_time(tmp_path: Path, images: Any, channels: int) -> None:
    path = save(tmp_path, images=images, labels=LABELS)
    first, second = load_npz(path), load_npz(str(path))
    assert (len(first.train_images), len(first.test_images), first.channels) == (8, 2, channels)
    assert np.array_equal(first.train_images, second.train_images)
    assert np.array_equal(first.test_labels, second.test_labels)
    both = np.concatenate([first.train_images, first.test_images]).reshape(10, -1)
    assert {row.tobytes() for row in both} == {row.tobytes() for row in images.reshape(10, -1)}


def test_images_keep_their_labels_in_the_split(tmp_path: Path) -> None:
    images = np.broadcast_to(LABELS[:, None, None], (10, 4, 5)).astype(np.uint8)
    data = load_npz(save(tmp_path, images=images, labels=LABELS))
    assert np.array_equal(data.train_images[:, 0, 0], data.train_labels)
    assert np.array_equal(data.test_images[:, 0, 0], data.test_labels)


def test_two_sets_are_taken_as_they_are(tmp_path: Path) -> None:
    path = save(tmp_path, train_images=RGB, train_labels=LABELS, test_images=RGB[:3], test_labels=LABELS[:3], extra=1)
    data = load_npz(path)
    assert np.array_equal(data.train_images, RGB)
    assert np.array_equal(data.test_labels, LABELS[:3])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": GRAY}, "holds images"),
        ({"x": GRAY}, "holds no array"),
        ({"images": GRAY.astype(np.float32), "labels": LABELS}, "images are float32"),
        ({"images": GRAY[0], "labels": LABELS}, "images have the shape [4, 5]"),
        ({"images": RGB.transpose(0, 3, 1, 2), "labels": LABELS}, "images have the shape [10, 3, 4, 5]"),
        ({"images": GRAY, "labels": LABELS.astype(np.float64)}, "labels are float64 [10]"),
        ({"images": GRAY, "labels": LABELS[:, None]}, "labels are uint8 [10, 1]"),
        ({"images": GRAY, "labels": LABELS[:9]}, "images are 10, labels 9"),
        ({"images": GRAY[:0], "labels": LABELS[:0]}, "images are empty: [0, 4, 5]"),
        ({"images": GRAY, "labels": LABELS.astype(np.int8) - 1}, "labels run from -1 to 1"),
        ({"images": GRAY, "labels": LABELS.astype(np.int64) * 600}, "labels run from 0 to 1200"),
        ({"images": GRAY[:4], "labels": LABELS[:4]}, "4 images cannot be split"),
        (
            {"train_images": GRAY, "train_labels": LABELS, "test_images": RGB, "test_labels": LABELS},
            "train_images are [4, 5], test_images [4, 5, 3]",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_what_to_do(tmp_path: Path, arrays: Any, message: str) -> None:
    path = save(tmp_path, **arrays)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load_npz(path)
    assert str(path) in str(caught.value) or "split" in message
    assert "help" in str(caught.value)


def test_missing_file_is_named() -> None:
    with pytest.raises(FileError, match=r"nowhere\.npz: no such file"):
        load_npz("nowhere.npz")


def test_truncated_foreign_and_pickled_files_are_refused(tmp_path: Path) -> None:
    whole = save(tmp_path, images=GRAY, labels=LABELS).read_bytes()
    objects = tmp_path / "objects.npz"
    np.savez(objects, images=np.array([{}], dtype=object), labels=LABELS)
    broken = {"cut.npz": whole[:-40], "flipped.npz": whole[:60] + b"\x00" * 20 + whole[80:], "text.npz": b"not a zip"}
    for name, content in {**broken, "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
    for name in (*broken, "empty.npz", "objects.npz"):
        with pytest.raises(FileError, match=name):
            load_npz(tmp_path / name)


def test_single_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    np.save(path, GRAY)
    with pytest.raises(FileError, match="single array"):
        load_npz(path)
