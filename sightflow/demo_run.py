"""The demo's run: servers, camera, job and agent; watching; ending; reading back. Leaves no process, unless it is told to."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.settings_file import load_settings
from sightflow.demo_watch import Watch
from sightflow.errors import CheckFailed, JobFailed, ServiceFailed, SightflowError
from sightflow.places import REPO_ROOT, Local
from sightflow.progress import Progress
from sightflow.report.command import job_versions
from sightflow.report.material import Question, gather, write
from sightflow.report.outcome import Outcome
from sightflow.report.points import query_points
from sightflow.report.records import Span
from sightflow.stack import AGENT, RTSP_CAMERA, Ports, Program, Stack
from sightflow.stack.jobs import JobSubmission, flink_run_command
from sightflow.stack.ports import HOST, is_free
from sightflow.stack.services import Site
from sightflow.stack.stack import signals_held

SETTINGS = REPO_ROOT / "sites" / "demo.yaml"
_SETTINGS_RTSP = "127.0.0.1:8554"
"""Where sites/demo.yaml expects the camera; rewritten in a copy where the stack has other ports."""

_FIRST_FRAME_S = 40.0
_THROUGH_S = 60.0
_POLL_S = 0.2
_CHECK_EVERY_S = 3.0


@dataclass(frozen=True)
class DemoPlan:
    """What to do. `run_dir` is deleted first; `report` is the page's path."""

    run_dir: Path
    seconds: float
    keep: bool
    report: Path
    local: Local


@dataclass(frozen=True)
class DemoDone:
    """What came of it."""

    outcome: Outcome
    report: Path
    logs: Path
    next_steps: tuple[str, ...]


def run_demo(plan: DemoPlan, progress: Progress) -> DemoDone:
    """Run everything once.

    Raises:
        SightflowError: a part is missing, did not start, or fell out; whatever was started is stopped again.
    """
    stack = _fresh_stack(plan, progress)
    with _taken_down(stack, plan.keep, progress):
        return _run(stack, plan, progress)


@contextmanager
def _taken_down(stack: Stack, keep: bool, progress: Progress) -> Iterator[None]:
    """Take the stack down at the end, however it ends; `keep` leaves it only where all went well."""
    try:
        yield
    except BaseException:
        with signals_held():
            stack.down(progress)
        raise
    if not keep:
        with signals_held():
            stack.down(progress)


def _fresh_stack(plan: DemoPlan, progress: Progress) -> Stack:
    before = Stack(plan.run_dir, local=plan.local)
    if before.is_up():
        raise CheckFailed(
            f"a demo's stack still runs in {plan.run_dir}", f"end it: sightflow down --run-dir {plan.run_dir}"
        )
    before.down(wipe=True)
    ports = Ports.default()
    taken = [port for port in ports.as_dict().values() if not is_free(port)]
    if taken:
        progress.say(f"  --  port {taken[0]} is taken (another stack of yours?): this demo takes free ports instead")
        ports = Ports.free()
    return Stack(plan.run_dir, ports, local=plan.local)


def _run(stack: Stack, plan: DemoPlan, progress: Progress) -> DemoDone:
    push_log = plan.run_dir / "logs" / "rtsp-camera-pushes.jsonl"
    stack.add_program(_camera_program(stack, plan.local, push_log), lambda: not is_free(stack.ports.rtsp))
    stack.up([*stack.default_services(), RTSP_CAMERA], progress)
    settings = _settings(stack, plan.run_dir)
    site = load_settings(settings)
    job_id = _submit(stack, plan, settings, progress)
    began_us = time.time_ns() // 1000
    with Watch(stack.kafka_bootstrap, site, site.cameras[0]) as watch:
        _start_agent(stack, plan, settings, progress)
        _watch(stack, plan, job_id, watch, progress)
        _stop_agent(stack, watch, progress)
        question = Question(
            site=site, camera=site.cameras[0], span=Span(began_us, began_us + 86_400_000_000),
            bootstrap=stack.kafka_bootstrap, influx=stack.influx, whole_run=True, versions=job_versions(stack),
            footage=plan.local.footage, push_log=push_log,
        )  # fmt: skip
        _await_through(stack, job_id, watch, question, progress)
    with progress.step("read back from Kafka and InfluxDB, write the report"):
        material = gather(question)
        report = write(material, plan.report)
    return DemoDone(material.outcome, report, plan.run_dir / "logs", _next_steps(plan, settings, push_log))


# --- the parts -----------------------------------------------------------------------------------------------------


def _camera_program(stack: Stack, local: Local, push_log: Path) -> Program:
    """The stack's own RTSP camera, with a log of which frame it showed when."""
    command = (
        str(local.venv_agent / "bin" / "python"), "-m", "simulator.rtsp_camera", "--bind", HOST,
        "--port", str(stack.ports.rtsp), "--mount", f"path-east={local.footage}", "--log", str(push_log),
    )  # fmt: skip
    missing = [p for p in (local.venv_agent / "bin" / "python", local.footage, local.models) if not p.exists()]
    if missing:
        raise CheckFailed(f"not installed yet: {missing[0]}", "run the set-up once: make setup")
    return Program(RTSP_CAMERA, command, directory=REPO_ROOT, stop_wait_s=5, priority=400)


def _settings(stack: Stack, run_dir: Path) -> Path:
    """Return the demo's settings; where the camera has another port, a copy that says so."""
    here = f"{HOST}:{stack.ports.rtsp}"
    if here == _SETTINGS_RTSP:
        return SETTINGS
    copy = run_dir / "demo.yaml"
    copy.write_text(SETTINGS.read_text().replace(_SETTINGS_RTSP, here))
    return copy


