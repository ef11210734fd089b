"""Settings of one site: one YAML file, read by the site's agent and by the jobs.

A file is read as a whole or refused as a whole, and the refusal names the path of the field. `docs/settings.md` is the
reference for users.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import yaml
from msgspec import Meta, Struct

from schemas.wire import Label, Name

MAX_FILE_BYTES = 1 << 20
MAX_SCALAR_CHARS = 4096
MAX_POSE_NUMBER = 1e9
ROTATION_TOLERANCE = 1e-2  # poses are printed with five decimals or fewer
MIN_HEIGHT_MM = 10.0
ANCHORS = (
    "top_left", "top_center", "top_right",
    "center_left", "center", "center_right",
    "bottom_left", "bottom_center", "bottom_right",
)  # fmt: skip

Anchor = Literal[
    "top_left", "top_center", "top_right",
    "center_left", "center", "center_right",
    "bottom_left", "bottom_center", "bottom_right",
]  # fmt: skip
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=86_400)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
XY = tuple[float, float]


class SettingsError(ValueError):
    """Settings that cannot be used. `path` is where, e.g. `cameras[0].zones[1].polygon`."""

    def __init__(self, source: str, path: str, problem: str) -> None:
        super().__init__(f"{source}: {path}: {problem}" if path else f"{source}: {problem}")
        self.source, self.path, self.problem = source, path, problem


class _Base(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Source(_Base, kw_only=True, frozen=True):
    """Where an agent gets a camera's video. Passwords are read from a file, never written in settings."""

    url: Annotated[str, Meta(max_length=2048, pattern=r"^(rtsps?|file)://[^\s\"'!]+\Z")]
    username: Annotated[str, Meta(max_length=256)] = ""
    password_file: str = ""
    transport: Literal["tcp", "udp"] = "tcp"
    latency_s: Annotated[float, Meta(ge=0, le=10)] = 0.2
    connect_timeout_s: PositiveSeconds = 30.0
    stall_timeout_s: PositiveSeconds = 10.0


class Zone(_Base, kw_only=True, frozen=True):
    """A polygon in image coordinates (ratios of the frame, origin top left)."""

    id: Name
    polygon: Annotated[tuple[XY, ...], Meta(min_length=3, max_length=64)]
    anchor: Anchor = "bottom_center"
    classes: tuple[Label, ...] = ()  # none named: every class
    gap_s: PositiveSeconds = 2.0  # unseen or outside for longer than this ends a visit
    min_inside_s: Seconds = 0.0  # shorter visits are never reported


class Tripwire(_Base, kw_only=True, frozen=True):
    """A directed polyline. Left and right are as walked from the first to the last point."""

    id: Name
    points: Annotated[tuple[XY, ...], Meta(min_length=2, max_length=64)]
    anchor: Anchor = "bottom_center"
    classes: tuple[Label, ...] = ()
    band_ratio: Annotated[float, Meta(ge=0, le=0.5)] = 0.01  # hysteresis: half width, as a ratio of the frame's height


class Rule(_Base, tag_field="type", kw_only=True, frozen=True):
    """What all rules have. `version` is part of every alert's id: raise it when the rule's meaning changes."""

    id: Name
    zone: Name
    version: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    cooldown_s: Seconds = 0.0  # after a close, no new alert for the same zone (and subject) this long
    update_s: PositiveSeconds = 10.0  # an open alert is repeated this often


class Crowding(Rule, tag="crowding", kw_only=True, frozen=True):
    """At least `count` objects inside the zone for `hold_s`."""

    count: Annotated[int, Meta(ge=1, le=1000)]
    gap_s: PositiveSeconds = 2.0  # the condition may fail this long without ending the run or closing the alert
    hold_s: Seconds = 2.0


class Loitering(Rule, tag="loitering", kw_only=True, frozen=True):
    """One object's visit has lasted `since_s`."""

    since_s: PositiveSeconds


AnyRule = Crowding | Loitering


