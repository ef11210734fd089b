"""Flink's configuration of a local stack: the file that users put on a cluster, plus folders, ports and addresses."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sightflow.places import REPO_ROOT
from sightflow.stack.ports import HOST, Ports

SHARED_CONF_DIR = REPO_ROOT / "flink-conf"
_LOG_CONFIGS = ("log4j-console.properties", "log4j-cli.properties")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return 'a.b.c' → text for a YAML tree, nested or flat."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, name + "."))
        else:
            flat[name] = _text(value)
    return flat


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def local_overrides(run_dir: Path, ports: Ports, python: Path) -> dict[str, str]:
    """Return what a local stack sets beyond the shared file.

    Args:
        run_dir: the stack's run folder.
        ports: the stack's ports.
        python: interpreter of jobs and operators.
    """
    state = run_dir / "flink"
    return {
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": str(ports.flink_rpc),
        "jobmanager.bind-host": HOST,
        "taskmanager.host": HOST,
        "taskmanager.bind-host": HOST,
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": str(ports.flink),
        "rest.bind-port": str(ports.flink),
        "io.tmp.dirs": str(state / "tmp"),
        "web.tmpdir": str(state / "tmp"),
        "execution.checkpointing.dir": f"file://{state / 'checkpoints'}",
        "execution.checkpointing.savepoint-dir": f"file://{state / 'savepoints'}",
        "python.executable": str(python),
        "python.client.executable": str(python),
    }


def write_local(run_dir: Path, ports: Ports, python: Path, extra: Mapping[str, str]) -> Path:
    """Write the configuration folder of a local stack.

    Args:
        run_dir, ports, python: see `local_overrides`.
        extra: further Flink options, which win over everything.

    Returns:
        The folder, to be used as FLINK_CONF_DIR.
    """
    target = run_dir / "flink-conf"
    target.mkdir(parents=True, exist_ok=True)
    shared = yaml.safe_load((SHARED_CONF_DIR / "config.yaml").read_text())
    options = {**flatten(shared), **local_overrides(run_dir, ports, python), **extra}
    header = "# Made by `sightflow up` from flink-conf/config.yaml: edit that one.\n"
    (target / "config.yaml").write_text(header + yaml.safe_dump(options, default_flow_style=False, width=10_000))
    for name in _LOG_CONFIGS:
        shutil.copyfile(SHARED_CONF_DIR / name, target / name)
    return target
