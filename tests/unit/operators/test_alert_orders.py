"""Acknowledgements and mutes: what the book takes, what holds when, and what a running camera makes of it."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.alerts import OrderBook, orders
from operators.stages.live_camera import LiveCameraStage
from operators.stages.stage import Input, Output
from schemas import topics
from schemas.alert_orders import Acknowledgement, AnyOrder, Mute, decode_order, is_order, order_key
from schemas.live_settings import new_version, version_key
from schemas.rules import Crowding, Escalation, Intrusion
from schemas.settings import Camera, Period, Schedule, SiteSettings, Zone
from schemas.wire import BadMessage, encode
from tests.unit.operators.scenes import CAMERA, START_US, alerts_of, bounded, letters_of
from tests.unit.operators.test_live_settings import ALL, acks_of, standing

S = 1_000_000
ALERT = f"s/crowd@1/{CAMERA}/all/-/{START_US}"


def ack(alert: str = ALERT, at_s: float = 0, **more: Any) -> Acknowledgement:
    return Acknowledgement(site="s", alert_id=alert, from_us=START_US + round(at_s * S), sent_us=START_US, **more)


def mute(begin_s: float, end_s: float, camera: str = CAMERA, rule: str = "*", site: str = "s") -> Mute:
    begin, end = (START_US + round(t * S) for t in (begin_s, end_s))
    return Mute(site=site, camera=camera, rule=rule, from_us=begin, until_us=end, sent_us=START_US)


def taken(book: OrderBook, *of: AnyOrder) -> list[str]:
    return [book.take(order_key(o), encode(o), 0, i).status for i, o in enumerate(of)]


# ---- the book -----------------------------------------------------------------------------------------------------


def test_an_order_holds_from_its_time_on() -> None:
    book = OrderBook()
    assert taken(book, ack(at_s=5, author="ann", comment="seen"), mute(2, 4, rule="a")) == ["success"] * 2
    held = [book.holding("s", CAMERA, START_US + t * S) for t in range(7)]
    assert [bool(h.acknowledged) for h in held] == [False] * 5 + [True] * 2
    assert held[5].acknowledged == {ALERT: ("ann", "seen")}
    assert [h.muted for h in held] == [frozenset("a") if t in (2, 3) else frozenset() for t in range(7)]
    times = list(itertools.takewhile(lambda t: t < orders.NEVER_US, iterate(book)))
    assert times == [START_US + t * S for t in (2, 4, 5)]


def iterate(book: OrderBook) -> Any:
    at = START_US
    while True:
        at = book.next_us("s", CAMERA, at)
        yield at


@bounded(200)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.integers(0, 20),
            st.sampled_from([CAMERA, "*", "other"]),
            st.sampled_from(["a", "b", "*"]),
        ),
        max_size=8,
    )
)
def test_of_one_targets_mutes_the_one_that_began_last_holds(mutes: list[tuple[int, int, str, str]]) -> None:
    book, of = OrderBook(), [mute(a, a + n, camera, rule) for a, n, camera, rule in mutes]
    taken(book, *of)
    for t in range(45):
        muted = set()
        for camera, rule in itertools.product((CAMERA, "*"), ("a", "b", "*")):
            begun = [(a, i, n) for i, (a, n, c, r) in enumerate(mutes) if (c, r) == (camera, rule) and a <= t]
            if begun and t < max(begun)[0] + max(begun)[2]:
                muted.add(rule)
        assert book.holding("s", CAMERA, START_US + t * S).muted == muted


def test_what_is_no_order_is_a_bad_message_and_what_makes_no_sense_is_refused() -> None:
    book, good = OrderBook(), mute(0, 5)
    for key, value, reason in (
        (order_key(good), b"\xc1", "not_messagepack"),
        (order_key(good), encode(ack()), "wrong_key"),
        (order_key(good) + "0", encode(good), "wrong_key"),
        (order_key(good), encode(msgspec.structs.replace(good, v=9)), "unknown_version"),
        (order_key(good), encode(msgspec.structs.replace(good, rule="a/b")), "invalid_field"),
        (order_key(good), b"\xc0" * (topics.MAX_MESSAGE_BYTES + 1), "too_large"),
    ):
        with pytest.raises(BadMessage) as told:
            book.take(key, value, 0, 0)
        assert told.value.reason == reason
    for order, path in (
        (mute(5, 4), "until_us"),
        (ack("yard"), "alert_id"),
        (ack(ALERT.replace("s/", "t/", 1)), "alert_id"),
        (ack(ALERT + "x"), "alert_id"),
    ):
        answer = book.take(order_key(order), encode(order), 0, 3)
        assert (answer.status, answer.errors[0].path, answer.order) == ("failure", path, order_key(order))
    assert book.next_us("s", CAMERA, 0) == orders.NEVER_US and not book._of


def test_the_book_is_bounded_and_forgets_what_was_taken_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "MAX_KEPT", 3)
    book = OrderBook()
    taken(book, *(mute(t, t + 0.5, rule=f"r{t}") for t in range(5)), mute(4, 4.2, rule="r4"))
    assert book.next_us("s", CAMERA, START_US) == START_US + 2 * S
    assert len(book._orders) == 3 == len(book._of["s", CAMERA])
    taken(book, *(mute(t, t, camera="*", rule="r", site="t") for t in range(3)))
    assert list(book._of) == [("t", "*")]


def test_keys_of_orders_and_versions_are_told_apart() -> None:
    assert all(is_order(order_key(o)) for o in (ack(), mute(0, 1), mute(0, 1, "*", "*")))
    assert not is_order("s/12/0123456789ab") and not is_order("s") and not is_order("")
    assert decode_order(order_key(ack()), encode(ack())) == ack()


# ---- a running camera ---------------------------------------------------------------------------------------------


def two_rules(crowd_s: float, intrusion_s: float) -> tuple[Crowding, Intrusion]:
    """Rules about the whole picture, with how often their alerts are updated."""
    escalate = (Escalation(after_s=3.0, severity="critical"),)
    crowd = Crowding(id="crowd", zone="all", count=1, hold_s=0.0, update_s=crowd_s, escalate=escalate)
    return crowd, Intrusion(id="in", zone="all", update_s=intrusion_s)


def site(**changes: Any) -> SiteSettings:
    rules = changes.pop("rules", two_rules(2.0, 1000.0))
    camera = Camera(id=CAMERA, zones=(Zone(id="all", polygon=ALL),), rules=rules)
    return SiteSettings(version=1, site="s", cameras=(camera,), **changes)


def message(order: AnyOrder, offset: int = 0) -> tuple[str, Input]:
    return order_key(order), Input(encode(order), 0, offset, START_US // 1000)


def run(settings: SiteSettings, *of: AnyOrder, restarts: bool = False) -> list[Output]:
    """Ten seconds of one object, orders known from the beginning."""
    stage = LiveCameraStage([settings])
    stage.open()
    for order in of:
        assert [a.status for a in acks_of(stage.on_settings(*message(order)))] == ["success"]
    logic, out = stage.logic(CAMERA), []
    for n, record in enumerate(standing(100)):
        out += logic.on_record(record)
        data = logic.snapshot()
        if restarts and n % 7 == 0:
            logic = stage.logic(CAMERA)
            logic.restore(data or b"")
    return out


def told(out: list[Output], rule: str) -> list[tuple[str, str, float]]:
    return [(t.transition, t.cause, (t.at_us - START_US) / S) for t in alerts_of(out) if t.rule == rule]


def test_an_acknowledgement_takes_effect_at_its_time_and_ends_repeats_and_escalation() -> None:
    plain = run(site())
    opened = next(t for t in alerts_of(plain) if t.rule == "crowd")
    at_s = (opened.at_us - START_US) / S
    assert [c for _, c, _ in told(plain, "crowd")][:4] == [
        "condition",
        "repetition",
        "escalation",
        "repetition",
    ]
    acked = run(site(), ack(opened.alert_id, at_s + 2.55, author="ann"))
    assert told(acked, "crowd") == [
        ("open", "condition", at_s), ("update", "repetition", at_s + 2), ("update", "acknowledged", pytest.approx(at_s + 2.6)),
    ]  # fmt: skip
    assert [t.acknowledged_by for t in alerts_of(acked) if t.rule == "crowd"] == ["", "", "ann"]
    assert told(acked, "in") == told(plain, "in"), "the other one goes on"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_silence_that_comes_first_after_a_restart_knows_of_mutes(restarts: bool) -> None:
    stage = LiveCameraStage([site()])
    stage.open()
    stage.on_settings(*message(mute(5, 60, rule="crowd")))
    logic = stage.logic(CAMERA)
    for record in standing(100):
        logic.on_record(record)
    if restarts:
        data, logic = logic.snapshot(), stage.logic(CAMERA)
        logic.restore(data or b"")
    said = [t for t in alerts_of(logic.on_silence()) if t.rule == "crowd"]
    assert [(t.transition, t.muted) for t in said] == [("close", True)]


def test_a_mute_holds_back_what_would_open_until_it_is_over() -> None:
    out = run(site(), mute(0, 5.05, rule="in"), mute(0, 60, camera="other"), mute(0, 60, site="t"))
    assert told(out, "in") == [("open", "condition", pytest.approx(5.1))]
    assert told(out, "crowd")[0][2] < 1
    unmuted = run(site(), mute(0, 60, rule="in"), mute(2, 2, rule="in"))
    assert told(unmuted, "in") == [("open", "condition", 2)]


@pytest.mark.parametrize(
    "order", [ack(at_s=3), mute(0, 4), mute(3, 6, camera="*", rule="crowd")], ids=["ack", "mute", "any"]
)
def test_orders_hold_through_restarts(order: AnyOrder) -> None:
    if isinstance(order, Acknowledgement):
        order = msgspec.structs.replace(order, alert_id=alerts_of(run(site()))[0].alert_id)
    assert run(site(), order, restarts=True) == run(site(), order)
    assert run(site(), order) != run(site())


def test_an_order_that_comes_late_holds_from_the_next_frame() -> None:
    stage = LiveCameraStage([site()])
    stage.open()
    logic, out = stage.logic(CAMERA), []
    for n, record in enumerate(standing(60)):
        if n == 20:
            out += stage.on_settings(*message(mute(0, 3.05)))
        out += logic.on_record(record)
    assert told(out, "crowd")[1][1:] == ("escalation", told(out, "crowd")[0][2] + 3.0), "the repetition was muted"


def test_a_damaged_order_is_a_dead_letter_and_a_tombstone_is_no_news() -> None:
    stage = LiveCameraStage([site()])
    stage.open()
    (letter,) = letters_of(stage.on_settings(order_key(ack()), Input(b"\xc1", 0, 7, 0)))
    assert (letter.reason, letter.topic, letter.offset) == ("not_messagepack", topics.SETTINGS, 7)
    assert stage.on_settings(order_key(ack()), Input(None, 0, 8, 0)) == []


# ---- hours --------------------------------------------------------------------------------------------------------

MINUTE = START_US // (60 * S) * 60 * S  # the minute in which the scene begins


def minutes(first: int, last: int) -> Schedule:
    """Armed from the first to the last minute after that of the beginning."""
    times = [(MINUTE // S + 60 * m) // 60 % 1440 for m in (first, last)]
    start, end = (f"{t // 60:02}:{t % 60:02}" for t in times)
    return Schedule(id="hours", periods=(Period(start=start, end=end),))


def test_hours_open_and_close_alerts_at_their_boundaries_and_other_schedules_hold_from_their_version() -> None:
    rules = (Intrusion(id="in", zone="all", schedule="hours", update_s=1000.0),)
    before, after = (site(rules=rules, schedules=(minutes(a, b),)) for a, b in ((1, 2), (3, 4)))
    stage = LiveCameraStage([before])
    stage.open()
    version = new_version(after, 1, MINUTE + 150 * S, START_US, "me", "")
    stage.on_settings(version_key("s", 1, version.fingerprint), Input(encode(version), 0, 0, 0))
    logic, out = stage.logic(CAMERA), []
    for record in standing(3000):
        out += logic.on_record(record)
        logic.snapshot()
    changes = [(t.transition, t.cause, (t.at_us - MINUTE) / S) for t in alerts_of(out)]
    assert changes == [
        ("open", "condition", pytest.approx(60, abs=0.1)), ("close", "schedule", 120),
        ("open", "condition", pytest.approx(180, abs=0.1)), ("close", "schedule", 240),
    ]  # fmt: skip
    assert len({t.id for t in alerts_of(out)}) == 4
