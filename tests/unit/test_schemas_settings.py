"""Settings: every bad file is refused with the path of the field, every good one is read back as it was written."""

from __future__ import annotations

import pickle
import random
import re
from pathlib import Path

import msgspec
import pytest

from schemas.fields import ANCHORS, SettingsError
from schemas.rules import Crowding, Loitering
from schemas.settings import SiteSettings, fingerprint, index_cameras
from schemas.settings_file import MAX_FILE_BYTES, load_settings, parse_settings
from simulator.geometry import ANCHOR_FRACTIONS
from simulator.layout import scene_settings, settings_yaml

REPO = Path(__file__).parent.parent.parent
GOOD = """\
version: 1
site: yard
timezone: Europe/Vienna
cameras:
  - id: gate
    source: {url: "rtsp://10.0.0.5:554/stream1", username: viewer, password_file: /etc/sightflow/gate.password}
    zones:
      - {id: drive, polygon: [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]], classes: [person, car]}
    tripwires:
      - {id: line, points: [[0.5, 0.1], [0.5, 0.9]]}
    rules:
      - {id: crowd, type: crowding, zone: drive, count: 3}
      - {id: loiter, type: loitering, zone: drive, since_s: 30}
"""


def test_a_good_file_is_read_with_its_defaults():
    settings = parse_settings(GOOD.encode())
    (camera,) = settings.cameras
    assert (settings.site, settings.tenant, settings.windows.length_s) == ("yard", "default", 10.0)
    assert (camera.zones[0].anchor, camera.zones[0].gap_s) == ("bottom_center", 2.0)
    assert camera.tripwires[0].band_ratio == 0.01
    assert [type(r) for r in camera.rules] == [Crowding, Loitering]
    assert camera.rules[0].version == 1


def swap(old: str, new: str) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new, 1).encode()


POLYGON = "[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
)
ZONE, WIRE, RULE = "cameras[0].zones[0]", "cameras[0].tripwires[0]", "cameras[0].rules[0]"

