"""A condition that must hold for a time, with tolerated gaps: the hysteresis before an alert."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Phase(Enum):
    """Where a run stands. See the table in operators/alerts/README.md."""

    IDLE = 0
    POTENTIAL = 1
    OPEN = 2


class Run(Struct, array_like=True):
    """State of one condition. Times are event time in µs.

    ========== ============================== ==========================================
    phase      condition true                 condition false
    ========== ============================== ==========================================
    IDLE       → POTENTIAL (since now)        –
    POTENTIAL  held ≥ hold: → OPEN, 'open'    false longer than gap: → IDLE
    OPEN       –                              false longer than gap: → IDLE, 'close'
    ========== ============================== ==========================================

    With hold 0 a condition opens at once. It can only open while it is true, never by waiting. A condition that is
    true again only after more than the gap ends the run and begins another (POTENTIAL) in the same step; after an
    OPEN one, that can open with the next step.
    """

    phase: int = 0
    since_us: int = 0
    true_us: int = 0
    value: float = 0.0  # what was measured last, while an alert is open

    def step(self, condition: bool, now_us: int, hold_us: int, gap_us: int, may_open: bool = True) -> str:
        """Take the condition at `now_us`; return 'open', 'close' (the run ended at `true_us` as it was before) or ''.

        While `may_open` is False (cool-down) a run that has held goes on waiting.
        """
        word = ""
        if self.phase and now_us - self.true_us > gap_us:
            # False for too long, or unseen for too long: ends even if it is true again now.
            word = "close" if self.phase == Phase.OPEN.value else ""
            self.phase = Phase.IDLE.value
        if not condition:
            return word
        if self.phase == Phase.IDLE.value:
            self.phase, self.since_us = Phase.POTENTIAL.value, now_us
        self.true_us = now_us
        if word:
            return word
        if self.phase == Phase.POTENTIAL.value and may_open and now_us - self.since_us >= hold_us:
            self.phase = Phase.OPEN.value
            return "open"
        return ""
