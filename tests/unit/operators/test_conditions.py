"""Conditions, measure by measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from operators.conditions import Conditions, Held
from schemas.rules import (
    AnyRule,
    Intrusion,
)
from tests.unit.operators.condition_tables import CAPACITY, Look, Moment, labels, tables
from tests.unit.operators.scenes import START_US

S = 1_000_000
KINDS = {Conditions.BEGAN: "began", Conditions.ENDED: "ended", Conditions.PULSE: "pulse"}


def us(at_s: float) -> int:
    return START_US + round(at_s * S)


def make(*rules: AnyRule) -> Conditions:
    conditions = Conditions(rules, ["z"], ["w", "w2"], CAPACITY)
    conditions.set_labels(labels())
    return conditions


def run(conditions: Conditions, moments: Iterable[Moment]) -> list[tuple[float, Held]]:
    """Return what is said, each with the second in which it is said."""
    out = []
    for moment in moments:
        for held in conditions.step(*tables(moment), 1.5, moment.at_us):
            out.append(((moment.at_us - START_US) / S, held))
    return out


def told(said: list[tuple[float, Held]]) -> list[tuple[float, str, float, float]]:
    """Return (said at, kind, since, at) in seconds."""
    return [(t, KINDS[h.kind], (h.since_us - START_US) / S, (h.at_us - START_US) / S) for t, h in said]


SOMEBODY = Look(0, START_US)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("0+ 1+ 2+ 3+", [(2, "began", 0, 2)]),  # held for the hold
        ("0+ 1- 2+ 3+", [(2, "began", 0, 2)]),  # a short absence belongs to the run
        ("0+ 1- 2- 3-", []),  # never long enough
        ("0+ 1- 2- 3- 3.5+ 4+ 5.5+", [(5.5, "began", 3.5, 5.5)]),  # the run began anew
        ("0+ 2+ 3- 4- 4.5-", [(2, "began", 0, 2), (4.5, "ended", 0, 2)]),
        ("0+ 2+ 3- 4+ 5- 6+", [(2, "began", 0, 2)]),  # short absences keep it
        ("0+ 2+ 6+ 7+ 8+", [(2, "began", 0, 2), (6, "ended", 0, 2), (8, "began", 6, 8)]),  # a hole, true on both sides
        ("0- 5+", []),
    ],
)
def test_a_run_begins_after_its_hold_and_ends_after_its_gap(
    steps: str, words: list[tuple[float, str, float, float]]
) -> None:
    rule = Intrusion(id="i", zone="z", hold_s=2.0, gap_s=2.0)
    moments = [
        Moment(us(float(s[:-1])), {0: replace(SOMEBODY, inside=s[-1] == "+", visit=2, enter_us=START_US)})
        for s in steps.split()
    ]
    assert told(run(make(rule), moments)) == words
