"""The scale of an activation that calibration saw as nothing but zeros, by its neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import qgraph
from qgraph.errors import UnsupportedOp
from qgraph.ir import Builder, Graph

FACTOR, LARGEST_FACTOR = 2.0**-8, 2.0**7
"""`x_scale * w_scale / result_scale` of a layer beside a free scale: what is aimed at, and the most."""
FINEST_MEAN, LARGEST_RATIO = 2.0**-25, 120.0
"""Of the scale of a mean to its operand's; of an operand's of a sum to the result's."""
BIAS_GOAL = 2.0**20
"""The integer of the bias beside weights of nothing."""

HEAD = """graph @g level=float (%x: f32[N,4]) {
  const @w1: f32[4,4] = [0.5,0.1,0.1,0,0.2,0.2,0.2,0.2,0.1,0.1,0.1,0.1,0,0,0,0.3], @b1: f32[4] = -99.0
  const @w2: f32[4,4] = [0.25,0,0,0,0,0.125,0,0,0,0,0.1,0,0,0,0,0.2], @w3: f32[4,4] = 4.0, @b: f32[4] = [3,-2,1,4]
  const @g: f32[4] = 2.0, @m: f32[4] = 0.0, @v: f32[4] = 1.0, @low: f32[4] = -1e30
  %1: f32[N,4] = nn.linear(%x, @w1, @b1) {activation="relu"} loc(dead m.py:1)
"""
BODIES = {
    "one layer behind": "  %2: f32[N,4] = nn.linear(%1, @w2, @b) loc(out m.py:2)\n  return %2\n}",
    "what moves it between": """  %2: f32[N,2,2] = nn.reshape(%1) {shape=[-1,2,2]}
  %3: f32[N,2,2] = nn.dropout(%2) {p=0.5}
  %4: f32[N,4] = nn.reshape(%3) {shape=[-1,4]}
  %5: f32[N,4] = nn.linear(%4, @w2, @b) loc(out m.py:2)
  return %5
}""",
    "two layers behind": """  %2: f32[N,4] = nn.linear(%1, @w2, @b) loc(out m.py:2)
  %3: f32[N,4] = nn.linear(%1, @w3, @b) loc(other m.py:3)
  return %2, %3
}""",
    "a normalized layer behind": """  %2: f32[N,4] = nn.linear(%1, @w2, @b)
  %3: f32[N,4] = nn.batch_norm(%2, @g, @m, @m, @v) {eps=0.0} loc(out m.py:2)
  return %3
}""",
    "a layer behind that is dead too": """  %2: f32[N,4] = nn.linear(%1, @w2, @low) {activation="relu"} loc(out m.py:2)
  return %2
}""",
    "no layer behind": "  %2: f32[N,4] = nn.sigmoid(%1) loc(out m.py:2)\n  return %2\n}",
}
X = np.float32([[1, -1, 2, 0.5], [3, 0, 1, 1]])


def calibrated(text: str) -> Graph:
    return qgraph.calibrate(qgraph.prepare(qgraph.parse(text), "litert"), [X])


def scale(graph: Graph, stem: str) -> float:
    (name,) = (name for name in graph.constants if name.startswith(stem) and name.endswith("_scale"))
    return float(graph.constants[name].data.max())


@pytest.mark.parametrize("body", BODIES)
def test_a_free_scale_follows_from_its_neighbours(body: str) -> None:
    graph = calibrated(HEAD + BODIES[body])
    before = scale(graph, "x") * scale(graph, "w1")
    if body in ("no layer behind", "a layer behind that is dead too"):
        expected = before / FACTOR
    else:
        expected = FACTOR * scale(graph, "out") / scale(graph, "w2")
        if body == "two layers behind":
            expected = min(expected, FACTOR * scale(graph, "other") / scale(graph, "w3"))
        assert expected > before / LARGEST_FACTOR
    np.testing.assert_allclose(scale(graph, "dead"), expected, rtol=1e-6)
    if body == "one layer behind":
        half = scale(graph, "dead") * scale(graph, "w2") / 2
        assert half <= scale(graph, "out") / 512 * 1.001, "a bias is exact to that part of a step of the result"


