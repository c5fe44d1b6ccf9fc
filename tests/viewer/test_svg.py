"""The static picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from qgraph.ir import Graph
from qgraph.viewer import svg
from qgraph.viewer.contents import KINDS
from qgraph.viewer.drawing import palettes
from qgraph.viewer.families import FAMILIES, family_of
from qgraph.viewer.parts import read_part
from tests.viewer.graphs import residual
from tests.viewer.test_data import hostile

SVG = "{http://www.w3.org/2000/svg}"


def test_every_node_is_a_box_with_op_and_type() -> None:
    root = ElementTree.fromstring(svg(residual(2)))
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words.count("nn.conv") == 2
    assert words.count("f32[N,4,8,8]") == 8
    assert len(list(root.iter(f"{SVG}rect"))) == 8 + 2


def test_every_use_is_an_edge_and_all_lies_in_the_picture() -> None:
    root = ElementTree.fromstring(svg(residual(3)))
    assert len(list(root.iter(f"{SVG}path"))) == 3 * 5 + 1
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    for box in root.iter(f"{SVG}rect"):
        x, y = float(box.attrib["x"]), float(box.attrib["y"])
        assert left <= x <= x + float(box.attrib["width"]) <= left + width
        assert top <= y <= y + float(box.attrib["height"]) <= top + height


def test_hostile_names_are_text() -> None:
    root = ElementTree.fromstring(svg(hostile()))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg",
        "title",
        "style",
        "path",
        "g",
        "rect",
        "text",
    }


def test_an_empty_graph_is_an_empty_picture() -> None:
    assert ElementTree.fromstring(svg(Graph())).tag == f"{SVG}svg"


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    darker, lighter = sorted((luminance(a), luminance(b)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("palette", [0, 1], ids=["light", "dark"])
def test_words_stand_out_from_every_colour(palette: int) -> None:
    """WCAG 2.2 asks for 4.5 in text of this size."""
    colours = palettes()[palette]
    for name in (*KINDS, "node", "page", "surface", "frame", *(f"family-{family}" for family in FAMILIES)):
        assert contrast(colours["ink"], colours[name]) >= 4.5, name
    for name in ("page", "surface", "frame"):
        assert contrast(colours["quiet"], colours[name]) >= 4.5, name
        assert contrast(colours["accent"], colours[name]) >= 4.5, name


def test_ops_have_families_and_families_have_colours() -> None:
    expected = {
        "nn.conv": "weights",
        "quant.conv_batch_norm": "weights",
        "quant.fake_quant": "quant",
        "ort.QLinearConv": "weights",
        "ort.QLinearAdd": "elementwise",
        "litert.resize_bilinear": "shape",
        "ort.QuantizeLinear": "quant",
        "litert.fully_connected": "weights",
        "nn.batch_norm": "norm",
        "nn.relu6": "activation",
        "nn.max_pool": "pool",
        "litert.pad": "shape",
        "litert.unpack": "shape",
        "mine.unheard_of": "elementwise",
        "nn.add": "elementwise",
        "input": "boundary",
    }
    assert {op: family_of(op) for op in expected} == expected
    style = read_part("colours.css")
    assert all(style.count(f"--family-{family}:") == 2 for family in FAMILIES)  # light and dark