REFUSED: dict[str, tuple[bytes, str, str]] = {
    # name: (file, path in the error, words in the error)
    "self-crossing polygon": (
        swap(POLYGON, "[[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]]"), f"{ZONE}.polygon", "cross",
    ),
    "two points": (swap(POLYGON, "[[0.1, 0.1], [0.9, 0.9]]"), f"{ZONE}.polygon", "length >= 3"),
    "65 points": (swap(POLYGON, str([[i / 100, 0.5] for i in range(65)])), f"{ZONE}.polygon", "length <= 64"),
    "no area": (swap(POLYGON, "[[0.1, 0.1], [0.5, 0.5], [0.9, 0.90000001]]"), f"{ZONE}.polygon", "no area"),
    "closed polygon": (swap("[0.1, 0.9]]", "[0.1, 0.9], [0.1, 0.1]]"), f"{ZONE}.polygon", "close themselves"),
    "spike": (swap(POLYGON, "[[0.1, 0.1], [0.5, 0.1], [0.3, 0.1], [0.3, 0.6]]"), f"{ZONE}.polygon", "lies on"),
    "touching itself": (
        swap(POLYGON, "[[0.1, 0.1], [0.5, 0.5], [0.9, 0.1], [0.9, 0.9], [0.5, 0.5], [0.1, 0.9]]"),
        f"{ZONE}.polygon", "lies on",
    ),
    "NaN": (swap("[0.9, 0.1]", "[.nan, 0.1]"), f"{ZONE}.polygon[1]", "nan"),
    "infinity": (swap("[0.9, 0.1]", "[0.9, -.inf]"), f"{ZONE}.polygon[1]", "inf"),
    "pixels": (swap("[0.9, 0.1]", "[1152, 72]"), f"{ZONE}.polygon[1]", "0 to 1"),
    "three numbers": (swap("[0.9, 0.1]", "[0.9, 0.1, 0]"), f"{ZONE}.polygon[1]", "length 2"),
    "point of text": (swap("[0.9, 0.1]", '"0.9, 0.1"'), f"{ZONE}.polygon[1]", "array"),
    "one-point tripwire": (swap("[[0.5, 0.1], [0.5, 0.9]]", "[[0.5, 0.1]]"), f"{WIRE}.points", "length >= 2"),
    "tripwire of no length": (
        swap("[[0.5, 0.1], [0.5, 0.9]]", "[[0.5, 0.1], [0.5, 0.1]]"), f"{WIRE}.points[1]", "same point",
    ),
    "NaN band": (swap("id: line,", "id: line, band_ratio: .nan,"), f"{WIRE}.band_ratio", "float"),
    "NaN seconds": (swap("since_s: 30", "since_s: .nan"), "cameras[0].rules[1].since_s", "float"),
    "infinite seconds": (swap("since_s: 30", "since_s: .inf"), "cameras[0].rules[1].since_s", "<="),
    "negative seconds": (swap("count: 3}", "count: 3, hold_s: -1}"), f"{RULE}.hold_s", ">= 0"),
    "no seconds": (swap("since_s: 30", "since_s: 0"), "cameras[0].rules[1].since_s", "> 0"),
    "count of nobody": (swap("count: 3", "count: 0"), f"{RULE}.count", ">= 1"),
    "count and a half": (swap("count: 3", "count: 2.5"), f"{RULE}.count", "int"),
    "wrong type": (swap("count: 3", "count: three"), f"{RULE}.count", "int"),
    "boolean for a number": (swap("count: 3", "count: yes"), f"{RULE}.count", "int"),
    "huge number": (swap("since_s: 30", "since_s: 1" + "0" * 400), "cameras[0].rules[1].since_s", "range"),
    "number for a name": (swap("site: yard", "site: 42"), "site", "str"),
    "missing zone": (swap("zone: drive, count", "zone: drvie, count"), f"{RULE}.zone", "'drvie'"),
    "unknown class": (
        swap("    zones:", "    detector: {classes: [person, dog]}\n    zones:"), f"{ZONE}.classes[1]", "unknown class 'car'",
    ),
    "unknown class of a tripwire": (
        swap("    zones:", "    detector: {classes: [person, car]}\n    zones:").replace(b"id: line,", b"id: line, classes: [cat],"),
        f"{WIRE}.classes[0]", "unknown class 'cat'",
    ),
    "unknown rule": (swap("type: crowding", "type: croding"), f"{RULE}.type", "croding"),
    "rule without type": (swap("type: crowding, ", ""), RULE, "type"),
    "threshold missing": (swap(", count: 3", ""), RULE, "count"),
    "setting of another rule": (swap("count: 3", "count: 3, since_s: 4"), RULE, "since_s"),
    "unknown field": (swap("timezone:", "timezoen:"), "", "timezoen"),
    "unknown field deep down": (swap("id: line,", "id: line, colour: red,"), WIRE, "colour"),
    "unknown anchor": (swap("id: drive,", "id: drive, anchor: middle,"), f"{ZONE}.anchor", "middle"),
    "duplicate zone": (
        swap("    tripwires:", "      - {id: drive, polygon: [[0, 0], [1, 0], [1, 1]]}\n    tripwires:"),
        "cameras[0].zones[1].id", "already",
    ),
    "duplicate rule": (swap("id: loiter", "id: crowd"), "cameras[0].rules[1].id", "already"),
    "duplicate camera": (GOOD.encode() + b"  - {id: gate}\n", "cameras[1].id", "already"),
    "no cameras": (b"version: 1\nsite: yard\ncameras: []\n", "cameras", "length >= 1"),
    "cameras missing": (b"version: 1\nsite: yard\n", "", "cameras"),
    "later version": (swap("version: 1", "version: 2"), "version", "2"),
    "version missing": (swap("version: 1\n", ""), "", "version"),
    "unknown time zone": (swap("Europe/Vienna", "Europe/Wien"), "timezone", "Wien"),
    "time zone as a way out": (swap("Europe/Vienna", "../../etc/passwd"), "timezone", "unknown"),
    "name with a slash": (swap("site: yard", "site: a/b"), "site", "starting with a letter or digit, got 'a/b'"),
    "name for line protocol": (swap("id: gate", 'id: "gate,site=evil"'), "cameras[0].id", "starting with a letter"),
    "name with a line end": (swap("id: gate", 'id: "gate\\n"'), "cameras[0].id", "starting with a letter"),
    "empty name": (swap("id: gate", 'id: ""'), "cameras[0].id", "length >= 1"),
    "label with a control character": (swap("[person, car]", '["per\\tson"]'), f"{ZONE}.classes[0]", "match"),
    "address of another kind": (swap("rtsp://", "http://"), "cameras[0].source.url", "match"),
    "address with a pipeline in it": (
        swap("stream1", "x ! filesink location=/tmp/x"), "cameras[0].source.url", "match",
    ),
    "password in settings": (swap("username: viewer", "password: secret"), "cameras[0].source", "password"),
    "10 MB": (GOOD.encode() + b"#" * (10 << 20), "", str(MAX_FILE_BYTES)),
    "alias bomb": (BOMB.encode(), "", "aliases"),
    "alias": (swap("id: crowd", "id: &x crowd") + b"      - *x\n", "", "aliases"),
    "duplicate key": (swap("site: yard", "site: yard\nsite: other"), "", "'site' is given twice"),
    "duplicate key deep down": (swap("id: line,", "id: line, id: line,"), "", "'id' is given twice"),
    "tab": (swap("    zones:", "\tzones:"), "", "YAML"),
    "tag": (swap("count: 3", 'count: !!int ""'), "", "tags"),
    "tag that runs code": (swap("count: 3", "count: !!python/object/apply:os.system [id]"), "", "tags"),
    "set": (swap("[person, car]", "!!set {person, car}"), "", "tags"),
    "key that is a list": (swap("site: yard", "? [a, b]\n: yard"), "", "plain word"),
    "key that is a number": (swap("site: yard", "1: yard"), "", "str"),
    "number as long as a book": (swap("count: 3", "count: 1" + ":1" * 5000), "", "4096"),
    "two documents": (GOOD.encode() + b"---\na: 1\n", "", "YAML"),
    "deep nesting": (b"[" * 100_000, "", "YAML"),
    "open bracket": (GOOD.encode() + b"x: [", "", "YAML"),
    "zero byte": (swap("yard", "ya\0rd"), "", "YAML"),
    "not text": (b"site: \xc3\x28", "", "YAML"),
    "silence that rounds to nothing": (
        swap("    zones:\n", "    silence_s: 1.0e-9\n    zones:\n"), "cameras[0].silence_s", ">= 0.1",
    ),
    "empty": (b"", "", "null"),
    "a list": (b"- 1\n", "", "array"),
    "a word": (b"hello", "", "str"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_file_is_refused_with_its_path(name):
    raw, path, words = REFUSED[name]
    with pytest.raises(SettingsError) as caught:
        parse_settings(raw, "site.yaml")
    assert caught.value.path == path
    assert words in caught.value.problem
    assert str(caught.value).startswith("site.yaml: ")


def test_hours_and_dates_need_no_quotes_and_numbers_may_have_an_exponent():
    hours = "schedules: [{id: s, periods: [{start: 20:00, end: 08:30}], except_dates: [2026-12-24]}]\ncameras:\n"
    settings = parse_settings(swap("cameras:\n", hours).replace(b"since_s: 30", b"since_s: 3e1"))
    (schedule,) = settings.schedules
    assert (schedule.periods[0].start, schedule.periods[0].end) == ("20:00", "08:30")
    assert schedule.except_dates == ("2026-12-24",)
    assert settings.cameras[0].rules[1].since_s == 30.0


def test_no_environment_is_expanded():
    (camera,) = parse_settings(swap("/etc/sightflow/gate.password", '"$HOME/${USER}"')).cameras
    assert camera.source.password_file == "$HOME/${USER}"


TOKENS = [b'!!int ""', b"!!set {a}", b".nan", b"1e999", b"9" * 400, b"2001-99-99", b"{", b"[", b"?", b"&a", b"*a", b"\t",
          b": ", b"- ", b"|", b'"', b"'", b"0x_", b"1:99", b"=", b"<<", b"~", b"%YAML 1.1\n", b"---\n", b"\0", b"\xff",
          b"!!pairs [a: 1]", b"._", b"\xef\xbb\xbf"]  # fmt: skip


def test_damaged_files_are_refused_or_read_and_nothing_else():
    rng = random.Random(1)
    for _ in range(1500):
        raw = bytearray(GOOD.encode())
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(raw))
            match rng.randrange(4):
                case 0:
                    raw[at] = rng.randrange(256)
                case 1:
                    del raw[at : at + rng.randint(1, 9)]
                case 2:
                    raw[at:at] = rng.choice(TOKENS)
                case _:
                    spots = list(re.finditer(rb"(?<=[ \[])[A-Za-z0-9._-]+(?=[,\]}\n])", bytes(raw)))
                    spot = rng.choice(spots)
                    raw[spot.start() : spot.end()] = rng.choice(TOKENS)
        try:
            parse_settings(bytes(raw))
        except SettingsError:
            pass


def test_every_site_file_of_the_repository_is_read():
    for path in sorted((REPO / "sites").glob("*.yaml")):
        assert load_settings(path).version == 1


def test_a_missing_file_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")


def test_a_fingerprint_depends_on_values_alone():
    settings = parse_settings(GOOD.encode())
    assert fingerprint(pickle.loads(pickle.dumps(settings))) == fingerprint(settings)
    spelt = GOOD.replace("site: yard\n", "site: yard\nwindows: {length_s: 10.0}\ntenant: default\n")
    assert fingerprint(parse_settings(spelt.encode())) == fingerprint(settings)
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=SiteSettings)
    assert fingerprint(told) == fingerprint(settings)


