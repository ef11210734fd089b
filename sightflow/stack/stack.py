"""One local stack: start, stop, watch and break its servers, and run jobs on it."""

from __future__ import annotations

import fcntl
import json
import shutil
import signal as signals
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from sightflow.errors import CheckFailed, ServiceFailed, SightflowError, StackNotRunning
from sightflow.places import Local
from sightflow.progress import Progress
from sightflow.stack import flink_conf, influx, kafka, leftovers, services
from sightflow.stack.flink_rest import FlinkRest
from sightflow.stack.influx import InfluxTarget
from sightflow.stack.jobs import JobSubmission, submit_job
from sightflow.stack.ports import HOST, Ports, environment_name, require_free
from sightflow.stack.services import Service, Site
from sightflow.stack.supervisor import Program, Supervisor

MEMORY_MIN_MIB = {
    services.KAFKA: 700,
    services.INFLUXD: 300,
    services.JOBMANAGER: 700,
    services.TASKMANAGER: 1800,
    services.RTSP_CAMERA: 100,
    services.AGENT: 400,
}
"""What each server takes on a two-core machine with a small load, in MiB, rounded up."""

DISK_MIN_MIB = 2048
_POLL_S = 0.1
_LOCK_WAIT_S = 120.0
_NOTICE_WAIT_S = 10.0


@dataclass(frozen=True)
class ServiceStatus:
    """One server as it is now.

    Args:
        name: service.
        state: RUNNING, STARTING, BACKOFF, STOPPED, … as supervisord names it.
        pid: 0 when it does not run.
        uptime_s: since its last start.
        address: where it listens; '' when nowhere.
    """

    name: str
    state: str
    pid: int
    uptime_s: float
    address: str


