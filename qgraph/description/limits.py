"""What a chip cannot do whatever the scales are: refusals of nodes, channels last, from the tables [limits], [ops]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from qgraph.description.description import Settings, Unsaid
from qgraph.ir import Node
from qgraph.ir.types import element_count
from qgraph.ops.nn.activation import BOUNDS
from qgraph.targets.correspondence import Refusal
from qgraph.targets.windows import extended_pads, kernel_of

When = Callable[[Node], Refusal | None]
WINDOWED = ("conv", "depthwise", "average_pool", "max_pool")


def when(settings: Settings) -> When:
    """What keeps a node from being lowered as an op of the chip."""

    def refused(node: Node) -> Refusal | None:
        try:
            return next(refusals(settings, node), None)
        except Unsaid as unsaid:
            return Refusal(unsaid.what, "find it out, and say it in the description")

    return refused


def refusals(settings: Settings, node: Node) -> Iterator[Refusal]:
    """All that speaks against a node."""
    name, chip = settings.kind.name, settings.description.name
    settings.check_said()
    if node.attrs.get("activation", "none") not in (*BOUNDS, "clamp"):
        yield Refusal(f"{chip} has no {name} with the activation {node.attrs['activation']}")
    if name in WINDOWED:
        yield from _windows(settings, node)
    if name in ("mean", "sum"):
        yield from _axes(settings, node)
    yield from _channels(settings, node)


def _axes(settings: Settings, node: Node) -> Iterator[Refusal]:
    sizes: Any = [node.operand(0).type.shape[axis] for axis in node.attrs["axes"]]
    symbolic = next((size for size in sizes if isinstance(size, str)), None)
    if symbolic is not None:
        yield Refusal(f"a sum over the size {symbolic}, which is not known", "fix it: see set-batch")
    elif element_count(sizes) > settings.get("limits.most_elements"):
        yield Refusal(
            f"a sum of {element_count(sizes)} elements, and there are {settings.get('limits.most_elements')} at most"
        )


def _windows(settings: Settings, node: Node) -> Iterator[Refusal]:
    name, x, chip, a = settings.kind.name, node.operand(0).type, settings.description.name, node.attrs
    if x.rank != 4:
        yield Refusal(f"{chip}'s {name} works on two spatial dimensions, not {x.rank - 2}", "reshape to two dimensions")
        return
    kernel = kernel_of(node)
    sides: list[tuple[str, str, Any]] = [("kernels", "kernel", kernel), ("strides", "stride", a["stride"])]
    sides.append(("dilations", "dilation", a.get("dilation", ())))
    for key, word, given in sides:
        allowed = settings.get(f"limits.{key}")
        if allowed and any(side not in allowed for side in given):
            yield Refusal(f"{chip}'s {name} has no {word} {list(given)}, only sides of {', '.join(map(str, allowed))}")
    if settings.get("limits.square") and len({*kernel}) > 1:
        yield Refusal(f"{chip}'s {name} has square kernels, not {list(kernel)}")
    most = settings.get("limits.most_elements")
    if element_count(kernel) > most:
        yield Refusal(f"a window of {list(kernel)} has more than {most} elements", "reduce in two steps")
    for key, word, size in (("most_height", "rows", x.shape[1]), ("most_width", "columns", x.shape[2])):
        if isinstance(size, int) and size > settings.get(f"limits.{key}"):
            yield Refusal(f"{chip}'s {name} has {settings.get(f'limits.{key}')} {word} at most, not {size}")
    if name == "average_pool":
        yield from _averages(settings, node)


def _averages(settings: Settings, node: Node) -> Iterator[Refusal]:
    """Averages whose divisor the chip does not have."""
    extended, pads = extended_pads(node), tuple(node.attrs["pads"])
    valid = settings.get("divisor") == "valid"
    if extended != pads and ((any(pads) and node.attrs["count_include_pad"]) or not valid):
        yield Refusal(f"{settings.description.name}'s average_pool has no ceil_mode here", "pad the input instead")
    if any(pads) and not node.attrs["count_include_pad"] and not valid:
        help = "let padding count: count_include_pad=True"
        yield Refusal(
            f"{settings.description.name}'s average_pool divides by the whole kernel at the border, too", help
        )


def _channels(settings: Settings, node: Node) -> Iterator[Refusal]:
    name, chip = settings.kind.name, settings.description.name
    if name in ("conv", "depthwise", "linear"):
        inputs, outputs = node.operand(0).type.shape[-1], node.result.type.shape[-1]
        for key, word, size in (("input", "input", inputs), ("output", "output", outputs)):
            block = settings.get(f"limits.{key}_channels_multiple_of")
            if isinstance(size, int) and size % block:
                yield Refusal(f"{chip}'s {name} has {word} channels in blocks of {block}, not {size}", "pad them")
            if isinstance(size, int) and size > settings.get("limits.most_channels"):
                yield Refusal(
                    f"{chip}'s {name} has {settings.get('limits.most_channels')} channels at most, not {size}"
                )
    if name == "conv" and node.attrs["groups"] != 1 and not settings.get("limits.groups"):
        yield Refusal(f"{chip}'s conv has no groups, and this one has {node.attrs['groups']}")
