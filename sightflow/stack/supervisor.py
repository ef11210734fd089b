"""supervisord (PyPI `supervisor`) of one stack: its configuration, its start, and calls to it over its unix socket."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil

from sightflow.errors import ServiceFailed, StackNotRunning
from sightflow.stack.leftovers import MARK

_LOG_BYTES_MAX = 10_000_000
_LOG_BACKUPS = 2
_SOCKET_PATH_MAX = 100
"""Linux takes 107 bytes for the path of a unix socket; supervisord adds a dot and its pid while it makes one."""
_START_WAIT_S = 30.0
_STOP_WAIT_S = 60.0
_CALL_WAIT_S = 90.0  # stopping a program waits for its end
_ALIVE_WAIT_S = 3.0

# Faults of supervisord that we expect (supervisor/xmlrpc.py, class Faults).
_NOT_RUNNING = 70
_ALREADY_STARTED = 60
_ALREADY_ADDED = 90
_BAD_NAME = 10


@dataclass(frozen=True)
class Program:
    """One supervised process.

    Args:
        name: name within the stack.
        command: program and arguments.
        env: added to the environment of supervisord.
        directory: working folder.
        stop_signal: 'TERM' or 'INT'.
        stop_wait_s: how long it may take to end before it is killed.
        restart: whether it is started again when it ends by itself.
        priority: lower starts first and stops last.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    directory: Path = Path("/")
    stop_signal: str = "TERM"
    stop_wait_s: int = 20
    restart: bool = True
    priority: int = 500


def program_section(program: Program, log: Path) -> str:
    """Return the configuration section of one program."""
    environment = ",".join(f'{key}="{_escape(value)}"' for key, value in sorted(program.env.items()))
    lines = [
        f"[program:{program.name}]",
        "command=" + " ".join(_quote(word) for word in program.command),
        f"directory={_escape(str(program.directory))}",
        f"environment={environment}",
        "autostart=false",
        f"autorestart={'true' if program.restart else 'false'}",
        # A program that ends sooner than this counts as not started; then each new try waits a second longer.
        "startsecs=1",
        "startretries=1000",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_wait_s}",
        # Its children as well: scripts, decoders.
        "stopasgroup=true",
        "killasgroup=true",
        f"priority={program.priority}",
        "redirect_stderr=true",
        f"stdout_logfile={_escape(str(log))}",
        f"stdout_logfile_maxbytes={_LOG_BYTES_MAX}",
        f"stdout_logfile_backups={_LOG_BACKUPS}",
    ]
    return "\n".join(lines) + "\n"


def daemon_config(run_dir: Path, socket: Path) -> str:
    """Return the configuration of supervisord itself; programs are read from conf.d as they are added."""
    logs = run_dir / "logs"
    lines = [
        "[unix_http_server]",
        f"file={_escape(str(socket))}",
        "chmod=0700",
        "",
        "[supervisord]",
        f"logfile={_escape(str(logs / 'supervisord.log'))}",
        "logfile_maxbytes=2000000",
        "logfile_backups=1",
        f"pidfile={_escape(str(run_dir / 'supervisord.pid'))}",
        f"childlogdir={_escape(str(logs))}",
        f"directory={_escape(str(run_dir))}",
        "umask=077",
        *(["user=root"] if os.geteuid() == 0 else []),  # else it warns that it keeps its rights
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "",
        "[include]",
        "files=conf.d/*.conf",
    ]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Percent signs start an expansion in supervisord's configuration; quotes end a value."""
    if "\n" in text or '"' in text:
        raise ValueError(f"a value for supervisord may hold neither a line break nor a double quote, found {text!r}")
    return text.replace("%", "%%")


def _quote(word: str) -> str:
    """Quote one word as supervisord's parser (shlex) reads it."""
    escaped = _escape(word)
    return f'"{escaped}"' if any(mark in escaped for mark in " ;'#\t") or not escaped else escaped


def socket_path(run_dir: Path) -> Path:
    """Return where the socket of this run folder lies; a folder with a long path gets one among the temporary files."""
    inside = run_dir / "supervisor.sock"
    if len(os.fsencode(inside)) <= _SOCKET_PATH_MAX:
        return inside
    digest = hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"sightflow-{os.geteuid()}-{digest}.sock"


