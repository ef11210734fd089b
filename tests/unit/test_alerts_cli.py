"""`sightflow alerts`: what is wrong is told before Kafka is asked, and what jobs say is told in words."""

from __future__ import annotations

import pytest

from schemas.alert_orders import MAX_ORDERS, Acknowledgement, AnyOrder, Mute, order_key
from schemas.live_settings import SettingsAck, SettingsProblem, new_version
from sightflow import cli
from sightflow.alerts import ack, mute, send
from sightflow.alerts.arguments import check_names, length_us, parser, until_us
from sightflow.alerts.send import Refused, tell, too_old
from sightflow.errors import CheckFailed, SightflowError
from sightflow.settings.topic import Kept, Site
from simulator.layout import scene_settings

NOBODY = ["--bootstrap-servers", "127.0.0.1:1"]
NOW_US = 1_777_615_200_000_000  # 2026-05-01T06:00Z
ALERT = f"yard/loiter@1/cam-000/hall/17/{NOW_US}"
SITE = scene_settings(2, site="yard")


@pytest.fixture(autouse=True)
def no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_end_on_terminate", lambda: None)


class Topics:
    """The two topics, with one job that answers."""

    def __init__(self, status: str = "success", *versions: int) -> None:
        self.sent: list[AnyOrder] = []
        self.forgotten: list[str] = []
        self._status = status
        kept = [Kept(new_version(SITE, n, NOW_US, NOW_US, "me", ""), SITE) for n in versions]
        self._site = Site("yard", kept)

    def site(self, name: str | None) -> Site:
        return self._site

    def ends(self) -> list[object]:
        return []

    def order_keys(self, site: str) -> list[str]:
        return [f"{site}/mute/*/*/{n}" for n in range(MAX_ORDERS)]

    def send_order(self, order: AnyOrder, forget: list[str]) -> None:
        self.sent.append(order)
        self.forgotten += forget

    def answers(self, is_ours, since):  # type: ignore[no-untyped-def]
        key = order_key(self.sent[-1])
        common = {"stage": "taken", "site": "yard", "version": 0, "fingerprint": "", "from_us": NOW_US}
        errors = (SettingsProblem("alert_id", "is none"),) if self._status == "failure" else ()
        for order in ("other", key):
            given = SettingsAck(id="", status=self._status, order=order, errors=errors, **common)  # type: ignore[arg-type]
            yield given if is_ours(given) else None


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["ack", "loiter"], "expected the id of an alert"),
        (["ack", f"yard/source-lost@1/cam-000//-/{NOW_US}"], "a lost source is not acknowledged"),
        (["ack", ALERT, "--from", "soon"], "--from: expected a time"),
        (["mute", "--for", "2h"], "expected --camera, --rule, or --all"),
        (["mute", "--all", "--rule", "crowd", "--for", "2h"], "--all goes with neither"),
        (["mute", "--all", "--for", "2 hours"], "--for: expected a length such as"),
        (["mute", "--all", "--for", "0s"], "--for: expected a length such as"),
        (["mute", "--all", "--until", "later"], "--until: expected a time"),
        (["unmute"], "expected --camera, --rule, or --all"),
    ],
)
def test_what_is_wrong_is_told_before_kafka_is_asked(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["alerts", *argv, *NOBODY]) == 1
    assert words in capsys.readouterr().err


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["alerts", "--help"])
    told = capsys.readouterr().out
    assert "sightflow alerts mute --camera gate --for 2h" in told and "`alert_id`" in told


def test_an_acknowledgement_is_sent_with_its_time_and_its_answer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    topics = Topics()
    argv = ["ack", ALERT, "--from", "2026-05-01T06:10", "--author", "ann", "--comment", "seen"]
    assert ack.run(topics, parser().parse_args(argv)) == 0  # type: ignore[arg-type]
    (order,) = topics.sent
    assert isinstance(order, Acknowledgement)
    assert (order.site, order.alert_id, order.from_us - NOW_US) == ("yard", ALERT, 600_000_000)
    assert (order.author, order.comment) == ("ann", "seen")
    assert topics.forgotten == ["yard/mute/*/*/0"], "the oldest makes room"
    assert f"{ALERT} is acknowledged" in capsys.readouterr().out


def test_times_are_the_sites_and_a_mute_that_is_taken_back_ends_when_it_begins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    topics = Topics("success", 1)
    argv = ["mute", "--camera", "cam-000", "--from", "2026-05-01T06:00Z", "--for", "1.5h"]
    assert mute.run(topics, parser().parse_args(argv)) == 0  # type: ignore[arg-type]
    begun = parser().parse_args(["unmute", "--all", "--from", "2026-05-01T07:00Z"])
    assert mute.mute(topics, begun, is_on=False) == 0  # type: ignore[arg-type]
    muted, unmuted = topics.sent
    assert isinstance(muted, Mute) and isinstance(unmuted, Mute)
    assert (muted.camera, muted.rule, muted.until_us - muted.from_us) == ("cam-000", "*", 5_400_000_000)
    assert (unmuted.camera, unmuted.rule, unmuted.until_us) == ("*", "*", unmuted.from_us)
    told = capsys.readouterr().out
    assert "every rule at cam-000 is muted until" in told and "at every camera of yard is no longer muted" in told


def test_names_that_the_site_does_not_have_are_refused() -> None:
    topics = Topics("success", 1)
    for argv, words in (
        (["--camera", "gate"], "no camera 'gate' (has: cam-000, cam-001)"),
        (["--rule", "crwod"], "no rule 'crwod' (there is: "),
    ):
        with pytest.raises(CheckFailed) as told:
            check_names(parser().parse_args(["mute", *argv, "--for", "1h"]), topics.site(None))
        assert words in str(told.value)
    check_names(parser().parse_args(["mute", "--camera", "gate", "--for", "1h"]), Site("unknown"))
    assert not topics.sent


def test_lengths_and_ends_of_mutes() -> None:
    assert [length_us(t) for t in ("90s", "15m", "2h", "3d")] == [
        90_000_000, 900_000_000, 7_200_000_000, 259_200_000_000,
    ]  # fmt: skip
    until = parser().parse_args(["mute", "--all", "--until", "2026-05-01T09:00"])
    assert until_us(until, "Europe/Vienna", NOW_US) == NOW_US + 3_600_000_000
    with pytest.raises(CheckFailed, match="after the mute begins"):
        until_us(until, "Europe/Vienna", NOW_US + 3_600_000_000)


def test_a_refusal_and_a_silence_are_told() -> None:
    topics = Topics("failure")
    with pytest.raises(Refused, match="alert_id: is none"):
        ack.run(topics, parser().parse_args(["ack", ALERT]))  # type: ignore[arg-type]
    with pytest.raises(SightflowError, match="no job has answered within 30 s") as told:
        tell(topics.sent[0], None, "", "UTC", 30)
    assert "sightflow status" in told.value.remedy
    assert too_old(["a"] * 3) == [] and send.MAX_ORDERS == MAX_ORDERS
