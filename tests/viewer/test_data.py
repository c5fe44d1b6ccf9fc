"""What goes into a page, and that nothing in a graph's names can get out of it."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest

from qgraph import viewer
from qgraph.errors import FileError, InputError
from qgraph.ir import Graph, Node, Origin, TensorType
from qgraph.viewer import Link, Pane, write_page
from qgraph.viewer.histogram import histogram_of
from qgraph.viewer.page import SCRIPTS
from qgraph.viewer.payload import PaneData, page_data
from tests.viewer.graphs import pair, residual

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&\u2028\u0000\ud800<!--"


def pane_data(graph: Graph) -> PaneData:
    return page_data([Pane("", graph)], [], "", [])["panes"][0]


def hostile() -> Graph:
    """A graph that says something hostile wherever words of a file are shown."""
    graph = Graph(HOSTILE, metadata={HOSTILE: HOSTILE})
    type = TensorType((HOSTILE, 2))
    x = graph.add_input(HOSTILE, type)
    weight = graph.add_constant(np.ones(3, np.float32), HOSTILE)
    origins = (Origin(HOSTILE + ".a", HOSTILE, 1), Origin(HOSTILE + ".b"))
    node = graph.insert(HOSTILE, [x, weight], {HOSTILE: HOSTILE}, [type], origins=origins, names=[HOSTILE])
    graph.insert("nn.relu", [node.result], {}, [type], origins=(Origin(HOSTILE + ".c"),))
    graph.set_outputs([node.result])
    return graph


class Elements(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)


def elements(text: str) -> list[str]:
    parser = Elements()
    parser.feed(text)
    return parser.names


def test_a_page_is_one_file_that_names_no_other(tmp_path: Path) -> None:
    panes, links = pair()
    write_page(tmp_path / "page.html", panes, links, title="pair", about=["level: float -> integer"])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert not re.search(r"""(src|href)\s*=|@import|url\(|https?://(?!www\.w3\.org/2000/svg)""", text)
    assert "Permission is hereby granted" in text  # the licence of dagre travels with it


def test_hostile_names_stay_data(tmp_path: Path) -> None:
    graph = hostile()
    link = Link((0, 1), tuple(graph.nodes), (), "removed", (HOSTILE,))
    write_page(
        tmp_path / "hostile.html", [Pane(HOSTILE, graph), Pane("b", Graph())], [link], title=HOSTILE, about=[HOSTILE]
    )
    text = (tmp_path / "hostile.html").read_text(encoding="utf-8")
    write_page(tmp_path / "plain.html", [Pane("a", residual())])
    assert elements(text) == elements((tmp_path / "plain.html").read_text(encoding="utf-8"))
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert data["panes"][0]["title"] == HOSTILE
    assert data["panes"][0]["nodes"][0]["attrs"] == {HOSTILE: json.dumps(HOSTILE)}


def test_every_script_goes_into_the_page() -> None:
    ours = {path.name for path in Path(viewer.__file__).parent.glob("*.js")} - {"dagre.min.js"}
    assert ours == set(SCRIPTS)


def test_placeholders_in_names_are_not_filled_in(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", [Pane("{{script}}", residual(1))], title="{{data}}")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>{{data}}</title>" in text


def test_nodes_refer_to_values_and_operands_have_the_names_of_the_op() -> None:
    data = pane_data(residual(1))
    conv, values = data["nodes"][0], data["values"]
    assert conv["op"] == "nn.conv"
    assert [values[i]["name"] for i in conv["operands"] if i is not None] == ["%x", "@weight"]
    assert conv["operand_names"][:2] == ["x", "w"]
    assert conv["origins"] == [("stages.0.block0.conv", "net.py:10")]
    assert conv["attrs"] == {"groups": "1"}
    assert [node["op"] for node in data["nodes"][-2:]] == ["input", "output"]
    assert values[conv["results"][0]]["producer"] == 0


def test_values_are_named_as_in_the_text() -> None:
    graph = residual(2)
    data = pane_data(graph)
    names = [data["values"][node["results"][0]]["name"] for node in data["nodes"][: len(graph)]]
    assert names == re.findall(r"^  (%\d+):", str(graph), re.MULTILINE)


def test_quantization_parameters_are_text_that_reads_back() -> None:
    (_, integer), _ = pair()
    values = {value["name"]: value for value in pane_data(integer.graph)["values"]}
    assert values["@weight"]["quant"] == {
        "scale": ["0.1", "0.2", "0.3", "0.4"],
        "zero_point": [0, 0, 0, 0],
        "axis": 0,
        "count": 4,
        "lowest": "0.1",
        "highest": "0.4",
    }
    assert values["%x"]["type"] == "i8[N,4,8,8]"


def test_small_constants_are_shown_in_full() -> None:
    graph = Graph()
    scale = graph.add_constant(np.array([0.25, 0.1], np.float32), "scale")
    graph.set_outputs([scale])
    (value,) = pane_data(graph)["values"]
    assert (value["elements"], value["histogram"]) == (["0.25", "0.1"], None)


def test_activations_get_histograms_too() -> None:
    graph = residual(1)
    value = next(iter(graph.nodes)).result
    data = page_data([Pane("a", graph, {value: np.arange(10.0, dtype=np.float32)})], [], "", [])["panes"][0]
    seen = {item["name"]: item["histogram"] for item in data["values"]}
    assert seen["%1"] is not None
    assert seen["%2"] is None
    assert seen["@weight"] is not None


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.bool_])
def test_a_histogram_counts_every_element(dtype: type) -> None:
    data = np.random.default_rng(0).integers(0, 2, (7, 11)).astype(dtype)
    found = histogram_of(data)
    assert found is not None
    assert sum(found["counts"]) == found["size"] == 77


