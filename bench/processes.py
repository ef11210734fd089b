"""CPU time of processes, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_HZ = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12
"""Places of utime and stime behind the command in /proc/PID/stat (proc(5): fields 14 and 15)."""
_PROC = Path("/proc")


def parse_stat_cpu_s(stat: str, ticks_hz: int = _TICKS_HZ) -> float:
    """Return user + system seconds of a process, from the text of its /proc/PID/stat.

    The command in parentheses may itself hold spaces and parentheses: what counts is behind the last one.
    """
    behind = stat[stat.rindex(")") + 1 :].split()
    return (int(behind[_UTIME]) + int(behind[_STIME])) / ticks_hz


def parse_stat_parent(stat: str) -> int:
    """Return the parent's process id."""
    return int(stat[stat.rindex(")") + 1 :].split()[1])


def cpu_s(pid: int) -> float:
    """Return user + system seconds that a process with all its threads has used; without its children."""
    return parse_stat_cpu_s((_PROC / str(pid) / "stat").read_text())


def tree_cpu_s(pid: int) -> float:
    """Return the same with all living descendants: a TaskManager in process mode has Python workers below it."""
    return sum(parse_stat_cpu_s(stat) for stat in _tree_stats(pid).values())


def tree_memory_mib(pid: int) -> float:
    """Return the sum of the most memory (VmHWM) that a process and its living descendants have held."""
    return sum(peak_memory_mib(one) for one in _tree_stats(pid))


def _tree_stats(pid: int) -> dict[int, str]:
    """Return process id → text of its stat file, for a process and its descendants."""
    stats: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it ended between the two calls
                continue
            stats[int(entry.name)] = stat
            children.setdefault(parse_stat_parent(stat), []).append(int(entry.name))
    tree, pending = {}, [pid]
    while pending:
        one = pending.pop()
        if one in stats:
            tree[one] = stats[one]
        pending.extend(children.get(one, ()))
    return tree


def busy_s() -> float:
    """Return the seconds that all cores together have spent at work since boot: user, nice, system, irq, softirq."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, (_PROC / "stat").read_text().split(None, 8)[1:8])
    return (user + nice + system + irq + softirq) / _TICKS_HZ


def peak_memory_mib(pid: int) -> float:
    """Return the most memory a process has held (VmHWM)."""
    return _status_mib(str(pid), "VmHWM:")


def memory_mib(pid: int | None = None) -> float:
    """Return the memory that a process, or this one, holds now (VmRSS)."""
    return _status_mib(str(pid or "self"), "VmRSS:")


def _status_mib(process: str, field: str) -> float:
    for line in (_PROC / process / "status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0
