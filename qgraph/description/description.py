"""A description that was read: its tables, and what they say of one op, the op's own keys before the tables'."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qgraph.arith.stages import Program
from qgraph.description.expressions import Expression
from qgraph.description.ops import FACTORS, OPS, OpKind, op_named
from qgraph.description.schema import UNKNOWN, table_named
from qgraph.errors import InputError

COMMON_NAMES = ("input_zero_point", "output_zero_point", "low", "high", "bias", "weight_sum", "count")
"""Operands that the stages of every op may name: what it does not have is 0, or 1."""
REAL_NAMES = ("input_scale", "weight_scale", "second_scale", "output_scale", "channels", "window")
"""What expressions may name beside the operands: scales (those that there are not are 1), input channels, and the
elements of a window."""
FORM_NAMES = {
    "multiplier": ("multiplier", "shift", "left_shift", "right_shift", "exponent"),
    "shift": ("shift", "left_shift", "right_shift"),
    "float32": ("scale",),
    "float64": ("scale",),
    "thresholds": ("thresholds",),
}
"""Form of a factor -> the names of its operands."""
FORM_KEYS = {
    "multiplier": ("arithmetic", "bits", "rounding", "shift", "too_small", "too_large", "first_bits", "fixed_shift"),
    "shift": ("arithmetic", "shift"),
    "float32": ("arithmetic",),
    "float64": ("arithmetic",),
    "thresholds": ("arithmetic", "rounding"),
}
"""Form of a factor -> the keys of [scale] that its operands follow from."""

Problem = tuple[tuple[str, ...], str, str]
"""Where a key stands, what is wrong with it, what is allowed."""


class Unsaid(InputError):
    """A key is "unknown", and something needs it."""


@dataclass(frozen=True)
class Description:
    """Tables of checked values; keys that are not there have the schema's defaults."""

    tables: Mapping[str, Any]

    def get(self, path: str) -> Any:
        """The value of "table.key"; raises Unsaid for an unknown one."""
        table, _, key = path.partition(".")
        value = self.tables.get(table, {}).get(key, _default(table, key))
        return _said(value, f"[{table}] {key}")

    @property
    def name(self) -> str:
        """The target's name."""
        return str(self.get("target.name"))

    def op(self, name: str) -> Settings:
        """What is said of an op."""
        kind = op_named(name)
        assert kind is not None, name
        return Settings(self, kind)

    def ops(self) -> list[Settings]:
        """What is said of all ops."""
        return [Settings(self, kind) for kind in OPS]

    @cached_property
    def text(self) -> str:
        """The description as JSON, with all that it inherited; `from_text` reads it."""
        return json.dumps(self.tables, default=lambda value: value.text, sort_keys=True)

    def problems(self) -> Iterator[Problem]:
        """What does not fit together: where it stands, what is wrong, what is allowed."""
        low, high = self.tables.get("scale", {}).get("shift", (0, 0))
        if low > high:
            yield ("scale", "shift"), f"{low} is above {high}", ""
        codes = sorted({*(self.tables.get("weight", {}).get("codes") or ())} - {UNKNOWN})
        if codes and (codes != [*range(codes[0], codes[-1] + 1)] or codes[-1] < 1 or codes[0] > 0):
            allowed = "integers in a row, 0 and 1 among them: [-1, 0, 1], [0, 1]"
            yield ("weight", "codes"), f"{codes} is not one that weights are quantized to", allowed
        for settings in self.ops():
            if settings.supported:
                yield from settings.problems()


def _default(table: str, key: str) -> Any:
    found = table_named(table)
    assert found is not None, table
    if found.open:
        return None
    said = found.key(key)
    assert said is not None, (table, key)
    return said.default


def _said(value: Any, where: str) -> Any:
    if isinstance(value, str) and value == UNKNOWN and not where.endswith("evidence"):
        raise Unsaid(f"the source does not say what {where} is")
    return value


