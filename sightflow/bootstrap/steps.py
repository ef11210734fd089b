"""What the set-up makes, step by step. Versions and checksums are here or in the lock files named here."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path

from sightflow.bootstrap.checks import JAVA_MIN, apt_packages, apt_prefix, find_python, missing_apt_packages
from sightflow.bootstrap.graph import Step, Workshop
from sightflow.errors import StepFailed
from sightflow.places import REPO_ROOT, Local

FLINK_VERSION = "2.3.0"
VTEST_SHA256 = "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf"
"""Of vtest.avi in Debian's opencv-doc: pedestrians on a campus path, 768×576, 10 frames/s, 795 frames."""
FOOTAGE_FPS = 10

_INFLUXD_SOURCE = REPO_ROOT / "sightflow" / "influxd-build"
_JAVA_SOURCE = REPO_ROOT / "sightflow" / "java"
_OPERATOR_SOURCE = REPO_ROOT / "operators" / "flink" / "java"
_LOCKS = REPO_ROOT / "requirements"
_VTEST_IN_PACKAGE = "./usr/share/doc/opencv-doc/examples/data/vtest.avi"

APT = "system packages"
INFLUXD = "InfluxDB server"
VENV = "Python environment of the jobs"
VENV_AGENT = "Python environment of the agent"
VENV_EVALUATE = "Python environment of the scorer"
VENV_PEERS = "Python environment of the peers"
JARS = "Kafka broker and connector"
CHECKOUT = "this checkout in both environments"
FLINK = "Flink"
OPERATOR = "Flink operator"
FOOTAGE = "footage"
MODEL = "detector"
KERNELS = "compiled kernels"

_NETWORK = "look whether the network and the package source named in the log are reachable, then run it again"


def all_steps(local: Local) -> list[Step]:
    """Return the steps, those that take longest first."""
    steps = [] if os.environ.get("INFLUXDB_V2_URL") else [_influxd_step(local)]
    return [
        *steps,
        _venv_step(local),
        _apt_step(),
        _jars_step(local),
        _venv_agent_step(local),
        evaluate_step(local),
        _checkout_step(local),
        _footage_step(local),
        _flink_step(local),
        operator_step(local),
        _model_step(local),
        _kernels_step(local),
    ]


# --- system packages -----------------------------------------------------------------------------------------------


def _apt_step() -> Step:
    return Step(
        APT,
        _install_packages,
        done=lambda: not missing_apt_packages(),
        checks=("Debian", "apt rights"),
        remedy=_NETWORK,
    )


