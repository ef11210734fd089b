"""Settings of one site: one YAML file, read by the site's agent and by the jobs.

A file is read as a whole or refused as a whole, and the refusal names the path of the field (`settings_file`,
`settings_checks`). `docs/settings.md` is the reference for users.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from schemas.fields import (
    XY,
    Anchor,
    Base,
    Date,
    Plane,
    PositiveSeconds,
    Ratio,
    Seconds,
    SettingsError,
    TimeOfDay,
    Weekday,
)
from schemas.rules import AnyRule
from schemas.wire import Label, Name


class Source(Base, kw_only=True, frozen=True):
    """Where an agent gets a camera's video. Passwords are read from a file, never written in settings."""

    url: Annotated[str, Meta(max_length=2048, pattern=r"^(rtsps?|file)://[^\s\"'!]+\Z")]
    username: Annotated[str, Meta(max_length=256)] = ""
    password_file: str = ""
    transport: Literal["tcp", "udp"] = "tcp"
    latency_s: Annotated[float, Meta(ge=0, le=10)] = 0.2
    connect_timeout_s: PositiveSeconds = 30.0
    stall_timeout_s: PositiveSeconds = 10.0


class GroundPoint(Base, kw_only=True, frozen=True):
    """One point of the floor: where it is seen (ratios of the frame) and where it lies (metres in the site's frame)."""

    image: XY
    ground_m: XY


def _place(name: str, plane: Plane) -> str:
    return name if plane == "image" else f"{name}@{plane}"  # names have no @


class Zone(Base, kw_only=True, frozen=True):
    """A polygon: in image coordinates (ratios of the frame, origin top left), or on the ground in metres."""

    id: Name
    polygon: Annotated[tuple[XY, ...], Meta(min_length=3, max_length=64)]
    plane: Plane = "image"
    anchor: Anchor = "bottom_center"  # of the box; on the ground it is always the foot point
    classes: tuple[Label, ...] = ()  # none named: every class
    gap_s: PositiveSeconds = 2.0  # unseen or outside for longer than this ends a visit
    min_inside_s: Seconds = 0.0  # shorter visits are never reported
    band_ratio: Annotated[float, Meta(ge=0, le=0.25)] = (
        0.0  # hysteresis: who is in stays in this far outside (frame heights)
    )
    band_m: Annotated[float, Meta(ge=0, le=10)] = 0.0  # the same on the ground

    @property
    def place(self) -> str:
        """What its state is kept under: on another plane it is another zone."""
        return _place(self.id, self.plane)


class Tripwire(Base, kw_only=True, frozen=True):
    """A directed polyline. Left and right are as walked from the first to the last point, seen from above."""

    id: Name
    points: Annotated[tuple[XY, ...], Meta(min_length=2, max_length=64)]
    plane: Plane = "image"
    anchor: Anchor = "bottom_center"
    classes: tuple[Label, ...] = ()
    band_ratio: Annotated[float, Meta(ge=0, le=0.5)] = 0.01  # hysteresis: half width, as a ratio of the frame's height
    band_m: Annotated[float, Meta(ge=0, le=10)] = 0.1  # the same on the ground

    @property
    def place(self) -> str:
        """What its state is kept under: on another plane it is another tripwire."""
        return _place(self.id, self.plane)


class CounterWire(Base, kw_only=True, frozen=True):
    """One entrance of a counter: who walks to the side `entering` comes in, who walks to the other goes out."""

    tripwire: Name
    entering: Literal["left", "right"] = "right"


class Counter(Base, kw_only=True, frozen=True):
    """Who came in, who went out and how many are there, over several tripwires; begins anew at each time of `reset`."""

    id: Name
    wires: Annotated[tuple[CounterWire, ...], Meta(min_length=1, max_length=32)]
    classes: tuple[Label, ...] = ()
    report_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0  # reported this often, at whole multiples of it
    reset: Annotated[tuple[TimeOfDay, ...], Meta(max_length=24)] = ("00:00",)  # in the site's time zone


class HeatMap(Base, kw_only=True, frozen=True):
    """How long objects stood in each cell of a grid, over the frame or over a rectangle of the ground."""

    plane: Plane = "image"
    columns: Annotated[int, Meta(ge=1, le=64)] = 32
    rows: Annotated[int, Meta(ge=1, le=64)] = 18
    from_m: XY = (0.0, 0.0)  # on the ground: one corner of the rectangle …
    to_m: XY = (0.0, 0.0)  # … and the opposite one
    classes: tuple[Label, ...] = ()
    report_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0  # reported this often, at whole multiples of it

    @property
    def cells(self) -> tuple[object, ...]:
        """What its state is kept under: with other cells it is another heat map."""
        return self.plane, self.columns, self.rows, self.from_m, self.to_m, self.classes


class Period(Base, kw_only=True, frozen=True):
    """Hours of some weekdays. Where `end` is not after `start`, it is the next day's."""

    days: Annotated[tuple[Weekday, ...], Meta(min_length=1, max_length=7)] = (
        "mon", "tue", "wed", "thu", "fri", "sat", "sun",
    )  # fmt: skip
    start: TimeOfDay = "00:00"
    end: TimeOfDay = "24:00"


class Schedule(Base, kw_only=True, frozen=True):
    """When a rule is armed, in the site's time zone."""

    id: Name
    periods: Annotated[tuple[Period, ...], Meta(min_length=1, max_length=32)]
    except_dates: Annotated[tuple[Date, ...], Meta(max_length=400)] = ()  # days on which no period begins


