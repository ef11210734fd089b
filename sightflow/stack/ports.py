"""The ports of one stack: where they come from, and whether they are free."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import psutil

from sightflow.errors import CheckFailed, PortTaken

HOST = "127.0.0.1"
"""Every server of the local stack binds to loopback only: none of them asks for a password but InfluxDB."""

# Below the range from which Linux takes ports for outgoing connections (32768 and up): a free one stays free.
_FREE_RANGE = (20_000, 32_000)
_TRIES_MAX = 200


@dataclass(frozen=True)
class Ports:
    """The ports of one stack, all on loopback."""

    kafka: int = 9092
    kafka_controller: int = 9093
    influx: int = 8086
    flink: int = 8081
    flink_rpc: int = 6123
    rtsp: int = 8554

    @staticmethod
    def default() -> Ports:
        """Return the usual ports, each replaced by `$SIGHTFLOW_<NAME>_PORT` where that is set.

        Raises:
            CheckFailed: a variable holds something that is no port.
        """
        return Ports(**Ports.named())

    @staticmethod
    def named() -> dict[str, int]:
        """Return the ports that `$SIGHTFLOW_<NAME>_PORT` names. Raises CheckFailed as `default` does."""
        named = {field.name: _from_environment(field.name) for field in fields(Ports)}
        return {name: port for name, port in named.items() if port is not None}

    @staticmethod
    def free() -> Ports:
        """Return ports that nothing listens on now, so that a stack can run beside another one."""
        chosen: set[int] = set()
        for _ in fields(Ports):
            chosen.add(_free_port(chosen))
        return Ports(*sorted(chosen))

    def as_dict(self) -> dict[str, int]:
        """Return name → port."""
        return asdict(self)


def environment_name(port_name: str) -> str:
    """Return the variable that moves a port: 'flink' → 'SIGHTFLOW_FLINK_PORT'."""
    return f"SIGHTFLOW_{port_name.upper()}_PORT"


def _from_environment(name: str) -> int | None:
    variable = environment_name(name)
    text = os.environ.get(variable)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or not 1 <= int(text) <= 65_535:
        what = f"{variable} must be a port from 1 to 65535, found {text!r}"
        raise CheckFailed(what, f"unset {variable}, or correct it")
    return int(text)


def _free_port(taken: set[int]) -> int:
    chance = random.SystemRandom()
    for _ in range(_TRIES_MAX):
        port = chance.randint(*_FREE_RANGE)
        if port not in taken and is_free(port):
            return port
    raise CheckFailed(f"no free port found between {_FREE_RANGE[0]} and {_FREE_RANGE[1]}")


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port, on loopback and on every interface."""
    return all(_can_bind(host, port) for host in (HOST, ""))


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose old connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def require_free(wanted: Iterable[tuple[str, int]]) -> None:
    """Refuse if any of these ports is taken, naming the process that has it.

    Args:
        wanted: (name of the port, port) pairs.

    Raises:
        PortTaken: with every taken port, its owner and the remedy.
    """
    taken = [(name, port) for name, port in wanted if not is_free(port)]
    if not taken:
        return
    lines = [f"port {port} (needed for {name}) is taken by {describe_owner(port)}" for name, port in taken]
    variables = ", ".join(f"{environment_name(name)}=<free port>" for name, _ in taken)
    raise PortTaken(
        "; ".join(lines),
        f"end that process (another stack of yours: `sightflow down`), or move the stack's port: set {variables}",
    )


def describe_owner(port: int) -> str:
    """Return which process listens on a port, in words."""
    for connection in psutil.net_connections(kind="tcp"):
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port:
            return _describe_process(connection.pid)
    return "a process that cannot be seen from here (another user's, or another container's)"


def _describe_process(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    try:
        process = psutil.Process(pid)
        words = " ".join(process.cmdline())[:80] or process.name()
        run_dir = process.environ().get("SIGHTFLOW_STACK")
    except psutil.Error:
        return f"process {pid}"
    owner = f" of the sightflow stack in {run_dir}" if run_dir else ""
    return f"process {pid}{owner} ({words})"
