"""Batch normalization with momentum None: the running statistics are the average of all batches, as torch has them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import qgraph


def model() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.ReLU(), nn.BatchNorm2d(4, momentum=None)
    )


BATCHES = [torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(i)) * (i + 1) + i for i in range(5)]


@pytest.mark.parametrize("seen", [0, 3])
def test_running_statistics_are_those_of_torch_after_the_same_batches(seen: int) -> None:
    reference = model().train()
    for x in BATCHES[:seen]:
        reference(x)
    module = qgraph.to_torch(qgraph.trace(reference, BATCHES[0])).train()
    assert set(module.state_dict()) == set(reference.state_dict())
    for x in BATCHES:
        torch.testing.assert_close(module(x), reference(x))
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], tensor)
    again = qgraph.from_torch(module)
    assert [node.attrs["batches"] for node in again.find("nn.batch_norm")] == [seen + 5] * 2
    assert qgraph.parse(str(again), constants=again) == again


def test_quantization_aware_training_counts_the_batches_too() -> None:
    reference = model().train()
    prepared = qgraph.prepare(qgraph.trace(copy.deepcopy(reference), BATCHES[0]), target="litert")
    module = qgraph.calibrate(qgraph.to_torch(prepared), [x.numpy() for x in BATCHES]).train()
    for x in BATCHES:
        module(x)
        reference(x)
    state = module.state_dict()
    assert int(state["1.num_batches_tracked"]) == 5
    # quantized inputs and weights move the statistics by a few steps of 1/255 of their range
    torch.testing.assert_close(state["1.running_mean"], reference[1].running_mean, rtol=0.02, atol=0.05)
    torch.testing.assert_close(state["1.running_var"], reference[1].running_var, rtol=0.05, atol=0.05)
    module.eval()(BATCHES[0])
    assert int(module.state_dict()["1.num_batches_tracked"]) == 5
    qgraph.freeze(module.train())
    module(BATCHES[0])
    assert int(module.state_dict()["1.num_batches_tracked"]) == 5


def test_it_compiles_whole() -> None:
    module = qgraph.to_torch(qgraph.trace(model(), BATCHES[0])).train()
    torch.compile(module, backend="aot_eager", fullgraph=True)(BATCHES[0])
    assert int(module.state_dict()["1.num_batches_tracked"]) == 1


def test_a_normalization_that_is_called_twice_counts_twice() -> None:
    norm = nn.BatchNorm2d(3, momentum=None)
    reference = nn.Sequential(norm, nn.ReLU(), norm).train()
    module = qgraph.to_torch(qgraph.trace(reference, BATCHES[0])).train()
    for x in BATCHES[:2]:
        torch.testing.assert_close(module(x), reference(x))
    state = {name.partition(".")[2]: tensor for name, tensor in module.state_dict().items()}
    assert int(state["num_batches_tracked"]) == 4
    torch.testing.assert_close(state["running_var"], norm.running_var)
