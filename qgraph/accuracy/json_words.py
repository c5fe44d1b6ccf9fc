"""What JSON can say of numbers."""

from __future__ import annotations

import math
from typing import Any


def finite(words: Any) -> Any:
    """Dictionaries and lists of words and numbers, with None for what JSON cannot say: infinity, and NaN.

    >>> finite({"sqnr_db": [math.inf, 1.5]})
    {'sqnr_db': [None, 1.5]}
    """
    if isinstance(words, dict):
        return {name: finite(each) for name, each in words.items()}
    if isinstance(words, (list, tuple)):
        return [finite(each) for each in words]
    return None if isinstance(words, float) and not math.isfinite(words) else words
