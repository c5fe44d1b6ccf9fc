"""The tables of field numbers against the bindings that ship with the runtime, and their own consistency."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from qgraph.exporters.flat import Field
from qgraph.exporters.tflite.enums import ENUMS, OPERATORS
from qgraph.exporters.tflite.schema import FIELD_OF_UNION, OPTIONS_OF, TABLES, UNIONS

bindings = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs qgraph-compiler[litert]")


def camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def enumerators(module: ModuleType, name: str) -> list[str]:
    members = {key: value for key, value in vars(getattr(module, name)).items() if not key.startswith("_")}
    return sorted(members, key=lambda key: members[key])


@pytest.mark.parametrize("name", sorted(set(ENUMS) - {"TensorType"}))
def test_enumerators_have_the_numbers_of_the_runtimes_bindings(name: str) -> None:
    theirs = [re.sub("^STABLEHLO_COMPARISON_(DIRECTION|TYPE)_", "", key) for key in enumerators(bindings, name)]
    assert theirs == list(ENUMS[name])


def test_tensor_types_have_the_numbers_of_the_runtimes_bindings() -> None:
    short = {"FLOAT": "f", "INT": "i", "UINT": "u", "BFLOAT": "bf", "COMPLEX": "c"}
    theirs = [
        re.sub(r"^([A-Z]+)(\d+)_?(\w*)$", lambda m: short[m[1]] + m[2] + m[3], name)
        for name in enumerators(bindings, "TensorType")
    ]
    assert [name.lower() for name in theirs] == list(ENUMS["TensorType"])


@pytest.mark.parametrize("name", UNIONS)
def test_union_members_have_the_numbers_of_the_runtimes_bindings(name: str) -> None:
    assert enumerators(bindings, name) == ["NONE", *UNIONS[name]]


class SlotRecorder:
    """Stands in for a builder: remembers which slot a generated function fills, with which type and default."""

    def __getattr__(self, name: str) -> object:
        return lambda *args: setattr(self, "call", (name, args))


@pytest.mark.parametrize("table", sorted(TABLES))
def test_fields_have_the_numbers_types_and_defaults_of_the_runtimes_bindings(table: str) -> None:
    for field in TABLES[table].values():
        adder = getattr(bindings, f"{table}Add{camel(field.name)}", None)
        if field.name in ("new_height", "new_width"):
            continue
        assert adder is not None, field
        recorder = SlotRecorder()
        adder(recorder, 1)
        function, (number, _, default) = recorder.call
        assert number == field.number
        assert function == f"Prepend{slot_type(field)}Slot"
        assert default == stored_default(field)


def slot_type(field: Field) -> str:
    if field.kind not in ("scalar", "enum"):
        return "UOffsetTRelative"
    kind = {"i": "Int", "u": "Uint", "f": "Float"}.get(field.storage[0])
    return kind + field.storage[1:] if kind else "Bool"


def stored_default(field: Field) -> object:
    return ENUMS[field.type].index(str(field.default)) if field.kind == "enum" else field.default


def test_tables_of_options_have_every_field_of_the_runtimes_bindings() -> None:
    for name in (*UNIONS["BuiltinOptions"], *UNIONS["BuiltinOptions2"]):
        adders = [key for key in vars(bindings) if re.fullmatch(f"{name}Add[A-Z]\\w*", key)]
        assert {f"{name}Add{camel(field)}" for field in TABLES[name]} == set(adders)


def test_every_options_table_belongs_to_an_operator() -> None:
    assert set(OPTIONS_OF) < set(OPERATORS)
    assert {table for _, table in OPTIONS_OF.values()} == {m for union in FIELD_OF_UNION for m in UNIONS[union]}


def test_tables_nest_without_a_cycle_so_that_reading_ends() -> None:
    def depth(table: str, above: tuple[str, ...]) -> int:
        assert table not in above
        inner = [f.type for f in TABLES.get(table, {}).values() if f.kind in ("table", "tables")]
        members = [m for f in TABLES.get(table, {}).values() if f.kind == "union" for m in UNIONS[f.type]]
        return 1 + max((depth(name, (*above, table)) for name in (*inner, *members)), default=0)

    assert depth("Model", ()) == 5
