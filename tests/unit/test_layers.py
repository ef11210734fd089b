"""Imports point one way, as docs/architecture.md draws them, and importing a module does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPO_ROOT = Path(__file__).resolve().parent.parent.parent
CAPABILITIES = (
    "alerts",
    "conditions",
    "counters",
    "heat_map",
    "influx",
    "intake",
    "motion",
    "pace",
    "settings",
    "tracking",
    "tripwires",
    "windows",
    "zones",
)
_PLAIN = {"schemas", "operators.anchors", "operators.block", "operators.compiled"}
_ALL_CAPABILITIES = {f"operators.{name}" for name in CAPABILITIES}

LAYERS: dict[str, set[str]] = {
    "schemas": set(),
    "operators": set(),
    "operators.anchors": {"schemas"},
    "operators.block": set(),
    "operators.compiled": set(),
    **dict.fromkeys(_ALL_CAPABILITIES, _PLAIN),
    "operators.stages": _PLAIN | _ALL_CAPABILITIES,
    "operators.flink": {"operators.stages.stage", "schemas.topics"},
    "jobs": {"schemas", "operators.flink", "operators.stages", "operators.influx"},
    "edge_agent": {"schemas"},
    "simulator": {"schemas"},
    "models": {"edge_agent.detector"},
    "sightflow": {"schemas", "simulator", "sightflow.track"},
    "sightflow.track": {"schemas", "operators.stages", "sightflow"},
    "sightflow.replay": {"schemas", "operators.stages", "sightflow"},
    "bench": {"schemas", "operators", "jobs", "edge_agent", "simulator", "sightflow"},
}
"""Package → what it may import beside itself. A module belongs to the longest name here that it begins with."""

PACKAGES = sorted({name.split(".")[0] for name in LAYERS})

CONFINED: dict[str, tuple[str, ...]] = {
    "pyflink": ("operators.flink", "jobs", "bench"),
    "py4j": ("operators.flink",),
    "gi": ("simulator.rtsp_camera", "edge_agent"),
    "influxdb_client": ("operators.influx", "sightflow"),
    "trackeval": ("sightflow.evaluate.scorer",),
    "scipy": ("sightflow.evaluate.scorer",),
}
"""Library → the only packages that know it."""

PURE = ("schemas", *sorted(_ALL_CAPABILITIES - {"operators.influx"}), "operators.stages")
"""What neither reads a clock nor draws a random number nor touches the outer world: a restore must repeat its bytes."""
IMPURE = {
    "asyncio", "http", "multiprocessing", "os", "random", "secrets", "shutil", "socket", "subprocess", "tempfile",
    "threading", "time", "urllib", "uuid",
}  # fmt: skip


class Import(NamedTuple):
    """One import: who, what, where."""

    module: str
    target: str
    line: int


def begins_with(name: str, prefix: str) -> bool:
    """Whether a dotted name is `prefix` or lies in it."""
    return name == prefix or name.startswith(prefix + ".")


def layer_of(name: str) -> str | None:
    """The layer of a module; None: not ours."""
    return max((known for known in LAYERS if begins_with(name, known)), key=len, default=None)


def imports_of(module: str, source: str, is_package: bool = False) -> Iterator[Import]:
    """Yield every import, those inside functions too; `from a import b` may mean the module a.b, so it yields that."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, is_package, node)
            for alias in node.names:
                yield Import(module, f"{base}.{alias.name}", node.lineno)


def _absolute(module: str, is_package: bool, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def violations(found: Import) -> Iterator[str]:
    """Yield what is wrong with an import."""
    own, other = layer_of(found.module), layer_of(found.target)
    where = f"{found.module}:{found.line} imports {found.target}"
    if own is None:
        yield f"{found.module} is in no layer: add it to LAYERS and to docs/architecture.md"
    elif other is not None and own != other and not any(begins_with(found.target, name) for name in LAYERS[own]):
        yield f"{where}: {own} may import only {sorted(LAYERS[own]) or 'itself'}"
    root = found.target.split(".")[0]
    if root in CONFINED and not any(begins_with(found.module, name) for name in CONFINED[root]):
        yield f"{where}: only {CONFINED[root]} may know {root}"
    if root in IMPURE and any(begins_with(found.module, name) for name in PURE):
        yield f"{where}: {own} is pure, time and chance come in as arguments"


def effects(source: str) -> list[int]:
    """Return the lines of module-level statements that do something rather than define something."""
    return [node.lineno for node in ast.parse(source).body if not _defines(node)]


def _defines(node: ast.stmt) -> bool:
    definitions = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef)
    if isinstance(node, definitions):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring
    if isinstance(node, ast.Try):
        return all(_defines(inner) for inner in [*node.body, *(x for h in node.handlers for x in h.body), *node.orelse])
    if isinstance(node, ast.If):
        test = ast.unparse(node.test)
        return test == "__name__ == '__main__'" or (
            test == "TYPE_CHECKING" and all(_defines(inner) for inner in node.body)
        )
    return False


