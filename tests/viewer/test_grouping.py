"""The module tree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qgraph.ir import Graph, Origin, TensorType
from qgraph.viewer.grouping import LEVEL, Group, module_tree

TYPE = TensorType((1,))


def graph_of(*nodes: tuple[str, ...]) -> Graph:
    """A chain with a node for each tuple of origins."""
    graph = Graph()
    x = graph.add_input("x", TYPE)
    for paths in nodes:
        x = graph.insert("nn.relu", [x], {}, [TYPE], origins=tuple(map(Origin, paths))).result
    graph.set_outputs([x])
    return graph


def outline(group: Group) -> list[object]:
    """The tree as nested lists, a group's label first."""
    return [group.label, *(part if isinstance(part, int) else outline(part) for part in group.parts)]


def numbers(group: Group) -> list[int]:
    return [n for part in group.parts for n in ([part] if isinstance(part, int) else numbers(part))]


def test_nodes_lie_in_the_module_that_their_origins_share() -> None:
    graph = graph_of(("stem.conv",), ("stem.bn", "stem.act"), ("head.fc",), ("head.act",), ("stem.x", "head.y"))
    assert outline(module_tree(graph)) == ["", ["stem", 0, 1], ["head", 2, 3], 4]


def test_a_node_of_the_module_itself_lies_inside() -> None:
    graph = graph_of(("block.conv",), ("block",), ("block", "block.relu"))
    assert outline(module_tree(graph)) == ["", ["block", 0, 1, 2]]


def test_names_of_files_are_split_at_slashes() -> None:
    assert outline(module_tree(graph_of(("/m/conv1/Conv",), ("/m/conv1/Relu",), ("/m/Add",)))) == [
        "",
        ["m", ["conv1", 0, 1], 2],
    ]


def test_a_module_of_one_part_is_that_part() -> None:
    graph = graph_of(("a.b.c.d",), ("a.b.c.e",), ("f.g",))
    assert outline(module_tree(graph)) == ["", ["a.b.c", 0, 1], 2]


def test_without_origins_neighbours_fold_together() -> None:
    tree = module_tree(graph_of(*[()] * 500))
    assert len(tree.parts) <= LEVEL
    assert tree.parts[0].label == "#1 … #16"  # type: ignore[union-attr]
    assert numbers(tree) == list(range(500))


def test_a_path_of_any_length_is_no_danger() -> None:
    tree = module_tree(graph_of((".".join("a" * 100_000),), (".".join("a" * 99_999) + ".b",)))
    assert tree.size == 2


@given(st.lists(st.lists(st.text("ab.", max_size=6), max_size=3), max_size=200))
def test_every_node_is_in_the_tree_once(paths: list[list[str]]) -> None:
    tree = module_tree(graph_of(*map(tuple, paths)))
    assert sorted(numbers(tree)) == list(range(len(paths)))
    groups = [tree]
    for group in groups:
        assert len(group.parts) <= LEVEL
        inner = [part for part in group.parts if isinstance(part, Group)]
        assert all(len(part.parts) > 1 for part in inner)
        groups += inner
