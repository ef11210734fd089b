"""Flink's REST interface, as far as the stack and its tests need it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, cast

from sightflow.errors import JobFailed

_REQUEST_TIMEOUT_S = 10.0
_POLL_S = 0.1
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

RUNNING = "RUNNING"
TERMINAL_STATES = frozenset({"FINISHED", "CANCELED", "FAILED", "SUSPENDED"})


class FlinkRest:
    """One Flink cluster.

    Args:
        url: http://host:port of the JobManager's REST interface.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def overview(self) -> dict[str, Any]:
        """Return the cluster's overview: taskmanagers, slots-available, jobs-running, flink-version, …"""
        return self._call("GET", "/overview")

    def is_up(self) -> bool:
        """Return whether the JobManager answers."""
        try:
            self.overview()
        except (OSError, ValueError):
            return False
        return True

    def taskmanagers(self) -> list[dict[str, Any]]:
        """Return the registered TaskManagers: id, freeSlots, timeSinceLastHeartbeat, …"""
        return cast(list[dict[str, Any]], self._call("GET", "/taskmanagers")["taskmanagers"])

    def jobs(self) -> dict[str, str]:
        """Return job id → state of every job that the JobManager remembers."""
        return {job["id"]: job["status"] for job in self._call("GET", "/jobs")["jobs"]}

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job's details: name, state, vertices, timestamps, …"""
        return self._call("GET", f"/jobs/{job_id}")

    def job_state(self, job_id: str) -> str:
        """Return RUNNING, RESTARTING, FAILED, CANCELED, FINISHED, … as Flink names it."""
        return str(self.job(job_id)["state"])

    def all_tasks_running(self, job_id: str) -> bool:
        """Return whether the job and each of its tasks run."""
        job = self.job(job_id)
        return job["state"] == RUNNING and all(vertex["status"] == RUNNING for vertex in job["vertices"])

    def watermark_ms(self, job_id: str, operator: str) -> int:
        """Return the event time that the first subtask of an operator tells of, the first of its task; negative: none yet."""
        name = f"0.{operator}.currentOutputWatermark"
        for vertex in self.job(job_id)["vertices"]:
            if vertex["name"].startswith(operator):
                found = cast(
                    list[dict[str, Any]], self._get(f"/jobs/{job_id}/vertices/{vertex['id']}/metrics?get={name}")
                )
                return int(found[0]["value"]) if found else -1
        return -1

    def root_exception(self, job_id: str) -> str:
        """Return the last failure with its stack trace, or ''."""
        entries = self.job_exceptions(job_id)
        return str(entries[0]["stacktrace"]) if entries else ""

    def job_exceptions(self, job_id: str) -> list[dict[str, Any]]:
        """Return the failures that Flink remembers, newest first: exceptionName, stacktrace, timestamp, taskName, …"""
        history = self._call("GET", f"/jobs/{job_id}/exceptions?maxExceptions=20")["exceptionHistory"]
        return cast(list[dict[str, Any]], history["entries"])

    def num_restarts(self, job_id: str) -> int:
        """Return how often the job was restarted since it was submitted."""
        metrics = cast(list[dict[str, Any]], self._get(f"/jobs/{job_id}/metrics?get=numRestarts"))
        return int(metrics[0]["value"]) if metrics else 0

    def completed_checkpoints(self, job_id: str) -> int:
        """Return how many checkpoints were completed since the JobManager started the job."""
        return int(self._call("GET", f"/jobs/{job_id}/checkpoints")["counts"]["completed"])

    def last_checkpoint_path(self, job_id: str) -> str | None:
        """Return the external path of the newest completed checkpoint."""
        latest = self._call("GET", f"/jobs/{job_id}/checkpoints")["latest"]["completed"]
        return None if latest is None else str(latest["external_path"])

    def last_checkpoint_bytes(self, job_id: str) -> int:
        """Return the size of the state in the newest completed checkpoint; 0 before the first."""
        latest = self._call("GET", f"/jobs/{job_id}/checkpoints")["latest"]["completed"]
        return 0 if latest is None else int(latest["state_size"])

    def stop_with_savepoint(self, job_id: str, timeout_s: float = 120.0) -> str:
        """Take a savepoint and stop the job.

        Returns:
            The savepoint's path.

        Raises:
            JobFailed: the savepoint failed or took too long.
        """
        trigger = self._call("POST", f"/jobs/{job_id}/stop", {"drain": False})["request-id"]

        def outcome() -> dict[str, Any] | None:
            status = self._call("GET", f"/jobs/{job_id}/savepoints/{trigger}")
            return status["operation"] if status["status"]["id"] == "COMPLETED" else None

        operation = _poll(outcome, timeout_s, f"the savepoint of job {job_id}")
        if "location" not in operation:
            raise JobFailed(f"the savepoint of job {job_id} failed: {_first_lines(operation.get('failure-cause'))}")
        return str(operation["location"])

    def cancel(self, job_id: str, timeout_s: float = 60.0) -> None:
        """Cancel a job and wait until it has ended."""
        self._get(f"/jobs/{job_id}?mode=cancel", method="PATCH")
        _poll(lambda: self.job_state(job_id) in TERMINAL_STATES or None, timeout_s, f"the end of job {job_id}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return cast(dict[str, Any], self._get(path, method, body))

    def _get(self, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> object:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data=data, headers=headers, method=method)
        try:
            with _DIRECT.open(request, timeout=_REQUEST_TIMEOUT_S) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise JobFailed(f"Flink answered {error.code} to {method} {path}: {_errors_in(error.read())}") from error
        return json.loads(text) if text.strip() else {}


def _errors_in(body: bytes) -> str:
    try:
        return _first_lines("\n".join(json.loads(body)["errors"]))
    except (ValueError, KeyError, TypeError):
        return body[:500].decode(errors="replace")


def _first_lines(text: object, count: int = 6) -> str:
    if isinstance(text, dict):
        text = text.get("stack-trace", text)
    return "\n".join(str(text).splitlines()[:count])


def _poll(probe: Callable[[], Any], timeout_s: float, what: str) -> Any:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        found = probe()
        if found is not None:
            return found
        time.sleep(_POLL_S)
    raise JobFailed(f"{what} did not come within {timeout_s:.0f} s", "see the logs of the JobManager: sightflow logs")
