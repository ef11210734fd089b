"""The servers of a local stack: how each is run, when it is ready, which ports it needs."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sightflow.errors import CheckFailed
from sightflow.places import REPO_ROOT, Local
from sightflow.stack import influx, kafka
from sightflow.stack.flink_rest import FlinkRest
from sightflow.stack.ports import HOST, Ports
from sightflow.stack.supervisor import Program

KAFKA = "kafka"
INFLUXD = "influxd"
JOBMANAGER = "flink-jobmanager"
TASKMANAGER = "flink-taskmanager"
RTSP_CAMERA = "rtsp-camera"
AGENT = "agent"

_START_MAX_S = 240.0
"""A quiet machine takes 10 s; one that is also running three other stacks was seen to take more than 90 s."""


@dataclass(frozen=True)
class Service:
    """One server of the stack.

    Args:
        program: how it is run.
        ports: names of the ports (fields of `Ports`) that it listens on.
        is_ready: asks the server itself; an exception counts as no.
        ready_timeout_s: how long its start may take on a busy machine.
        parts: files that the set-up must have made.
    """

    program: Program
    ports: tuple[str, ...]
    is_ready: Callable[[], bool]
    ready_timeout_s: float
    parts: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Name of the service and of its program."""
        return self.program.name


@dataclass(frozen=True)
class Site:
    """What a service needs to know of its stack."""

    run_dir: Path
    ports: Ports
    local: Local
    flink_conf_dir: Path

    @property
    def flink_rest(self) -> str:
        """Address of Flink's REST interface and web pages."""
        return f"http://{HOST}:{self.ports.flink}"

    @property
    def kafka_bootstrap(self) -> str:
        """Address of the broker."""
        return f"{HOST}:{self.ports.kafka}"


def require_parts(services: list[Service]) -> None:
    """Refuse if the set-up has not made what these services run.

    Raises:
        CheckFailed: with the missing files.
    """
    missing = [str(part) for service in services for part in service.parts if not part.exists()]
    if missing:
        raise CheckFailed(f"not installed yet: {', '.join(missing)}", "run the set-up once: make setup")


def flink_env(site: Site) -> dict[str, str]:
    """Return the environment of `flink`, JobManager and TaskManager."""
    venv = site.local.venv
    return {
        "FLINK_HOME": str(site.local.flink),
        "FLINK_CONF_DIR": str(site.flink_conf_dir),
        "FLINK_LOG_DIR": str(site.run_dir / "logs"),
        "FLINK_PID_DIR": str(site.run_dir / "flink" / "pids"),
        "VIRTUAL_ENV": str(venv),
        "PATH": f"{site.local.flink / 'bin'}:{venv / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        # Python inside a JVM reads no .pth files, so an editable install is not enough.
        "PYTHONPATH": str(REPO_ROOT),
        # A JVM of its own folder: compiled kernels survive a restart of the TaskManager.
        "NUMBA_CACHE_DIR": str(site.local.root / "numba"),
        # One thread runs Python in a TaskManager; threads under numpy's small matrices only cost.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def kafka_service(site: Site) -> Service:
    """Return the broker."""
    config_dir = site.run_dir / "kafka-conf"
    lib = site.local.kafka_lib
    program = Program(
        KAFKA,
        kafka.java_command(lib, config_dir, "kafka.Kafka", str(config_dir / "server.properties")),
        directory=site.run_dir,
        priority=100,
    )
    ready = lambda: kafka.is_ready(site.kafka_bootstrap)  # noqa: E731 - one call, bound to this site
    return Service(program, ("kafka", "kafka_controller"), ready, _START_MAX_S, parts=(lib,))


def influxd_service(site: Site) -> Service:
    """Return the local InfluxDB."""
    data_dir = site.run_dir / "influxdb"
    program = Program(
        INFLUXD,
        influx.command(site.local.influxd, data_dir, site.ports),
        directory=site.run_dir,
        stop_signal="INT",  # TERM ends it without closing its files
        priority=100,
    )
    url = f"http://{HOST}:{site.ports.influx}"
    return Service(program, ("influx",), lambda: influx.is_ready(url), _START_MAX_S, parts=(site.local.influxd,))


def jobmanager_service(site: Site) -> Service:
    """Return the JobManager."""
    program = Program(
        JOBMANAGER,
        (str(site.local.flink / "bin" / "jobmanager.sh"), "start-foreground"),
        env=flink_env(site),
        directory=site.run_dir,
        priority=200,
    )
    rest = FlinkRest(site.flink_rest)
    return Service(program, ("flink", "flink_rpc"), rest.is_up, _START_MAX_S, _flink_parts(site))


def taskmanager_service(site: Site, name: str, is_ready: Callable[[], bool]) -> Service:
    """Return one TaskManager.

    Args:
        site: the stack.
        name: `taskmanager_names` gives them.
        is_ready: whether the JobManager knows every TaskManager that runs.
    """
    program = Program(
        name,
        (str(site.local.flink / "bin" / "taskmanager.sh"), "start-foreground"),
        env=flink_env(site),
        directory=site.run_dir,
        priority=300,
    )
    return Service(program, (), is_ready, _START_MAX_S, _flink_parts(site))


def _flink_parts(site: Site) -> tuple[Path, ...]:
    return (site.local.flink, site.local.operator_jar)


def taskmanager_names(count: int) -> list[str]:
    """Return the services' names: the first has no number."""
    return [TASKMANAGER, *(f"{TASKMANAGER}-{number}" for number in range(2, count + 1))]


def rtsp_camera_service(site: Site, cameras: Mapping[str, Path]) -> Service:
    """Return the RTSP server that plays clips as cameras would.

    Args:
        site: the stack.
        cameras: name in the URL → H.264 file.
    """
    python = site.local.venv_agent / "bin" / "python"
    mounts = tuple(word for name, clip in cameras.items() for word in ("--mount", f"{name}={clip}"))
    program = Program(
        RTSP_CAMERA,
        (str(python), "-m", "simulator.rtsp_camera", "--bind", HOST, "--port", str(site.ports.rtsp), *mounts),
        directory=REPO_ROOT,
        stop_wait_s=5,
        priority=400,
    )
    return Service(
        program, ("rtsp",), lambda: _accepts(site.ports.rtsp), _START_MAX_S, parts=(python, *cameras.values())
    )


def _accepts(port: int) -> bool:
    with socket.create_connection((HOST, port), timeout=1.0):
        return True