class Sampling(_Base, kw_only=True, frozen=True):
    """How many of a camera's frames the agent looks at."""

    target_fps: Annotated[float, Meta(gt=0, le=240)] = 10.0
    quiet_s: Annotated[float, Meta(gt=0, le=10)] = 1.0  # while nothing is seen, one empty frame is sent this often


class Detector(_Base, kw_only=True, frozen=True):
    """Which model looks, and what of its answers is sent."""

    model: Annotated[str, Meta(min_length=1, max_length=1024)] = "centernet-mobilenetv3"
    score_min: Ratio | None = None  # None: as the model's manifest says
    classes: tuple[Label, ...] = ()  # none named: every class
    require_accelerator: bool = False


Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]


class Pose(_Base, kw_only=True, frozen=True):
    """Where a camera stands: a point X (mm) of the site is seen at the pixel K (R X + T) / depth; the floor is z = 0."""

    rotation: Matrix  # R
    translation_mm: Vector  # T
    intrinsic: Matrix  # K, pixels of the frame


class Camera(_Base, kw_only=True, frozen=True):
    """One camera: its source, its detector and what is measured in its view."""

    id: Name
    source: Source | None = None
    sampling: Sampling = Sampling()
    detector: Detector = Detector()
    silence_s: PositiveSeconds = 10.0  # no frame for this long (of the cluster's clock): source lost
    tracker: Literal["default", "sort"] = "default"  # sort: the simple baseline to compare with
    track_memory_s: PositiveSeconds = 3.0  # an unseen object's track is kept this long
    pose: Pose | None = None  # with it, objects are followed on the floor, in metres
    zones: Annotated[tuple[Zone, ...], Meta(max_length=32)] = ()
    tripwires: Annotated[tuple[Tripwire, ...], Meta(max_length=32)] = ()
    rules: Annotated[tuple[AnyRule, ...], Meta(max_length=64)] = ()


class Windows(_Base, kw_only=True, frozen=True):
    """Tumbling windows of event time, aligned to the Unix epoch."""

    length_s: Annotated[float, Meta(ge=1, le=3600)] = 10.0


class Uplink(_Base, kw_only=True, frozen=True):
    """How the agent reaches Kafka. `properties` are librdkafka's; secrets belong in `properties_file`."""

    bootstrap_servers: Annotated[str, Meta(min_length=1, max_length=1024)] = "127.0.0.1:9092"
    properties: dict[str, str] = {}
    properties_file: str = ""  # a file of `name=value` lines, for secrets


class Spool(_Base, kw_only=True, frozen=True):
    """The agent's bounded store on disk for what Kafka has not acknowledged."""

    directory: str = ""  # empty: a folder beside the agent's state
    max_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 1 << 30


class SiteSettings(_Base, kw_only=True, frozen=True):
    """Everything about one site."""

    version: Literal[1]
    site: Name
    tenant: Name = "default"
    timezone: str = "UTC"
    uplink: Uplink = Uplink()
    spool: Spool = Spool()
    windows: Windows = Windows()
    cameras: Annotated[tuple[Camera, ...], Meta(min_length=1, max_length=10_000)]


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases (a short file can expand to gigabytes), tags and duplicate keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.events.AliasEvent):
            raise yaml.YAMLError(f"{line}: aliases (*name) are not supported")
        if getattr(event, "tag", None) is not None:  # PyYAML fails with odd errors on some, e.g. !!int ""
            raise yaml.YAMLError(f"{line}: tags ({event.tag}) are not supported")
        if len(getattr(event, "value", "")) > MAX_SCALAR_CHARS:  # as a number it could take minutes to read
            raise yaml.YAMLError(f"{line}: expected values of at most {MAX_SCALAR_CHARS} characters")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: expected a plain word as key")
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value!r} is given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_settings(path: Path | str) -> SiteSettings:
    """Read and check one site's YAML file. Raises SettingsError."""
    source = str(path)
    try:
        raw = Path(path).read_bytes()
    except OSError as e:
        raise SettingsError(source, "", f"cannot be read: {e.strerror}") from None
    return parse_settings(raw, source)


