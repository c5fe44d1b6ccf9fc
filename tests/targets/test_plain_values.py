"""Ids, masks and places, from torch to the real runtimes of the LiteRT family: conditions are never rounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.errors import LoweringError
from qgraph.ir import Array, Builder, Graph, TensorType
from qgraph.quantizers.masked import FLOOR
from qgraph.targets.masks import masks_of

FAMILY = ("litert", "litert-xnnpack", "tflm")
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 10, (8, 16))
IDS[:, 0] = 3
IMAGES = RNG.normal(size=(8, 3, 8, 8)).astype(np.float32)


class Words(nn.Module):
    """What `head` makes of ids [N, 16] and their embeddings [N, 16, 8]."""

    def __init__(self, head: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(30, 8), head

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(ids, self.table(ids))


class Head(nn.Module):
    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


def lowered(model: nn.Module, x: Array, target: str) -> Graph:
    graph = qgraph.trace(model.eval(), torch.from_numpy(x))
    made = qgraph.quantize(graph, target, calibration=[x])
    assert qgraph.verify(made, inputs=x, layout="NCHW").bit_exact
    return made


def decibels(model: nn.Module, made: Graph, x: Array) -> float:
    with torch.no_grad():
        wanted = model(torch.from_numpy(x)).numpy().astype(np.float64)
    given = np.asarray(qgraph.run(made, x, dequantize=True, layout="NCHW"), np.float64).reshape(wanted.shape)
    return float(10 * np.log10((wanted**2).sum() / max(((wanted - given) ** 2).sum(), 1e-9)))


def filled(ids: Tensor, h: Tensor) -> Tensor:
    scores = (h @ h.transpose(1, 2)).masked_fill((ids == 0)[:, None, :], -torch.inf)
    return torch.softmax(scores, -1) @ h


def filled_elsewhere(ids: Tensor, h: Tensor) -> Tensor:
    scores = torch.where((ids != 0)[:, None, :], h @ h.transpose(1, 2), -1e9)
    return torch.softmax(scores, -1) @ h


def added(ids: Tensor, h: Tensor) -> Tensor:
    mask = (1.0 - (ids != 0).float())[:, None, :] * torch.finfo(torch.float32).min
    return torch.softmax(h @ h.transpose(1, 2) + mask, -1) @ h


def chosen(ids: Tensor, h: Tensor) -> Tensor:
    mask = torch.where(ids == 0, -torch.inf, 0.0)[:, None, :]
    return torch.softmax(h @ h.transpose(1, 2) + mask, -1) @ h


MASKS = {head.__name__: head for head in (filled, filled_elsewhere, added, chosen)}


@pytest.mark.parametrize("head", MASKS)
@pytest.mark.parametrize("target", FAMILY)
def test_a_mask_that_is_computed_costs_no_accuracy(target: str, head: str) -> None:
    model = Words(MASKS[head])
    assert decibels(model, lowered(model, IDS, target), IDS) > 35


@pytest.mark.parametrize("head", MASKS)
def test_a_mask_leaves_out_what_no_example_had(head: str) -> None:
    model, unmasked = Words(MASKS[head]), np.maximum(IDS, 1)
    graph = qgraph.trace(model.eval(), torch.from_numpy(IDS))
    made = qgraph.quantize(graph, "litert", calibration=[unmasked])
    assert decibels(model, made, IDS) > 30


def test_a_mask_that_is_computed_reaches_down_to_what_stands_for_minus_infinity() -> None:
    graph = qgraph.trace(Words(chosen).eval(), torch.from_numpy(IDS))
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert"), [IDS])
    observers = {node.attrs["observer"] for node in prepared.find("quant.fake_quant")}
    assert {"mask", "masked"} <= observers
    mask = next(node for node in prepared.find("quant.fake_quant") if node.attrs["observer"] == "mask")
    low, _ = mask.attrs["range"]
    scale = mask.operand(1).data[0]
    assert np.rint(FLOOR / scale) == low - mask.operand(2).data[0], "the lowest code is that of the floor"


@pytest.mark.parametrize("target", FAMILY)
def test_a_condition_becomes_the_codes_0_and_1(target: str) -> None:
    made = lowered(Words(lambda ids, h: (h * (ids != 0).float()[..., None]).sum(1) / 16), IDS, target)
    (number,) = [node for node in made.find("litert.cast") if node.result.type.quant is not None]
    assert (number.result.type.quant.scale, number.result.type.quant.zero_point) == ((1.0,), (0,))


@pytest.mark.parametrize("target", FAMILY)
def test_peaks_are_found_by_their_codes(target: str) -> None:
    def peaks(x: Tensor) -> Tensor:
        heat = torch.sigmoid(x)
        return heat * (nn.functional.max_pool2d(heat, 3, 1, 1) == heat).float()

    made = lowered(Head(peaks), IMAGES, target)
    (equal,) = made.find("litert.equal")
    assert {value.type.dtype for value in equal.inputs} == {"i32"}
    assert not made.find("litert.dequantize")


@pytest.mark.parametrize("target", FAMILY)
def test_a_choice_moves_the_codes_of_one_grid(target: str) -> None:
    made = lowered(Head(lambda x: torch.where(x > 0.3, x, torch.relu(-x))), IMAGES, target)
    (select,) = made.find("litert.select")
    assert len({value.type.quant for value in [*select.inputs[1:], select.result]}) == 1


@pytest.mark.parametrize("target", FAMILY)
@pytest.mark.parametrize(("axis", "keepdim"), [(1, False), (2, False), (3, False), (2, True)])
def test_the_place_of_an_extreme_code_is_found_without_dequantizing(target: str, axis: int, keepdim: bool) -> None:
    model = Head(lambda x: torch.relu(x).argmax(axis, keepdim))
    if target == "tflm" and keepdim:
        with pytest.raises(LoweringError, match="TFLite Micro has TRANSPOSE for i8, i16, f32, not for i32"):
            lowered(model, IMAGES, target)
        return
    assert not lowered(model, IMAGES, target).find("litert.dequantize")


KINDS = ("equal", "not_equal", "less", "less_equal")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_comparison_with_a_number_is_one_of_codes_on_both_sides_of_it(kind: str, turned: bool) -> None:
    """Numbers on the grid, between two of its values, next to them, and beyond its ends."""
    graph = Graph("compared")
    x, build = graph.add_input("x", TensorType(("N", 256))), Builder(graph)
    values = np.linspace(-3.0, 4.0, 256, dtype=np.float32)[None]
    around = [np.nextafter(v, side) for v in values[0, ::17] for side in (np.float32(-9), np.float32(9))]
    numbers = np.array([*values[0, ::17], *around, -50, 50, 0], np.float32)
    results = []
    for number in numbers:
        bound = build.constant(number.reshape(1, 1), "bound")
        results.append(build.node(f"nn.{kind}", [bound, x] if turned else [x, bound], {}).result)
    graph.set_outputs(results)
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert"), [values])
    made = qgraph.lower(prepared, "litert")
    ours, theirs = (qgraph.run(each, values) for each in (made, prepared))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert not made.find("litert.dequantize")
    assert qgraph.verify(made, inputs=values).bit_exact


def test_values_of_two_grids_are_compared_as_the_numbers_that_they_are() -> None:
    graph = Graph("compared")
    x, y = (graph.add_input(name, TensorType(("N", 64))) for name in "xy")
    graph.set_outputs([Builder(graph).node(f"nn.{kind}", [x, y], {}).result for kind in KINDS])
    feed = {name: RNG.normal(size=(4, 64)).astype(np.float32) * factor for name, factor in (("x", 1), ("y", 2))}
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert"), [feed])
    made = qgraph.lower(prepared, "litert")
    ours, theirs = (qgraph.run(each, feed) for each in (made, prepared))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert qgraph.verify(made, inputs=feed).bit_exact


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack"])
def test_places_are_counted_among_what_is_not_padding(target: str) -> None:
    def places(ids: Tensor, h: Tensor) -> Tensor:
        seen = (ids != 1).int()
        return (torch.cumsum(seen, 1) * seen + 1).long()

    made = lowered(Words(places), IDS, target)
    assert np.array_equal(qgraph.run(made, IDS), places(torch.from_numpy(IDS), torch.zeros(0)).numpy())


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack"])
def test_elements_are_gathered_by_computed_places(target: str) -> None:
    def gathered(ids: Tensor, h: Tensor) -> Tensor:
        return torch.gather(h, 2, (ids % 8)[:, :, None])

    made = lowered(Words(gathered), IDS, target)
    (gather,) = [node for node in made.find("litert.gather") if node.attrs["batch_dims"]]
    assert gather.attrs["axis"] == gather.attrs["batch_dims"] == 2


@pytest.mark.parametrize("target", FAMILY)
def test_training_takes_a_step_through_masks(target: str) -> None:
    graph = qgraph.trace(Words(filled).eval(), torch.from_numpy(IDS))
    module = qgraph.to_torch(qgraph.calibrate(qgraph.prepare(graph, target), [IDS])).train()
    loss = (module(torch.from_numpy(IDS)) ** 2).mean()
    loss.backward()
    assert all(torch.isfinite(each.grad).all() for each in module.parameters() if each.grad is not None)
    made = qgraph.lower(qgraph.from_torch(module), target)
    assert qgraph.verify(made, inputs=IDS).bit_exact


def pooled(ids: Tensor, h: Tensor) -> Tensor:
    seen = ids != 0
    return (h * seen[..., None]).sum(1) / seen.sum(1, keepdim=True).clamp(min=1)


def pooled_by_expanding(ids: Tensor, h: Tensor) -> Tensor:
    seen = (ids != 0).unsqueeze(-1).expand(h.size()).float()
    return (h * seen).sum(1) / seen.sum(1).clamp(min=1e-9)


def last_of_each(ids: Tensor, h: Tensor) -> Tensor:
    return h[torch.arange(ids.shape[0]), (ids != 0).sum(1) - 1]


def last_gathered(ids: Tensor, h: Tensor) -> Tensor:
    last = (ids != 0).long().sum(1) - 1
    return h.gather(1, last[:, None, None].expand(-1, 1, 8)).squeeze(1)


def at_the_largest_id(ids: Tensor, h: Tensor) -> Tensor:
    return h[torch.arange(h.shape[0]), ids.argmax(-1)]


def near(ids: Tensor, h: Tensor) -> Tensor:
    return ((ids[:, :, None] - ids[:, None, :]).abs() < 3).float() @ h


def any_and_all(ids: Tensor, h: Tensor) -> Tensor:
    padding = ids == 0
    return h * (padding.any(1, keepdim=True)[..., None].float() + (~padding.all(1))[:, None, None].float())


def listed(ids: Tensor, h: Tensor) -> Tensor:
    return torch.isin(ids, torch.tensor([1, 3, 5])).float()[..., None] * h


def one_or_the_other(ids: Tensor, h: Tensor) -> Tensor:
    return ((ids > 3) ^ (ids < 6)).float()[..., None] * h


def seen_so_far(ids: Tensor, h: Tensor) -> Tensor:
    return h * torch.cumsum((ids != 0).float(), 1)[..., None]


def multiplied(ids: Tensor, h: Tensor) -> Tensor:
    return (h[:, :5] + 1).prod(1)


def largest(ids: Tensor, h: Tensor) -> Tensor:
    return (h == h.max(-1, keepdim=True).values).float()


def of_float_ids(ids: Tensor, h: Tensor) -> Tensor:
    return h * ids.float()[..., None] / 10


def prefixed(ids: Tensor, h: Tensor) -> Tensor:
    first = torch.full((ids.shape[0], 1), 3)
    return (torch.cat([first, ids], 1) == 3).float() @ torch.ones(17, 2)


def without_zeros(ids: Tensor, h: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(torch.where(ids == 0, 1, ids), 10).float() @ torch.ones(10, 3) + h[..., :3]


HEADS = {
    head.__name__: head
    for head in (
        *(pooled, pooled_by_expanding, last_of_each, last_gathered, at_the_largest_id, near, any_and_all, listed),
        *(one_or_the_other, seen_so_far, multiplied, largest, of_float_ids, prefixed, without_zeros),
    )
}
LACKING = {
    "pooled": "has SUM for f32, not for i32",
    "last_of_each": "has SUM for f32, not for i32",
    "last_gathered": "has SUM for f32, not for i32",
    "at_the_largest_id": "has no CUMSUM of integers",
}
"""What TFLite Micro has not."""


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("target", FAMILY)
def test_what_models_make_of_ids_is_exact(target: str, head: str) -> None:
    model = Words(HEADS[head])
    if target == "tflm" and head in LACKING:
        with pytest.raises(LoweringError, match=LACKING[head]):
            qgraph.prepare(qgraph.trace(model.eval(), torch.from_numpy(IDS)), target)
        return
    assert decibels(model, lowered(model, IDS, target), IDS) > (25 if head == "multiplied" else 35)


@pytest.mark.parametrize("head", ["last_of_each", "prefixed", "pooled_by_expanding"])
def test_a_file_takes_any_batch_where_sizes_are_those_of_a_value(head: str) -> None:
    made = lowered(Words(HEADS[head]), IDS, "litert")
    assert qgraph.verify(made, inputs=IDS[:3]).bit_exact


ORDERED: dict[str, Callable[[Tensor], object]] = {
    "last": lambda x: torch.topk(x.flatten(1), 5),
    "inside": lambda x: torch.topk(x, 2, dim=1),
    "smallest": lambda x: torch.topk(x.flatten(2), 4, largest=False),
    "sorted": lambda x: torch.sort(x.flatten(1)[:, :16], descending=True),
    "values alone": lambda x: torch.topk(x.flatten(1), 5).values * 2,
    "places alone": lambda x: torch.topk(x.flatten(1), 5).indices,
    "gathered": lambda x: (-x).flatten(2).gather(2, torch.topk(x.flatten(2), 3).indices),
}


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack"])
@pytest.mark.parametrize("name", ORDERED)
def test_the_largest_and_their_places_are_those_of_the_codes(name: str, target: str) -> None:
    graph = qgraph.trace(Head(ORDERED[name]), torch.from_numpy(IMAGES))  # type: ignore[arg-type]
    prepared = qgraph.calibrate(qgraph.prepare(graph, target, check=True), [IMAGES])
    made = qgraph.lower(prepared, target, check=True)
    assert made.find("litert.topk_v2")
    assert qgraph.verify(made, inputs=IMAGES, layout="NCHW").bit_exact


@pytest.mark.parametrize("largest", [True, False])
def test_ids_are_ordered_as_they_are(largest: bool) -> None:
    graph = qgraph.trace(Head(lambda x: torch.topk(x, 3, largest=largest).values), torch.from_numpy(IDS))
    made = qgraph.quantize(graph, "litert", calibration=[IDS])
    wanted = torch.topk(torch.from_numpy(IDS), 3, largest=largest).values
    assert np.array_equal(qgraph.run(made, IDS), wanted.numpy())
    assert qgraph.verify(made, inputs=IDS).bit_exact


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "integers of two constants": lambda x: torch.heaviside(x, torch.tensor(0.5)),
    "compared with infinity": lambda x: x * (~torch.isinf(x)).float(),
    "a scalar": lambda x: torch.relu(x) / x.abs().max(),
    "fewer dimensions": lambda x: x + x.mean((0, 1)) - torch.maximum(x, x.amax(0)),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("target", FAMILY)
def test_operands_of_fewer_dimensions_and_constants_are_taken_as_they_are(target: str, name: str) -> None:
    model, x = Head(STEPS[name]), np.ascontiguousarray(IMAGES[:, :, 0])
    graph = qgraph.trace(model, torch.from_numpy(x), dynamic_batch=False)
    made = qgraph.quantize(graph, target, calibration=[x])
    assert qgraph.verify(made, inputs=x).bit_exact


def test_a_long_chain_of_sums_of_a_mask_is_no_matter_of_recursion() -> None:
    graph = Graph("long")
    x, build = graph.add_input("x", TensorType(("N", 4))), Builder(graph)
    out = build.constant(np.array(-np.inf, np.float32), "out")
    zero = build.constant(np.array(0, np.float32), "zero")
    mask = build.nn.where(build.nn.less(x, zero), out, zero)
    for _ in range(1500):
        mask = build.nn.relu6(mask)
    graph.set_outputs([build.nn.softmax(build.nn.add(x, mask), axis=1)])
    assert len(masks_of(graph)) == 1 + 1 + 1500  # the number, what it is chosen for, and what is made of that


SIGNS: dict[str, Callable[[Tensor], Tensor]] = {
    "sign": lambda ids: (ids - 3).sign(),
    "sgn": lambda ids: (3 - ids.to(torch.int32)).sgn(),
    "of a condition": lambda ids: (ids > 3).sign(),
    "quotient towards 0": lambda ids: torch.div(ids - 4, -2, rounding_mode="trunc"),
}


@pytest.mark.parametrize("name", SIGNS)
@pytest.mark.parametrize("target", FAMILY)
def test_the_sign_of_integers_is_not_looked_up_in_a_table_of_floats(target: str, name: str) -> None:
    if target == "tflm" and name.startswith("quotient"):
        pytest.skip("TFLite Micro has no FLOOR_DIV")
    made = lowered(Head(SIGNS[name]), IDS, target)
    assert np.array_equal(qgraph.run(made, IDS), SIGNS[name](torch.from_numpy(IDS)).numpy())


STAND_INS: dict[str, Callable[[Tensor], Tensor]] = {
    "nan_to_num": lambda x: torch.nan_to_num(torch.relu(x)),
    "infinity": lambda x: torch.where(x == torch.inf, 1e30, x),
    "isfinite": lambda x: x.masked_fill(~torch.isfinite(x), 1e5),
    "behind a mask": lambda x: torch.nan_to_num(torch.softmax(x.masked_fill(torch.arange(8) % 3 == 0, -torch.inf), -1)),
}


@pytest.mark.parametrize("fallback", [None, "float"])
@pytest.mark.parametrize("name", STAND_INS)
@pytest.mark.parametrize("target", FAMILY)
def test_what_stands_in_for_nan_and_infinity_widens_no_range(target: str, name: str, fallback: str | None) -> None:
    model = Head(STAND_INS[name])
    graph = qgraph.trace(model, torch.from_numpy(IMAGES))
    made = qgraph.quantize(graph, target, calibration=[IMAGES], fallback=fallback)
    assert qgraph.verify(made, inputs=IMAGES, layout="NCHW").bit_exact
    assert decibels(model, made, IMAGES) > 30


def test_choices_by_nan_stay_where_a_value_stays_in_float() -> None:
    model = Head(lambda x: torch.nan_to_num(torch.cumsum(x, 1).flatten(1), nan=1.0, posinf=1.0, neginf=0.0))
    graph = qgraph.trace(model, torch.from_numpy(IMAGES))
    assert len(qgraph.prepare(graph, "onnxruntime", fallback="float").find("nn.where")) == 3


def first_rows(ids: Tensor, h: Tensor) -> Tensor:
    """A mask by the place of the example and that of the column, as transformers makes it of `attention_mask`."""
    rows, columns = torch.arange(ids.shape[0])[:, None, None, None], torch.arange(16)
    seen = (ids != 0)[rows, columns]
    return torch.softmax((h @ h.transpose(1, 2)).masked_fill(~seen[:, 0, :, :], -torch.inf), -1) @ h


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack"])
def test_indices_of_an_open_batch_and_of_known_places_go_together(target: str) -> None:
    model = Words(first_rows)
    made = lowered(model, IDS, target)
    assert made.inputs[0].type.shape[0] == "N"
    assert decibels(model, made, IDS) > 25


@pytest.mark.parametrize("fallback", [None, "float"])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("target", [*FAMILY, "onnxruntime"])
def test_bags_are_pooled_without_their_padding(target: str, mode: str, fallback: str | None) -> None:
    """Its row counts nowhere, whatever it is, and a bag of nothing else is 0."""
    torch.manual_seed(0)
    bags = nn.EmbeddingBag.from_pretrained(torch.randn(10, 8), mode=mode, padding_idx=3).eval()
    ids = np.where(np.arange(16) < 1 + np.arange(64)[:, None] % 16, RNG.integers(0, 10, (64, 16)), 3)
    ids[5] = 3
    graph = qgraph.trace(bags, torch.from_numpy(ids))
    made = qgraph.quantize(graph, target, calibration=[ids], fallback=fallback)
    assert qgraph.verify(made, inputs=ids).bit_exact
    assert decibels(bags, made, ids) > 25  # the count of 1 of 16 is 16 of 255 steps, give or take a half
    assert not np.asarray(qgraph.run(made, ids, dequantize=True))[5].any()


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_of_bags_the_table_alone_is_trained_and_the_row_of_padding_is_not(mode: str) -> None:
    bags = nn.EmbeddingBag(10, 8, mode=mode, padding_idx=3)
    prepared = qgraph.prepare(qgraph.trace(bags.eval(), torch.from_numpy(IDS)), "litert")
    model = qgraph.to_torch(qgraph.calibrate(prepared, [IDS]))
    ((name, table),) = model.named_parameters()
    (model(torch.from_numpy(IDS)) ** 2).sum().backward()
    assert name == "weight"
    assert table.grad is not None
    assert not table.grad[3].any()
    assert table.grad.any()


WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "round": lambda x: torch.round(x).int(),
    "floor": lambda x: torch.floor(x).long(),
    "ceil": lambda x: torch.ceil(x).int(),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("target", [*FAMILY, "onnxruntime"])
def test_a_cast_finds_the_integers_that_a_rounding_made(target: str, name: str) -> None:
    """The step was (9 - -9) / 255, on whose grid 2 is 1.996, and a cast cuts that to 1."""
    x = np.random.default_rng(3).integers(-9, 10, (64, 5)).astype(np.float32) + np.float32(0.3)  # far from borders
    model = Head(WHOLE[name])
    fallback = "float" if target == "onnxruntime" else None
    made = qgraph.quantize(qgraph.trace(model, torch.from_numpy(x)), target, calibration=[x[:32], x], fallback=fallback)
    assert qgraph.verify(made, inputs=x).bit_exact
    wrong = np.asarray(qgraph.run(made, x)) != model(torch.from_numpy(x)).numpy()
    assert not wrong.any()
