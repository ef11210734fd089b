"""Pre-flight checks: what a machine must have before anything is started. Standard library only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sightflow.places import Local

DISK_MIN_GIB = 8.0
MEMORY_MIN_GIB = 5.5  # what a machine sold with 6 GB shows
JAVA_MIN = 17
GO_MIN = (1, 25)
CARGO_MIN = (1, 83)
_CALL_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Check:
    """One thing that a machine must have.

    Args:
        name: short name, also the one that steps refer to.
        probe: returns (fine, what was found); asked with a time limit of its own.
        remedy: what to do where it is not fine.
    """

    name: str
    probe: Callable[[], tuple[bool, str]]
    remedy: str


def all_checks(local: Local) -> list[Check]:
    """Return every check, in the order in which a person would go through them."""
    own_influx = "or use an InfluxDB of yours, then none is built: INFLUXDB_V2_URL, _ORG, _BUCKET, _TOKEN_FILE"
    return [
        Check("Debian", _debian, "use Debian 12 (or another Debian or Ubuntu with apt)"),
        Check("apt rights", _apt_rights, f"run as root, or run `sudo -v` first, or install by hand: {apt_line()}"),
        Check("Python 3.11", _python, "install it so that `python3.11` is found (Debian 12: apt-get install python3)"),
        Check("Java", _java, f"install a JDK {JAVA_MIN} or later (Debian: apt-get install openjdk-17-jdk-headless)"),
        Check("Maven", lambda: _tool("mvn"), "install Maven (Debian: apt-get install maven)"),
        Check("Go", _go, f"install Go {GO_MIN[0]}.{GO_MIN[1]} or later, {own_influx}"),
        Check("Rust", _cargo, f"install Rust {CARGO_MIN[0]}.{CARGO_MIN[1]} or later, {own_influx}"),
        Check("disk", lambda: _disk(local.root), "free some, or set SIGHTFLOW_LOCAL to a folder on another disk"),
        Check("memory", _memory, "use a machine with more memory"),
    ]


def failures(names: Iterable[str], local: Local) -> list[tuple[Check, str]]:
    """Return those of the named checks that are not fine, each with what was found."""
    wanted = set(names)
    found = []
    for check in all_checks(local):
        if check.name in wanted:
            fine, what = check.probe()
            if not fine:
                found.append((check, what))
    return found


# --- system packages -----------------------------------------------------------------------------------------------

_APT_PACKAGES = (
    "python3-gi",
    "python3-venv",
    "gir1.2-gstreamer-1.0",
    "gir1.2-gst-plugins-base-1.0",
    "gir1.2-gst-rtsp-server-1.0",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-ugly",
    "gstreamer1.0-libav",
    "gstreamer1.0-tools",
)
# Tools that a machine may have from elsewhere; a package is added only where the command is missing.
_APT_FOR_COMMAND = {"gcc": "gcc", "pkg-config": "pkg-config", "npm": "npm"}


def apt_packages() -> list[str]:
    """Return the Debian packages that the set-up needs on this machine."""
    missing = [package for command, package in _APT_FOR_COMMAND.items() if shutil.which(command) is None]
    compiler = ["libc6-dev"] if shutil.which("gcc") is None else []
    return [*_APT_PACKAGES, *_python_library(), *missing, *compiler]


def _python_library() -> list[str]:
    """Debian's own Python has its library as a package; Java needs it to run Python inside a TaskManager."""
    python = find_python()
    return ["libpython3.11"] if python is not None and python.is_relative_to("/usr/bin") else []


def missing_apt_packages() -> list[str]:
    """Return those of `apt_packages` that are not installed."""
    wanted = apt_packages()
    if shutil.which("dpkg-query") is None:
        return wanted
    done = _run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted)
    installed = {line.split()[0] for line in done[1].splitlines() if line.endswith(" installed")}
    return [package for package in wanted if package not in installed]


def apt_line() -> str:
    """Return the command that a person would type."""
    return "apt-get install --no-install-recommends " + " ".join(apt_packages())


def apt_prefix() -> list[str]:
    """Return what stands before apt-get: nothing for root."""
    return [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]


# --- probes --------------------------------------------------------------------------------------------------------


