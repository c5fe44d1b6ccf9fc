"""What holds for any graph: it is identical to itself in any order and under any names; diffs mirror."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

import qgraph
from qgraph.differ import GraphDiff
from qgraph.ir import Graph
from tests.differ.variants import dropped, reordered, strip
from tests.passes.random_graphs import random_graphs

MIRROR = {"added": "removed", "removed": "added", "fused": "split", "split": "fused"}


def shape_of(diff: GraphDiff, *, mirrored: bool = False) -> Counter[tuple[object, ...]]:
    """The groups by kind and ops; `mirrored`: as the diff in the other direction should have them."""
    found: Counter[tuple[object, ...]] = Counter()
    for group in diff.groups:
        sides = tuple(node.op for node in group.before), tuple(node.op for node in group.after)
        kind = MIRROR.get(group.kind, group.kind) if mirrored else group.kind
        found[(kind, sides[::-1] if mirrored else sides)] += 1
    return found


@settings(max_examples=60, deadline=None)
@given(random_graphs(), st.integers(0, 9))
def test_a_graph_is_identical_to_itself_in_any_order_and_under_any_names(graph: Graph, seed: int) -> None:
    copies = [graph, graph.clone(), qgraph.parse(str(graph), constants=graph)]
    copies += [reordered(graph, seed), strip(graph), strip(reordered(graph, seed))]
    for copy in copies:
        diff = qgraph.diff(graph, copy)
        assert diff.identical, str(diff)
        assert len(diff.groups) == len(graph)


@settings(max_examples=60, deadline=None)
@given(random_graphs(), random_graphs())
def test_every_node_is_in_one_group(a: Graph, b: Graph) -> None:
    diff = qgraph.diff(a, b)
    assert Counter(node for group in diff.groups for node in group.before) == Counter(a.nodes)
    assert Counter(node for group in diff.groups for node in group.after) == Counter(b.nodes)


@settings(max_examples=60, deadline=None)
@given(random_graphs(), st.data())
def test_the_diff_of_an_edited_copy_mirrors(graph: Graph, data: st.DataObject) -> None:
    copy = graph.clone()
    node = data.draw(st.sampled_from(list(copy.nodes)))
    if node.operands and node.operand(0).type == node.result.type and not node.operand(0).is_constant:
        dropped(node)
    else:
        node.attrs["edited"] = True
    diff, back = qgraph.diff(graph, copy), qgraph.diff(copy, graph)
    assert shape_of(diff) == shape_of(back, mirrored=True)
    assert diff.changes or diff.about


@settings(max_examples=60, deadline=None)
@given(random_graphs())
def test_fused_and_folded_graphs_are_explained_without_names(graph: Graph) -> None:
    fused = qgraph.PassManager("fold-batchnorm,fuse-conv-relu").run(graph)
    named, bare = qgraph.diff(graph, fused), qgraph.diff(graph, strip(fused))
    assert Counter(node for group in bare.groups for node in group.before) == Counter(graph.nodes)
    assert {group.kind for group in bare.groups} <= {group.kind for group in named.groups} | {"removed", "fused"}
    assert "added" not in bare.counts, str(bare)
