"""Random graphs for property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from qgraph.ir import Builder, Graph, Origin, QuantParams, TensorType

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8)
ORIGINS = st.builds(
    Origin, st.one_of(st.just(""), NAMES), st.sampled_from(["net.py", "a b.py", 'q"x.py']), st.integers(1, 99)
)
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@st.composite
def float_graphs(draw: st.DrawFn) -> Graph:
    """Chains of elementwise ops, convolutions and joins over [N, 2, 4, 4], with odd names, constants and origins."""
    graph = Graph(
        draw(NAMES),
        metadata=draw(
            st.dictionaries(
                st.from_regex(r"[a-z]{1,6}", fullmatch=True).filter(lambda k: k != "level"), NAMES, max_size=2
            )
        ),
    )
    values = [graph.add_input(draw(NAMES), TensorType(("N", 2, 4, 4)))]
    weight = graph.add_constant(
        np.array(draw(st.lists(FLOATS, min_size=4, max_size=4)), np.float32).reshape(2, 2, 1, 1), draw(NAMES)
    )
    used = {values[0].name}
    for _ in range(draw(st.integers(1, 6))):
        build = Builder(graph, origins=tuple(draw(st.lists(ORIGINS, max_size=2, unique=True))))
        x = draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["relu", "add", "conv", "dropout"]))
        name = draw(st.one_of(st.just(""), NAMES.filter(lambda n: n not in used)))
        used.add(name)
        if kind == "add":
            values.append(build.nn.add(x, draw(st.sampled_from(values)), name=name))
        elif kind == "conv":
            values.append(build.nn.conv(x, weight, stride=(1, 1), pads=(0,) * 4, dilation=(1, 1), name=name))
        elif kind == "dropout":
            values.append(build.nn.dropout(x, p=draw(st.floats(0, 1)), name=name))
        else:
            values.append(build.nn.relu(x, name=name))
    graph.set_outputs(draw(st.lists(st.sampled_from(values), min_size=1, max_size=2)))
    return graph


SCALES = st.floats(2.0**-20, 2.0**10, width=32)
QUANTS = st.one_of(
    st.builds(lambda s, z: QuantParams.of(s, z), SCALES, st.integers(-128, 127)),
    st.builds(lambda s: QuantParams.of(s, 0, 0), st.lists(SCALES, min_size=3, max_size=9)),
)