def test_a_free_scale_is_not_so_small_that_the_layer_before_could_not_be_requantized() -> None:
    body = BODIES["one layer behind"].replace("@b)", "@tiny)")
    graph = calibrated(HEAD.replace("const @g", "const @tiny: f32[4] = 1e-9, @g") + body)
    expected = scale(graph, "x") * scale(graph, "w1") / LARGEST_FACTOR
    np.testing.assert_allclose(scale(graph, "dead"), expected, rtol=1e-6)
    assert 1 < LARGEST_FACTOR < 256, "below what ONNX Runtime's kernels take"


def test_a_scale_without_any_layer_stays_one_and_one_that_is_seen_is_left_alone() -> None:
    graph = calibrated(
        f"{HEAD.partition('  const')[0]}  %1: f32[N,4] = nn.clamp(%x) {{min=0.0, max=0.0}}\n  return %1\n}}"
    )
    assert scale(graph, "clamp") == 1
    lively = calibrated((HEAD + BODIES["one layer behind"]).replace("= -99.0", "= 0.0"))
    step = lively.constants["w1_scale"].data[:, None]
    largest = (X @ (np.rint(lively.constants["w1"].data / step) * step).T).max()
    np.testing.assert_allclose(scale(lively, "dead"), largest / 255, rtol=1e-6)


@pytest.mark.parametrize("layer", ["linear", "linear, normalized"])
def test_weights_of_nothing_have_a_scale_that_is_fine_enough_for_the_bias(layer: str) -> None:
    norm = "nn.batch_norm(%1, @z, @bias, @z, @v) {eps=0.0}" if "normalized" in layer else "nn.relu(%1)"
    graph = calibrated(f"""graph @g level=float (%x: f32[N,4]) {{
  const @w: f32[4,4] = 0.0, @bias: f32[4] = [8.0, 4.0, -2.0, 1.0], @z: f32[4] = 0.0, @v: f32[4] = 1.0
  %1: f32[N,4] = nn.linear(%x, @w{"" if "normalized" in layer else ", @bias"})
  %2: f32[N,4] = {norm}
  return %2
}}""")
    expected = np.float32([8, 4, 2, 1]) / scale(graph, "x") / BIAS_GOAL
    np.testing.assert_allclose(graph.constants["w_scale"].data, expected, rtol=1e-6)


def test_the_layers_before_values_on_one_grid_all_count() -> None:
    graph = calibrated(
        HEAD.replace("const @g", "const @w9: f32[4,4] = 40.0, @g")
        + """  %2: f32[N,4] = nn.linear(%x, @w9, @low) {activation="relu"} loc(dead.too m.py:2)
  %3: f32[N,8] = nn.concat(%1, %2) {axis=1} loc(joined m.py:3)
  %4: f32[N,8] = nn.sigmoid(%3)
  return %4
}"""
    )
    units = [scale(graph, "x") * scale(graph, name) for name in ("w1", "w9")]
    assert units[1] > 2 * units[0]
    np.testing.assert_allclose(scale(graph, "joined"), max(units) / FACTOR, rtol=1e-6)


def test_layers_whose_weight_is_not_quantized_do_not_count() -> None:
    """One has a float weight, of the other it is computed."""
    graph = qgraph.prepare(qgraph.parse(HEAD + BODIES["no layer behind"]), "litert")
    dead = graph.find("nn.linear")[0].result.users[0].result
    build = Builder(graph)
    plain = build.nn.linear(dead, graph.add_constant(np.eye(4, dtype=np.float32), "plain"))
    graph.set_outputs([*graph.outputs, plain, build.nn.linear(plain, build.nn.relu(graph.constants["plain"]))])
    calibrated = qgraph.calibrate(graph, [X])
    expected = scale(calibrated, "x") * scale(calibrated, "w1") / FACTOR
    np.testing.assert_allclose(scale(calibrated, "dead"), expected, rtol=1e-6)