def _install_packages(workshop: Workshop) -> None:
    apt = [*apt_prefix(), "apt-get", "--quiet", "--assume-yes", "-o", "DPkg::Lock::Timeout=300"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    workshop.say("package lists")
    workshop.command(*apt, "update", env=quiet)
    missing = missing_apt_packages()
    workshop.say(f"{len(missing)} packages and what they need")
    workshop.command(*apt, "install", "--no-install-recommends", *missing, env=quiet)


# --- Python --------------------------------------------------------------------------------------------------------


def _venv_step(local: Local) -> Step:
    lock = _LOCKS / "dev.lock"
    return Step(
        VENV,
        lambda workshop: _make_venv(workshop, local.venv, _job_python(), lock, ()),
        inputs=(lock, str(local.venv)),
        outputs=(local.venv / "bin" / "python",),
        # Debian's own Python makes no environment before python3-venv is there.
        needs=(APT,) if _is_debians(find_python()) else (),
        checks=("Python 3.11",),
        remedy=_NETWORK,
    )


def _venv_agent_step(local: Local) -> Step:
    lock = _LOCKS / "agent.lock"
    return Step(
        VENV_AGENT,
        # Only Debian's Python sees Debian's python3-gi.
        lambda workshop: _make_venv(
            workshop, local.venv_agent, Path("/usr/bin/python3"), lock, ("--system-site-packages",)
        ),
        inputs=(lock, str(local.venv_agent)),
        outputs=(local.venv_agent / "bin" / "python",),
        needs=(APT,),
        checks=("Debian",),
        remedy=_NETWORK,
    )


def evaluate_step(local: Local) -> Step:
    """Return the step that makes the environment of `sightflow evaluate`; the command runs it alone where it is not done."""
    return _locked_venv_step(VENV_EVALUATE, local.venv_evaluate, _LOCKS / "evaluate.lock")


def peers_step(local: Local) -> Step:
    """Return the step that makes the environment of the public trackers; only the benchmark runs it."""
    return _locked_venv_step(VENV_PEERS, local.bench_venv, _LOCKS / "peers.lock")


def _locked_venv_step(name: str, folder: Path, lock: Path) -> Step:
    return Step(
        name,
        lambda workshop: _make_venv(workshop, folder, _job_python(), lock, ()),
        inputs=(lock, str(folder)),
        outputs=(folder / "bin" / "python",),
        needs=(APT,) if _is_debians(find_python()) else (),
        checks=("Python 3.11",),
        remedy=_NETWORK,
    )


def _is_debians(python: Path | None) -> bool:
    return python is not None and python.is_relative_to("/usr/bin")


def _job_python() -> Path:
    found = find_python()
    if found is None:
        raise StepFailed("Python 3.11 is gone since the check")
    return found


def _make_venv(workshop: Workshop, folder: Path, python: Path, lock: Path, options: tuple[str, ...]) -> None:
    workshop.say("make it")
    workshop.command(python, "-m", "venv", "--clear", *options, folder)
    workshop.say("fetch and install packages")
    # The lock names every package, so pip has nothing to resolve.
    _pip_install(workshop, folder, "--no-deps", "--require-hashes", "-r", lock)


def _pip_install(workshop: Workshop, venv: Path, *what: str | Path) -> None:
    pip = (venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
    workshop.command(*pip, *what, env={"PYTHONNOUSERSITE": "1", "PYTHONPATH": ""})


def _checkout_step(local: Local) -> Step:
    return Step(
        CHECKOUT,
        lambda workshop: _add_checkout(workshop, local),
        inputs=(REPO_ROOT / "pyproject.toml", str(REPO_ROOT)),
        outputs=(local.venv / "bin" / "sightflow", local.venv_agent / "bin" / "sightflow-agent"),
        needs=(VENV, VENV_AGENT),
    )


def _add_checkout(workshop: Workshop, local: Local) -> None:
    """Make the packages of this checkout importable in both environments, by a plain path."""
    for venv in (local.venv, local.venv_agent):
        settings = ("--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat")
        _pip_install(workshop, venv, *settings, "--editable", REPO_ROOT)


# --- Java ----------------------------------------------------------------------------------------------------------


def _jars_step(local: Local) -> Step:
    return Step(
        JARS,
        lambda workshop: _fetch_jars(workshop, local),
        inputs=(_JAVA_SOURCE / "pom.xml", _JAVA_SOURCE / "jars.sha256"),
        outputs=tuple(local.root / "kafka" / name for name in _jar_sums()),
        checks=("Java", "Maven"),
        remedy=_NETWORK,
    )


def _jar_sums() -> dict[str, str]:
    """Return path below kafka/ → SHA-256, of every jar."""
    lines = (line.split() for line in (_JAVA_SOURCE / "jars.sha256").read_text().splitlines() if line)
    return {name: digest for digest, name in lines}


def _fetch_jars(workshop: Workshop, local: Local) -> None:
    for folder in (local.kafka_lib, local.connector_lib):
        shutil.rmtree(folder, ignore_errors=True)
    workshop.say("Maven")
    workshop.command(
        "mvn", "--batch-mode", "--no-transfer-progress", "--strict-checksums", "--file", _JAVA_SOURCE / "pom.xml",
        f"-Dlocal={local.root}", "generate-resources",
    )  # fmt: skip
    workshop.say("checksums")
    found = [path.relative_to(local.root / "kafka") for path in (local.root / "kafka").glob("*/*.jar")]
    sums = _jar_sums()
    unknown = sorted(str(path) for path in found if str(path) not in sums)
    if unknown:
        raise StepFailed(f"Maven brought jars that jars.sha256 does not name: {', '.join(unknown)}")
    for name, expected in sums.items():
        require_sha256(local.root / "kafka" / name, expected)


def require_sha256(path: Path, expected: str) -> None:
    """Refuse a file whose bytes are not the pinned ones.

    Raises:
        StepFailed: it is missing, or its SHA-256 differs.
    """
    if not path.exists():
        raise StepFailed(f"{path} is missing")
    with path.open("rb") as data:
        found = hashlib.file_digest(data, "sha256").hexdigest() if sys.version_info >= (3, 11) else _digest(path)
    if found != expected:
        raise StepFailed(f"{path} has SHA-256 {found}, expected {expected}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flink_step(local: Local) -> Step:
    return Step(
        FLINK,
        lambda workshop: _assemble_flink(workshop, local),
        inputs=(FLINK_VERSION, _LOCKS / "dev.lock", _JAVA_SOURCE / "jars.sha256"),
        outputs=(local.flink / "bin" / "flink", local.flink / "lib" / f"flink-python-{FLINK_VERSION}.jar"),
        needs=(VENV, JARS),
    )


def _assemble_flink(workshop: Workshop, local: Local) -> None:
    """Make a FLINK_HOME from the wheel's parts; the wheel itself stays as pip installed it."""
    wheel = local.venv / "lib" / "python3.11" / "site-packages" / "pyflink"
    shutil.rmtree(local.flink, ignore_errors=True)
    for name in ("bin", "conf"):  # these are changed: real copies
        shutil.copytree(wheel / name, local.flink / name)
    for name in ("lib", "opt", "plugins"):
        workshop.say(name)
        shutil.copytree(wheel / name, local.flink / name, copy_function=_link_or_copy)
    for jar in (*local.connector_lib.glob("*.jar"), wheel / "opt" / f"flink-python-{FLINK_VERSION}.jar"):
        _link_or_copy(str(jar), str(local.flink / "lib" / jar.name))
    for script in (local.flink / "bin").iterdir():
        script.chmod(0o755)


def _link_or_copy(source: str, target: str) -> str:
    """Jars are never written to, so a second name will do; on another disk it takes a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def operator_step(local: Local) -> Step:
    """Return the step that puts our operator, which is Java, onto Flink's class path."""
    return Step(
        OPERATOR,
        lambda workshop: _build_operator(workshop, local),
        inputs=(FLINK_VERSION, f"Java {JAVA_MIN}", *_operator_sources()),
        outputs=(local.operator_jar,),
        needs=(FLINK,),
        checks=("Java",),
    )


def _operator_sources() -> list[Path]:
    return sorted(_OPERATOR_SOURCE.rglob("*.java"))


def _build_operator(workshop: Workshop, local: Local) -> None:
    folder = local.build / "operator"
    shutil.rmtree(folder, ignore_errors=True)
    classes, jar = folder / "classes", folder / local.operator_jar.name
    classes.mkdir(parents=True)
    flink = set((local.flink / "lib").glob("*.jar")) - {local.operator_jar}
    # What is left out warns of the tools and jars at hand, not of our code.
    warnings = ("-Xlint:all,-processing,-classfile", "-Werror")
    workshop.command(
        "javac", "--release", str(JAVA_MIN), *warnings, "-cp", ":".join(map(str, sorted(flink))), "-d", classes,
        *_operator_sources(),
    )  # fmt: skip
    with zipfile.ZipFile(jar, "w") as archive:
        for path in sorted(classes.rglob("*.class")):
            entry = zipfile.ZipInfo(path.relative_to(classes).as_posix())  # dated 1980: the same bytes each time
            archive.writestr(entry, path.read_bytes())
    jar.replace(local.operator_jar)  # a JVM that runs keeps the old file


# --- InfluxDB ------------------------------------------------------------------------------------------------------


def _influxd_step(local: Local) -> Step:
    tools_missing = shutil.which("gcc") is None or shutil.which("pkg-config") is None
    return Step(
        INFLUXD,
        lambda workshop: _build_influxd(workshop, local),
        inputs=tuple(_INFLUXD_SOURCE / name for name in ("go.mod", "go.sum", "tools.go")),
        outputs=(local.influxd,),
        needs=(APT,) if tools_missing else (),
        checks=("Go", "Rust"),
        remedy="look at the log; with an InfluxDB of yours nothing is built: set INFLUXDB_V2_URL, _ORG, _BUCKET, "
        "_TOKEN_FILE",
    )


def _build_influxd(workshop: Workshop, local: Local) -> None:
    folder = local.build / "influxd"
    folder.mkdir(parents=True, exist_ok=True)
    local.influxd.parent.mkdir(parents=True, exist_ok=True)
    finder, server = folder / "flux-pkg-config", folder / "influxd"
    env = _go_env()
    workshop.say("fetch Go modules")
    workshop.command("go", "mod", "download", cwd=_INFLUXD_SOURCE, env=env)
    workshop.say("build its package finder")
    workshop.command("go", "build", "-o", finder, "github.com/influxdata/pkg-config", cwd=_INFLUXD_SOURCE, env=env)
    env["PKG_CONFIG"] = str(finder)
    # The query engine is Rust. Building it beside the Go code that does not need it saves a minute.
    workshop.say("Rust and Go code, several minutes the first time")
    rust = workshop.start(finder, "--libs", "flux", cwd=_INFLUXD_SOURCE, env=env)
    workshop.command(
        "go", "build", "-tags", "sqlite_foreign_keys,sqlite_json", "-o", server,
        "github.com/influxdata/influxdb/v2/cmd/influxd", cwd=_INFLUXD_SOURCE, env=env,
    )  # fmt: skip
    rust.wait()
    server.replace(local.influxd)  # a server that runs keeps the old file


def _go_env() -> dict[str, str]:
    return {
        "CGO_ENABLED": "1",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        # The query engine names an old toolchain that rustup would fetch; the installed one builds it.
        "RUSTUP_TOOLCHAIN": os.environ.get("RUSTUP_TOOLCHAIN", "stable"),
    }


# --- footage and model ---------------------------------------------------------------------------------------------


def _footage_step(local: Local) -> Step:
    return Step(
        FOOTAGE,
        lambda workshop: _make_footage(workshop, local),
        inputs=(VTEST_SHA256, str(FOOTAGE_FPS), "1"),
        outputs=(local.footage,),
        needs=(APT,),
        checks=("Debian",),
        remedy=_NETWORK,
    )


def _make_footage(workshop: Workshop, local: Local) -> None:
    folder = local.build / "footage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    original = folder / "vtest.avi"
    workshop.say("fetch opencv-doc, 96 MB")
    _download_package(workshop, "opencv-doc", folder)
    package = next(folder.glob("opencv-doc_*.deb"))
    archive = folder / "data.tar"
    workshop.command("dpkg-deb", "--fsys-tarfile", package, stdout=archive)
    workshop.command("tar", "-xOf", archive, _VTEST_IN_PACKAGE, stdout=original)
    require_sha256(original, VTEST_SHA256)
    workshop.say("encode as a camera does")
    local.footage.parent.mkdir(parents=True, exist_ok=True)
    encoded = folder / "vtest.mp4"
    workshop.command("gst-launch-1.0", "-q", *_encode_pipeline(original, encoded))
    encoded.replace(local.footage)
    shutil.rmtree(folder)


def _download_package(workshop: Workshop, package: str, folder: Path) -> None:
    """Fetch a Debian package; package lists are renewed only where they do not lead to it."""
    try:
        workshop.command("apt-get", "--quiet", "download", package, cwd=folder)
    except StepFailed:
        workshop.command(*apt_prefix(), "apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=300", "update")
        workshop.command("apt-get", "--quiet", "download", package, cwd=folder)


def _encode_pipeline(original: Path, encoded: Path) -> list[str]:
    """H.264 as surveillance cameras send it: no B-frames, a closed group of pictures of one second, 4:2:0."""
    encoder = [
        "x264enc", "pass=qual", "quantizer=20", "speed-preset=veryfast", f"key-int-max={FOOTAGE_FPS}", "bframes=0",
        "byte-stream=false", "option-string=scenecut=0:open-gop=0:sliced-threads=0",
    ]  # fmt: skip
    return [
        "filesrc", f"location={original}", "!", "decodebin", "!", "videoconvert", "!", "videorate", "!",
        f"video/x-raw,format=I420,framerate={FOOTAGE_FPS}/1", "!", *encoder, "!", "video/x-h264,profile=main", "!",
        "h264parse", "!", "mp4mux", "!", "filesink", f"location={encoded}",
    ]  # fmt: skip


def _model_step(local: Local) -> Step:
    folder = local.models / "centernet-mobilenetv3"
    converter = REPO_ROOT / "models"
    return Step(
        MODEL,
        lambda workshop: workshop.command(
            local.venv / "bin" / "python", "-m", "models.convert", "--out", local.models, env={"PYTHONNOUSERSITE": "1"}
        ),
        inputs=tuple(sorted(converter.glob("*.py"))),
        outputs=(folder / "model.onnx", folder / "manifest.json"),
        needs=(CHECKOUT, APT) if shutil.which("npm") is None else (CHECKOUT,),
        remedy=_NETWORK,
    )


def _kernels_step(local: Local) -> Step:
    """Compile what the camera stage runs, half a minute of work that the first job would otherwise begin with."""
    code = "from operators.stages.camera_stage import CameraStage; CameraStage(()).open()"
    return Step(
        KERNELS,
        lambda workshop: workshop.command(local.venv / "bin" / "python", "-c", code),
        inputs=(*sorted((REPO_ROOT / "operators").rglob("*.py")), str(REPO_ROOT)),
        needs=(CHECKOUT,),
    )


def packages_line() -> str:
    """Return the Debian packages, for a person who installs them by hand."""
    return " ".join(apt_packages())
