"""The corpus of bad settings: each is refused with path and reason, as a file, by `sightflow settings apply` and as a message to a
running stage, whose old version stays in force.

Each file of tests/data/bad-settings says in its first lines where and why; `as text only`: as a message it cannot be written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml

from operators.stages.live_camera import LiveCameraStage
from operators.stages.stage import Input, Output
from schemas import topics
from schemas.fields import SettingsError
from schemas.live_settings import SettingsAck, new_version, version_key
from schemas.settings import Camera, SiteSettings, fingerprint
from schemas.settings_file import MAX_FILE_BYTES, _PlainLoader, parse_settings
from schemas.topics import MAX_MESSAGE_BYTES
from schemas.wire import TrackFrame, decode, encode
from sightflow import cli
from tests.unit.operators.scenes import CAMERA, START_US, letters_of, make_frame, to_input

FOLDER = Path(__file__).parent.parent / "data" / "bad-settings"
SMALL = "version: 1\nsite: yard\ncameras:\n  - id: cam-000\n"
DEPTH = 5_000
OLD = SiteSettings(version=1, site="yard", cameras=(Camera(id=CAMERA, silence_s=7.0),))


class Bad(NamedTuple):
    """A bad site file, and what its refusal is to say."""

    raw: bytes
    path: str
    words: str
    text_only: bool


def _of_file(path: Path) -> Bad:
    where, why, *rest = path.read_text().splitlines()
    return Bad(
        path.read_bytes(), where.removeprefix("# refused at: ").replace("-", "", where.endswith(": -")),
        why.removeprefix("# because: "), rest[:1] == ["# as text only"],
    )  # fmt: skip


CORPUS = {path.stem: _of_file(path) for path in sorted(FOLDER.glob("*.yaml"))} | {
    "10 MB of comment": Bad(SMALL.encode() + b"#" * (10 << 20), "", str(MAX_FILE_BYTES), True),
    "10 MB of cameras": Bad(
        (SMALL + "".join(f"  - id: camera-{i}\n" for i in range(500_000))).encode(), "", str(MAX_FILE_BYTES), True
    ),
    "70 rules": Bad(
        f"{SMALL}    rules: [{', '.join(f'{{id: r{i}, type: stopped}}' for i in range(70))}]\n".encode(),
        "cameras[0].rules", "length <= 64", False,
    ),
    "polygon of 1,000 points": Bad(
        f"{SMALL}    zones: [{{id: z, polygon: [{', '.join(f'[0.{i:03}, 0.5]' for i in range(1000))}]}}]\n".encode(),
        "cameras[0].zones[0].polygon", "length <= 64", False,
    ),
    "deep lists": Bad(f"{SMALL}    zones: {'[' * DEPTH}{']' * DEPTH}\n".encode(), "", "YAML", True),
    "deep maps": Bad(f"{SMALL}    zones: {'{a: ' * DEPTH}{'}' * DEPTH}\n".encode(), "", "YAML", True),
    "number of 5,000 digits": Bad(f"{SMALL}    silence_s: {'9' * 5000}\n".encode(), "", "4096", True),
}  # fmt: skip


def test_there_is_something_of_every_kind() -> None:
    kinds = {name.partition("-")[0] for name in CORPUS}
    assert kinds >= {"zone", "tripwire", "counter", "heat", "ground", "schedule", "rule", "windows", "camera", "file"}
    assert len(CORPUS) > 100 and all(bad.words for bad in CORPUS.values())


@pytest.mark.parametrize("name", CORPUS)
def test_a_bad_file_is_refused_with_path_and_reason(name: str) -> None:
    bad = CORPUS[name]
    with pytest.raises(SettingsError) as caught:
        parse_settings(bad.raw, "site.yaml")
    assert caught.value.path == bad.path
    assert bad.words in caught.value.problem
    assert len(caught.value.problem) < 1000


@pytest.mark.parametrize("name", CORPUS)
def test_the_command_refuses_it_before_kafka_is_asked(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_end_on_terminate", lambda: None)
    bad, file = CORPUS[name], tmp_path / "site.yaml"
    file.write_bytes(bad.raw)
    assert cli.main(["settings", "apply", str(file), "--bootstrap-servers", "127.0.0.1:1"]) == 1
    told = capsys.readouterr().err
    assert "nothing was sent" in told
    assert f"{file}: {bad.path}" in told and bad.words in told


@pytest.fixture(scope="module")
def stage() -> LiveCameraStage:
    made = LiveCameraStage([OLD])
    made.open()
    return made


@pytest.mark.parametrize("name", [name for name, bad in CORPUS.items() if not bad.text_only])
def test_as_a_message_it_is_refused_and_the_old_version_stays(name: str, stage: LiveCameraStage) -> None:
    bad = CORPUS[name]
    (ack,) = acks_of(stage.on_settings(*message_of(yaml.load(bad.raw, Loader=_PlainLoader))))
    assert (ack.status, ack.errors[0].path) == ("failure", bad.path)
    assert bad.words in ack.errors[0].problem
    frame = to_input(make_frame(0, START_US, site="yard"), 0)
    (track_frame,) = [
        decode(o.value, TrackFrame) for o in stage.logic(CAMERA).on_record(frame) if o.topic == topics.TRACKS
    ]
    assert track_frame.settings == fingerprint(OLD)


def message_of(tree: Any) -> tuple[str, Input]:
    """Return a version of the site `yard` with that tree for its settings."""
    version = new_version(OLD, 1, START_US, START_US, "", "")
    bad = msgspec.structs.replace(version, settings=msgspec.Raw(msgspec.msgpack.encode(tree)))
    return version_key(bad.site, 1, bad.fingerprint), Input(encode(bad), 0, 0, 0)


def acks_of(outputs: list[Output]) -> list[SettingsAck]:
    """Return the acknowledgements among outputs."""
    return [decode(o.value, SettingsAck) for o in outputs if o.topic == topics.SETTINGS_ACKS]


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 10 << 20])
def test_a_message_that_is_too_large_becomes_a_dead_letter(size: int, stage: LiveCameraStage) -> None:
    key, record = message_of({"version": 1, "site": "yard", "cameras": [{"id": "x" * size}]})
    (letter,) = letters_of(stage.on_settings(key, record))
    assert (letter.reason, letter.topic) == ("too_large", topics.SETTINGS)


def test_a_message_of_too_many_cameras_is_refused(stage: LiveCameraStage) -> None:
    tree = {"version": 1, "site": "yard", "cameras": [{"id": f"camera-{i}"} for i in range(10_001)]}
    (ack,) = acks_of(stage.on_settings(*message_of(tree)))
    assert (ack.status, ack.errors[0].path) == ("failure", "cameras") and "length <= 10000" in ack.errors[0].problem


def test_a_message_that_is_nested_deeply_is_refused(stage: LiveCameraStage) -> None:
    version = new_version(OLD, 1, START_US, START_US, "", "")
    bad = msgspec.structs.replace(version, settings=msgspec.Raw(b"\x91" * DEPTH + b"\xc0"))
    out = stage.on_settings(version_key("yard", 1, bad.fingerprint), Input(encode(bad), 0, 0, 0))
    assert [letter.reason for letter in letters_of(out)] == ["not_messagepack"] and not acks_of(out)
