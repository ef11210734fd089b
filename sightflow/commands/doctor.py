"""`sightflow doctor`: what this machine has, what is missing, what to do about it."""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from sightflow.bootstrap.checks import all_checks, missing_apt_packages
from sightflow.bootstrap.graph import pending
from sightflow.bootstrap.steps import FLINK_VERSION, all_steps
from sightflow.places import Local
from sightflow.stack import Ports
from sightflow.stack.ports import describe_owner, environment_name, is_free
from sightflow.stack.stack import Stack

_PACKAGES = (
    "apache-flink", "confluent-kafka", "influxdb-client", "msgspec", "numba", "numpy", "onnxruntime",
    "opencv-python-headless", "pemja", "supervisor",
)  # fmt: skip
_CALL_TIMEOUT_S = 10.0
_BROKER = "4.1.1"

_EPILOG = """\
examples:
  sightflow doctor
It changes nothing. It returns 1 if something that is needed is missing.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 1 if something is missing."""
    argparse.ArgumentParser(
        prog="sightflow doctor",
        description="Check this machine and what is installed; print a remedy for whatever is missing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args(argv)
    local = Local.find()
    problems = _machine(local) + _installed(local) + _ports(local)
    _versions(local)
    _accelerator()
    print("\nnext:\n  " + ("follow the arrows above, then run this again" if problems else "sightflow demo"))
    return 1 if problems else 0


def _line(fine: bool, name: str, found: str, remedy: str = "") -> int:
    print(f"  {'ok' if fine else '!!'}  {name:<16} {found}")
    if not fine and remedy:
        print(f"      → {remedy}")
    return 0 if fine else 1


def _machine(local: Local) -> int:
    print("machine")
    return sum(_line(*_named(check.name, check.probe()), check.remedy) for check in all_checks(local))


def _named(name: str, result: tuple[bool, str]) -> tuple[bool, str, str]:
    return result[0], name, result[1]


def _installed(local: Local) -> int:
    print("installed")
    missing = missing_apt_packages()
    steps = all_steps(local)
    waiting = {step.name for step in pending(steps, local)}
    problems = _line(
        not missing, "system packages", "all" if not missing else "missing: " + " ".join(missing), "make setup"
    )
    for step in steps:
        if step.name != "system packages":
            problems += _line(
                step.name not in waiting, step.name, "" if step.name not in waiting else "to do", "make setup"
            )
    return problems


def _ports(local: Local) -> int:
    print("ports")
    if Stack(local.run, local=local).is_up():
        print("  ok  the stack runs on them: sightflow status")
        return 0
    problems = 0
    for name, port in Ports.default().as_dict().items():
        found = f"{port} free" if is_free(port) else f"{port} taken by {describe_owner(port)}"
        problems += _line(is_free(port), name, found, f"end it, or set {environment_name(name)}")
    return problems


def _versions(local: Local) -> None:
    print("versions")
    print(f"  Flink {FLINK_VERSION}, Kafka broker {_BROKER}, InfluxDB {_influx_version(local)}")
    print("  " + ", ".join(_package_versions()))


def _package_versions() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} missing"


def _influx_version(local: Local) -> str:
    if not local.influxd.exists():
        return "not built"
    return "2.9.1 (built from source)"


def _accelerator() -> None:
    print("accelerator (optional)")
    words = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    if shutil.which(words[0]) is None:
        print("  --  no NVIDIA GPU: the detector runs on the CPU")
        return
    done = subprocess.run(words, capture_output=True, text=True, timeout=_CALL_TIMEOUT_S, check=False)
    print(f"  ok  {done.stdout.strip() or done.stderr.strip()}")
    try:
        print(f"  ok  TensorRT {importlib.metadata.version('tensorrt')}")
    except importlib.metadata.PackageNotFoundError:
        print("  --  no TensorRT in this environment: the agent uses ONNX Runtime")
