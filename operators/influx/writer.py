"""Writes batches of lines and does not return before InfluxDB has them.

What the server says decides (docs.influxdata.com/influxdb/v2/write-data/troubleshoot/):

==============================  =====================================================================
answer                          what is done
==============================  =====================================================================
204                             written
400, 413, 422                   halved until the bad lines are alone; those are returned, the rest is written
401, 403, 404                   waited for: a token or bucket can be put right, and nothing may be lost
429, 5xx, no answer             waited for, with growing pauses and jitter (Retry-After is obeyed)
==============================  =====================================================================

Waiting is bounded: after `patience_s` Unavailable is raised, the job restarts from its checkpoint and tries again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

log = logging.getLogger(__name__)

_BAD_REQUEST = (400, 413, 422)
SLOW_S = 0.5
"""A write that takes longer is logged: meanwhile the stream is held back."""


class Unavailable(RuntimeError):
    """InfluxDB did not take a batch for the whole of the patience."""


class InfluxTarget(NamedTuple):
    """Where points go. The token stays in its file and is never printed."""

    url: str
    org: str
    bucket: str
    token_file: str


class BadLine(NamedTuple):
    """A line that the server refuses."""

    line: str
    reason: str


class Writer:
    """A connection to one bucket. `sleep`, `clock` and `jitter` are seams for tests."""

    def __init__(
        self,
        target: InfluxTarget,
        patience_s: float = 90.0,
        timeout_s: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        token = Path(target.token_file).read_text(encoding="utf-8").strip()
        self._target = target
        self._patience_s = patience_s
        self._sleep, self._clock, self._jitter = sleep, clock, jitter
        self._client = InfluxDBClient(
            url=target.url, token=token, org=target.org, timeout=int(timeout_s * 1000), retries=False
        )
        self._api: Any = self._client.write_api(write_options=SYNCHRONOUS)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def write(self, lines: list[str]) -> list[BadLine]:
        """Write all lines (ns precision); return those that the server refuses. Raises Unavailable."""
        if not lines:
            return []
        try:
            self._write_patiently(lines)
        except ApiException as e:
            if len(lines) == 1:
                return [BadLine(lines[0], _reason(e))]
            half = len(lines) // 2
            return self.write(lines[:half]) + self.write(lines[half:])
        return []

    def _write_patiently(self, lines: list[str]) -> None:
        """Write, waiting while the server is unavailable. Raises ApiException for a bad request only."""
        body = "\n".join(lines).encode()
        deadline = self._clock() + self._patience_s
        pause_s = 0.1
        while True:
            begun_s = self._clock()
            try:
                self._api.write(bucket=self._target.bucket, org=self._target.org, record=body)
                if self._clock() - begun_s > SLOW_S:
                    log.warning("InfluxDB took %.1f s for %d lines", self._clock() - begun_s, len(lines))
                return
            except ApiException as e:
                if e.status in _BAD_REQUEST:
                    raise
                problem, asked_s = f"HTTP {e.status}: {_reason(e)}", _retry_after_s(e)
            except (HTTPError, OSError) as e:
                problem, asked_s = f"{type(e).__name__}", 0.0
            wait_s = max(asked_s, pause_s * (0.5 + self._jitter() / 2))
            if self._clock() + wait_s > deadline:
                raise Unavailable(f"InfluxDB at {self._target.url} unavailable for {self._patience_s:g} s: {problem}")
            log.warning("InfluxDB: %s; again in %.1f s", problem, wait_s)
            self._sleep(wait_s)
            pause_s = min(2 * pause_s, 5.0)


def _retry_after_s(e: ApiException) -> float:
    try:
        asked_s = float((e.headers or {}).get("Retry-After", 0))
    except ValueError:  # a date: our own pause will do
        return 0.0
    return min(asked_s, 30.0) if asked_s > 0 else 0.0  # not more than 0: negative, or not a number


def _reason(e: ApiException) -> str:
    return str(getattr(e, "message", None) or e.reason or e.body or "")[:300]