def test_fingerprints_differ_with_any_setting_and_not_with_the_layout_of_the_file():
    settings = parse_settings(GOOD.encode())
    assert fingerprint(settings) == fingerprint(parse_settings(settings_yaml(settings).encode()))
    assert fingerprint(settings) != fingerprint(parse_settings(swap("since_s: 30", "since_s: 31")))


def test_a_camera_may_belong_to_one_site_only():
    one, other = scene_settings(1, site="one"), scene_settings(1, site="other")
    assert index_cameras([one])["cam-000"][0] is one
    with pytest.raises(SettingsError, match="cam-000"):
        index_cameras([one, other])


def test_the_simulator_knows_every_anchor():
    assert set(ANCHOR_FRACTIONS) == set(ANCHORS)


POSE = """    pose:
      rotation: [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
      translation_mm: [0, 3000, 0]
      intrinsic: [[1100, 0, 640], [0, 1100, 360], [0, 0, 1]]
"""


def with_pose(old: str = "", new: str = "") -> bytes:
    assert old in POSE
    return (
        swap("    zones:\n", POSE.replace(old, new, 1) + "    zones:\n")
        if old
        else swap("    zones:\n", POSE + "    zones:\n")
    )


def test_a_pose_and_a_tracker_are_read_and_written_back():
    settings = parse_settings(with_pose())
    pose = settings.cameras[0].pose
    assert pose is not None and pose.translation_mm == (0, 3000, 0)
    assert parse_settings(settings_yaml(settings).encode()) == settings
    assert parse_settings(swap("    zones:\n", "    tracker: sort\n    zones:\n")).cameras[0].tracker == "sort"
    with pytest.raises(SettingsError, match=r"cameras\[0\].tracker"):
        parse_settings(swap("    zones:\n", "    tracker: deepsort\n    zones:\n"))


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("[0, -1, 0], [0, 0, -1]", "[0, -1, 0], [0, -1, 0]", r"cameras\[0\].pose.rotation"),
        ("[0, -1, 0]", "[0, -2, 0]", r"cameras\[0\].pose.rotation"),
        ("[0, -1, 0]", "[0, 1, 0]", r"cameras\[0\].pose.rotation: expected determinant"),
        ("3000", ".nan", r"cameras\[0\].pose"),
        ("3000", "1", r"cameras\[0\].pose: expected a camera at least"),
        ("[1100, 0, 640]", "[-1100, 0, 640]", r"cameras\[0\].pose.intrinsic"),
        ("[0, 0, 1]]\n", "[0, 0, 2]]\n", r"cameras\[0\].pose.intrinsic"),
        ("[0, 3000, 0]", "[0, 3000]", r"cameras\[0\].pose.translation_mm"),
    ],
)
def test_a_pose_that_is_none_is_refused_with_its_path(old: str, new: str, path: str):
    with pytest.raises(SettingsError, match=path):
        parse_settings(with_pose(old, new))
