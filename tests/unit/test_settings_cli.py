"""`sightflow settings`: what is wrong is told before Kafka is asked, and what jobs say is told in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.live_settings import MAX_VERSIONS, SettingsAck, SettingsProblem, new_version
from schemas.settings import SiteSettings
from schemas.settings_file import parse_settings
from sightflow import cli
from sightflow.errors import CheckFailed, SightflowError
from sightflow.settings.arguments import from_us, shown
from sightflow.settings.change import Answers, Refused, _tell
from sightflow.settings.show import said
from sightflow.settings.text import as_yaml
from sightflow.settings.topic import Kept, Site, too_old
from simulator.layout import scene_settings, settings_yaml
from tests.unit.test_schemas_settings import BOMB, GOOD, REFUSED

NOBODY = ["--bootstrap-servers", "127.0.0.1:1"]
SITE = scene_settings(2, site="yard")
NOW_US = 1_700_000_000_000_000


@pytest.fixture(autouse=True)
def no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_end_on_terminate", lambda: None)


@pytest.mark.parametrize("subcommand", ["apply", "diff"])
@pytest.mark.parametrize(
    "name", ["self-crossing polygon", "10 MB", "alias bomb", "missing zone", "NaN", "unknown class"]
)
def test_a_bad_file_is_refused_with_its_path_before_kafka_is_asked(
    subcommand: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, path, words = REFUSED[name]
    file = tmp_path / "site.yaml"
    file.write_bytes(raw)
    assert cli.main(["settings", subcommand, str(file), *NOBODY]) == 1
    told = capsys.readouterr().err
    assert "nothing was sent" in told and str(file) in told and path in told and words in told
    assert BOMB not in told


def test_a_time_that_is_none_is_refused_before_kafka_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(GOOD)
    assert cli.main(["settings", "apply", str(file), "--from", "soon", *NOBODY]) == 1
    assert "expected a time such as" in capsys.readouterr().err


def test_without_a_stack_it_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings", "history", "--run-dir", str(tmp_path)]) == 1
    assert "--bootstrap-servers" in capsys.readouterr().err


def test_times_are_in_the_sites_time_zone_unless_they_name_one() -> None:
    assert from_us("2026-05-01T08:00", "Europe/Vienna", 0) == from_us("2026-05-01T06:00:00Z", "UTC", 0)
    assert from_us("2026-05-01T08:00+05:30", "Europe/Vienna", 0) == from_us("2026-05-01T02:30", "UTC", 0)
    assert from_us(None, "UTC", NOW_US) == NOW_US + 2_000_000
    assert shown(NOW_US, "Europe/Vienna") == "2023-11-14 23:13:20.000+01:00"
    with pytest.raises(CheckFailed):
        from_us("1999-01-01", "UTC", 0)


def test_what_is_shown_can_be_applied() -> None:
    assert parse_settings(as_yaml(SITE).encode()) == SITE == parse_settings(settings_yaml(SITE).encode())


def kept(number: int, settings: SiteSettings = SITE) -> Kept:
    return Kept(new_version(settings, number, NOW_US, NOW_US, "me", "why"), settings)


def answer(
    number: int, stage: str, status: str, cameras: tuple[str, ...] = (), *errors: SettingsProblem
) -> SettingsAck:
    return SettingsAck(
        id="", stage=stage, status=status, site="yard", version=number,  # type: ignore[arg-type]
        fingerprint=kept(number).message.fingerprint, from_us=NOW_US, at_us=NOW_US, cameras=cameras, errors=errors,
    )  # fmt: skip


def test_no_answer_says_what_to_do() -> None:
    with pytest.raises(SightflowError) as told:
        _tell(kept(3).message, SITE, Answers(), 30)
    assert "version 3 of yard is on the topic" in str(told.value)
    assert "does a job run?" in told.value.remedy and "rollback" in told.value.remedy


def test_a_refusal_names_every_path() -> None:
    answers = Answers()
    answers.take(answer(3, "taken", "failure", (), SettingsProblem("cameras[0].id", "is taken")))
    with pytest.raises(Refused, match=r"cameras\[0\].id: is taken"):
        _tell(kept(3).message, SITE, answers, 30)


def test_cameras_that_are_late_and_cameras_that_wait_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    answers = Answers()
    answers.take(answer(3, "taken", "success", ("cam-000",)))
    answers.take(answer(3, "in_force", "partial", ("cam-000",), SettingsProblem("cameras[0]", "came when")))
    assert _tell(kept(3).message, SITE, answers, 30) == 0
    told = capsys.readouterr().out
    assert "it changes: cam-000" in told and "partial: cam-000" in told
    assert "1 of 2 cameras" in told and "not yet: cam-001" in told


def test_what_jobs_said_is_told_with_each_version() -> None:
    site = Site(
        "yard", [kept(1), kept(2)], [answer(1, "taken", "success"), answer(1, "in_force", "success", ("cam-001",))]
    )
    assert said(site, site.versions[0]) == ["taken; in force at 1 of 2 cameras", "not yet: cam-000"]
    assert said(site, site.versions[1]) == ["no job has answered"]


def test_a_version_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(SightflowError, match=r"no version 3 .* \(there are: 1, 2\)"):
        Site("yard", [kept(1), kept(2)]).version(3)
    with pytest.raises(SightflowError, match="submitted with"):
        Site("yard").version(None)


def test_the_topic_keeps_a_bounded_number_of_versions() -> None:
    versions = [kept(n) for n in range(1, MAX_VERSIONS + 1)]
    assert [k.message.version for k in too_old(versions)] == [1]
    assert too_old(versions[1:]) == []
