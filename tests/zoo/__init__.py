"""Architectures as people have them, from torch to exact integers: `python -m tests.zoo`; see `__main__`."""
