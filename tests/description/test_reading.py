"""Descriptions that break the schema: every problem with file, line, key, what is allowed; inheritance; the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from qgraph import targets
from qgraph.description.description import Description
from qgraph.description.reading import DescriptionError, Source, described, read, source_of
from qgraph.description.template import page, template
from tests.description.chips import BASIC, written

README = Path(__file__).resolve().parents[2] / "qgraph" / "description" / "README.md"

WRONG = """[target]
name = "My chip"
evidence = "sure"

[scale]
bitts = 15
bits = 99

[requantize]
stages = ["add bias", "shift rigth 3 floor"]

[ops.conv]
[ops.convolution]

[ops.add]
requantize.stages = ["add second", "multiply gain"]
"""


def test_every_problem_of_a_file_is_named_with_its_line_and_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError) as error:
        read(Path(written(tmp_path, WRONG)))
    text = str(error.value)
    assert text.startswith("chip.toml has 5 problems\n")
    assert "chip.toml:3: [target] evidence: 'sure' is not one of them\n" in text
    assert 'allowed: "proven" | "simulator" | "read" | "documented" | "unknown"\n' in text
    assert "chip.toml:6: [scale] bitts: there is no such key; did you mean 'bits'?\n" in text
    assert "chip.toml:7: [scale] bits: 99 is no whole number from 1 to 62\n" in text
    assert 'chip.toml:10: [requantize] stages: stage 2 "shift rigth 3 floor": "rigth" does not fit there\n' in text
    assert "chip.toml:13: [ops] convolution: there is no such op; did you mean 'conv'?\n" in text


def test_what_does_not_fit_together_is_named_where_it_stands(tmp_path: Path) -> None:
    text = BASIC.replace('name = "basic"', 'name = "Basic"').replace(
        '"multiply second_multiplier", ', '"multiply gain", '
    )
    text = text.replace("[requantize]", '[constants]\nhalf = "1 << shft"\n\n[requantize]')
    with pytest.raises(DescriptionError) as error:
        read(Path(written(tmp_path, text)))
    told = str(error.value)
    assert "chip.toml:3: [target] name: 'Basic' is no name" in told
    assert "[ops.add.requantize] second: add has no operand 'gain'" in told
    assert "chip.toml:12: [constants] half: conv knows no 'shft'" in told
    assert "second_multiplier" in told


def test_a_text_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match=r"chip\.toml is no TOML: .*line 2"):
        read(Path(written(tmp_path, "[target]\nname = \n")))


def test_a_variant_changes_single_keys_of_what_it_inherits(tmp_path: Path) -> None:
    written(tmp_path, BASIC, "base.toml")
    text = (
        '[target]\nname = "variant"\ninherits = "base.toml"\n[ops.conv.scale]\nbits = 8\n[ops.mul]\nsupported = false\n'
    )
    made = read(Path(written(tmp_path, text)))
    assert (made.name, made.op("conv").get("scale.bits"), made.op("linear").get("scale.bits")) == ("variant", 8, 15)
    assert made.op("conv").stages() == made.op("linear").stages()
    assert not made.op("mul").supported


def test_what_a_variant_inherits_from_has_to_be_there(tmp_path: Path) -> None:
    text = '[target]\nname = "variant"\ninherits = "elsewhere"\n'
    with pytest.raises(
        DescriptionError, match=r"chip\.toml:3: \[target\] inherits: there is no description 'elsewhere'"
    ):
        read(Path(written(tmp_path, text)))
    with pytest.raises(DescriptionError, match="inherits from itself"):
        read(Path(written(tmp_path, text.replace("elsewhere", "chip.toml"))))


def test_the_template_describes_a_chip_as_it_is() -> None:
    made = described(source_of("new", template("new")))
    assert made.op("conv").supported
    assert not made.op("add").supported


def test_the_template_shows_the_defaults() -> None:
    text = "\n".join(line.removeprefix("# ") for line in template("new").splitlines() if _is_key(line))
    tables = source_of("new", text).tables
    tables.pop("constants")
    plain = described(source_of("new", template("new")))
    full = described(Source("new", {**tables, "ops": {name: {} for name in plain.tables["ops"]}}))
    for table in ("activation", "weight", "bias", "accumulator", "scale", "limits"):
        for key in full.tables[table]:
            if key not in ("kernels",):
                assert full.get(f"{table}.{key}") == plain.get(f"{table}.{key}"), (table, key)


def _is_key(line: str) -> bool:
    text = line.removeprefix("# ")
    if text.startswith(
        ("[ops", "factor", "grid", "divisor", "pad_value", "equal_scales", "inherits", "bytes_per_cycle")
    ):
        return False
    if text.startswith(("macs_per_cycle", "elements_per_cycle", "clock_mhz")):
        return False
    return text.startswith("[") or (" = " in text and text.split(" = ")[0].isidentifier())


def test_a_description_survives_its_text() -> None:
    import json

    for name in targets.described_names():
        path = targets.description_path(name)
        assert path is not None
        made = read(path)
        again: Description = described(Source("text", json.loads(made.text)))
        assert again == made


def test_the_page_of_the_schema_is_what_the_code_says() -> None:
    assert README.read_text(encoding="utf-8") == page(), "python -m qgraph.description > qgraph/description/README.md"


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ('[accumulator]\nwidth = "s32 clip"', '"s32 clip" is not an accumulator'),
        ('[accumulator]\norder = "x y"', '"x y" is not an order of products'),
        ('[ops.sub]\nrequantize.stages = ["clamp low high"]', "the stages of sub do not read `second`"),
        ("[weight]\nstorage = 8", "8 is no integer type of 1 to 8 bits"),
        ("[limits]\nkernels = 3", "3 is no list"),
        ("[scale]\nshift = [9, 1]", "9 is above 1"),
        ("[constants]\nhalf = \"__import__('os')\"", "is more than arithmetic"),
        ('[constants]\nhalf = "1 +"', "is no expression"),
        ('[bias]\nscale = "input_scal"', "conv knows no 'input_scal'"),
        ("[[memory]]\nweight_bytes = 1", "there is no such table"),
    ],
)
def test_a_wrong_value_is_refused_in_words(tmp_path: Path, table: str, wanted: str) -> None:
    base = BASIC.split("[scale]")[0] + BASIC.split('too_small = "zero"')[1] if table.startswith("[scale]") else BASIC
    with pytest.raises(DescriptionError) as error:
        read(Path(written(tmp_path, f"{base}\n{table}\n")))
    assert wanted in str(error.value)
