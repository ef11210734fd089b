"""What happened to a camera's frames, counted."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class CameraCounts:
    """Totals of one camera since the agent's start.

    captured = skipped + dropped (all reasons) + sent + in hand.
    """

    captured_count: int = 0
    skipped_count: int = 0  # by sampling
    quiet_count: int = 0  # nothing seen, and an empty frame sent not long ago
    sent_count: int = 0  # handed to the spool
    delivered_count: int = 0  # acknowledged by Kafka
    reconnect_count: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count frames that were wanted and lost."""
        with self.lock:
            self.dropped[reason] += count

    def add(self, name: str, count: int = 1) -> None:
        """Add to the total called `name`."""
        with self.lock:
            setattr(self, name, getattr(self, name) + count)

    def snapshot(self) -> dict[str, int]:
        """Return all totals but the drops."""
        with self.lock:
            return {name: value for name, value in vars(self).items() if name.endswith("_count")}

    def drops(self) -> dict[str, int]:
        """Return the drops by reason."""
        with self.lock:
            return dict(self.dropped)
