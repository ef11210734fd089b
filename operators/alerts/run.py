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

    With hold 0 a condition opens at once. It can only open while it is true, never by waiting.
    """

    phase: int = 0
    since_us: int = 0
    true_us: int = 0

    def step(self, condition: bool, now_us: int, hold_us: int, gap_us: int) -> str:
        """Take the condition at `now_us`; return 'open', 'close' (dated `true_us`) or ''."""
        if self.phase and now_us - self.true_us > gap_us:
            # False for too long, or unseen for too long: ends even if it is true again now.
            was_open, self.phase = self.phase == Phase.OPEN.value, Phase.IDLE.value
            if was_open:
                return "close"
        if not condition:
            return ""
        if self.phase == Phase.IDLE.value:
            self.phase, self.since_us = Phase.POTENTIAL.value, now_us
        self.true_us = now_us
        if self.phase == Phase.POTENTIAL.value and now_us - self.since_us >= hold_us:
            self.phase = Phase.OPEN.value
            return "open"
        return ""
