"""The documents of wire and settings name every field, and their examples work."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import msgspec
import pytest

from schemas import alert_orders, live_settings, rules, settings, topics, wire
from schemas.fields import ANCHORS
from schemas.settings_file import parse_settings

DOCS = Path(__file__).parent.parent.parent / "docs"
GOLDEN = Path(__file__).parent.parent / "data" / "wire" / "v1"


def words_of(name: str) -> set[str]:
    return set(re.findall(r"[A-Za-z0-9_]+", (DOCS / name).read_text(encoding="utf-8")))


def structs_of(module) -> list[type]:
    kinds = [k for k in vars(module).values() if isinstance(k, type) and issubclass(k, msgspec.Struct)]
    return [k for k in kinds if k.__module__ == module.__name__]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("wire.md", wire), ("wire.md", live_settings), ("wire.md", alert_orders), ("settings.md", settings),
        ("rules.md", rules),
    ],
)  # fmt: skip
def test_every_field_is_explained(name, module):
    words = words_of(name)
    for kind in structs_of(module):
        missing = [f for f in kind.__struct_fields__ if f not in words]
        assert not missing, f"docs/{name} does not name {missing} of {kind.__name__}"


def test_every_topic_and_anchor_is_listed():
    text = (DOCS / "wire.md").read_text(encoding="utf-8")
    assert all(f"`{t.name}`" in text for t in topics.TOPICS)
    assert set(ANCHORS) <= words_of("settings.md")


def test_the_example_reader_reads_recorded_bytes():
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "wire.md").read_text(encoding="utf-8"), re.S)
    scope: dict = {}
    exec(code, scope)
    camera, at_s, found = scope["read"]((GOLDEN / "detections-two.msgpack").read_bytes())
    assert (camera, at_s) == ("cam-1", 1_700_000_000)
    (label, score, box), _ = found
    assert (label, score, box.tolist()) == ("person", 0.5, [160.0, 180.0, 640.0, 540.0])


def test_the_example_site_file_is_read():
    (text,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "settings.md").read_text(encoding="utf-8"), re.S)
    assert parse_settings(text.encode()).site == "yard"


def test_every_type_of_rule_has_a_section_with_its_drawing_and_every_default_is_right():
    text = (DOCS / "rules.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", text, re.S | re.M))
    for kind in rules.AnyRule.__args__:
        name = kind.__struct_config__.tag
        assert f"(img/rules/{name}.svg)" in sections[name]
        for field in msgspec.structs.fields(kind):
            row = re.search(rf"^\| `{field.name}` \| ([^|]*) \|", sections[name], re.M)
            if row and isinstance(field.default, float):
                assert float(row[1]) == field.default, (name, field.name)
            if row and row[1] == "required":
                assert field.required, (name, field.name)


def test_the_drawings_are_what_the_script_draws():
    spec = importlib.util.spec_from_file_location("draw_rules", DOCS / "img" / "draw_rules.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    drawings = script.drawings()
    assert all(path.read_text(encoding="utf-8") == drawn for path, drawn in drawings.items())
    names = {path.stem for path in drawings if path.parent.name == "rules"}
    assert names == {kind.__struct_config__.tag for kind in rules.AnyRule.__args__}
