"""What a model takes and gives: nested tuples, lists, dictionaries and dataclasses of tensors, and names for each.

An input is named as torch.export names it: by the argument of `forward`, and the keys inside it ("batch_image"). An
output has the path of its keys and places: "boxes", "heads.scores", "heads.0"; a path that begins with a place has
"output_" before it: "output_1.scores". Results that are no tensors (None, numbers, words) are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qgraph.errors import InputError

PLAIN = (type(None), bool, int, float, str)


def leaves(tree: object) -> list[Any]:
    """The leaves of nested containers, in torch's order."""
    from torch.utils import _pytree

    return list(_pytree.tree_leaves(tree))


def map_leaves(function: Any, tree: object) -> Any:
    """The same containers with `function(leaf)` for each leaf."""
    from torch.utils import _pytree

    return _pytree.tree_map(function, tree)


def as_tensors(tree: object) -> Any:
    """Containers of tensors: arrays become tensors, float64, float16 and bfloat16 float32; raises InputError.

    None, numbers, booleans and words stay: they are part of the program.
    """
    import torch

    def convert(leaf: object) -> object:
        if isinstance(leaf, PLAIN):
            return leaf
        if not isinstance(leaf, (torch.Tensor, np.ndarray, np.generic)):
            raise InputError(
                f"the example has a {type(leaf).__name__}", help="give tensors, arrays, numbers, None, or nested lists"
            )
        tensor = torch.as_tensor(leaf)
        return tensor.float() if tensor.is_floating_point() else tensor

    return map_leaves(convert, tree)


def register_dataclasses(tree: object) -> bool:
    """Let torch know the dataclasses among the containers, which it else takes for leaves; whether there are any."""
    import torch

    kinds = {type(leaf): leaf for leaf in leaves(tree) if dataclasses.is_dataclass(leaf)}
    for kind, leaf in kinds.items():
        if isinstance(leaf, type):
            continue
        torch.export.register_dataclass(kind)
        register_dataclasses([getattr(leaf, part.name) for part in dataclasses.fields(leaf)])
    return bool(kinds)


def output_paths(spec: Any) -> list[tuple[str | int, ...]]:
    """For each leaf of the results, in order, the keys and places that lead to it."""
    from torch.utils import _pytree

    numbered = _pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
    paths, _ = _pytree.tree_flatten_with_path(numbered)
    return [tuple(_key(entry) for entry in path) for path, _ in paths]


def _key(entry: Any) -> str | int:
    for name in ("key", "name", "idx"):
        if hasattr(entry, name):
            found = getattr(entry, name)
            return found if isinstance(found, int) and name == "idx" else str(found)
    return str(entry)


def output_names(paths: Sequence[tuple[str | int, ...]]) -> list[str]:
    """A name for each path, none twice; "" for all where they are plain places 0, 1, ..., which need no names."""
    if list(paths) in ([()], [(i,) for i in range(len(paths))]):
        return [""] * len(paths)
    names: list[str] = []
    for path in paths:
        name = _joined(path)
        names.append(next(n for n in _numbered(name) if n not in names))
    return names


def nested(paths: Sequence[tuple[str | int, ...]]) -> Any:
    """The numbers of the results in lists and dictionaries as the paths say; None where a place has no tensor."""
    if list(paths) == [()]:
        return 0
    parts: dict[str | int, dict[int, tuple[str | int, ...]]] = {}
    for number, (first, *rest) in enumerate(paths):
        parts.setdefault(first, {})[number] = tuple(rest)
    made = {key: _numbered_by([*below], nested([*below.values()])) for key, below in parts.items()}
    if all(isinstance(key, str) for key in made):
        return made
    return [made.get(place) for place in range(max(int(key) for key in made) + 1)]


def _numbered_by(numbers: Sequence[int], tree: Any) -> Any:
    """The tree with `numbers[i]` for each number i."""
    if isinstance(tree, dict):
        return {key: _numbered_by(numbers, each) for key, each in tree.items()}
    if isinstance(tree, list):
        return [_numbered_by(numbers, each) for each in tree]
    return None if tree is None else numbers[tree]


def _joined(path: tuple[str | int, ...]) -> str:
    words = [str(part) for part in path] or ["output"]
    if path and isinstance(path[0], int):
        words[0] = f"output_{words[0]}"
    return ".".join(words)


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}.{number}" for number in range(1, 1 << 30))