class Supervisor:
    """Starts supervisord for one run folder and talks to it.

    Args:
        run_dir: absolute path of the stack's run folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._socket = socket_path(run_dir)

    def alive(self) -> bool:
        """Return whether supervisord answers."""
        try:
            self._call("getState", timeout_s=_ALIVE_WAIT_S)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error, StackNotRunning):
            return False
        return True

    def launch(self) -> None:
        """Start supervisord in a session of its own and wait until it answers.

        Raises:
            ServiceFailed: it ended, or did not answer in time.
        """
        self._socket.unlink(missing_ok=True)
        programs = self.run_dir / "conf.d"
        programs.mkdir(exist_ok=True)
        for stale in programs.glob("*.conf"):
            stale.unlink()
        config = self.run_dir / "supervisord.conf"
        config.write_text(daemon_config(self.run_dir, self._socket))
        with (self.run_dir / "logs" / "supervisord.out").open("wb") as out:
            # It turns into a daemon as soon as it has read its configuration.
            launcher = subprocess.run(
                [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,  # Ctrl-C on the terminal is for the command line, not for the servers
                timeout=_START_WAIT_S,
                check=False,
            )
        self._await_answer(launcher.returncode)

    def environment(self) -> dict[str, str]:
        """Return the environment of a process of this stack: ours, and the mark by which leftovers are found."""
        return {**os.environ, MARK: str(self.run_dir), "PYTHONWARNINGS": "ignore"}

    def _await_answer(self, status: int) -> None:
        deadline_s = time.monotonic() + _START_WAIT_S
        while status == 0 and time.monotonic() < deadline_s:
            if self.alive():
                return
            time.sleep(0.05)
        log = self.run_dir / "logs" / "supervisord.out"
        raise ServiceFailed("supervisord did not start:\n" + log.read_text(errors="replace")[-2000:], f"see {log}")

    def add(self, program: Program) -> None:
        """Make a program known, or replace a stopped one whose definition has changed."""
        path = self.run_dir / "conf.d" / f"{program.name}.conf"
        section = program_section(program, self.log(program.name))
        if not path.exists() or path.read_text() != section:
            path.touch(mode=0o600)
            path.write_text(section)
        _, changed, _ = self._call("reloadConfig")[0]
        if program.name in changed:
            self._call("removeProcessGroup", program.name)
        try:
            self._call("addProcessGroup", program.name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _ALREADY_ADDED:
                raise

    def start(self, name: str) -> None:
        """Start a program if it does not run."""
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _ALREADY_STARTED:
                raise

    def stop(self, name: str) -> None:
        """Stop a program and wait until it is gone; it is not started again."""
        try:
            self._call("stopProcess", name, True)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode not in (_NOT_RUNNING, _BAD_NAME):
                raise

    def kill(self, name: str, number: int, restart: bool) -> None:
        """Send a signal to a program.

        Args:
            name: the program.
            number: the signal.
            restart: False keeps a program that dies of it from being started again. Both calls then travel in one
                request, so that supervisord sees the death only after it was told.
        """
        calls: list[dict[str, Any]] = [
            {"methodName": "supervisor.signalProcess", "params": [name, str(int(number))]},
        ]
        if not restart:
            calls.append({"methodName": "supervisor.stopProcess", "params": [name, False]})
        for result in cast(list[Any], self._call("system.multicall", calls)):
            if isinstance(result, dict) and result["faultCode"] != _NOT_RUNNING:
                raise ServiceFailed(f"{name} could not be sent signal {number}: {result['faultString']}")
        if not restart:
            self._await_stopped(name)

    def _await_stopped(self, name: str) -> None:
        deadline_s = time.monotonic() + _STOP_WAIT_S
        while self.info(name)["pid"] and time.monotonic() < deadline_s:
            time.sleep(0.05)

    def info(self, name: str) -> dict[str, Any]:
        """Return supervisord's record of a program: statename, pid, start, spawnerr, …"""
        return cast(dict[str, Any], self._call("getProcessInfo", name))

    def all_info(self) -> list[dict[str, Any]]:
        """Return the records of all programs."""
        return cast(list[dict[str, Any]], self._call("getAllProcessInfo"))

    def shut_down(self) -> None:
        """Stop every program, last started first, then supervisord; wait until it is gone."""
        pid = cast(int, self._call("getPID"))
        self._call("shutdown")
        deadline_s = time.monotonic() + _STOP_WAIT_S
        while _exists(pid) and time.monotonic() < deadline_s:
            time.sleep(0.05)

    def forget_socket(self) -> None:
        """Remove the socket of a supervisord that is gone."""
        self._socket.unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        """Return the log file of a program."""
        return self.run_dir / "logs" / f"{name}.log"

    def log_tail(self, name: str, lines: int = 30) -> str:
        """Return the last lines of a program's log."""
        try:
            with self.log(name).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 200 * lines))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log yet)"

    def _call(self, method: str, *arguments: Any, timeout_s: float = _CALL_WAIT_S) -> Any:
        """Call supervisord once, over a connection of its own.

        Raises:
            StackNotRunning: there is no socket.
            OSError: nobody listens on it, or no answer came in time.
            xmlrpc.client.Fault: supervisord refused.
        """
        if not self._socket.exists():
            raise StackNotRunning(f"no stack runs in {self.run_dir}", "start one: sightflow up")
        transport = _UnixTransport(self._socket, timeout_s)
        full_name = method if "." in method else f"supervisor.{method}"
        request = xmlrpc.client.dumps(arguments, full_name).encode()
        try:
            (result,) = transport.request("localhost", "/RPC2", request)
        finally:
            transport.close()
        return result


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket; unlike supervisor's own, its calls end in time even if supervisord hangs."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        self._path, self._timeout_s = path, timeout_s

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        """Return a connection to the socket; the host is of no matter."""
        connection = _UnixConnection(self._path, self._timeout_s)
        self._connection = "localhost", connection  # what `close` closes
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _exists(pid: int) -> bool:
    try:
        # Where process 1 collects no orphans, as in some containers, a dead one stays as a zombie.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
