"""The set-up's step runner: order, reuse, failure, Ctrl-C; and its pre-flight checks."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from pathlib import Path

import pytest

from sightflow.bootstrap import checks, steps
from sightflow.bootstrap.__main__ import require_checks
from sightflow.bootstrap.graph import Step, Workshop, is_done, pending, run_steps
from sightflow.bootstrap.steps import all_steps, operator_step, require_sha256
from sightflow.errors import CheckFailed, StepFailed
from sightflow.places import REPO_ROOT, Local
from sightflow.progress import SILENCE_MAX_S, Progress


@pytest.fixture
def local(tmp_path: Path) -> Local:
    return Local(tmp_path / "local")


def _touch(path: Path) -> Step:
    return Step(path.name, lambda workshop: workshop.command("touch", path), outputs=(path,), inputs=("1",))


# --- order and reuse -----------------------------------------------------------------------------------------------


def test_a_step_waits_for_those_it_needs(local: Local) -> None:
    order: list[str] = []
    steps = [
        Step("slow", lambda _: (time.sleep(0.3), order.append("slow"))[0]),
        Step("after", lambda _: order.append("after"), needs=("slow",)),
        Step("beside", lambda _: order.append("beside")),
    ]
    run_steps(steps, local, Progress())
    assert order == ["beside", "slow", "after"]


def test_independent_steps_run_at_the_same_time(local: Local) -> None:
    meeting = threading.Barrier(3, timeout=10)
    run_steps([Step(name, lambda _: (meeting.wait(), None)[1]) for name in "abc"], local, Progress())


def test_a_done_step_is_reused_until_its_input_changes(local: Local, tmp_path: Path) -> None:
    lock, made = tmp_path / "lock", tmp_path / "made"
    lock.write_text("1")
    step = Step("make", lambda workshop: workshop.command("touch", made), inputs=(lock,), outputs=(made,))
    assert not is_done(step, local)
    run_steps([step], local, Progress())
    assert is_done(step, local)
    lock.write_text("2")
    assert not is_done(step, local)
    lock.write_text("1")
    made.unlink()
    assert not is_done(step, local), "an output that is gone is made again"


def test_what_needs_a_step_that_runs_runs_too(local: Local) -> None:
    first = Step("first", lambda _: None, inputs=("1",))
    second = Step("second", lambda _: None, needs=("first",))
    run_steps([first, second], local, Progress())
    assert pending([first, second], local) == []
    changed = Step("first", lambda _: None, inputs=("2",))
    assert [step.name for step in pending([changed, second], local)] == ["first", "second"]


def test_the_real_steps_need_only_steps_that_stand_before_them(local: Local) -> None:
    seen: set[str] = set()
    names = {step.name for step in all_steps(local)}
    known_checks = {check.name for check in checks.all_checks(local)}
    for step in all_steps(local):
        assert set(step.needs) <= names, f"{step.name} needs a step that does not exist"
        assert set(step.checks) <= known_checks
        seen.add(step.name)


def test_a_server_of_the_users_own_is_not_built(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFLUXDB_V2_URL", raising=False)
    assert "InfluxDB server" in {step.name for step in all_steps(local)}
    monkeypatch.setenv("INFLUXDB_V2_URL", "http://influx:8086")
    assert "InfluxDB server" not in {step.name for step in all_steps(local)}


# --- failure -------------------------------------------------------------------------------------------------------


def test_a_failed_step_tells_its_last_lines_its_log_and_the_remedy(local: Local) -> None:
    def fail(workshop: Workshop) -> None:
        workshop.command("sh", "-c", "seq 100; echo the disk is full; exit 7")

    with pytest.raises(StepFailed) as failed:
        run_steps([Step("break", fail, remedy="make room")], local, Progress())
    text = failed.value.text()
    assert "'break' failed: sh ended with status 7" in text
    assert "the disk is full" in text
    assert "\n72\n" in text
    assert "\n70\n" not in text, "thirty lines and no more"
    assert str(local.logs / "setup-break.log") in text
    assert "make room" in text


def test_a_failure_ends_the_other_steps(local: Local) -> None:
    def fail(workshop: Workshop) -> None:
        time.sleep(0.3)
        raise StepFailed("no")

    started_s = time.monotonic()
    with pytest.raises(StepFailed, match="'break' failed"):
        run_steps(
            [Step("long", lambda workshop: workshop.command("sleep", "600")), Step("break", fail)], local, Progress()
        )
    assert time.monotonic() - started_s < 10


def test_a_failed_step_runs_again(local: Local, tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(StepFailed):
        run_steps([Step("make", lambda w: w.command("false"), inputs=("1",), outputs=(made,))], local, Progress())
    assert pending([_touch(made)], local)


def test_a_step_that_makes_less_than_it_says_fails(local: Local, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="did not make"):
        run_steps([Step("lie", lambda _: None, outputs=(tmp_path / "nothing",))], local, Progress())


def test_a_missing_program_is_named(local: Local) -> None:
    with pytest.raises(StepFailed, match="there is no program no-such-program"):
        run_steps([Step("s", lambda w: w.command("no-such-program"))], local, Progress())


def test_bytes_that_are_not_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "jar"
    path.write_bytes(b"x")
    require_sha256(path, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")
    path.write_bytes(b"y")
    with pytest.raises(StepFailed, match="has SHA-256 a1fce436"):
        require_sha256(path, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")


# --- the operator in Java ------------------------------------------------------------------------------------------


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A class in place of our operator's."""
    if shutil.which("javac") is None:
        pytest.skip("no javac on the PATH")
    source = tmp_path / "java" / "a" / "A.java"
    source.parent.mkdir(parents=True)
    source.write_text("package a; class A { class B { } }")
    monkeypatch.setattr(steps, "_OPERATOR_SOURCE", tmp_path / "java")
    return source


