"""Conditions against a slow model, on random histories, with restarts and without numba."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from operators.conditions import Conditions, Held
from schemas.rules import (
    Abandoned,
    AnyRule,
    Crowding,
    DwellLimit,
    Empty,
    Intrusion,
    LineCrossing,
    Loitering,
    Proximity,
    QueueLength,
    QueueWait,
    Removed,
    RestrictedClass,
    Speeding,
    Stopped,
    Tailgating,
    WrongWay,
)
from tests.unit.operators.condition_model import Said, expected
from tests.unit.operators.condition_tables import CAPACITY, Look, Moment, Pass, labels, tables

START_US = 1_700_000_000_000_000
ASPECT = 1.5
ZONE_GAP_US = 1_000_000
KINDS = {Conditions.BEGAN: "began", Conditions.ENDED: "ended", Conditions.PULSE: "pulse"}


def rules(seed: int) -> list[AnyRule]:
    """Return a rule of every type, with parameters short enough for a history of a minute."""
    draw = random.Random(seed)

    def timing() -> dict[str, float]:
        return {"hold_s": draw.choice([0.0, 0.3, 1.5]), "gap_s": draw.choice([0.15, 0.9, 2.0])}

    def classes() -> tuple[str, ...]:
        return draw.choice([(), ("person",), ("person", "suitcase")])

    def zone() -> str:
        return draw.choice(["", "z"])

    arrow = draw.choice([((0.0, 0.0), (1.0, 0.0)), ((0.2, 0.9), (0.2, 0.1))])
    return [
        LineCrossing(id="1", tripwire="w", direction=draw.choice(["any", "left", "right"]), classes=classes()),
        Tailgating(id="2", tripwire="w", direction=draw.choice(["any", "right"]), within_s=0.8, classes=classes()),
        Intrusion(id="3", zone="z", classes=classes(), **timing()),
        RestrictedClass(id="4", zone="z", classes=("car",), **timing()),
        Loitering(id="5", zone="z", since_s=1.2, classes=classes(), **timing()),
        DwellLimit(id="6", zone="z", limit_s=0.4, classes=classes()),
        QueueWait(id="7", zone="z", wait_s=2.5, classes=classes()),
        Crowding(id="8", zone="z", count=draw.choice([1, 2, 3]), classes=classes(), **timing()),
        QueueLength(id="9", zone="z", count=2, settled_s=0.7, classes=classes(), **timing()),
        Empty(id="10", zone="z", since_s=draw.choice([0.5, 1.7]), classes=classes(), **timing()),
        Stopped(id="11", zone=zone(), since_s=draw.choice([0.5, 1.7]), classes=classes(), **timing()),
        Speeding(id="12", zone=zone(), limit_mps=1.5, sure_sd=draw.choice([0.0, 1.0]), classes=classes(), **timing()),
        WrongWay(id="13", zone=zone(), allowed=arrow, classes=classes(), tolerance_deg=80.0, **timing()),
        WrongWay(id="14", allowed=arrow, plane="ground", classes=classes(), tolerance_deg=100.0, **timing()),
        Abandoned(id="15", zone=zone(), since_s=draw.choice([0.6, 1.5]), owner_m=1.5, **timing()),
        Removed(id="16", zone=zone(), since_s=draw.choice([0.6, 1.5]), classes=classes()),
        Proximity(id="17", zone=zone(), distance_m=1.2, classes=classes(), **timing()),
        Proximity(id="18", distance_m=2.1, classes=("person",), other_classes=("suitcase", "car"), **timing()),
    ]  # fmt: skip


class Actor:
    """One object that does things at random: what it looks like changes now and then."""

    def __init__(self, draw: random.Random, ordinal: int, now_us: int) -> None:
        self.draw, self.ordinal, self.born_us = draw, ordinal, now_us
        self.confirmed_us = now_us + draw.choice([0, 200_000, 600_000])
        self.over_us = now_us + draw.choice([500_000, 3_000_000, 12_000_000, 30_000_000])
        self.is_inside, self.inside_us, self.enter_us = False, 0, 0
        self.look = Look(ordinal, now_us, label=draw.choice([0, 0, 0, 1, 1, 2]), height=draw.choice([0.125, 0.25]))

    def at(self, now_us: int) -> Look:
        """Return what it looks like now."""
        draw, look = self.draw, self.look
        if draw.random() < 0.05:
            look = replace(look, label=draw.randrange(3))
        if draw.random() < 0.15:
            look = replace(look, still_us=0 if look.still_us and draw.random() < 0.5 else now_us)
        if draw.random() < 0.3:
            known = draw.random() < 0.85
            nan = float("nan")
            look = replace(
                look,
                speed_mps=draw.choice([0.25, 1.0, 2.0, 4.0]) if known else nan,
                speed_sd_mps=draw.choice([0.25, 1.0]) if known else nan,
                heading=draw.choice([(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (-0.6, 0.8)]) if known else (nan, nan),
                at_m=(draw.randrange(5) * 0.75, draw.randrange(3) * 0.75) if known else (nan, nan),
                foot=(draw.randrange(8) / 8, draw.randrange(4) / 8 + 0.5),
                velocity=draw.choice([(0.0, 0.0), (0.25, 0.0), (-0.25, 0.125), (0.0, 0.25), (0.015625, 0.0)]),
            )
        if draw.random() < 0.12:
            self.is_inside = not self.is_inside
        self.look = look
        seen = draw.random() < 0.85
        status = "confirmed" if now_us >= self.confirmed_us else "tentative"
        if now_us >= self.over_us:
            status, seen = "ended", False
        if self.enter_us and (status == "ended" or now_us - self.inside_us > ZONE_GAP_US):
            self.enter_us = 0
        inside = seen and self.is_inside
        if inside:
            self.enter_us, self.inside_us = self.enter_us or now_us, now_us
        visit = (2 if status == "confirmed" else 1) if self.enter_us else 0
        return replace(look, status=status, seen=seen, inside=inside, enter_us=self.enter_us, visit=visit)


def history(seed: int, frames: int = 120) -> list[Moment]:
    """Return a minute or less of up to six objects at a time, at uneven steps."""
    draw, now_us, ordinals = random.Random(seed), START_US, iter(range(10_000))
    actors: dict[int, Actor] = {}
    moments = []
    for _ in range(frames):
        now_us += draw.choice([40_000, 100_000, 100_000, 100_000, 400_000, 1_200_000])
        if len(actors) < 6 and draw.random() < 0.3:
            slot = min(set(range(8)) - set(actors))
            actors[slot] = Actor(draw, next(ordinals), now_us)
        looks = {slot: actor.at(now_us) for slot, actor in sorted(actors.items())}
        passes = []
        for slot, look in looks.items():
            for wire in range(2):
                if look.status == "confirmed" and draw.random() < 0.15:
                    at_us = max(look.born_us, now_us - draw.choice([0, 30_000, 700_000, 1_500_000]))
                    who = (look.label, look.ordinal, look.born_us)
                    passes.append(Pass(slot, wire, draw.choice([-1, 1]), *who, at_us))
        moments.append(Moment(now_us, looks, tuple(passes)))
        actors = {slot: actor for slot, actor in actors.items() if looks[slot].status != "ended"}
    return moments


def run(
    of: Sequence[AnyRule], moments: Sequence[Moment], restarts: frozenset[int] = frozenset()
) -> list[tuple[int, Held]]:
    """Return what is said and when; at `restarts` another object takes up the state."""

    def make() -> Conditions:
        conditions = Conditions(of, ["z"], ["w", "v"], CAPACITY)
        conditions.set_labels(labels())
        return conditions

    conditions, out = make(), []
    for n, moment in enumerate(moments):
        table, slots, *rest = tables(moment)
        found = conditions.step(table, slots, *rest, ASPECT, moment.at_us)
        assert len(found) <= conditions.room(slots)
        out += [(moment.at_us, held) for held in found]
        if n in restarts:
            kept, conditions = conditions.snapshot(slots), make()
            conditions.restore(kept, conditions.names)
            assert conditions.snapshot(slots) == kept
    return out


def said(of: Sequence[AnyRule], got: Sequence[tuple[int, Held]]) -> dict[str, list[Said]]:
    """Sort what was said by rule."""
    out: dict[str, list[Said]] = {rule.id: [] for rule in of}
    for now_us, h in got:
        numbers = (h.ordinal, h.other_ordinal, h.since_us, h.at_us, h.value)
        out[of[h.rule].id].append(Said(now_us, KINDS[h.kind], *numbers))
    return out


def in_order(words: Sequence[Said]) -> list[Said]:
    """Sort by what is exact."""
    return sorted(words, key=lambda w: w[:6])


def check(got: Sequence[Said], wanted: Sequence[Said]) -> None:
    """Compare; values as far as float32 keeps them."""
    got, wanted = in_order(got), in_order(wanted)
    assert [w[:6] for w in got] == [w[:6] for w in wanted]
    assert [w.value for w in got] == pytest.approx([w.value for w in wanted], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_every_rule_says_what_a_slow_model_says_and_survives_restarts(seed: int) -> None:
    of, moments = rules(seed), history(seed)
    restarts = frozenset(random.Random(seed).sample(range(len(moments)), 6))
    got = said(of, run(of, moments, restarts))
    for rule in of:
        dated = [(s.ordinal, s.other, s.since_us) for s in got[rule.id] if s.kind == "began"]
        assert len(set(dated)) == len(dated), rule
        check(got[rule.id], expected(rule, moments, ASPECT))


def test_the_histories_make_every_rule_speak() -> None:
    counts: dict[str, int] = {}
    for seed in range(40):
        of = rules(seed)
        for _, held in run(of, history(seed)):
            key = f"{of[held.rule].id} {KINDS[held.kind]}"
            counts[key] = counts.get(key, 0) + 1
    pulses = {"1", "2", "16"}
    wanted = {f"{r.id} {kind}" for r in rules(0) for kind in (["pulse"] if r.id in pulses else ["began", "ended"])}
    assert set(counts) == wanted and min(counts.values()) > 10, counts


@pytest.mark.parametrize("seed", range(8))
def test_restarts_change_nothing(seed: int) -> None:
    of, moments = rules(seed), history(seed)
    assert run(of, moments, frozenset(range(len(moments)))) == run(of, moments)


PROGRAM = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
if sys.argv[2] == "plain":
    sys.modules["numba"] = None
    warnings.simplefilter("error")
from operators.compiled import COMPILED
assert COMPILED == (sys.argv[2] != "plain")
from tests.unit.operators.test_conditions_model import digest
print(digest())
"""


def digest() -> str:
    """Return a hash of all that is said and kept over a few histories."""
    total = hashlib.sha256()
    for seed in range(3):
        total.update(repr(run(rules(seed), history(seed, 60), frozenset({20}))).encode())
    return total.hexdigest()


def test_compiled_and_plain_kernels_say_the_same() -> None:
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, root, "plain"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()
