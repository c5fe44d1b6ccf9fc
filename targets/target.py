"""What a target is: data and a few functions. Each folder beside this file holds one, as `TARGET` in its
`__init__.py`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from qgraph.errors import InputError, UnsupportedOp
from qgraph.exporters.content import Content
from qgraph.exporters.onnx_forms import ModelFacts
from qgraph.ir import Array, Graph, Node, TensorType, op_def
from qgraph.runtimes import Processor
from qgraph.targets.correspondence import Call, Correspondence, Refusal
from qgraph.targets.lowering import Lowering
from qgraph.targets.releases import number
from qgraph.targets.rules import QuantRules

Kernel = Callable[..., Any]
"""Stands in for the `evaluate` of a dialect's op: (op instance, *operand arrays) -> array."""
FloatProgram = Callable[[Mapping[str, Array]], Sequence[Array]]
"""Arrays by input name -> the outputs of a float graph."""
CForm = Callable[[Any, Any], None]
"""Writes what an op instance becomes in C: (`c_source.Emission`, op instance)."""


@dataclass(frozen=True)
class Option:
    """One option of a target: the words that it admits (the first is the default) and what they mean."""

    choices: tuple[str, ...]
    help: str


def kernels_in(package: str, folder: Iterable[str], table: str = "KERNELS") -> dict[str, Kernel]:
    """All kernels of a target: the tables `KERNELS` of the modules in its folder (`__name__`, `__path__`).

    `table="EXPLAIN"`: functions that say in words what is computed for an op instance, where that depends on it.
    """
    found: dict[str, Kernel] = {}
    for module in pkgutil.iter_modules(folder):
        found.update(getattr(importlib.import_module(f"{package}.{module.name}"), table, {}))
    return found


def not_offered(reason: str) -> Kernel:
    """A kernel for an op that the target's runtime does not offer; it raises UnsupportedOp with the reason."""

    def kernel(op: Any, *operands: Any) -> Any:
        raise UnsupportedOp(reason, help="run it as another target of the family: see `qgraph targets`")

    kernel.lacks = reason  # type: ignore[attr-defined]  # for lowering
    return kernel


def _by_source(rows: Iterable[Correspondence]) -> dict[str, list[Correspondence]]:
    found: dict[str, list[Correspondence]] = {}
    for row in rows:
        if row.lowers:
            found.setdefault(f"nn.{row.source}", []).append(row)
    return found


def makes_no_floats(op: str) -> bool:
    """Whether an op of `nn` makes nothing but indices or conditions."""
    return not any(spec.pattern.admits(TensorType((), "f32")) for spec in op_def(op).results)


def no_notes(graph: Graph, processor: Processor) -> Sequence[str]:
    """Nothing to say: the target's integers are the same on every processor."""
    return ()