def test_what_torch_has_no_part_for_is_named() -> None:
    graph = qgraph.parse(HEAD.partition("  const")[0] + "  %1: f32[N,4] = nn.relu(%x)\n  return %1\n}")
    graph.nodes[0].op = "nhwc.conv"
    with pytest.raises(UnsupportedOp, match=r"nhwc\.conv cannot be trained"):
        qgraph.to_torch(graph)


BESIDE = """graph @g level=float (%x: f32[N,4]) {
  const @zero: f32[] = 0.0, @k: f32[4] = 1e-6, @m: f32[4] = 1e5, @minus: f32[4] = -1.0
  const @eye: f32[1,4] = 1.0, @bias: f32[1] = 1.0
  %1: f32[N,4] = nn.mul(%x, @k) loc(small m.py:1)
  %2: f32[N,4] = nn.mul(%x, @m) loc(large m.py:2)
  %3: f32[N,4] = nn.clamp(%x) {min=0.0, max=0.0} loc(dead m.py:3)
  %8: f32[N,4] = nn.relu(%2) loc(positive m.py:8)
  %9: f32[N,4] = nn.mul(%8, @minus) loc(negative m.py:9)
"""
BOUNDED: dict[str, tuple[str, Callable[[Callable[[str], float]], float]]] = {
    "a sum with less": (
        "%4: f32[N,4] = nn.add(%3, %1) loc(out m.py:4)\n  return %4, %2",
        lambda s: LARGEST_RATIO * s("out"),
    ),
    "a difference from less": (
        "%4: f32[N,4] = nn.sub(%1, %3) loc(out m.py:4)\n  return %4, %2",
        lambda s: LARGEST_RATIO * s("out"),
    ),
    "sums with less and with more": (
        "%4: f32[N,4] = nn.add(%3, %2) loc(more m.py:4)\n  %5: f32[N,4] = nn.add(%3, %1) loc(out m.py:4)\n"
        "  return %4, %5",
        lambda s: LARGEST_RATIO * s("out"),
    ),
    "a sum behind what moves it": (
        "%4: f32[N,2,2] = nn.reshape(%3) {shape=[-1,2,2]}\n  %5: f32[N,2,2] = nn.dropout(%4) {p=0.5}\n"
        "  %6: f32[N,4] = nn.reshape(%5) {shape=[-1,4]}\n  %7: f32[N,4] = nn.add(%6, %1) loc(out m.py:4)\n"
        "  return %7, %2",
        lambda s: LARGEST_RATIO * s("out"),
    ),
    "a sum with more": ("%4: f32[N,4] = nn.add(%3, %2) loc(out m.py:4)\n  return %4, %1", lambda s: 1.0),
    "a function of it": ("%4: f32[N,4] = nn.sigmoid(%3) loc(out m.py:4)\n  return %4, %1, %2", lambda s: 1.0),
}
MADE: dict[str, tuple[str, Callable[[Callable[[str], float]], float]]] = {
    "a difference of large values": ("nn.sub(%2, %2)", lambda s: s("large") / LARGEST_RATIO),
    "a product of a large and a dead value": ("nn.mul(%2, %3)", lambda s: s("large") * s("dead") / LARGEST_RATIO),
    "a difference of a small and a large value": (
        'nn.sub(%1, %8) {activation="relu"}',
        lambda s: s("positive") / LARGEST_RATIO,
    ),
    "a sum of a large and a small value": (
        'nn.add(%9, %1) {activation="relu"}',
        lambda s: s("negative") / LARGEST_RATIO,
    ),
    "a difference of small values": ("nn.sub(%1, %1)", lambda s: 1.0),
    "a product of a small and a dead value": ("nn.mul(%1, %3)", lambda s: 1.0),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_a_free_scale_beside_no_layer_is_one_unless_a_sum_bounds_it(name: str) -> None:
    body, expected = BOUNDED[name]
    graph = calibrated(f"{BESIDE}  {body}\n}}")
    np.testing.assert_allclose(scale(graph, "dead"), expected(lambda stem: scale(graph, stem)), rtol=1e-6)


@pytest.mark.parametrize("name", MADE)
def test_a_sum_or_product_of_large_values_that_is_nothing_has_no_tiny_scale(name: str) -> None:
    made, expected = MADE[name]
    graph = calibrated(f"{BESIDE}  %4: f32[N,4] = {made} loc(out m.py:4)\n  return %4, %1, %2, %3\n}}")
    np.testing.assert_allclose(scale(graph, "out"), expected(lambda stem: scale(graph, stem)), rtol=1e-6)
    assert scale(graph, "dead") == 1, "a result without a scale of its own bounds nothing"


def test_a_free_scale_is_bounded_by_a_product_before_a_layer() -> None:
    graph = calibrated(
        f"""{BESIDE}  %4: f32[N,4] = nn.mul(%3, %2) loc(product m.py:4)
  %5: f32[N,1] = nn.linear(%4, @eye, @bias) loc(out m.py:5)
  return %5, %1
}}"""
    )
    expected = FACTOR * scale(graph, "out") / scale(graph, "eye")
    np.testing.assert_allclose(scale(graph, "product"), expected, rtol=1e-6)
    np.testing.assert_allclose(scale(graph, "dead"), LARGEST_RATIO * expected / scale(graph, "large"), rtol=1e-6)


def test_dead_values_of_16_bits_have_a_range_of_one() -> None:
    text = f"{BESIDE}  return %1, %2, %3\n}}"
    graph = qgraph.calibrate(qgraph.prepare(qgraph.parse(text), "litert", activations="i16"), [X])
    np.testing.assert_allclose(scale(graph, "dead"), 1 / 32767, rtol=1e-6)


def test_the_mean_of_what_sums_to_nothing_has_a_scale_that_its_operands_steps_can_tell() -> None:
    graph = calibrated("""graph @g level=float (%x: f32[N,4]) {
  %1: f32[N,4] = nn.clamp(%x) {min=-1.0, max=2.0} loc(wide m.py:1)
  %2: f32[N] = nn.mean(%1) {axes=[1]} loc(mean m.py:2)
  return %2
}""")
    fine = qgraph.to_torch(graph)
    nothing = np.float32([[1, -1, 1, -1], [2e-9, 0, 0, 0]])
    tiny = qgraph.from_torch(qgraph.calibrate(fine, [nothing]))
    np.testing.assert_allclose(scale(tiny, "mean"), scale(tiny, "wide") * FINEST_MEAN, rtol=1e-6)


def test_the_widest_channel_says_what_a_mean_over_channels_can_tell() -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,3]) {
  const @q: f32[3] = 1.0, @z: i32[3] = 0, @m: f32[1] = 1.0, @n: i32[1] = 0
  %1: f32[N,3] = quant.fake_quant(%x, @q, @z) {axis=1}
  %2: f32[N] = nn.mean(%1) {axes=[1]}
  %3: f32[N] = quant.fake_quant(%2, @m, @n)
  return %3
}""")
    made = qgraph.calibrate(graph, [np.float32([[0, 0, 1e-9], [1, -1, 1e-9]])])
    np.testing.assert_allclose(made.constants["m"].data, 1 / 255 * FINEST_MEAN, rtol=1e-6)


def test_an_inverse_root_reaches_no_further_than_half_a_step_of_its_operand() -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,2]) {
  const @q: f32[2] = 1.0, @z: i32[2] = 0, @m: f32[1] = 1.0, @n: i32[1] = 0
  %1: f32[N,2] = quant.fake_quant(%x, @q, @z) {axis=1}
  %2: f32[N,2] = nn.rsqrt(%1)
  %3: f32[N,2] = quant.fake_quant(%2, @m, @n)
  return %3
}""")
    made = qgraph.calibrate(graph, [np.float32([[1e-6, 4.0], [1.0, 1e-6]])])
    np.testing.assert_allclose(made.constants["m"].data, 1 / np.sqrt(4 / 255 / 2) / 255, rtol=1e-6)
    made = qgraph.calibrate(graph, [np.float32([[0.25, 4.0], [1.0, 0.25]])])
    np.testing.assert_allclose(made.constants["m"].data, 2 / 255, rtol=1e-6)


