"""`sightflow status`: what runs, where it listens, which jobs there are."""

from __future__ import annotations

from collections.abc import Sequence

from sightflow.commands.arguments import parser, stack
from sightflow.errors import StackNotRunning
from sightflow.stack import ServiceStatus, Stack

_EXAMPLES = "  sightflow status\n"
_STOPPED_STATUS = 3
"""As `systemctl status` returns for a service that does not run."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 3 when no stack runs."""
    found = stack(
        parser("status", "Show the servers of the local stack and the jobs on it.", _EXAMPLES).parse_args(argv)
    )
    services = found.status()
    if not services:
        print(f"no stack runs in {found.run_dir}\nnext:\n  sightflow up")
        return _STOPPED_STATUS
    for service in services:
        print(_service_line(service))
    print(_jobs(found))
    print("next:\n  sightflow logs SERVICE, sightflow submit, sightflow down")
    return 0


def _service_line(service: ServiceStatus) -> str:
    pid = f"pid {service.pid}" if service.pid else ""
    return f"  {service.name:<20} {service.state:<9} {pid:<12} {_duration(service.uptime_s):>8}  {service.address}"


def _duration(seconds: float) -> str:
    if not seconds:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _jobs(found: Stack) -> str:
    try:
        jobs = found.flink.jobs()
    except (OSError, StackNotRunning):
        return "  Flink does not answer"
    lines = [f"  job {job_id} {state}, restarts {_restarts(found, job_id, state)}" for job_id, state in jobs.items()]
    return "\n".join(lines) if lines else "  no job has been submitted"


def _restarts(found: Stack, job_id: str, state: str) -> str:
    return str(found.num_restarts(job_id)) if state in ("RUNNING", "RESTARTING") else "-"