@dataclass(frozen=True)
class Target:
    """A target: quantization rules, dialect, lowering, file formats, runtime.

    `rules(**options)` gives the quantization rules; `correspondences` pairs `nn` ops and the dialect's;
    `kernels` replaces the `evaluate` of some of the dialect's ops (a variant of a family says only what differs);
    `exporters` and `importers` map file suffixes to functions; `runtime` names the program and its options that run
    such a file on the real thing; `processors` says where the integers have been compared with it.
    """

    name: str
    summary: str
    dialect: str
    rules: Callable[..., QuantRules]
    correspondences: Sequence[Correspondence]
    layout: str  # "NHWC" or "NCHW": of rank-4 values
    io: str  # "integer" or "float": what a lowered graph takes and gives by default
    quantize_op: str  # float -> integer, in the dialect
    dequantize_op: str
    requantize: Callable[[Lowering, Any, Any], Any]
    clamp: Callable[[Lowering, Any, int, int], Any]  # a value whose codes are within lowest and highest (inclusive)
    exporters: Mapping[str, Callable[..., bytes]]
    importers: Mapping[str, Callable[[Content], Graph]]
    runtime: str
    runtime_options: Mapping[str, str] = field(default_factory=dict)
    one_by_one: bool = False  # the runtime takes the sizes of the file as they are: one example where a batch is open
    keeps_states: bool = False  # its files and runtime have variables: states are no inputs and outputs there
    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    evidence: str = ""  # the package whose evidence.json says what was compared with the runtimes, op by op
    explain: Mapping[str, Kernel] = field(default_factory=dict)  # op -> what is computed for an instance, in words
    arithmetic: Mapping[str, str] = field(default_factory=dict)  # op -> what its own `evaluate` computes, in words
    advice: Mapping[str, str] = field(default_factory=dict)  # op -> what to change where targets have to agree on it
    options: Mapping[str, Option] = field(default_factory=dict)
    raising: Callable[[Graph], Graph] | None = None  # the way back: integer level -> fake-quant level
    optimizations: Mapping[str, Callable[[Graph, ModelFacts], None]] = field(default_factory=dict)
    """Level of optimization -> what the runtime makes of an ONNX model that was read node by node, the default first;
    empty for a target that runs no ONNX models of other tools."""
    requantizes_in_float: bool = False  # to other parameters by dequantizing and quantizing, as it has no op for it
    legalize: Sequence[str] = ()  # ops that have better forms in some cases: `passes/legalize.py`
    floats: Sequence[Correspondence] = ()  # rows by which ops are lowered that stay in float
    plains: Sequence[Correspondence] = ()  # rows of ops that make integers or conditions, before those of `floats`
    float_ops: Mapping[str, str] = field(default_factory=dict)  # op of those rows -> the dialect's op on floats
    exact_in_float: Callable[[Node], bool] | None = None
    """Whether the runtime's bits of an op on floats are known, so that it may be in an island (`passes/rules/islands`);
    None: it has none, and floats only where there is no integer form."""
    fine_in_16: Callable[[Node], bool] | None = None
    """Whether an op has a form of 16 bits that may be in such an island; None: there are none."""
    forms: Sequence[str] = ()  # rewrites to what its rows take, as a graph is lowered: `passes/legalize.py`
    processors: str = ""
    indices: str = ""  # storage of indices among the inputs; "": as they are
    wide_bias: Mapping[str, str] = field(default_factory=dict)  # storage of activations -> of biases, but for i32
    limits: Mapping[str, Callable[[Call], Refusal | None]] = field(default_factory=dict)
    """op of the dialect -> scales that this target's kernel alone refuses or gets wrong"""
    proven: str = ""  # the release of the runtime that all evidence is of (`qgraph.targets.releases`)
    earlier: Mapping[str, Mapping[str, Kernel]] = field(default_factory=dict)  # release -> kernels of those before it
    c_forms: Mapping[str, CForm] = field(default_factory=dict)  # op of the dialect -> what it becomes in C99
    float_program: Callable[[Graph], FloatProgram | None] | None = None
    """Makes the target's runtime run a float graph, for calibration; None where it is not installed or lacks an op."""
    refusals: Mapping[str, str] = field(default_factory=dict)  # op of `nn` without a row -> why there is none
    description: Callable[[], str] | None = None  # all that there is to say of it, where it is described by a file
    estimate: Callable[[Graph], Mapping[str, str]] | None = None  # what a graph costs there, for the report
    claim: str = ""  # what its integers rest on, where there is no runtime that could be asked
    metadata: Mapping[str, str] = field(default_factory=dict)  # words that its graphs carry beside its name
    notes: Callable[[Graph, Processor], Sequence[str]] = no_notes
    """What `verify` should say of a graph on the processor where the runtime answered."""

    def kernels_at(self, release: str) -> Mapping[str, Kernel]:
        """The kernels of a release of the runtime; of the proven one for ""."""
        if not release:
            return self.kernels
        changed = [self.earlier[limit] for limit in sorted(self.earlier, key=number) if number(release) < number(limit)]
        return {**self.kernels, **{op: kernel for kernels in reversed(changed) for op, kernel in kernels.items()}}

    def lacks(self, op: str) -> str:
        """Why the target's runtime does not offer an op of the dialect; "" where it does."""
        return getattr(self.kernels.get(op), "lacks", "")

    def lacks_storage(self, op: str, read: TensorType | None, made: TensorType) -> str:
        """Why the runtime's kernel of an op does not take plain integers or conditions that are read, or made; "" where
        it does."""
        lacking: Callable[..., str] | None = getattr(self.kernels.get(op), "lacks_storage", None)
        return "" if lacking is None else lacking(op, read, made)

    def as_stored(self, type: TensorType) -> TensorType:
        """The type of plain integers as the target stores them: it may narrow indices."""
        return replace(type, dtype=self.indices) if type.dtype == "i64" and self.indices else type

    @cached_property
    def lowerings(self) -> dict[str, list[Correspondence]]:
        """The rows that lower each op of `nn`."""
        return _by_source(self.correspondences)

    @cached_property
    def offered(self) -> frozenset[str]:
        """The ops of `nn` that have a row whose op the runtime has: one on integers that stand for numbers, or one that
        makes conditions or indices, whatever it reads."""
        never_float = {op: rows for op, rows in self.plain_lowerings.items() if makes_no_floats(op)}
        rows = {**never_float, **self.lowerings}.items()
        return frozenset(op for op, found in rows if not all(self.lacks(row.target) for row in found))

    @cached_property
    def float_lowerings(self) -> dict[str, list[Correspondence]]:
        """The rows that lower each op of `nn` that stays in float."""
        return _by_source(self.floats)

    @cached_property
    def kept_in_float(self) -> frozenset[str]:
        """The ops of `nn` that have a row whose op on floats the runtime has."""
        return frozenset(
            op
            for op, rows in self.float_lowerings.items()
            if not all(self.lacks(self.float_ops.get(row.target, row.target)) for row in rows)
        )

    @cached_property
    def plain_lowerings(self) -> dict[str, list[Correspondence]]:
        """The rows that lower each op of `nn` that makes integers or conditions."""
        return _by_source((*self.plains, *self.floats))

    @cached_property
    def raisings(self) -> dict[str, Correspondence]:
        """The row that raises each op of the dialect that has one."""
        found: dict[str, Correspondence] = {}
        for row in self.correspondences:
            if row.raises:
                found.setdefault(row.target, row)
        return found

    @cached_property
    def plain_raisings(self) -> dict[str, Correspondence]:
        """The row that raises each op of the dialect on integers and conditions without a scale."""
        found: dict[str, Correspondence] = {}
        for row in (*self.plains, *self.floats):
            if row.raises:
                found.setdefault(self.float_ops.get(row.target, row.target), row)
        return found

    def raising_of(self, op: str) -> Correspondence | None:
        """The row that raises an op of the dialect, whatever it computes with."""
        return self.raisings.get(op) or self.plain_raisings.get(op)

    def arithmetic_of(self, node: Node) -> str:
        """What the target computes for a node, in words: of its own kernel, or of the family's."""
        if node.op in self.explain:
            return str(self.explain[node.op](op_def(node.op).view(node)))
        kernel = self.kernels.get(node.op)
        if kernel is None:
            return self.arithmetic.get(node.op, "the family's common arithmetic")
        if not kernel.__doc__:
            return "a kernel of its own"
        return " ".join(inspect.cleandoc(kernel.__doc__).partition(" Source:")[0].split())

    def quant_rules(self, **options: str) -> QuantRules:
        """The rules for these options; raises InputError for an option or value that the target does not have."""
        for name, value in options.items():
            if name not in self.options:
                known = ", ".join(self.options) or "none"
                raise InputError(f"target {self.name} has no option {name!r}", help=f"its options: {known}")
            if value not in self.options[name].choices:
                known = ", ".join(self.options[name].choices)
                raise InputError(f"target {self.name}: {name}={value!r} is not a choice", help=f"choose from {known}")
        return self.rules(**options)