def test_a_layer_of_nothing_beside_a_sum_has_a_scale_that_the_sum_can_add() -> None:
    """A residual branch whose last gain begins at zero: what the layer leaves free, the sum bounds."""
    graph = calibrated(
        """graph @g level=float (%x: f32[N,4]) {
  const @w: f32[4,4] = 0.0, @b: f32[4] = 0.0
  %1: f32[N,4] = nn.relu(%x) loc(before m.py:1)
  %2: f32[N,4] = nn.linear(%1, @w, @b) loc(dead m.py:2)
  %3: f32[N,4] = nn.add(%1, %2) loc(out m.py:3)
  return %3
}"""
    )
    np.testing.assert_allclose(scale(graph, "dead"), LARGEST_RATIO * scale(graph, "out"), rtol=1e-6)


def test_the_scale_that_a_product_bounds_is_no_part_of_the_bound() -> None:
    text = f"""{BESIDE}  %4: f32[N,4] = nn.mul(%3, %2) loc(product m.py:4)
  %5: f32[N,1] = nn.linear(%4, @eye, @bias) loc(out m.py:5)
  return %5, %1
}}"""
    graph = qgraph.calibrate(qgraph.prepare(qgraph.parse(text), "litert", activations="i16"), [X * 1e6])
    product, large = scale(graph, "product"), scale(graph, "large")
    assert LARGEST_RATIO * product / large < 1 / 32767
    np.testing.assert_allclose(scale(graph, "dead"), LARGEST_RATIO * product / large, rtol=1e-6)
    again = qgraph.calibrate(graph, [X * 1e6])
    assert scale(again, "dead") == scale(graph, "dead")


