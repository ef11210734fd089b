"""`sightflow stop`: stop a job with a savepoint, or cancel it."""

from __future__ import annotations

from collections.abc import Sequence

from sightflow.commands.arguments import parser, stack
from sightflow.errors import JobFailed
from sightflow.progress import Progress
from sightflow.stack import Stack

_EXAMPLES = """\
  sightflow stop                     the only job that runs
  sightflow stop 6f1c…               this one
  sightflow stop --cancel            without a savepoint; its last checkpoint stays
"""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser("stop", "Take a savepoint of a job and stop it; `submit --savepoint` goes on from there.", _EXAMPLES)
    made.add_argument("job_id", nargs="?", help="default: the only job that runs")
    made.add_argument("--cancel", action="store_true", help="take no savepoint")
    arguments = made.parse_args(argv)
    found = stack(arguments)
    job_id = arguments.job_id or _only_job(found)
    with Progress.to_stdout() as progress:
        if arguments.cancel:
            checkpoint = found.flink.last_checkpoint_path(job_id)
            with progress.step(f"cancel job {job_id}"):
                found.cancel(job_id)
            print(f"cancelled; its last checkpoint: {checkpoint or 'none'}")
            return 0
        with progress.step(f"stop job {job_id} with a savepoint"):
            path = found.stop_with_savepoint(job_id)
    print(f"savepoint: {path}\nnext:\n  sightflow submit --savepoint {path}     go on from there")
    return 0


def _only_job(found: Stack) -> str:
    running = [job_id for job_id, state in found.flink.jobs().items() if state in ("RUNNING", "RESTARTING")]
    if len(running) != 1:
        listing = ", ".join(running) or "none"
        raise JobFailed(f"expected one running job, found {listing}", "name the job: sightflow stop JOB_ID")
    return running[0]
