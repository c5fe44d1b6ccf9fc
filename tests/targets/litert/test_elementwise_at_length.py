"""Ops of one or two operands, reductions and SOFTMAX, in many more cases than the quick tests try."""

from __future__ import annotations

import pytest

from tests.targets.litert.elementwise_cases import OF_ARM, OTHERS, check
from tests.targets.litert.families import Families

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", [*OF_ARM, *OTHERS])
def test_many_cases(litert: Families, name: str) -> None:
    check(litert, name, 2000)