def test_a_sum_of_floats_bounds_no_scale() -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,2]) {
  const @m: f32[1] = [nan], @n: i32[1] = 0
  %1: f32[N,2] = nn.add(%x, %x)
  %2: f32[N,2] = quant.fake_quant(%1, @m, @n) {type="i16", range=[-32767,32767], symmetric=true}
  return %2
}""")
    made = qgraph.calibrate(graph, [np.zeros((2, 2), np.float32)])
    np.testing.assert_allclose(made.constants["m"].data, 1 / 32767, rtol=1e-6)


@pytest.mark.parametrize("target", ["litert", "tflm", "onnxruntime"])
def test_values_that_are_next_to_nothing_are_lowered_as_zeros_are(target: str) -> None:
    """A deep network with small random weights ends at 1e-35, which no runtime can count in."""
    layers = "".join(f"  %{i + 1}: f32[N,4] = nn.linear(%{i}, @w) loc(layer{i} m.py:{i})\n" for i in range(1, 15))
    lowered = qgraph.quantize(
        qgraph.parse(
            "graph @g level=float (%x: f32[N,4]) {\n  const @w: f32[4,4] = 1e-3, @gain: f32[4] = 1.0\n"
            f'  %1: f32[N,4] = nn.linear(%x, @w) {{activation="relu"}} loc(small m.py:1)\n{layers}'
            "  %16: f32[N,4] = nn.layer_norm(%15, @gain) {axes=1, eps=1e-5} loc(norm m.py:16)\n"
            "  %17: f32[N,4] = nn.add(%16, %15) loc(sum m.py:17)\n  return %17, %1\n}"
        ),
        target,
        calibration=[X],
    )
    assert qgraph.verify(lowered, inputs=X).bit_exact
    nothing, small = qgraph.run(lowered, X, dequantize=True).values()
    assert abs(nothing).max() < 1e-12
    assert small.max() > 1e-3