def parse_settings(raw: bytes, source: str = "settings") -> SiteSettings:
    """Parse and check one site's YAML text. `source` is named in errors. Raises SettingsError."""
    if len(raw) > MAX_FILE_BYTES:
        raise SettingsError(source, "", f"expected at most {MAX_FILE_BYTES} bytes, got {len(raw)}")
    try:
        tree = yaml.load(raw, Loader=_PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as e:
        raise SettingsError(source, "", f"not readable as YAML: {e}") from None
    try:
        settings = msgspec.convert(tree, SiteSettings)
    except msgspec.ValidationError as e:
        problem, _, path = str(e).partition(" - at `$")
        raise SettingsError(source, path.rstrip("`").lstrip("."), problem) from None
    check_settings(settings, source)
    return settings


def check_settings(settings: SiteSettings, source: str = "settings", known: Container[Camera] = frozenset()) -> None:
    """Check what types cannot say: names that must exist or differ, shapes that must make sense.

    Cameras in `known` have been checked before. Raises SettingsError.
    """
    try:
        ZoneInfo(settings.timezone)
    except (KeyError, ValueError, OSError):
        raise SettingsError(source, "timezone", f"unknown IANA time zone {settings.timezone!r}") from None
    _check_distinct(source, "cameras", [c.id for c in settings.cameras])
    for i, camera in enumerate(settings.cameras):
        if camera not in known:
            _check_camera(source, f"cameras[{i}]", camera)


def _check_camera(source: str, path: str, camera: Camera) -> None:
    _check_distinct(source, f"{path}.zones", [z.id for z in camera.zones])
    _check_distinct(source, f"{path}.tripwires", [w.id for w in camera.tripwires])
    _check_distinct(source, f"{path}.rules", [r.id for r in camera.rules])
    if camera.pose:
        _check_pose(source, f"{path}.pose", camera.pose)
    for i, zone in enumerate(camera.zones):
        _check_polygon(source, f"{path}.zones[{i}].polygon", zone.polygon)
        _check_classes(source, f"{path}.zones[{i}].classes", zone.classes, camera.detector.classes)
    for i, wire in enumerate(camera.tripwires):
        _check_points(source, f"{path}.tripwires[{i}].points", wire.points)
        _check_classes(source, f"{path}.tripwires[{i}].classes", wire.classes, camera.detector.classes)
    zones = {z.id for z in camera.zones}
    for i, rule in enumerate(camera.rules):
        if rule.zone not in zones:
            raise SettingsError(
                source, f"{path}.rules[{i}].zone", f"no zone {rule.zone!r} in this camera (has: {sorted(zones)})"
            )


def _check_classes(source: str, path: str, classes: tuple[str, ...], sent: tuple[str, ...]) -> None:
    """Where the detector is told which classes to send, no other can ever come."""
    for i, label in enumerate(classes):
        if sent and label not in sent:
            raise SettingsError(source, f"{path}[{i}]", f"unknown class {label!r}: the detector sends {sorted(sent)}")


def _check_pose(source: str, path: str, pose: Pose) -> None:
    numbers = [*pose.translation_mm, *(x for row in (*pose.rotation, *pose.intrinsic) for x in row)]
    if not all(math.isfinite(x) and abs(x) <= MAX_POSE_NUMBER for x in numbers):
        raise SettingsError(source, path, f"expected finite numbers up to {MAX_POSE_NUMBER:g}")
    r = pose.rotation
    for i in range(3):
        for j in range(3):
            product = sum(r[i][k] * r[j][k] for k in range(3))
            if abs(product - (i == j)) > ROTATION_TOLERANCE:
                raise SettingsError(
                    source, f"{path}.rotation",
                    f"expected R·Rᵀ = 1, rows {i} and {j} give {product:.4g}: three rows at right angles, each of length 1",
                )  # fmt: skip
    determinant = sum(
        r[0][i] * (r[1][(i + 1) % 3] * r[2][(i + 2) % 3] - r[1][(i + 2) % 3] * r[2][(i + 1) % 3]) for i in range(3)
    )
    if determinant < 0:
        raise SettingsError(source, f"{path}.rotation", "expected determinant +1, got −1: a mirror, not a rotation")
    k = pose.intrinsic
    if not (k[0][0] > 0 and k[1][1] > 0 and k[1][2] > 0 and k[1][0] == 0 and list(k[2]) == [0, 0, 1]):
        raise SettingsError(
            source, f"{path}.intrinsic",
            f"expected [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with fx, fy, cy > 0, got {[list(row) for row in k]}",
        )  # fmt: skip
    # The camera's centre is −Rᵀ T; from a height of 0 the floor is a line.
    height_mm = -sum(r[i][2] * pose.translation_mm[i] for i in range(3))
    if abs(height_mm) < MIN_HEIGHT_MM:
        raise SettingsError(
            source,
            path,
            f"expected a camera at least {MIN_HEIGHT_MM:g} mm above the floor (z = 0), got {height_mm:.1f} mm",
        )


def _check_distinct(source: str, path: str, names: list[str]) -> None:
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in seen:
            raise SettingsError(source, f"{path}[{i}].id", f"{name!r} is already the id of {path}[{seen[name]}]")
        seen[name] = i


def _check_points(source: str, path: str, points: tuple[XY, ...]) -> None:
    for i, (x, y) in enumerate(points):
        if not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= 1 and 0 <= y <= 1):
            raise SettingsError(source, f"{path}[{i}]", f"expected ratios of the frame from 0 to 1, got [{x}, {y}]")
        if i and points[i - 1] == (x, y):
            raise SettingsError(source, f"{path}[{i}]", "the same point twice in a row")