def modules() -> Iterator[tuple[str, Path]]:
    """Yield (dotted name, file) of every module of ours."""
    for package in PACKAGES:
        for path in sorted((REPO_ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(REPO_ROOT).with_suffix("").parts).removesuffix(".__init__"), path


# ---- the repository -----------------------------------------------------------------------------------------------


def test_imports_point_one_way() -> None:
    found = [
        problem
        for module, path in modules()
        for one in imports_of(module, path.read_text(encoding="utf-8"), path.name == "__init__.py")
        for problem in violations(one)
    ]
    assert found == []


def test_modules_define_and_do_nothing() -> None:
    found = {module: effects(path.read_text(encoding="utf-8")) for module, path in modules()}
    assert {module: lines for module, lines in found.items() if lines} == {}


def test_every_folder_of_operators_is_a_known_layer() -> None:
    folders = {path.parent.name for path in (REPO_ROOT / "operators").glob("*/__init__.py")}
    assert folders == {*CAPABILITIES, "stages", "flink"}


# Says which of our modules, while it is imported, writes a file, starts a process or thread, or opens a connection.
_WATCH = """
import importlib, signal, sys, threading
root, names = sys.argv[1], sys.argv[2:]
importing, found = [""], []
DOES = {"subprocess.Popen", "os.system", "os.fork", "os.exec", "os.posix_spawn", "os.mkdir", "os.remove", "os.rename",
        "os.putenv", "os.chdir", "os.kill", "socket.connect", "socket.bind", "shutil.rmtree"}

def ours(frame):
    while frame is not None:
        path = frame.f_code.co_filename
        if "site-packages" in path or "/.local/" in path[len(root):]:
            return False
        if path.startswith(root):
            return True
        frame = frame.f_back
    return False

def hook(event, details):
    writes = event == "open" and isinstance(details[1], str) and set(details[1]) & set("wax+")
    if (writes or event in DOES) and ours(sys._getframe(1)):
        found.append(f"{importing[0]}: {event} {details[:2]}")

sys.addaudithook(hook)
handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
for importing[0] in names:
    try:
        importlib.import_module(importing[0])
    except ModuleNotFoundError as missing:
        # GStreamer's bindings come with the system's Python only, the scorer's libraries with its own environment.
        if missing.name not in ("gi", "trackeval", "scipy"):
            raise
    if threading.active_count() > 1:
        found.append(f"{importing[0]}: leaves a thread")
        break
if handlers != [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]:
    found.append("a signal handler was set")
print("\\n".join(found), end="")
"""


def test_importing_everything_has_no_effect(tmp_path: Path) -> None:
    names = [module for module, _ in modules() if not module.endswith("__main__")]
    command = [sys.executable, "-B", "-W", "ignore", "-c", _WATCH, f"{REPO_ROOT}/", *names]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPO_ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


# ---- the checker --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "told"),
    [
        ("schemas.wire", "import operators.zones", "schemas may import only"),
        ("schemas.wire", "from edge_agent import agent", "schemas may import only"),
        ("operators.zones.zones", "from operators.tracking import Tracker", "operators.zones may import only"),
        ("operators.zones.zones", "from ..tracking import Tracker", "operators.zones may import only"),
        (
            "operators.zones.zones",
            "def f():\n    from operators.stages import stage",
            "operators.zones may import only",
        ),
        ("operators.zones.zones", "import time", "pure"),
        ("operators.stages.camera_stage", "from uuid import uuid4", "pure"),
        ("operators.stages.camera_stage", "from operators.flink.streams import Streams", "may import only"),
        ("operators.stages.camera_stage", "from pyflink.common import Row", "may know pyflink"),
        ("operators.flink.streams", "from operators.stages.camera_stage import CameraStage", "may import only"),
        ("operators.flink.streams", "import jobs.suite", "may import only"),
        ("edge_agent.agent", "import pyflink", "may know pyflink"),
        ("edge_agent.agent", "from operators import anchors", "edge_agent may import only"),
        ("simulator.scene", "from operators.zones import Zones", "simulator may import only"),
        ("simulator.scene", "import gi", "may know gi"),
        ("sightflow.demo", "from jobs import suite", "sightflow may import only"),
        ("toys.toy", "import schemas", "is in no layer"),
    ],
)
def test_an_arrow_that_points_the_other_way_is_found(module: str, source: str, told: str) -> None:
    found = [problem for one in imports_of(module, source) for problem in violations(one)]
    assert len(found) == 1
    assert told in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "operators.zones.zones",
            "from operators.zones import kernel\nfrom schemas.settings import Zone\nimport numpy",
        ),
        ("operators.zones", "from .zones import Zones"),
        ("operators.influx.writer", "import time, random"),
        ("operators.flink.streams", "from operators.stages.stage import Stage\nfrom pyflink.table import StatementSet"),
        ("models.convert", "from edge_agent.detector.manifest import Manifest"),
    ],
)
def test_an_arrow_that_points_the_right_way_is_not(module: str, source: str) -> None:
    is_package = module == "operators.zones"
    assert [p for one in imports_of(module, source, is_package) for p in violations(one)] == []


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "start()",
        "for n in (1,):\n    f = n",
        "with open('x') as f:\n    pass",
        "if x:\n    go()",
        "x += 1",
    ],
)
def test_a_statement_that_does_something_is_found(source: str) -> None:
    assert effects('"""Doc."""\nimport os\n' + source) == [3]


def test_an_effect_at_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("import threading\nSTORE = open('left-behind', 'w')\n")
    (tmp_path / "busy.py").write_text(
        "import threading, time\nT = threading.Thread(target=time.sleep, args=(2,), daemon=True)\nT.start()\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", _WATCH, f"{tmp_path}/", "loud", "busy"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "loud: open ('left-behind', 'w')" in done.stdout
    assert "busy: leaves a thread" in done.stdout