def _run(*words: str) -> tuple[int, str]:
    """Return status and output of a short command; 127 where there is none, 124 where it hangs."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=_CALL_TIMEOUT_S, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return 127, ""
    except subprocess.TimeoutExpired:
        return 124, "no answer"
    return done.returncode, done.stdout


def _debian() -> tuple[bool, str]:
    release = Path("/etc/os-release")
    text = release.read_text() if release.exists() else ""
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return shutil.which("apt-get") is not None, name.group(1) if name else "an unknown system without apt"


def _apt_rights() -> tuple[bool, str]:
    missing = missing_apt_packages()
    if not missing:
        return True, "all system packages are installed"
    if os.geteuid() == 0:
        return True, f"{len(missing)} system packages to install, as root"
    status, _ = _run("sudo", "--non-interactive", "true")
    return status == 0, f"{len(missing)} system packages to install ({' '.join(missing)}), " + (
        "with sudo" if status == 0 else "without the right to"
    )


def find_python() -> Path | None:
    """Return the Python 3.11 that the jobs' environment is made from."""
    for name in ("python3", "python3.11", "/usr/bin/python3.11"):
        path = shutil.which(name)
        if path is None:
            continue
        # Where it really lies: a version manager's shim would follow the current folder.
        status, text = _run(path, "-c", "import sys; print(sys.version_info[:2] == (3, 11), sys._base_executable)")
        if status == 0 and text.startswith("True "):
            return Path(text.split(maxsplit=1)[1].strip())
    return None


def _python() -> tuple[bool, str]:
    found = find_python()
    return found is not None, str(
        found
    ) if found else "no Python 3.11 (PyFlink 2.3 with thread mode is verified on 3.11)"


def _java() -> tuple[bool, str]:
    fine, found = _java_tool("java")
    if not fine:
        return False, found
    compiles, compiler = _java_tool("javac")
    if compiles:
        return True, found
    return False, f"{found}, but {compiler} (a runtime alone does not compile our operator)"


def _java_tool(name: str) -> tuple[bool, str]:
    if shutil.which(name) is None:
        return False, f"no {name} on the PATH"
    _, text = _run(name, "-version")
    version = java_version(text)
    first_line = text.strip().splitlines()[0] if text.strip() else f"no answer from {name} -version"
    return version is not None and version >= JAVA_MIN, first_line


def java_version(text: str) -> int | None:
    """Return the major version that `java -version` or `javac -version` tells: 8 for 1.8, 17 for 17.0.15."""
    found = re.search(r'(?:version "|javac )(\d+)(?:\.(\d+))?', text)
    if found is None:
        return None
    major = int(found.group(1))
    return int(found.group(2) or 0) if major == 1 else major


def _tool(name: str) -> tuple[bool, str]:
    path = shutil.which(name)
    return path is not None, path or f"no {name} on the PATH"


def _at_least(text: str, pattern: str, minimum: tuple[int, int], what: str) -> tuple[bool, str]:
    found = re.search(pattern, text)
    if found is None:
        return False, f"no {what} on the PATH"
    return (int(found.group(1)), int(found.group(2))) >= minimum, f"{what} {found.group(1)}.{found.group(2)}"


def _go() -> tuple[bool, str]:
    return _at_least(_run("go", "version")[1], r"go(\d+)\.(\d+)", GO_MIN, "Go")


def _cargo() -> tuple[bool, str]:
    return _at_least(_run("cargo", "--version")[1], r"cargo (\d+)\.(\d+)", CARGO_MIN, "cargo")


def _disk(folder: Path) -> tuple[bool, str]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    return free_gib >= DISK_MIN_GIB, f"{free_gib:.1f} GiB free in {existing}, {DISK_MIN_GIB:.0f} GiB needed"


def _memory() -> tuple[bool, str]:
    text = Path("/proc/meminfo").read_text()
    found = re.search(r"MemTotal:\s+(\d+)", text)
    total_gib = int(found.group(1)) / 2**20 if found else 0.0
    return total_gib >= MEMORY_MIN_GIB, f"{total_gib:.1f} GiB in all, {MEMORY_MIN_GIB} GiB needed"
