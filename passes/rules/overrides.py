"""What a user asks for, against a target's rules: numbers of bits, for nodes that a pattern of origins names."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from qgraph.errors import InputError
from qgraph.ir import Graph, Node

Overrides = Mapping[str, Mapping[str, int]]
"""Pattern of origin paths ("stem.*") -> {"bits": bits of weights, "activation_bits": bits of results}; bits of `FLOAT`
keep the nodes in float."""

FLOAT = 32

WORDS = ("bits", "activation_bits")
HAVE_NONE = {"bits": "have a weight", "activation_bits": "have a result with a scale of their own"}


@dataclass
class CheckedOverrides:
    """Overrides that fit the graph; it notes which were asked for, so that `check_effect` can refuse the others."""

    graph: Graph
    overrides: Overrides
    most: int = 8  # bits of activations that the target has
    _used: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not isinstance(self.overrides, Mapping):
            raise InputError(
                f"overrides are {self.overrides!r}", help='give a dictionary, such as {"head": {"bits": 4}}'
            )
        paths = {origin.path for node in self.graph.nodes for origin in node.origins}
        for pattern, words in self.overrides.items():
            if not fnmatch.filter(paths, pattern):
                raise InputError(
                    f"override {pattern!r} matches no origin of the graph", help=f"origins: {', '.join(sorted(paths))}"
                )
            unknown = set(words) - set(WORDS)
            if unknown:
                raise InputError(
                    f"override {pattern!r} has no word {', '.join(sorted(unknown))}", help=f"use {', '.join(WORDS)}"
                )
            for word, bits in words.items():
                most = self.most if word == "activation_bits" else 8
                if not isinstance(bits, int):
                    raise InputError(
                        f"override {pattern!r}: {word}={bits!r} is no number", help=f"choose from 2..{most}"
                    )
                if (word, bits) != ("bits", FLOAT) and not 2 <= bits <= most:
                    raise InputError(f"override {pattern!r}: {word}={bits} is outside 2..{most}")

    def bits(self, node: Node, word: str, among: Collection[int] = range(17)) -> tuple[int, str] | None:
        """The number of bits for a node and the first pattern that gives it, if it is `among` these; else None."""
        for pattern, words in self.overrides.items():
            if words.get(word) in among and any(fnmatch.fnmatch(origin.path, pattern) for origin in node.origins):
                self._used.add((pattern, word))
                return words[word], pattern
        return None

    def in_float(self) -> list[Node]:
        """The nodes that stay in float because an override says so."""
        return [node for node in self.graph.nodes if self.bits(node, "bits", (FLOAT,))]

    def check_effect(self) -> None:
        """Raise InputError for an override that no node took: it would be lost in silence."""
        for pattern, words in self.overrides.items():
            for word in words:
                if (pattern, word) not in self._used:
                    raise InputError(
                        f"override {pattern!r}: {word}={words[word]} has no effect",
                        help=f"the nodes that it matches do not {HAVE_NONE[word]}, or an earlier pattern names them",
                    )