def test_the_operators_jar_holds_its_classes_and_is_made_anew_when_a_source_changes(local: Local, java: Path) -> None:
    local.operator_jar.parent.mkdir(parents=True)
    run_steps([operator_step(local)], local, Progress())
    with zipfile.ZipFile(local.operator_jar) as jar:
        assert jar.namelist() == ["a/A$B.class", "a/A.class"]
    first = local.operator_jar.read_bytes()
    assert is_done(operator_step(local), local)
    java.write_text("package a; class A { }")
    assert not is_done(operator_step(local), local)
    run_steps([operator_step(local)], local, Progress())
    with zipfile.ZipFile(local.operator_jar) as jar:
        assert jar.namelist() == ["a/A.class"]
    java.write_text("package a; class A { class B { } }")
    run_steps([operator_step(local)], local, Progress())
    assert local.operator_jar.read_bytes() == first, "the same bytes of the same source"


def test_java_that_is_compiled_with_a_warning_leaves_the_old_jar(local: Local, java: Path) -> None:
    local.operator_jar.parent.mkdir(parents=True)
    local.operator_jar.write_text("old")
    java.write_text("package a; class A { java.util.List l; }")
    with pytest.raises(StepFailed, match="rawtypes"):
        run_steps([operator_step(local)], local, Progress())
    assert local.operator_jar.read_text() == "old"


# --- Ctrl-C --------------------------------------------------------------------------------------------------------