def _submit(stack: Stack, plan: DemoPlan, settings: Path, progress: Progress) -> str:
    site = Site(plan.run_dir, stack.ports, plan.local, plan.run_dir / "flink-conf")
    command = flink_run_command(JobSubmission("suite", (settings,)), site, stack.influx)
    progress.say("\n" + _shown(["flink", *command[1:]]) + "\n")
    return stack.submit("suite", [settings], progress=progress)


def _agent_words(stack: Stack, plan: DemoPlan, settings: Path) -> list[str]:
    return [
        "run", "--settings", str(settings), "--bootstrap-servers", stack.kafka_bootstrap,
        "--state-dir", str(plan.run_dir / "agent"), "--models-dir", str(plan.local.models),
        "--agent-id", "agent-demo", "--metrics-port", "0",
    ]  # fmt: skip


def _start_agent(stack: Stack, plan: DemoPlan, settings: Path, progress: Progress) -> None:
    words = _agent_words(stack, plan, settings)
    progress.say("\n" + _shown(["sightflow-agent", *words]) + "\n")
    python = str(plan.local.venv_agent / "bin" / "python")
    stack.add_program(
        Program(AGENT, (python, "-m", "edge_agent", *words), directory=REPO_ROOT, stop_wait_s=15, priority=500)
    )
    stack.start(AGENT, progress)


def _shown(words: list[str]) -> str:
    """Return a command as a person would type it in the checkout, an option a line."""
    text = " ".join(shlex.quote(word.replace(f"{REPO_ROOT}/", "")) for word in words)
    return "  $ " + text.replace(" --", " \\\n      --")


# --- watching ------------------------------------------------------------------------------------------------------


def _watch(stack: Stack, plan: DemoPlan, job_id: str, watch: Watch, progress: Progress) -> None:
    first = "wait for the camera's first frame"
    with progress.step(first):
        _poll_until(
            watch, lambda: watch.sent_count > 0, _FIRST_FRAME_S, progress, first, stack,
            lambda: ServiceFailed(
                f"the agent sent no frame within {_FIRST_FRAME_S:.0f} s; the end of its log:\n"
                + stack.supervisor.log_tail(AGENT), f"all of its log: {stack.log(AGENT)}",
            ),
        )  # fmt: skip
    name = f"watch the stream for {plan.seconds:.0f} s"
    end_s = time.monotonic() + plan.seconds
    with progress.step(name):
        check_s = 0.0
        while time.monotonic() < end_s:
            _tell(watch, progress, name)
            if time.monotonic() > check_s:
                _require_job(stack, job_id)
                check_s = time.monotonic() + _CHECK_EVERY_S


def _tell(watch: Watch, progress: Progress, step: str) -> None:
    for line in watch.poll(_POLL_S):
        progress.say(f"  >>  {line}")
    progress.detail(step, watch.line())


def _require_job(stack: Stack, job_id: str) -> None:
    state = stack.job_state(job_id)
    if state not in ("RUNNING", "RESTARTING", "CREATED"):
        raise JobFailed(
            f"the job is {state}:\n{stack.flink.root_exception(job_id)[:2000]}", f"logs: {stack.run_dir}/logs"
        )


def _stop_agent(stack: Stack, watch: Watch, progress: Progress) -> None:
    with progress.step("stop the agent: it delivers what it has, then ends"):
        stack.stop(AGENT)
        for line in watch.poll(_POLL_S):
            progress.say(f"  >>  {line}")


def _await_through(stack: Stack, job_id: str, watch: Watch, question: Question, progress: Progress) -> None:
    """Wait until every frame has had its effect everywhere: topics, transactions, database."""

    def stuck(what: str) -> Callable[[], SightflowError]:
        return lambda: SightflowError(
            f"{what} did not happen within {_THROUGH_S:.0f} s: {watch.line()}; job: {stack.job_state(job_id)}",
            f"see the logs in {stack.run_dir / 'logs'}",
        )

    steps: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("wait until the last frame is tracked", watch.all_tracked),
        ("wait until the job notices that the camera is silent", lambda: watch.source_lost),
        ("wait for the checkpoint that commits the last events", lambda: watch.events_committed),
        ("wait until InfluxDB has every window", lambda: _windows_complete(question, watch)),
    )
    for name, condition in steps:
        with progress.step(name):
            _poll_until(watch, condition, _THROUGH_S, progress, name, stack, stuck(name.removeprefix("wait until ")))


def _windows_complete(question: Question, watch: Watch) -> bool:
    points = query_points(question.influx, question.camera, question.span, question.site.windows.length_s)
    return sum(int(row["frame_count"]) for row in points.camera_windows) >= watch.tracked_count


def _poll_until(
    watch: Watch, condition: Callable[[], bool], timeout_s: float, progress: Progress, step: str, stack: Stack,
    failure: Callable[[], SightflowError],
) -> None:  # fmt: skip
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise failure()
        _tell(watch, progress, step)


# --- afterwards ----------------------------------------------------------------------------------------------------


def _next_steps(plan: DemoPlan, settings: Path, push_log: Path) -> tuple[str, ...]:
    if not plan.keep:
        return (
            "open the report in a browser",
            "sightflow demo --keep                 … and look around in what runs",
            "sites/demo.yaml                       draw your own zones, tripwires and rules",
            "sightflow up                          a stack for development, with a camera of yours: README.md",
        )
    where = f"--run-dir {_short(plan.run_dir)}"
    return (
        f"sightflow status {where}              what runs, and where",
        f"sightflow report {where} --settings {_short(settings)} --footage {_short(plan.local.footage)}"
        f" --push-log {_short(push_log)}",
        "start the agent again with the command above",
        f"sightflow down {where}                stop everything",
    )


def _short(path: Path) -> str:
    return str(path).replace(f"{REPO_ROOT}/", "")
