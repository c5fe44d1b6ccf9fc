"""Ops of one or two operands, reductions and SOFTMAX on an emulated 64-bit ARM, byte for byte."""

from __future__ import annotations

import pytest

from tests.targets.litert.elementwise_cases import OF_ARM, OTHERS, check
from tests.targets.litert.families import Families

pytestmark = pytest.mark.emulated


@pytest.mark.parametrize("name", OF_ARM)
def test_what_arm_computes_in_its_own_way(litert_arm64: Families, name: str) -> None:
    check(litert_arm64, name, 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OF_ARM, *OTHERS])
def test_all_ops(litert_arm64: Families, name: str) -> None:
    check(litert_arm64, name, 200)
