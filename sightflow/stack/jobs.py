"""`flink run` against a local stack: the command, its run, the wait until the job's tasks run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from sightflow.errors import CheckFailed, JobFailed
from sightflow.places import REPO_ROOT
from sightflow.progress import Progress
from sightflow.stack.flink_rest import TERMINAL_STATES, FlinkRest
from sightflow.stack.influx import InfluxTarget
from sightflow.stack.leftovers import MARK
from sightflow.stack.services import Site, flink_env

JOBS_DIR = REPO_ROOT / "jobs"
_JOB_ID = re.compile(r"JobID ([0-9a-f]{32})")
_POLL_S = 0.2
_END_WAIT_S = 5.0


@dataclass(frozen=True)
class JobSubmission:
    """What is submitted; see `Stack.submit`."""

    job: str | Path
    settings: tuple[Path, ...] = ()
    extra_args: tuple[str, ...] = ()
    savepoint: str | None = None
    flink_args: tuple[str, ...] = ()
    parallelism: int | None = None


def flink_run_command(submission: JobSubmission, site: Site, target: InfluxTarget) -> list[str]:
    """Return the `flink run` command of a submission.

    Raises:
        CheckFailed: there is no such job file.
    """
    own = isinstance(submission.job, str) and not submission.job.endswith(".py")
    script = JOBS_DIR / f"{submission.job}.py" if own else Path(submission.job).absolute()
    if not script.is_file():
        known = ", ".join(sorted(path.stem for path in JOBS_DIR.glob("[a-z]*.py")))
        raise CheckFailed(f"no job at {script}", f"jobs that come with sightflow: {known}")
    command = [str(site.local.flink / "bin" / "flink"), "run", "--detached"]
    if submission.savepoint:
        command += ["--fromSavepoint", submission.savepoint]
    if submission.parallelism:
        command += ["--parallelism", str(submission.parallelism)]
    command += [*submission.flink_args, "--python", str(script)]
    if own:
        command += _addresses(submission, site, target)
    return command + list(submission.extra_args)


def _addresses(submission: JobSubmission, site: Site, target: InfluxTarget) -> list[str]:
    settings = [str(path.absolute()) for path in submission.settings]
    words = [*(["--settings", *settings] if settings else []), "--bootstrap-servers", site.kafka_bootstrap]
    if submission.job != "camera_stage":  # the one job that does not write to InfluxDB
        words += ["--influx-url", target.url, "--influx-org", target.org, "--influx-bucket", target.bucket]
        words += ["--influx-token-file", str(target.write_token_file)]
    return words


def submit_job(
    submission: JobSubmission, site: Site, target: InfluxTarget, progress: Progress, timeout_s: float
) -> str:
    """Run `flink run` and wait until every task of the job runs.

    Returns:
        The job's id.

    Raises:
        JobFailed: with what Flink printed, or the job's root exception.
    """
    command = flink_run_command(submission, site, target)
    deadline_s = time.monotonic() + timeout_s
    with progress.step("flink run: build the job graph and hand it in"):
        printed = _run(command, site, timeout_s)
    found = _JOB_ID.search(printed)
    if found is None:
        what = "`flink run` did not submit the job; it printed:\n" + _tail(printed)
        raise JobFailed(what, "the command was: " + " ".join(command))
    job_id = found.group(1)
    with progress.step("wait until the job's tasks run"):
        _await_running(FlinkRest(site.flink_rest), job_id, deadline_s)
    return job_id


def _run(command: list[str], site: Site, timeout_s: float) -> str:
    process = subprocess.Popen(
        command,
        cwd=REPO_ROOT,
        env={**os.environ, **flink_env(site), MARK: str(site.run_dir)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        _end(process)
        what = f"`flink run` did not return within {timeout_s:.0f} s"
        raise JobFailed(what, f"see {site.run_dir / 'logs'}") from error
    except BaseException:
        _end(process)
        raise
    return printed


def _end(process: subprocess.Popen[str]) -> None:
    """End `flink run` with its children (a Java client that runs Python)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def _await_running(flink: FlinkRest, job_id: str, deadline_s: float) -> None:
    while not flink.all_tasks_running(job_id):
        state = flink.job_state(job_id)
        if state in TERMINAL_STATES - {"FINISHED"}:
            raise JobFailed(f"job {job_id} is {state}:\n{_tail(flink.root_exception(job_id))}", "see: sightflow logs")
        if state == "FINISHED":  # a job over bounded input may be through already
            return
        if time.monotonic() > deadline_s:
            reason = _tail(flink.root_exception(job_id)) or "no slot may be free: see `sightflow status`"
            raise JobFailed(f"job {job_id} is {state} and its tasks do not run yet:\n{reason}")
        time.sleep(_POLL_S)


def _tail(text: str, lines: int = 40) -> str:
    return "\n".join(text.splitlines()[-lines:])
