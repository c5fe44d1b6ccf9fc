from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import nn

from qgraph.errors import QGraphError
from qgraph.examples import fashion_mnist
from qgraph.examples.classification import accuracy, predict, shift, shuffled_batches, train
from qgraph.examples.image_data import Dataset
from qgraph.examples.residual_cnn import ResidualCnn


@pytest.fixture(scope="module")
def small() -> Dataset:
    data = fashion_mnist.load()
    return replace(data, train_images=data.train_images[:1024], train_labels=data.train_labels[:1024])


def trained(data: Dataset, *, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = ResidualCnn()
    train(
        model,
        replace(data, train_images=data.train_images[:128], train_labels=data.train_labels[:128]),
        epochs=1,
        seed=seed,
    )
    assert not model.training
    return model.state_dict()


def test_the_seed_alone_decides_the_result(small: Dataset) -> None:
    first, second, other = trained(small, seed=0), trained(small, seed=0), trained(small, seed=1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_training_on_a_thousand_images_learns_most_classes(small: Dataset) -> None:
    torch.manual_seed(0)
    model = ResidualCnn()
    with Progress(disable=True) as progress:
        train(model, small, epochs=5, progress=progress)
        assert progress.finished
    assert accuracy(predict(model, small.test_images), small.test_labels) > 0.65


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_few_steps_of_training_are_steps_too(small: Dataset, steps: int) -> None:
    few = replace(small, train_images=small.train_images[: 8 * steps], train_labels=small.train_labels[: 8 * steps])
    model = ResidualCnn()
    before = model.state_dict()["head.weight"].clone()
    train(model, few, epochs=1, batch_size=8)
    assert not torch.equal(before, model.state_dict()["head.weight"])


def test_no_epochs_leave_the_weights_as_they_are(small: Dataset) -> None:
    model = ResidualCnn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, small, epochs=0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize("count", [2, 3, 70])
def test_fewer_images_than_a_batch_and_odd_counts_train(small: Dataset, count: int) -> None:
    data = replace(small, train_images=small.train_images[:count], train_labels=small.train_labels[:count])
    train(ResidualCnn(), data, epochs=1)


def test_a_loss_that_is_no_number_ends_the_training(small: Dataset) -> None:
    model = ResidualCnn()
    nn.init.constant_(model.head.bias, float("nan"))
    with pytest.raises(QGraphError, match="the loss is nan in epoch 1"):
        train(model, small, epochs=1)


def test_shift_moves_a_pixel_to_each_neighbouring_place_and_changes_none() -> None:
    images = torch.zeros(64, 1, 5, 5)
    images[:, 0, 2, 1] = 1
    places = set()
    for seed in range(60):
        moved = shift(images, torch.Generator().manual_seed(seed))
        assert moved.shape == images.shape
        assert moved.sum() == 64
        places |= {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (0, 1, 2)}


def test_batches_hold_each_index_once_and_leave_out_the_rest() -> None:
    batches = shuffled_batches(10, 4, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(set(torch.cat(batches).tolist())) == 8


@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 10, 28), (3, 7, 32), (3, 2, 17), (1, 3, 1)])
def test_network_takes_any_channels_classes_and_size(channels: int, classes: int, size: int) -> None:
    logits = ResidualCnn(channels, classes).eval()(torch.zeros(2, channels, size, size))
    assert logits.shape == (2, classes)


def test_network_has_the_documented_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in ResidualCnn().parameters()) == 96_074


def test_accuracy_takes_the_first_of_equal_logits() -> None:
    assert accuracy(np.array([[1, 1], [0, 0]], np.int8), np.array([0, 1])) == 0.5