def _check_polygon(source: str, path: str, polygon: tuple[XY, ...]) -> None:
    _check_points(source, path, polygon)
    n = len(polygon)
    if polygon[0] == polygon[-1]:
        raise SettingsError(source, path, "the last point repeats the first: leave it out, polygons close themselves")
    for i in range(n):
        for j in range(i + 1, n):
            if j - i in (1, n - 1):
                continue
            if _cross(polygon[i], polygon[(i + 1) % n], polygon[j], polygon[(j + 1) % n]):
                raise SettingsError(source, path, f"the edges after points {i} and {j} cross each other")
        for j in range(n):
            if j not in (i, (i + 1) % n) and _lies_on(polygon[j], polygon[i], polygon[(i + 1) % n]):
                raise SettingsError(source, path, f"point {j} lies on the edge after point {i}")
    area = sum(polygon[i][0] * polygon[(i + 1) % n][1] - polygon[(i + 1) % n][0] * polygon[i][1] for i in range(n)) / 2
    if abs(area) < 1e-6:
        raise SettingsError(source, path, "the polygon has no area")


def _turn(a: XY, b: XY, c: XY) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _cross(a: XY, b: XY, c: XY, d: XY) -> bool:
    """Whether segments ab and cd share a point inside both."""
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _lies_on(p: XY, a: XY, b: XY) -> bool:
    """Whether `p` is a point of segment ab, its ends included."""
    return (
        _turn(a, b, p) == 0
        and min(a[0], b[0]) <= p[0] <= max(a[0], b[0])
        and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])
    )


def fingerprint(settings: SiteSettings) -> str:
    """Return 12 hex digits that change with any setting; stamped on every output."""
    return hashlib.sha256(msgspec.msgpack.encode(settings)).hexdigest()[:12]


def index_cameras(sites: list[SiteSettings]) -> dict[str, tuple[SiteSettings, Camera]]:
    """Map camera id to its site and settings. Raises SettingsError where two sites share a camera id."""
    cameras: dict[str, tuple[SiteSettings, Camera]] = {}
    for site in sites:
        for i, camera in enumerate(site.cameras):
            if camera.id in cameras:
                other = cameras[camera.id][0].site
                raise SettingsError(
                    site.site, f"cameras[{i}].id", f"{camera.id!r} is a camera of site {other!r} too: the id is the key"
                )
            cameras[camera.id] = (site, camera)
    return cameras