class Sampling(Base, kw_only=True, frozen=True):
    """How many of a camera's frames the agent looks at."""

    target_fps: Annotated[float, Meta(gt=0, le=240)] = 10.0
    quiet_s: Annotated[float, Meta(gt=0, le=10)] = 1.0  # while nothing is seen, one empty frame is sent this often


class Detector(Base, kw_only=True, frozen=True):
    """Which model looks, and what of its answers is sent."""

    model: Annotated[str, Meta(min_length=1, max_length=1024)] = "centernet-mobilenetv3"
    score_min: Ratio | None = None  # None: as the model's manifest says
    classes: tuple[Label, ...] = ()  # none named: every class
    require_accelerator: bool = False


Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]


class Pose(Base, kw_only=True, frozen=True):
    """Where a camera stands: a point X (mm) of the site is seen at the pixel K (R X + T) / depth; the floor is z = 0."""

    rotation: Matrix  # R
    translation_mm: Vector  # T
    intrinsic: Matrix  # K, pixels of the frame


class Camera(Base, kw_only=True, frozen=True):
    """One camera: its source, its detector and what is measured in its view."""

    id: Name
    source: Source | None = None
    sampling: Sampling = Sampling()
    detector: Detector = Detector()
    silence_s: Annotated[float, Meta(ge=0.1, le=86_400)] = 10.0  # no frame so long (cluster's clock): source lost
    tracker: Literal["default", "sort"] = "default"  # sort: the simple baseline to compare with
    track_memory_s: PositiveSeconds = 3.0  # an unseen object's track is kept this long
    pose: Pose | None = None  # with it, objects are followed on the floor, in metres
    ground_points: Annotated[tuple[GroundPoint, ...], Meta(max_length=32)] = ()  # instead of a pose: at least four
    still_m: Annotated[float, Meta(gt=0, le=10)] = 0.5  # who stays within this radius stands still
    still_ratio: Annotated[float, Meta(gt=0, le=2)] = (
        0.25  # the same where the ground is not known: of the box's height
    )
    zones: Annotated[tuple[Zone, ...], Meta(max_length=32)] = ()
    tripwires: Annotated[tuple[Tripwire, ...], Meta(max_length=32)] = ()
    counters: Annotated[tuple[Counter, ...], Meta(max_length=16)] = ()
    heat_map: HeatMap | None = None
    rules: Annotated[tuple[AnyRule, ...], Meta(max_length=64)] = ()

    @property
    def has_ground(self) -> bool:
        """Whether metres are known."""
        return self.pose is not None or bool(self.ground_points)


class Sliding(Base, kw_only=True, frozen=True):
    """Windows that overlap: one of `length_s` begins every `step_s`.

    Whole multiples: the length of the step (at most 288 times), the step of `Windows.length_s`. Each length once.
    """

    length_s: Annotated[float, Meta(gt=0, le=86_400)]
    step_s: Annotated[float, Meta(gt=0, le=86_400)]


class Windows(Base, kw_only=True, frozen=True):
    """Windows of event time, aligned to the Unix epoch: tumbling ones, and any sliding ones beside them."""

    length_s: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    sliding: Annotated[tuple[Sliding, ...], Meta(max_length=4)] = ()
    lateness_s: Annotated[float, Meta(ge=0, le=86_400)] = (
        3600.0  # a frame up to so late makes its windows be written again
    )


class Uplink(Base, kw_only=True, frozen=True):
    """How the agent reaches Kafka. `properties` are librdkafka's; secrets belong in `properties_file`."""

    bootstrap_servers: Annotated[str, Meta(min_length=1, max_length=1024)] = "127.0.0.1:9092"
    properties: dict[str, str] = msgspec.field(default_factory=dict)
    properties_file: str = ""  # a file of `name=value` lines, for secrets


class Spool(Base, kw_only=True, frozen=True):
    """The agent's bounded store on disk for what Kafka has not acknowledged."""

    directory: str = ""  # empty: a folder beside the agent's state
    max_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 40)] = 1 << 30


class SiteSettings(Base, kw_only=True, frozen=True):
    """Everything about one site."""

    version: Literal[1]
    site: Name
    tenant: Name = "default"
    timezone: str = "UTC"
    uplink: Uplink = Uplink()
    spool: Spool = Spool()
    windows: Windows = Windows()
    schedules: Annotated[tuple[Schedule, ...], Meta(max_length=64)] = ()
    cameras: Annotated[tuple[Camera, ...], Meta(min_length=1, max_length=10_000)]


def fingerprint(settings: SiteSettings) -> str:
    """Return 12 hex digits that change with any setting; stamped on every output. What is at its default is left out of it, so
    that settings keep theirs when a release adds a field.

    It depends on values alone. msgspec's `omit_defaults` goes by identity: settings that were pickled into a job, or that
    spell a default out, would have other digits than those that are compared with them.
    """
    return hashlib.sha256(msgspec.msgpack.encode(without_defaults(settings))).hexdigest()[:12]


def without_defaults(value: Any) -> Any:
    """Return settings, or any part of them, as plain data without what is at its default."""
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        told = {config.tag_field: config.tag} if config.tag_field else {}
        for name, default in _defaults(type(value)):
            found = getattr(value, name)
            if found != default:
                told[name] = without_defaults(found)
        return told
    return [without_defaults(item) for item in value] if isinstance(value, tuple) else value


@lru_cache(maxsize=256)
def _defaults(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    """Return (name, default) of each field; of one that must be given, a default that no value equals."""
    return tuple(
        (f.name, f.default if f.default_factory is msgspec.NODEFAULT else f.default_factory())
        for f in msgspec.structs.fields(kind)
    )


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