def test_a_histogram_of_integers_has_a_bin_a_number() -> None:
    found = histogram_of(np.array([-2, -2, 0, 1], np.int8))
    assert found is not None
    assert found["counts"] == [2, 0, 1, 1]


def test_a_large_tensor_is_sampled() -> None:
    found = histogram_of(np.zeros(1 << 20, np.int8))
    assert found is not None
    assert (found["sampled"], found["size"], sum(found["counts"])) == (True, 1 << 20, 1 << 16)


def test_elements_that_are_not_finite_are_counted_apart() -> None:
    found = histogram_of(np.array([1.0, np.nan, np.inf, -np.inf]))
    assert found is not None
    assert (found["nonfinite"], sum(found["counts"])) == (3, 1)
    assert histogram_of(np.array([np.nan])) is None
    assert histogram_of(np.zeros((0, 3))) is None


def test_numbers_that_json_lacks_are_words_of_javascript() -> None:
    panes, _ = pair()
    node = next(iter(panes[0].graph.nodes))
    numbers = {"sqnr_db": float("inf"), "cosine": float("nan"), "max_error": None, "lsb_histogram": [1.0, 2.0, -np.inf]}
    link = page_data(panes, [Link((0, 1), (node,), (), "removed", (), numbers)], "", [])["links"][0]
    assert link["numbers"] == {
        "sqnr_db": "Infinity",
        "cosine": "NaN",
        "max_error": None,
        "lsb_histogram": [1.0, 2.0, "-Infinity"],
    }


def foreign() -> Node:
    return next(iter(residual(1).nodes))


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (lambda node: Link((0, 2), (node,), (), "removed"), r"a link connects panes \(0, 2\), but there are 2"),
        (lambda node: Link((0, 1), (foreign(),), (), "removed"), "a link names a node that is in neither pane"),
        (lambda node: Link((0, 1), (node,), (), "vanished"), "'vanished' is not a kind of link"),
        (lambda node: Link((0, 1), (), (), "same"), "a link needs a node"),
    ],
)
def test_wrong_links_are_refused(link: object, message: str, tmp_path: Path) -> None:
    panes, _ = pair()
    with pytest.raises(InputError, match=message):
        write_page(tmp_path / "page.html", panes, [link(next(iter(panes[0].graph.nodes)))])  # type: ignore[operator]
    assert not list(tmp_path.iterdir())


def test_a_page_needs_a_pane_and_a_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one pane"):
        write_page(tmp_path / "page.html", [])
    with pytest.raises(FileError, match="cannot be written"):
        write_page(tmp_path / "missing" / "page.html", [Pane("a", residual(1))])