@dataclass(frozen=True)
class Settings:
    """What a description says of one kind of op."""

    description: Description
    kind: OpKind

    @property
    def own(self) -> Mapping[str, Any]:
        """The op's own table."""
        found: Mapping[str, Any] = self.description.tables.get("ops", {}).get(self.kind.name, {})
        return found

    @property
    def supported(self) -> bool:
        """Whether the chip has the op."""
        named = self.kind.name in self.description.tables.get("ops", {})
        return (named or self.kind.always) and self.own.get("supported", True) is True

    @property
    def reason(self) -> str:
        """Why the chip does not have the op."""
        if self.own.get("supported") == UNKNOWN:
            return f"the source does not say whether {self.description.name} has {self.kind.name}"
        said = self.own.get("reason", "")
        return f"{self.description.name} has no {self.kind.name}{said and ': '}{said}"

    def get(self, key: str) -> Any:
        """The value of a key of the op, or of "table.key", the op's own before the table's; raises Unsaid."""
        table, _, name = key.rpartition(".")
        if not table:
            said = self.kind.key(name)
            assert said is not None, (self.kind.name, name)
            return _said(self.own.get(name, said.default), f"[ops.{self.kind.name}] {name}")
        if name in self.own.get(table, {}):
            return _said(self.own[table][name], f"[ops.{self.kind.name}.{table}] {name}")
        return self.description.get(key)

    @property
    def factors(self) -> Mapping[str, Expression]:
        """Prefix of the operands' names -> the real factor: "" for the only one."""
        several = self.own.get(FACTORS, {})
        if several:
            return {
                f"{name}_": _said(factor, f"[ops.{self.kind.name}.factors] {name}") for name, factor in several.items()
            }
        if self.kind.key("factor") is None:
            return {}
        one = self.get("factor")
        return {} if one is None else {"": one}

    @property
    def constants(self) -> Mapping[str, Expression]:
        """The further operands, the op's own last."""
        found = {**self.description.tables.get("constants", {}), **self.own.get("constants", {})}
        return {name: _said(value, f"[constants] {name}") for name, value in found.items()}

    def check_said(self) -> None:
        """Raise Unsaid where the op needs what the source does not say."""
        if self.kind.always or self.kind.name == "max_pool":
            return
        names = self.read_by(Program.parse((*self.stages(), *self.second())).names)
        form = self.get("scale.form") if self.factors else ""
        read = {f"{prefix}{name}" for prefix in self.factors for name in FORM_NAMES[form]} & names
        needed = [f"scale.{key}" for key in FORM_KEYS[form]] if read else []
        needed += ["accumulator.width", "accumulator.order", "accumulator.product"] if self.kind.adds_up else []
        needed += ["bias.storage", "bias.scale"] if "bias" in self.kind.names else []
        for key in needed:
            self.get(key)

    def read_by(self, names: Iterable[str]) -> set[str]:
        """These names, and those that the constants among them are computed of."""
        found, left = set(), [*names]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += self.constants[name].names if name in self.constants else ()
        return found

    @property
    def reads_bias(self) -> bool:
        """Whether stages add the bias, or thresholds hold it, so that the accumulator begins with 0."""
        names = self.read_by(Program.parse(self.stages()).names)
        return "bias" in names or any(name.endswith("thresholds") for name in names)

    def stages(self) -> tuple[str, ...]:
        """The op's stages: its own, its kind's, or those of [requantize] behind what its kind begins with."""
        own = self.own.get("requantize", {}).get("stages")
        if own is not None:
            return tuple(_said(own, f"[ops.{self.kind.name}.requantize] stages"))
        if self.kind.default is not None:
            return self.kind.default
        common = self.description.get("requantize.stages")
        if common is None:
            raise InputError(f"there are no stages of {self.kind.name}")
        return (*self.kind.before, *common)

    def second(self) -> tuple[str, ...]:
        """The stages of the second operand."""
        own = self.own.get("requantize", {}).get("second")
        return self.kind.second if own is None else tuple(_said(own, f"[ops.{self.kind.name}.requantize] second"))

    def known_names(self) -> tuple[str, ...]:
        """All names that stages of the op may use."""
        form = self.get("scale.form")
        operands = [f"{prefix}{name}" for prefix in self.factors for name in FORM_NAMES[form]]
        return (*COMMON_NAMES, *self.kind.names, *operands, *self.constants)

    def problems(self) -> Iterator[Problem]:
        """Stages that name what there is not, or that are missing; constants likewise."""
        if self.kind.always or self.kind.name == "max_pool":
            return
        try:
            self.stages(), self.second()
        except Unsaid:
            return
        except InputError as error:
            yield ("ops", self.kind.name, "requantize"), error.what, "[requantize] stages, or stages of the op"
            return
        with suppress(Unsaid):
            yield from self._wrong_stages()
        with suppress(Unsaid):
            yield from self._wrong_expressions()

    def _wrong_stages(self) -> Iterator[Problem]:
        path, known = ("ops", self.kind.name), self.known_names()
        programs = {
            key: Program.parse(stages) for key, stages in (("stages", self.stages()), ("second", self.second()))
        }
        if "second" in self.kind.names and "second" not in programs["stages"].names:
            what = f"the stages of {self.kind.name} do not read `second`"
            yield (*path, "requantize", "stages"), what, "add second, subtract second, multiply second"
        for key, program in programs.items():
            own = key in self.own.get("requantize", {})
            where = (*path, "requantize", key) if own else ("requantize", key)
            for name in program.names:
                if name not in known:
                    yield where, f"{self.kind.name} has no operand {name!r}", ", ".join(known)

    def _wrong_expressions(self) -> Iterator[Problem]:
        path, known = ("ops", self.kind.name), self.known_names()
        for prefix, factor in self.factors.items():
            yield from self._unknown((*path, FACTORS if prefix else "factor"), factor, (*REAL_NAMES, "count"))
        for name, constant in self.constants.items():
            where = (*path, "constants", name) if name in self.own.get("constants", {}) else ("constants", name)
            yield from self._unknown(where, constant, (*REAL_NAMES, *known))
        if "bias" in self.kind.names:
            where = (*path, "bias", "scale") if "bias" in self.own else ("bias", "scale")
            yield from self._unknown(where, self.get("bias.scale"), ("input_scale", "weight_scale", "output_scale"))

    def _unknown(self, path: tuple[str, ...], expression: Expression, known: tuple[str, ...]) -> Iterator[Problem]:
        for name in expression.names:
            if name not in known:
                yield path, f"{self.kind.name} knows no {name!r}", ", ".join(dict.fromkeys(known))
