"""The agent's boot number: when it started, strictly larger at each start."""

from __future__ import annotations

import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)
_FILE = "boot"


def next_boot(state_dir: Path, now_us: int) -> int:
    """Return the boot number of this start (UTC µs) and remember it in `state_dir`.

    It is `now_us`, or one more than the last where the clock went back in between. A disk that takes no write does
    not stop the agent: the number is then only as safe as the clock.
    """
    path = state_dir / _FILE
    boot = max(now_us, _read(path) + 1)
    scratch = path.with_suffix(".new")
    try:
        with scratch.open("w") as f:
            f.write(f"{boot}\n")
            f.flush()
            os.fsync(f.fileno())
        scratch.replace(path)
    except OSError as e:
        _log.warning("boot number not stored in %s: %s", path, e.strerror)
    return boot


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError):
        _log.warning("%s is unreadable: the boot number follows the clock", path)
        return 0
