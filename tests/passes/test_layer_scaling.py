"""What stands before or behind a layer as one number a channel."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from qgraph.ir import TensorType
from qgraph.passes.rules.layer_scaling import per_channel


@given(
    st.lists(st.sampled_from(["N", 1, 2, 3]), min_size=1, max_size=4),
    st.lists(st.sampled_from([1, 2, 3]), max_size=5),
    st.integers(0, 3),
)
def test_one_number_a_channel_is_what_broadcasting_gives(shape: list[str | int], of: list[int], axis: int) -> None:
    axis %= len(shape)
    constant = np.random.default_rng(0).normal(size=of)
    found = per_channel(constant, TensorType(tuple(shape)), axis)
    sizes = [size if isinstance(size, int) else 7 for size in shape]
    try:
        whole = np.broadcast_to(constant, sizes)
    except ValueError:
        whole = None
    if isinstance(shape[axis], str) or len(of) > len(shape) or whole is None:
        assert found is None
        return
    rows = np.moveaxis(whole, axis, 0).reshape(sizes[axis], -1)
    varies = any(size > 1 for place, size in enumerate((1,) * (len(shape) - len(of)) + tuple(of)) if place != axis)
    assert (found is None) == varies
    assert found is None or np.array_equal(found, rows[:, 0])