class Stack:
    """A stack in one run folder. Making the object starts nothing; as a context manager it is taken down at the end.

    Args:
        run_dir: holds everything of this stack: data, logs, socket, secrets. Two stacks need two folders.
        ports: None takes those of the stack that runs there, else the default ones.
        taskmanagers: how many to run, one slot each; None takes as many as the stack that runs there, else one.
        flink_options: Flink options that win over flink-conf/config.yaml.
        cameras: what the RTSP server plays: name in the URL → H.264 file.
        local: where the installed parts are; None finds them.
    """

    def __init__(
        self,
        run_dir: Path,
        ports: Ports | None = None,
        *,
        taskmanagers: int | None = None,
        flink_options: Mapping[str, str] | None = None,
        cameras: Mapping[str, Path] | None = None,
        local: Local | None = None,
    ) -> None:
        self.run_dir = run_dir.absolute()
        self.local = local or Local.find()
        self.supervisor = Supervisor(self.run_dir)
        remembered = self._remembered() if ports is None else {}
        self.ports = ports or (Ports(**remembered["ports"]) if remembered else Ports.default())
        self._has_own_ports = ports is not None
        self._wanted_taskmanagers = taskmanagers
        self._taskmanagers = taskmanagers or int(remembered.get("taskmanagers", 1))
        self._flink_options = dict(flink_options or {})
        self._cameras = dict(cameras) if cameras else {"path-east": self.local.footage}
        self._added: dict[str, Service] = {}

    # --- where things are --------------------------------------------------------------------------------------

    @property
    def kafka_bootstrap(self) -> str:
        """host:port of the broker."""
        return self._site.kafka_bootstrap

    @property
    def flink_rest(self) -> str:
        """Address of Flink's REST interface and web pages."""
        return self._site.flink_rest

    @property
    def flink(self) -> FlinkRest:
        """Flink's REST interface."""
        return FlinkRest(self.flink_rest)

    @property
    def influx(self) -> InfluxTarget:
        """The InfluxDB bucket that jobs write to: the stack's own, or the one that $INFLUXDB_V2_* names."""
        return influx.target(self.run_dir, self.ports)

    def rtsp_url(self, name: str) -> str:
        """Return the address of a camera of the stack's RTSP server."""
        return f"rtsp://{HOST}:{self.ports.rtsp}/{name}"

    def log(self, service: str) -> Path:
        """Return the log file of a service."""
        return self.supervisor.log(service)

    def default_services(self) -> list[str]:
        """Return what `up` starts when it is not told: the servers, without camera and agent."""
        own_influx = [services.INFLUXD] if self.influx.local else []
        return [services.KAFKA, *own_influx, services.JOBMANAGER, *services.taskmanager_names(self._taskmanagers)]

    # --- life of the stack -------------------------------------------------------------------------------------

    def up(self, wanted: Iterable[str] | None = None, progress: Progress | None = None) -> None:
        """Start services and wait until each answers; those that run already are not started again.

        What a crash left behind is cleaned away first. If anything fails, or the user interrupts, whatever this call
        started is stopped again. A stack that runs takes more TaskManagers, but neither fewer nor other ports.

        Args:
            wanted: names; None starts `default_services()`.
            progress: where to show steps; None shows nothing.

        Raises:
            CheckFailed, PortTaken: before anything was started.
            ServiceFailed: a server did not get ready; its last log lines are in the message.
        """
        shown = progress or Progress()
        chosen = [self._service(name) for name in (wanted or self.default_services())]
        self._make_run_dir()
        with self._locked(shown):
            fresh = not self.supervisor.alive()
            if fresh:
                self._clean_after_crash(shown)
            else:
                self._refuse_changes()
            missing = [service for service in chosen if not self._runs(service.name)]
            self._check(missing)
            started: list[str] = []
            try:
                self._bring_up(missing, fresh, started, shown)
                # Those that ran already may still be starting: the `up` that started them may have been killed.
                self._await_all([service for service in chosen if service not in missing], shown, "wait for")
            except BaseException:
                for service in chosen:
                    shown.drop(f"start {service.name}")
                    shown.drop(f"wait for {service.name}")
                self._undo(fresh, started, shown)
                raise
            if not fresh:
                self._write_memory(self._remembered() | {"taskmanagers": self._taskmanagers})

    def down(self, progress: Progress | None = None, wipe: bool = False) -> None:
        """Stop every process of the stack, by its supervisor or without it.

        Args:
            progress: where to show steps.
            wipe: also delete the run folder with all data.
        """
        shown = progress or Progress()
        if self.run_dir.exists():
            with self._locked(shown):
                self._stop_all(shown)
                self.supervisor.forget_socket()
        if wipe:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def is_up(self) -> bool:
        """Return whether this stack's supervisor runs."""
        return self.supervisor.alive()

    def status(self) -> list[ServiceStatus]:
        """Return every service that was started since `up`; empty when the stack does not run."""
        if not self.supervisor.alive():
            return []
        return [self._status_of(info) for info in self.supervisor.all_info()]

    # --- single services ---------------------------------------------------------------------------------------

    def add_program(
        self, program: Program, is_ready: Callable[[], bool] = lambda: True, ready_timeout_s: float = 30.0
    ) -> None:
        """Make a process of the caller's known, so that `start` and the others take its name; it ends with the stack.

        Args:
            program: how it is run; takes the place of a built-in service of the same name.
            is_ready: asked until it says yes; an exception counts as no.
            ready_timeout_s: for how long.
        """
        self._added[program.name] = Service(program, (), is_ready, ready_timeout_s)

    def start(self, service: str, progress: Progress | None = None) -> None:
        """Start one service of a running stack and wait until it answers."""
        self._require_up()
        self.up([service], progress)

    def stop(self, service: str) -> None:
        """Stop one service in order; it stays down until it is started again."""
        self._require_up()
        self.supervisor.stop(service)

    def pid(self, service: str) -> int:
        """Return the process id of a service, 0 when it does not run.

        Raises:
            StackNotRunning: there is no stack, or the service was never started.
        """
        self._require_up()
        try:
            return int(self.supervisor.info(service)["pid"])
        except xmlrpc.client.Fault as fault:
            what = f"{service} was never started in {self.run_dir}"
            raise StackNotRunning(what, "start it with stack.start()") from fault

    def kill(self, service: str, signal: int = signals.SIGKILL, restart: bool = True) -> None:
        """Send a signal to a service, as a fault would.

        Args:
            service: name.
            signal: SIGKILL by default.
            restart: False keeps the supervisor from starting it again; `start` does.
        """
        victim = self.pid(service)
        self.supervisor.kill(service, signal, restart)
        if signal == signals.SIGKILL:
            self._await_other_pid(service, victim)

    def _await_other_pid(self, service: str, victim: int) -> None:
        """Wait until supervisord has noticed a death: else `wait_ready` might still ask the dead."""
        deadline_s = time.monotonic() + _NOTICE_WAIT_S
        while self.pid(service) == victim and time.monotonic() < deadline_s:
            time.sleep(_POLL_S / 5)

    def wait_ready(self, service: str, timeout_s: float | None = None) -> None:
        """Wait until a service answers, for example after `kill`.

        Raises:
            ServiceFailed: it did not in time.
        """
        self._require_up()
        known = self._service(service)
        deadline_s = time.monotonic() + (timeout_s or known.ready_timeout_s)
        while not _answers(known):
            if time.monotonic() > deadline_s:
                raise self._failure(known, "does not answer")
            time.sleep(_POLL_S)

    # --- topics and jobs ---------------------------------------------------------------------------------------

    def create_topics(self) -> list[str]:
        """Create the topics of `schemas.topics` that do not exist; return the names of the new ones."""
        return kafka.create_topics(self.kafka_bootstrap)

    def submit(
        self,
        job: str | Path = "suite",
        settings: Sequence[Path] = (),
        extra_args: Sequence[str] = (),
        savepoint: str | None = None,
        *,
        flink_args: Sequence[str] = (),
        parallelism: int | None = None,
        fresh_taskmanagers: bool = True,
        progress: Progress | None = None,
        timeout_s: float = 180.0,
    ) -> str:
        """Submit a job with `flink run -d` and wait until all its tasks run.

        Args:
            job: 'suite' or another file in jobs/, which gets the addresses of this stack; or the path of a Python
                file anywhere, which gets `extra_args` and nothing else.
            settings: site settings files; empty for a job that takes none.
            extra_args: further arguments of the job.
            savepoint: path of a savepoint or retained checkpoint to start from.
            flink_args: further arguments of `flink run`, such as '-Dkey=value'.
            parallelism: None takes the number of TaskManagers, one.
            fresh_taskmanagers: Python in a TaskManager keeps the modules that it once imported, and a JVM its jars, so
                a job whose code has changed would run the old one: TaskManagers that have run a job, and whatever was
                started before the set-up built our operator, are restarted first, unless another job runs.
            progress: where to show steps.
            timeout_s: for the job to run.

        Returns:
            The job's id.

        Raises:
            JobFailed: Flink refused it, or it failed or did not run in time; with Flink's reason.
        """
        self._require_up()
        shown = progress or Progress()
        if fresh_taskmanagers:
            self._renew_flink(shown)
        self._remember_used_taskmanagers()
        submission = JobSubmission(
            job=job,
            settings=tuple(settings),
            extra_args=tuple(extra_args),
            savepoint=savepoint,
            flink_args=tuple(flink_args),
            parallelism=parallelism,
        )
        return submit_job(submission, self._site, self.influx, shown, timeout_s)

    def stop_with_savepoint(self, job_id: str, timeout_s: float = 120.0) -> str:
        """Take a savepoint, stop the job, return the savepoint's path."""
        return self.flink.stop_with_savepoint(job_id, timeout_s)

    def cancel(self, job_id: str) -> None:
        """Cancel a job and wait for its end; its last checkpoint stays."""
        self.flink.cancel(job_id)

    def job_state(self, job_id: str) -> str:
        """Return RUNNING, RESTARTING, FAILED, CANCELED, FINISHED, …"""
        return self.flink.job_state(job_id)

    def job_exceptions(self, job_id: str) -> list[dict[str, Any]]:
        """Return the failures that Flink remembers, newest first."""
        return self.flink.job_exceptions(job_id)

    def num_restarts(self, job_id: str) -> int:
        """Return how often the job was restarted since it was submitted."""
        return self.flink.num_restarts(job_id)

    # --- inside: files -----------------------------------------------------------------------------------------

    @property
    def _site(self) -> Site:
        return Site(self.run_dir, self.ports, self.local, self.run_dir / "flink-conf")

    @property
    def _memory_file(self) -> Path:
        return self.run_dir / "stack.json"

    def _remembered(self) -> dict[str, Any]:
        """Return what the running stack was started with; empty when none runs."""
        if not self.supervisor.alive() or not self._memory_file.exists():
            return {}
        remembered: dict[str, Any] = json.loads(self._memory_file.read_text())
        return remembered

    def _make_run_dir(self) -> None:
        for folder in ("", "logs", "secrets", "flink/tmp", "flink/pids", "flink/checkpoints", "flink/savepoints"):
            (self.run_dir / folder).mkdir(parents=True, exist_ok=True)
        (self.run_dir / "secrets").chmod(0o700)

    @contextmanager
    def _locked(self, progress: Progress) -> Iterator[None]:
        """Two commands at once on one stack would undo each other's work."""
        with (self.run_dir / "lock").open("w") as lock:
            _lock(lock.fileno(), progress)
            yield

    def _write_configs(self) -> None:
        kafka.write_config(self.run_dir / "kafka-conf", self.run_dir / "kafka", self.ports)
        python = self.local.venv / "bin" / "python"
        flink_conf.write_local(self.run_dir, self.ports, python, self._flink_options)
        self._write_memory({"ports": self.ports.as_dict(), "taskmanagers": self._taskmanagers})
        self._write_shell_settings()

    def _write_memory(self, memory: dict[str, Any]) -> None:
        self._memory_file.write_text(json.dumps(memory))

    def _write_shell_settings(self) -> None:
        """Write env.sh, so that plain `flink` commands reach this stack from any shell."""
        exports = services.flink_env(self._site)
        path = f"{self.local.flink / 'bin'}:{self.local.venv / 'bin'}"
        exports["PATH"] = f"{path}:$PATH"
        lines = [f'export {key}="{value}"' for key, value in sorted(exports.items())]
        header = "# source this, then use `flink` as on any cluster"
        (self.run_dir / "env.sh").write_text("\n".join([header, *lines]) + "\n")

    # --- inside: starting and stopping -------------------------------------------------------------------------

    def _service(self, name: str) -> Service:
        if name in self._added:
            return self._added[name]
        site = self._site
        makers: dict[str, Callable[[], Service]] = {
            services.KAFKA: lambda: services.kafka_service(site),
            services.INFLUXD: lambda: services.influxd_service(site),
            services.JOBMANAGER: lambda: services.jobmanager_service(site),
            services.RTSP_CAMERA: lambda: services.rtsp_camera_service(site, self._cameras),
        }
        if name in makers:
            return makers[name]()
        if name in services.taskmanager_names(max(self._taskmanagers, 64)):
            return services.taskmanager_service(site, name, self._taskmanagers_known)
        raise CheckFailed(
            f"no service is called {name!r}", f"known: {', '.join([*makers, services.TASKMANAGER, *self._added])}"
        )

    def _refuse_changes(self) -> None:
        """Refuse what a running stack cannot become.

        Raises:
            CheckFailed: other ports are named than those it has, or fewer TaskManagers than run.
        """
        has = self.ports.as_dict()
        named = {} if self._has_own_ports else Ports.named()
        moved = [f"{environment_name(name)}={port}" for name, port in named.items() if has[name] != port]
        if moved:
            names = ", ".join(f"{name} {port}" for name, port in has.items())
            raise CheckFailed(
                f"the stack in {self.run_dir} runs on other ports ({names}) than {', '.join(moved)}",
                "sightflow down first, or unset these variables",
            )
        if self._wanted_taskmanagers is None:  # another command may have added some since this object was made
            self._taskmanagers = int(self._remembered().get("taskmanagers", self._taskmanagers))
            return
        kept = services.taskmanager_names(self._taskmanagers)
        running = sorted(str(info["name"]) for info in self._taskmanager_infos())
        if not set(running) <= set(kept):
            raise CheckFailed(
                f"the stack in {self.run_dir} runs {len(running)} TaskManagers, expected at most {len(kept)}",
                "sightflow down first, or name as many as run, or more",
            )

    def _runs(self, name: str) -> bool:
        if not self.supervisor.alive():
            return False
        return any(info["name"] == name and info["pid"] for info in self.supervisor.all_info())

    def _check(self, missing: list[Service]) -> None:
        if not missing:
            return
        services.require_parts(missing)
        ports = self.ports.as_dict()
        require_free((name, ports[name]) for service in missing for name in service.ports)
        require_memory([service.name for service in missing])
        require_disk(self.run_dir)

    def _clean_after_crash(self, progress: Progress) -> None:
        killed = leftovers.kill_all(self.run_dir)
        if killed:
            progress.say(f"  --  ended {killed} processes that a crashed stack had left behind")
        self.supervisor.forget_socket()
        for stale in ("supervisord.pid", "flink/pids", "flink/tmp"):
            _remove(self.run_dir / stale)
        self._make_run_dir()

    def _bring_up(self, missing: list[Service], fresh: bool, started: list[str], progress: Progress) -> None:
        if fresh:
            self._write_configs()
            self.supervisor.launch()
        if any(service.name == services.KAFKA for service in missing):
            self._format_kafka(progress)
        for service in missing:
            started.append(service.name)
            self.supervisor.add(service.program)
            self.supervisor.start(service.name)
        self._await_all(missing, progress, "start")

    def _format_kafka(self, progress: Progress) -> None:
        data_dir = self.run_dir / "kafka"
        if kafka.is_formatted(data_dir):
            return
        with progress.step("format Kafka's data folder"):
            properties = self.run_dir / "kafka-conf" / "server.properties"
            # Marked: an interrupt in the instant in which it is forked would otherwise leave it behind.
            kafka.format_storage(self.local.kafka_lib, properties, data_dir, self.supervisor.environment())

    def _await_all(self, waiting: list[Service], progress: Progress, verb: str) -> None:
        started_s = time.monotonic()
        for service in waiting:
            progress.begin(f"{verb} {service.name}")
        pids = {service.name: self.pid(service.name) for service in waiting}
        while waiting:
            for service in list(waiting):
                if _answers(service):
                    self._finish_start(service)
                    progress.end(f"{verb} {service.name}", "done")
                    waiting = [other for other in waiting if other is not service]
                else:
                    self._require_still_starting(service, pids, time.monotonic() - started_s)
            time.sleep(_POLL_S if waiting else 0)

    def _finish_start(self, service: Service) -> None:
        if service.name == services.KAFKA:
            self.create_topics()
        elif service.name == services.INFLUXD:
            influx.set_up(self.influx)

    def _require_still_starting(self, service: Service, pids: dict[str, int], waited_s: float) -> None:
        info = self.supervisor.info(service.name)
        first_pid = pids[service.name] or info["pid"]
        pids[service.name] = first_pid
        if info["statename"] in ("BACKOFF", "EXITED", "FATAL", "STOPPED") or info["pid"] != first_pid:
            raise self._failure(service, f"ended while it started ({info.get('spawnerr') or info.get('description')})")
        if waited_s > service.ready_timeout_s:
            raise self._failure(service, f"did not answer within {service.ready_timeout_s:.0f} s")

    def _failure(self, service: Service, what: str) -> ServiceFailed:
        log = self.supervisor.log(service.name)
        tail = self.supervisor.log_tail(service.name)
        return ServiceFailed(f"{service.name} {what}; the end of its log:\n{tail}", f"all of its log: {log}")

    def _undo(self, fresh: bool, started: list[str], progress: Progress) -> None:
        with signals_held():
            if fresh:
                self._stop_all(progress)
            else:
                for name in reversed(started):
                    self.supervisor.stop(name)

    def _stop_all(self, progress: Progress) -> None:
        if self.supervisor.alive():
            with progress.step("stop the servers"):
                try:
                    self.supervisor.shut_down()
                except (OSError, xmlrpc.client.Error):  # it hangs or has just died: the mark finds the rest
                    pass
        leftovers.kill_all(self.run_dir)

    def _require_up(self) -> None:
        if not self.supervisor.alive():
            raise StackNotRunning(f"no stack runs in {self.run_dir}", "start one: sightflow up")

    def _status_of(self, info: dict[str, Any]) -> ServiceStatus:
        name = str(info["name"])
        numbers = self.ports.as_dict()
        try:
            first = next(iter(self._service(name).ports), None)
        except SightflowError:  # added by another process: we know no more than its name
            first = None
        address = f"{HOST}:{numbers[first]}" if first else ""
        uptime_s = float(info["now"] - info["start"]) if info["pid"] else 0.0
        return ServiceStatus(name, str(info["statename"]), int(info["pid"]), uptime_s, address)

    # --- inside: Flink -----------------------------------------------------------------------------------------

    def _taskmanager_infos(self) -> list[dict[str, Any]]:
        return self._infos(services.TASKMANAGER)

    def _infos(self, prefix: str) -> list[dict[str, Any]]:
        infos = self.supervisor.all_info()
        return [info for info in infos if str(info["name"]).startswith(prefix) and info["pid"]]

    def _taskmanagers_known(self) -> bool:
        """Whether the JobManager has heard from every TaskManager that runs since its start, and of no dead one."""
        infos = self._taskmanager_infos()
        known = self.flink.taskmanagers()
        newest_start_s = max((info["start"] for info in infos), default=0)
        # supervisord gives whole seconds, rounded down.
        heard = all(entry["timeSinceLastHeartbeat"] / 1000 > newest_start_s + 1 for entry in known)
        return bool(infos) and len(known) == len(infos) and heard

    @property
    def _used_file(self) -> Path:
        return self.run_dir / "taskmanagers-used.json"

    def _remember_used_taskmanagers(self) -> None:
        pids = [info["pid"] for info in self._taskmanager_infos()]
        self._used_file.write_text(json.dumps(pids))

    def _renew_flink(self, progress: Progress) -> None:
        stale = self._stale_flink()
        if not stale:
            return
        ended = ("FINISHED", "CANCELED", "FAILED")
        if any(state not in ended for state in self.flink.jobs().values()):
            progress.say(
                f"  --  another job runs, so {', '.join(stale)} stay as they are, with the code that they once loaded"
            )
            return
        with progress.step(f"restart {', '.join(stale)}, for the code as it is now"):
            for name in stale:
                self.supervisor.stop(name)
            for name in stale:
                self.supervisor.start(name)
            for name in stale:
                self.wait_ready(name)

    def _stale_flink(self) -> list[str]:
        """Return what keeps old code, JobManager first: TaskManagers that have run a job, JVMs older than our operator's jar."""
        used = set(json.loads(self._used_file.read_text())) if self._used_file.exists() else set()
        jar = self.local.operator_jar
        built_s = jar.stat().st_mtime if jar.exists() else 0.0
        infos = [*self._infos(services.JOBMANAGER), *self._taskmanager_infos()]
        return [str(info["name"]) for info in infos if info["pid"] in used or info["start"] < built_s]