_INTERRUPTED = """
import signal
import sys
from pathlib import Path
from sightflow.bootstrap.graph import Step, run_steps
from sightflow.places import Local
from sightflow.progress import Progress
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs tests in the background has it ignored
local = Local(Path(sys.argv[1]))
def stubborn(name):
    script = f"sleep 600 & echo $! > {local.root}/{name}; trap '' TERM; wait; sleep 600"
    return Step(name, lambda workshop: workshop.command("sh", "-c", script))
steps = [stubborn("a"), stubborn("b")]
with Progress() as progress:
    run_steps(steps, local, progress)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_kills_every_command_with_its_children(number: signal.Signals, tmp_path: Path) -> None:
    code = textwrap.dedent(_INTERRUPTED)
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=REPO_ROOT, stderr=subprocess.DEVNULL)
    pids = [_await_pid(tmp_path / name) for name in "ab"]
    process.send_signal(number)
    assert process.wait(15) != 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def _await_pid(path: Path) -> int:
    deadline_s = time.monotonic() + 15
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return int(path.read_text())


# --- checks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("javac 17.0.15", 17),
        ("javac 1.8.0_392", 8),
        ("bash: java: command not found", None),
    ],
)
def test_the_java_version_is_read(text: str, version: int | None) -> None:
    assert checks.java_version(text) == version


def _tool(folder: Path, name: str, prints: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'E'\n{prints}\nE\n")
    path.chmod(0o755)


def test_an_old_java_is_refused_with_the_remedy_before_anything_starts(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tool(tmp_path, "java", 'openjdk version "11.0.2" 2019-01-15')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ran: list[str] = []
    step = Step("jars", lambda _: ran.append("jars"), checks=("Java",))
    with pytest.raises(CheckFailed) as refused:
        require_checks([step], local)
    assert "11.0.2" in str(refused.value)
    assert "install a JDK 17 or later" in str(refused.value)
    assert not ran


def test_a_java_that_does_not_compile_is_refused_with_what_to_install(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tool(tmp_path, "java", 'openjdk version "17.0.15" 2025-04-15')
    for name in ("sh", "cat"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    step = Step("operator", lambda _: None, checks=("Java",))
    with pytest.raises(CheckFailed) as refused:
        require_checks([step], local)
    assert 'found openjdk version "17.0.15" 2025-04-15, but no javac on the PATH' in str(refused.value)
    assert "install a JDK 17 or later (Debian: apt-get install openjdk-17-jdk-headless)" in str(refused.value)
    _tool(tmp_path, "javac", "javac 11.0.2")
    with pytest.raises(CheckFailed, match=r"but javac 11\.0\.2"):
        require_checks([step], local)
    _tool(tmp_path, "javac", "javac 17.0.15")
    require_checks([step], local)


def test_too_little_disk_is_refused(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DISK_MIN_GIB", 1e9)
    with pytest.raises(CheckFailed, match="GiB free in"):
        require_checks([], local)


def test_the_bootstrap_runs_on_a_python_without_any_package(tmp_path: Path) -> None:
    foreign = "[m for m in sys.modules if m in ('psutil', 'yaml', 'msgspec')]"
    code = f"import sightflow.bootstrap.__main__, sys; print({foreign})"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(REPO_ROOT)!r}); {code}"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


# --- progress ------------------------------------------------------------------------------------------------------


class _Clocked(io.StringIO):
    """Notes when each line was written."""

    def __init__(self) -> None:
        super().__init__()
        self.times_s: list[float] = []

    def write(self, text: str) -> int:
        self.times_s.append(time.monotonic())
        return super().write(text)


def test_a_long_step_is_never_silent_for_two_seconds() -> None:
    out = _Clocked()
    with Progress(out) as progress, progress.step("think"):
        progress.detail("think", "hard")
        time.sleep(4.5)
    gaps = [b - a for a, b in zip(out.times_s, out.times_s[1:], strict=False)]
    assert max(gaps) < 2.0, f"with a bound of {SILENCE_MAX_S} s"
    assert "think 2 s (hard)" in out.getvalue() or "think 3 s (hard)" in out.getvalue()


def test_a_step_that_fails_says_so() -> None:
    out = io.StringIO()
    with Progress(out) as progress, pytest.raises(ValueError, match="x"), progress.step("think"):
        raise ValueError("x")
    assert "!!  think FAILED" in out.getvalue()
