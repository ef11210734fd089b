"""From settings and command line to what one agent does."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct

from edge_agent.delivery import UplinkError, check_properties, read_properties
from edge_agent.redaction import redact_address
from edge_agent.source import ResolvedSource, SourceError, derive_camera_id, resolve_source, split_url
from schemas.fields import SettingsError
from schemas.settings import Camera, Detector, Sampling, SiteSettings, Source, Uplink
from schemas.settings_file import load_settings
from schemas.wire import Name

MAX_PORT = 65_535
DEFAULT_SITE = "default"


class PlanError(ValueError):
    """What was asked for cannot be done; the text says what was expected and where."""


@dataclass(frozen=True)
class AgentPlan:
    """Everything an agent needs to know before it starts."""

    site: str
    agent: str
    cameras: tuple[tuple[Camera, ResolvedSource], ...]
    bootstrap_servers: str
    properties: dict[str, str] = field(repr=False)
    state_dir: Path = Path()
    spool_dir: Path = Path()
    spool_max_bytes: int = 1 << 30
    models_dir: Path = Path()
    is_fast: bool = False  # files: as fast as possible
    metrics_address: str = "127.0.0.1"
    metrics_port: int = 0


@dataclass(frozen=True)
class Wishes:
    """What the command line may say; None or empty: as the settings say."""

    settings: Path | None = None
    cameras: Sequence[str] = ()
    username: str = ""
    password_file: Path | None = None
    model: str = ""
    score_min: float | None = None
    fps: float | None = None
    bootstrap_servers: str | None = None
    properties_file: Path | None = None
    models_dir: Path | None = None
    state_dir: Path | None = None
    agent: str | None = None
    is_fast: bool = False
    metrics_address: str = "127.0.0.1"
    metrics_port: int = 0


def make_plan(wishes: Wishes) -> AgentPlan:
    """Check everything that can be checked without starting anything. Raises PlanError."""
    _check_wishes(wishes)
    try:
        settings, cameras = _with_settings(wishes) if wishes.settings else _without_settings(wishes)
        folder = wishes.settings.parent if wishes.settings else Path()
        properties = dict(settings.uplink.properties)
        for file in (settings.uplink.properties_file, str(wishes.properties_file or "")):
            if file:
                properties.update(read_properties(_beside(folder, file)))
        check_properties(properties)
    except (SettingsError, SourceError, UplinkError) as e:
        raise PlanError(str(e)) from None
    state_dir = wishes.state_dir or default_state_dir(settings.site)
    return AgentPlan(
        site=settings.site,
        agent=wishes.agent or _default_agent(),
        cameras=tuple((_adjusted(camera, wishes, folder), source) for camera, source in cameras),
        bootstrap_servers=wishes.bootstrap_servers or settings.uplink.bootstrap_servers,
        properties=properties,
        state_dir=state_dir,
        spool_dir=Path(settings.spool.directory) if settings.spool.directory else state_dir / "spool",
        spool_max_bytes=settings.spool.max_bytes,
        models_dir=wishes.models_dir or default_models_dir(),
        is_fast=wishes.is_fast,
        metrics_address=wishes.metrics_address,
        metrics_port=wishes.metrics_port,
    )


def _check_wishes(wishes: Wishes) -> None:
    """Hold the command line to the types that settings are held to. Raises PlanError."""
    _check_as(_kind(Sampling, "target_fps"), "--fps", wishes.fps)
    _check_as(_kind(Detector, "score_min"), "--score-min", wishes.score_min)
    _check_as(_kind(Uplink, "bootstrap_servers"), "--bootstrap-servers", wishes.bootstrap_servers)
    _check_as(Name, "--agent-id", wishes.agent)
    if not 0 <= wishes.metrics_port <= MAX_PORT:
        raise PlanError(f"--metrics-port: expected 0 (none) or a port up to {MAX_PORT}, got {wishes.metrics_port}")


def _kind(struct: type[Struct], name: str) -> Any:
    return get_type_hints(struct, include_extras=True)[name]


def _check_as(kind: Any, option: str, value: float | str | None) -> None:
    """Refuse a value that is not of a type with bounds; None was not given."""
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):  # bounds let NaN pass
        raise PlanError(f"{option}: expected a number, got {value}")
    if isinstance(value, str) and not value.strip():
        raise PlanError(f"{option}: expected a text, got an empty one; leave the option out for the default")
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as e:
        raise PlanError(f"{option} {str(value)[:80]!r}: {e}") from None


Chosen = list[tuple[Camera, ResolvedSource]]


def _with_settings(wishes: Wishes) -> tuple[SiteSettings, Chosen]:
    assert wishes.settings is not None
    settings = load_settings(wishes.settings)
    known = {camera.id: i for i, camera in enumerate(settings.cameras)}
    for name in wishes.cameras:
        if name not in known:
            raise PlanError(f"--camera {redact_address(name)!r}: {wishes.settings} has the cameras {sorted(known)}")
    chosen: Chosen = []
    for i, camera in enumerate(settings.cameras):
        if wishes.cameras and camera.id not in wishes.cameras:
            continue
        if camera.source is None:
            if wishes.cameras:
                raise SettingsError(str(wishes.settings), f"cameras[{i}].source", "missing: nothing to capture from")
            continue
        chosen.append((camera, _checked_source(camera.source, str(wishes.settings), f"cameras[{i}].source")))
    if not chosen:
        raise SettingsError(str(wishes.settings), "cameras", "no camera has a source: nothing to capture from")
    return settings, chosen


def _checked_source(source: Source, file: str, path: str) -> ResolvedSource:
    bare = split_url(source.url)
    if bare.username or bare.password:
        raise SettingsError(
            file, f"{path}.url", "expected no name and password in the URL: use `username` and `password_file`"
        )
    password_file = str(_beside(Path(file).parent, source.password_file)) if source.password_file else ""
    return resolve_source(Source(url=source.url, username=source.username, password_file=password_file))


def _without_settings(wishes: Wishes) -> tuple[SiteSettings, Chosen]:
    if not wishes.cameras:
        raise PlanError("expected --settings FILE or --camera rtsp://…, got neither")
    chosen: Chosen = []
    for url in wishes.cameras:
        if "://" not in url:
            raise PlanError(
                f"--camera {redact_address(url)!r}: expected a URL (rtsp://…), or --settings FILE that names this camera"
            )
        bare = split_url(url)
        source = Source(
            url=bare.url, username=wishes.username or bare.username, password_file=str(wishes.password_file or "")
        )
        found = resolve_source(source)
        found = ResolvedSource(found.url, found.username, found.password or bare.password)
        chosen.append((Camera(id=derive_camera_id(bare), source=source), found))
    names = [camera.id for camera, _ in chosen]
    if len(set(names)) != len(names):
        raise PlanError(f"two --camera URLs lead to the same id {names}: write a settings file that names them")
    return SiteSettings(version=1, site=DEFAULT_SITE, cameras=tuple(camera for camera, _ in chosen)), chosen


def _adjusted(camera: Camera, wishes: Wishes, folder: Path) -> Camera:
    """Return `camera` with what the command line says about detector and rate."""
    old = camera.detector
    model = wishes.model or old.model
    if not wishes.model and model.endswith((".onnx", ".json")):
        model = str(_beside(folder, model))
    detector = Detector(
        model=model, score_min=wishes.score_min if wishes.score_min is not None else old.score_min,
        classes=old.classes, require_accelerator=old.require_accelerator,
    )  # fmt: skip
    sampling = Sampling(
        target_fps=camera.sampling.target_fps if wishes.fps is None else wishes.fps, quiet_s=camera.sampling.quiet_s
    )
    return msgspec.structs.replace(camera, detector=detector, sampling=sampling)


def _beside(folder: Path, name: str) -> Path:
    """Return the file `name` of a settings file: relative names are looked for beside it."""
    path = Path(name)
    return path if path.is_absolute() or not (folder / path).exists() else folder / path


def _default_agent() -> str:
    name = re.sub(r"[^A-Za-z0-9_.\-]+", "-", platform.node()).strip("-.")
    return f"agent-{name or 'unnamed'}"[:64]


def default_state_dir(site: str) -> Path:
    """Return where an agent keeps boot number and spool: systemd's folder, else the user's."""
    under_systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if under_systemd:
        return Path(under_systemd) / site
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "sightflow-agent" / site


def default_models_dir() -> Path:
    """Return where models are looked for by name."""
    own = os.environ.get("SIGHTFLOW_MODELS_DIR")
    return Path(own) if own else Path(os.environ.get("SIGHTFLOW_LOCAL", ".local")) / "models"