@contextmanager
def signals_held() -> Iterator[None]:
    """Ignore a second Ctrl-C (or TERM) while what was started is being taken down."""
    try:
        held = {number: signals.signal(number, signals.SIG_IGN) for number in (signals.SIGINT, signals.SIGTERM)}
    except ValueError:  # not the main thread: it gets no signals
        held = {}
    try:
        yield
    finally:
        for number, handler in held.items():
            signals.signal(number, handler)


def require_memory(names: Iterable[str]) -> None:
    """Refuse if the machine has not enough memory left for these services.

    Raises:
        CheckFailed: with what they need and what there is.
    """
    needed_mib = sum(MEMORY_MIN_MIB.get(_kind(name), 0) for name in names)
    available_mib = psutil.virtual_memory().available // 2**20
    if available_mib < needed_mib:
        raise CheckFailed(
            f"the stack needs {needed_mib} MiB of free memory, found {available_mib} MiB",
            "end other programs, or use a machine with more memory",
        )


def _kind(name: str) -> str:
    return services.TASKMANAGER if name.startswith(services.TASKMANAGER) else name


def require_disk(folder: Path) -> None:
    """Refuse if the disk of this folder is nearly full.

    Raises:
        CheckFailed: with what is needed and what there is.
    """
    free_mib = shutil.disk_usage(folder).free // 2**20
    if free_mib < DISK_MIN_MIB:
        raise CheckFailed(
            f"the stack needs {DISK_MIN_MIB} MiB of free disk in {folder}, found {free_mib} MiB",
            "free some (data of old runs: `sightflow down --wipe`), or set SIGHTFLOW_LOCAL to a folder elsewhere",
        )


def _answers(service: Service) -> bool:
    try:
        return service.is_ready()
    except Exception:  # noqa: BLE001 - whatever goes wrong while a server starts, it is not ready
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lock(descriptor: int, progress: Progress) -> None:
    deadline_s = time.monotonic() + _LOCK_WAIT_S
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told:
                progress.say("  …   another sightflow command works on this stack: waiting for it")
                told = True
        if time.monotonic() > deadline_s:
            raise CheckFailed(
                "another sightflow command holds this stack for two minutes now", "end it, then try again"
            )
        time.sleep(_POLL_S)
