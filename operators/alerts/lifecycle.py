"""The life of an alert: one table for all rules.

What is kept of a (rule, subject) is in one of five states; what happens to it is one of twelve inputs. TABLE says what follows
from each pair: the next state, and what is to be done on the way. A pair that is not in it is never offered: `follow` raises, and
nothing has changed. What decides whether an input is offered (armed, muted, cooling down, due) is not in the table but in
`Alerts`: each guard is an input of its own.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class State(IntEnum):
    """Where it stands. The numbers are stored."""

    IDLE = 0  # nothing is known; not stored
    POTENTIAL = 1  # the condition holds, and something bars the alert: schedule, mute, cool-down
    OPEN = 2
    ACKNOWLEDGED = 3  # open, and somebody has said so
    COOLING = 4  # closed, and too soon for another


class Input(Enum):
    """What happens to it."""

    BEGAN = "the condition has begun to hold"
    PULSE = "the condition was true at one moment"
    JOINED = "another subject of a group"
    LEFT = "one subject of a group less"
    ENDED = "the condition no longer holds for anybody"
    FREE = "it holds now, and nothing bars the alert"
    DISARMED = "the armed hours are over"
    ACKNOWLEDGED = "somebody has acknowledged it"
    ESCALATION = "it has been open for so long that it is more severe"
    REPETITION = "it has not been repeated for `update_s`"
    COOLED = "the cool-down is over"
    WITHDRAWN = "the rule is gone"


class Action(Enum):
    """What is done."""

    NOTHING = "–"
    HOLD = "take note"
    OPEN = "**open**"
    UPDATE = "**update**"
    CLOSE = "**close**"


_S, _I, _A = State, Input, Action

TABLE: dict[tuple[State, Input], tuple[State, Action]] = {
    (_S.IDLE, _I.BEGAN): (_S.POTENTIAL, _A.HOLD),
    (_S.IDLE, _I.PULSE): (_S.POTENTIAL, _A.HOLD),
    (_S.IDLE, _I.ENDED): (_S.IDLE, _A.NOTHING),  # of a condition that found no room
    (_S.POTENTIAL, _I.BEGAN): (_S.POTENTIAL, _A.HOLD),
    (_S.POTENTIAL, _I.PULSE): (_S.POTENTIAL, _A.HOLD),
    (_S.POTENTIAL, _I.JOINED): (_S.POTENTIAL, _A.HOLD),
    (_S.POTENTIAL, _I.LEFT): (_S.POTENTIAL, _A.NOTHING),
    (_S.POTENTIAL, _I.ENDED): (_S.COOLING, _A.NOTHING),
    (_S.POTENTIAL, _I.FREE): (_S.OPEN, _A.OPEN),
    (_S.POTENTIAL, _I.WITHDRAWN): (_S.IDLE, _A.NOTHING),
    (_S.OPEN, _I.BEGAN): (_S.OPEN, _A.HOLD),
    (_S.OPEN, _I.PULSE): (_S.OPEN, _A.HOLD),
    (_S.OPEN, _I.JOINED): (_S.OPEN, _A.UPDATE),
    (_S.OPEN, _I.LEFT): (_S.OPEN, _A.UPDATE),
    (_S.OPEN, _I.ENDED): (_S.COOLING, _A.CLOSE),
    (_S.OPEN, _I.DISARMED): (_S.POTENTIAL, _A.CLOSE),
    (_S.OPEN, _I.ACKNOWLEDGED): (_S.ACKNOWLEDGED, _A.UPDATE),
    (_S.OPEN, _I.ESCALATION): (_S.OPEN, _A.UPDATE),
    (_S.OPEN, _I.REPETITION): (_S.OPEN, _A.UPDATE),
    (_S.OPEN, _I.WITHDRAWN): (_S.IDLE, _A.CLOSE),
    (_S.ACKNOWLEDGED, _I.BEGAN): (_S.ACKNOWLEDGED, _A.HOLD),
    (_S.ACKNOWLEDGED, _I.PULSE): (_S.ACKNOWLEDGED, _A.HOLD),
    (_S.ACKNOWLEDGED, _I.JOINED): (_S.ACKNOWLEDGED, _A.UPDATE),
    (_S.ACKNOWLEDGED, _I.LEFT): (_S.ACKNOWLEDGED, _A.UPDATE),
    (_S.ACKNOWLEDGED, _I.ENDED): (_S.COOLING, _A.CLOSE),
    (_S.ACKNOWLEDGED, _I.DISARMED): (_S.POTENTIAL, _A.CLOSE),
    (_S.ACKNOWLEDGED, _I.WITHDRAWN): (_S.IDLE, _A.CLOSE),
    (_S.COOLING, _I.BEGAN): (_S.POTENTIAL, _A.HOLD),
    (_S.COOLING, _I.PULSE): (_S.POTENTIAL, _A.HOLD),
    (_S.COOLING, _I.ENDED): (_S.COOLING, _A.NOTHING),
    (_S.COOLING, _I.COOLED): (_S.IDLE, _A.NOTHING),
    (_S.COOLING, _I.WITHDRAWN): (_S.IDLE, _A.NOTHING),
}


class Impossible(RuntimeError):
    """An input that cannot come in a state: a mistake in the program. Nothing has changed."""


def follow(state: int, event: Input) -> tuple[State, Action]:
    """Return the next state, and what is to be done. Raises Impossible for a pair that is not in TABLE."""
    found = TABLE.get((State(state), event))
    if found is None:
        raise Impossible(f"an alert that is {State(state).name} cannot take {event.name}")
    return found
