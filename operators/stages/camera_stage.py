"""The camera stage: everything that is known from one camera alone, in one operator, frame by frame.

record → intake → tracker → motion, zones, tripwires → conditions → windows, alerts → tracks, events, alerts, figures, dead letters
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from msgspec import Struct

from operators.alerts import Alerts, Cause, Held, source_alert
from operators.conditions import Conditions
from operators.conditions.table import REFUSED_PAIRS
from operators.counters import Counters, CounterWindow
from operators.heat_map import HeatMap, Period
from operators.intake import Intake, Late, Ready, Refused
from operators.motion import Motion, Stays
from operators.pace import Paces
from operators.stages import camera_figures as figures
from operators.stages import camera_kernel as kernel
from operators.stages import packed_state
from operators.stages.camera_memory import CameraMemory, CameraScratch
from operators.stages.packed_state import packed_room, unpack
from operators.stages.stage import Input, KeyLogic, Output
from operators.stages.track_frame import template
from operators.tracking import Tracker, TrackerConfig, tracker_config
from operators.tracking.kernel import check
from operators.tracking.tracker import NO_AFFINITY
from operators.tripwires import Crossing, Tripwires
from operators.windows import STILL_THERE, Flows, Key, Report, SlidingReport, Windows
from operators.zones import Visit, Zones
from schemas import topics
from schemas.ids import event_id, track_id
from schemas.settings import Camera, SiteSettings, fingerprint, index_cameras
from schemas.settings import HeatMap as HeatMapSettings
from schemas.wire import (
    NEVER_US,
    SCHEMA_VERSION,
    AlertCause,
    AlertTransition,
    BadMessage,
    DeadLetter,
    DetectionFrame,
    Event,
    Figures,
    Point,
    check_detections,
    check_embeddings,
    decode_detections,
    encode,
    read_usual,
)

MAX_CLOCK_DIFFERENCE_MS = 1000  # between a record's timestamp and the capture time in it
MAX_CLASSES = 200  # distinct labels per camera; what comes after them is counted as OTHER
OTHER = "other"
MAX_POINTS = 1000  # in one message of `figures`: about 300 kB, well below what a topic takes
CONFIRM_SLACK_S = 1.0  # windows wait this much longer than the longest gap, for tracks still on probation


def dead_letter(reason: str, detail: str, stage: str, topic: str, key: str, record: Input) -> Output:
    """Wrap what cannot be used, with where it came from."""
    raw = record.value or b""
    letter = DeadLetter(
        reason=reason, detail=detail, stage=stage, topic=topic, partition=record.partition, offset=record.offset,
        key=key, raw=raw, raw_sha256=hashlib.sha256(raw).hexdigest(),
    )  # fmt: skip
    return Output(topics.DEAD_LETTERS, key, encode(letter))


class _State(Struct, array_like=True):
    version: int
    zones: tuple[str, ...]  # `Zone.place`
    wires: tuple[str, ...]  # `Tripwire.place`
    rules: tuple[str, ...]  # `Conditions.names`
    heat_map: HeatMapSettings | None
    labels: tuple[str, ...]
    intake: bytes
    windows: tuple[dict[int, list[int]], bytes]
    flows: bytes
    alerts: bytes
    embeddings: tuple[str, bytes]
    lost: bool
    counted: list[int]
    window_us: int
    heat: Period
    aspect: float
    stays: dict[int, int]  # `Stays`
    settings: str
    counters: bytes
    tables: bytes  # `packed_state.pack`


class _Version(Struct, array_like=True):
    version: int


_state_encoder = msgspec.msgpack.Encoder()
_encode_part = _state_encoder.encode
_state_decoder = msgspec.msgpack.Decoder(_State)
_version_decoder = msgspec.msgpack.Decoder(_Version)
STATE_VERSION = 4
_ARRAY = b"\xdc" + len(_State.__struct_fields__).to_bytes(2, "big")  # how MessagePack begins an array of that many


class CameraStage:
    """Makes the logic of each camera of the given sites. Holds settings only, so that it can be pickled."""

    def __init__(self, sites: Sequence[SiteSettings]) -> None:
        self.sites = list(sites)
        index_cameras(self.sites)

    def open(self) -> None:
        """Index the cameras and compile the kernels with the array types that frames have."""
        self._cameras = index_cameras(self.sites)
        self._settings = {site.site: fingerprint(site) for site in self.sites}
        self._scratch = CameraScratch(TrackerConfig().capacity)
        self._warm_up()

    def logic(self, key: str) -> KeyLogic:
        """Return fresh logic for a camera; for an unknown one, logic that refuses everything and keeps no state."""
        if key not in self._cameras:
            return UnknownCamera(key)
        site, camera = self._cameras[key]
        return CameraLogic(site, camera, self._settings[site.site], self._scratch)

    def _warm_up(self) -> None:
        site = SiteSettings(
            version=1, site="warm-up", cameras=(msgspec.convert(_WARM_UP_CAMERA, Camera),)
        )  # fmt: skip
        logic = CameraLogic(site, site.cameras[0], "", self._scratch)
        for seq in range(5):
            at_us = 1_700_000_000_000_000 + seq * 100_000
            frame = DetectionFrame(
                site="warm-up", camera="warm-up", boot=at_us, seq=seq, capture_us=at_us, clock="file", recv_us=at_us,
                sent_us=at_us, width_px=640, height_px=480, labels=("person",),
                boxes=np.array([[0.1, 0.1, 0.2, 0.2 + 0.1 * seq]], "<f4").tobytes(),
                scores=np.array([0.9], "<f4").tobytes(), classes=bytes(1),
            )  # fmt: skip
            logic.on_record(Input(encode(frame), 0, seq, at_us // 1000))
        logic.on_silence()
        logic.snapshot()


_WARM_UP_CAMERA: dict[str, Any] = {
    "id": "warm-up",
    "zones": [{"id": "z", "polygon": [[0, 0], [1, 0], [1, 1]]}],
    "tripwires": [{"id": "w", "points": [[0, 0.3], [1, 0.3]]}],
    "heat_map": {},
    "rules": [
        {"id": "c", "type": "crowding", "zone": "z", "count": 1},
        {"id": "l", "type": "loitering", "zone": "z", "since_s": 0.2},
    ],
}


class UnknownCamera:
    """Logic for a key that no settings name: everything is refused, nothing is kept."""

    silence_ms = 0

    def __init__(self, key: str) -> None:
        self.key = key

    def on_record(self, record: Input) -> list[Output]:
        """Refuse the record, for its own fault where it has one."""
        reason, detail = "unknown_camera", f"no settings name the camera {self.key[:64]!r}"
        try:
            decode_detections(record.value)
        except BadMessage as e:
            reason, detail = e.reason, e.detail
        return [dead_letter(reason, detail, "camera", topics.DETECTIONS, self.key, record)]

    def on_silence(self) -> list[Output]:
        """Do nothing."""
        return []

    def snapshot(self) -> bytes | None:
        """Return None: no state for keys that anybody can make up."""
        return None

    def restore(self, data: bytes) -> None:
        """Do nothing: the camera was once in the settings and is no more."""


class _Facts:
    """What alerts may ask of the last frame."""

    def __init__(self, conditions: Conditions, tracker: Tracker, zones: Zones) -> None:
        self._conditions, self._tracker, self._zones = conditions, tracker, zones

    def value(self, rule: int, ordinal: int, other_ordinal: int) -> float:
        """Return what the rule measured when its condition was true last; NaN: it is not known any more."""
        t = self._tracker
        return self._conditions.value(t.tracks, t.slots, rule, ordinal, other_ordinal)

    def holds(self, rule: int, ordinal: int, other_ordinal: int) -> bool:
        """Whether the rule's condition is true in this frame."""
        t = self._tracker
        return self._conditions.holds(t.tracks, t.slots, t.last_us, rule, ordinal, other_ordinal)

    def present(self, rule: int) -> list[tuple[int, int]]:
        """Return (ordinal, born_us) of the objects that a rule about a place counts in this frame."""
        t = self._tracker
        return self._conditions.present(t.tracks, t.slots, self._zones.visits, rule, t.last_us)


class CameraLogic:
    """All of one camera."""

    settings_due_us = NEVER_US
    """Event time from which `_settings_due` is asked before a frame: here never, as nothing changes the settings."""
    _ending = ""
    """Why visits and tracks end that do not end by themselves."""

    def __init__(self, site: SiteSettings, camera: Camera, settings: str, scratch: CameraScratch) -> None:
        self.site, self.camera, self.settings = site.site, camera.id, settings
        self._site_settings, self._camera = site, camera
        self.silence_ms = round(camera.silence_s * 1000)
        self._scratch = scratch
        config = tracker_config(camera.tracker, camera.track_memory_s)
        self._intake = Intake()
        self._tracker = Tracker(config, pose=camera.pose, ground_points=camera.ground_points)
        self._motion = Motion(camera.still_m, camera.still_ratio, config.capacity)
        self._stays = Stays(len(camera.zones))
        self._zone_ids = tuple(z.id for z in camera.zones)
        self._wire_ids = tuple(w.id for w in camera.tripwires)
        self._zones = Zones(camera.zones, config.capacity)
        self._tripwires = Tripwires(camera.tripwires, config.capacity)
        self._conditions = Conditions(camera.rules, self._zone_ids, self._wire_ids, config.capacity)
        self._alerts = Alerts(site.site, camera.id, camera.rules, site.schedules, site.timezone)
        self._facts = _Facts(self._conditions, self._tracker, self._zones)
        waits = [config.memory_s, config.gap_s, *(z.gap_s + z.min_inside_s for z in camera.zones)]
        self._windows = _windows(site, max(waits) + CONFIRM_SLACK_S)
        self._flows = Flows()
        self._heat_map = HeatMap(camera.heat_map)
        self._paces = Paces(len(camera.zones), camera.has_ground, config.capacity)
        late_us = round((max(config.memory_s, config.gap_s) + CONFIRM_SLACK_S) * 1e6)
        self._counters = Counters(camera.counters, self._wire_ids, late_us, ZoneInfo(site.timezone))
        self._memory = CameraMemory(
            self._intake, self._tracker, self._motion, self._zones, self._tripwires, self._conditions, self._paces,
            self._heat_map, self.silence_ms * 1000,
        )  # fmt: skip
        self._who = self._tracker.tracks[["ordinal", "born_us", "seen_us", "label", "first_label"]]  # a view
        self._visit_now = self._zones.visits[["open", "enter_us"]]  # a view
        n, counts = config.capacity, (len(camera.zones), len(camera.tripwires), len(camera.rules))
        zones, wires, rules = self._zones, self._tripwires, self._conditions
        room = packed_room(n, *counts, len(self._heat_map.cells_us))
        scratch.make_room(zones.room(n), wires.room(n), rules.room(n), room)
        self._labels: tuple[str, ...] = ()
        self._label_maps: dict[tuple[str, ...], Any] = {}
        self._labels_seen: tuple[str, ...] | None = None  # of the last frame: what the memory's `label_of` is for
        self._picture: tuple[object, ...] = ()  # what the memory's template and floor are for
        self._window_us = 0  # start of the window that the memory's tally counts for
        self._fixed = self._encode_settings()  # the part of the snapshot that never changes
        self._lost = False
        self._counted = [0] * figures.TALLIES  # of totals since the first frame, what windows have counted
        self._declare(camera)

    def _declare(self, camera: Camera) -> None:
        for zone in camera.zones:
            for label in zone.classes:
                self._windows.declare(("zone", zone.id, label))
        for wire in camera.tripwires:
            for label in wire.classes:
                self._windows.declare(("tripwire", wire.id, label))

    @property
    def capacity(self) -> int:
        """Objects that are tracked at a time at most."""
        return self._tracker.config.capacity

    @property
    def untracked_count(self) -> int:
        """Detections since the first frame that would have begun a track, had the tracker had room for one."""
        return self._tracker.refused_count

    # ---- one record -------------------------------------------------------------------------------------------

    def on_record(self, record: Input) -> list[Output]:
        """Take one record of `detections`."""
        out: list[Output] = []
        if self._take_usual(record, out):
            return out
        try:
            frame = decode_detections(record.value)
            self._check_origin(frame, record)
            self._check_arrays(frame)
            self._expect_unusual()
            turn = self._intake.accept(frame, record.value or b"", record.partition, record.offset)
        except BadMessage as e:
            self._refuse(Refused(e.reason, e.detail, record.value or b"", record.partition, record.offset), out)
            return out
        for item in turn:
            self._take(item, out)
        if self._intake.is_waiting:
            self._expect_unusual()
        return out

    def _take(self, item: Ready | Refused | Late, out: list[Output]) -> None:
        if isinstance(item, Refused):
            self._refuse(item, out)
            return
        if isinstance(item, Late):
            self._take_late(item, out)
            return
        frame = item.frame or decode_detections(item.raw)
        if frame.capture_us >= self.settings_due_us and not self._settings_due(frame, item, out):
            return
        cause = Cause(self.settings, frame.model_sha, item.partition, item.offset, frame.seq, frame.sent_us)
        self._frame(frame, cause, out)

    def _settings_due(self, frame: DetectionFrame, item: Ready, out: list[Output]) -> bool:
        """Go over to the settings that hold for a frame; return whether they name the camera."""
        return True

    def _take_late(self, item: Late, out: list[Output]) -> None:
        """Count a frame that nothing can be tracked in any more: later ones have been. Its window is reported again."""
        at_us, now_us = item.frame.capture_us, self._intake.capture_us
        if self._windows.is_too_late(at_us, now_us):
            detail = f"captured {(now_us - at_us) * 1e-6:.3f} s before the camera's last frame; its window can be amended no more"
            self._refuse(Refused("too_late", detail, item.raw, item.partition, item.offset), out)
            return
        counts = [0] * figures.TALLIES
        counts[figures.LATE] = 1
        if self._windows.start_of(at_us) == self._window_us:
            # The kernel counts for it, so that there is one count to store.
            self._memory.tally[:] += (1, len(item.frame.classes))
        else:
            counts[figures.FRAMES], counts[figures.DETECTIONS] = 1, len(item.frame.classes)
        report = self._windows.amend(at_us, counts)
        if report:
            out.extend(self._points(figures.window_points(self.site, self.camera, report)))

    def _refuse(self, r: Refused, out: list[Output]) -> None:
        record = Input(r.raw or None, r.partition, r.offset, 0)
        out.append(dead_letter(r.reason, r.detail, "camera", topics.DETECTIONS, self.camera, record))
        if self._windows.oldest_us:
            self._windows.tally(self._intake.capture_us)[figures.REFUSED] += 1

    def _check_origin(self, frame: DetectionFrame, record: Input) -> None:
        if frame.camera != self.camera:
            raise BadMessage("wrong_key", f"expected the record's key {self.camera!r} as camera, got {frame.camera!r}")
        if frame.site != self.site:
            raise BadMessage("wrong_site", f"camera {self.camera!r} belongs to {self.site!r}, got {frame.site!r}")
        if abs(record.time_ms - frame.capture_us // 1000) > MAX_CLOCK_DIFFERENCE_MS:
            raise BadMessage(
                "wrong_timestamp",
                f"expected the record's timestamp {record.time_ms} ms to be capture_us, got {frame.capture_us} µs",
            )

    def _check_arrays(self, frame: DetectionFrame) -> None:
        boxes, scores, classes = _arrays(frame)
        if check(boxes, scores, classes, len(frame.labels)) >= 0:
            raise BadMessage("bad_detection", check_detections(boxes, scores, classes, len(frame.labels)))
        if frame.embeddings and (problem := check_embeddings(frame.embeddings)):
            raise BadMessage("bad_detection", problem)

    # ---- the usual frame: nothing but the tracker's, the zones' and the tripwires' work, in one call ------------

    def _take_usual(self, record: Input, out: list[Output]) -> bool:
        """Take a frame that the memory is ready for (`_look`), that comes in order, and with which no time is up.

        Returns False, and has changed nothing, for any other record, whatever it is.
        """
        f = read_usual(record.value)
        if (
            f is None
            or f.camera != self.camera
            or f.site != self.site
            or f.capture_us >= self.settings_due_us
            or not -MAX_CLOCK_DIFFERENCE_MS <= record.time_ms - f.capture_us // 1000 <= MAX_CLOCK_DIFFERENCE_MS
            or self._picture != (f.boot, f.width_px, f.height_px, f.model_sha, self.settings)
            or (f.labels != self._labels_seen and not self._know_labels(f.labels))
        ):
            return False
        scratch = self._scratch
        scratch.load(f, False)
        size, more = kernel.advance(self._memory.memory, scratch.memory, NO_AFFINITY)
        if size < 0:
            return False
        tracks = Output(topics.TRACKS, self.camera, scratch.message(size))
        if more:
            points: list[Point] = []
            cause = Cause(self.settings, f.model_sha, record.partition, record.offset, f.seq, f.sent_us)
            self._react(f.capture_us, cause, points, out)
            out.append(tracks)
            if points:
                out.extend(self._points(points))
        else:
            out.append(tracks)
        return True

    def _expect_unusual(self) -> None:
        """Have the next frame go the long way (`_frame`)."""
        self._memory.limits[kernel.USUAL_UNTIL_US] = 0

    def _react(self, now_us: int, cause: Cause, points: list[Point], out: list[Output]) -> None:
        """Say what the kernels have found, and what the rules make of it."""
        scratch = self._scratch
        births, ends, visit_count, crossing_count, held_count = scratch.found.tolist()
        visits: list[Visit] = []
        if visit_count:
            visits = [Visit(*r) for r in scratch.visit_records[:visit_count].tolist()]
            self._add_stays(visits)
        if births or ends:
            self._note_tracks(scratch.births[:births].tolist(), scratch.ends[:ends].tolist(), out)
        if visits:
            self._note_visits(visits, points, out)
        if crossing_count:
            crossings = [Crossing(*r) for r in scratch.crossing_records[:crossing_count].tolist()]
            self._note_crossings(crossings, now_us, out)
        if held_count or now_us >= self._alerts.wake_us():
            self._apply_rules(now_us, scratch.held_records[:held_count].tolist(), cause, points, out)

    def _apply_rules(
        self, now_us: int, held: Iterable[Sequence[Any]], cause: Cause, points: list[Point], out: list[Output]
    ) -> None:
        self._say(self._alerts.step(now_us, self._named(held), self._facts, cause), points, out)
        self._memory.wake_us[0] = self._alerts.wake_us()

    def _turn(self, now_us: int) -> None:
        """Go over to the thresholds that hold at a time."""
        for rule, threshold in self._alerts.turn(now_us):
            self._conditions.set_threshold(rule, threshold)

    def _named(self, held: Iterable[Sequence[Any]]) -> list[Held]:
        """Return records of conditions with their labels' names."""
        return [Held._make((*r[:3], self._labels[r[3]] if r[3] >= 0 else "", *r[4:])) for r in held]

    # ---- any frame in order -----------------------------------------------------------------------------------

    def _frame(self, f: DetectionFrame, cause: Cause, out: list[Output]) -> None:
        now_us = f.capture_us
        points: list[Point] = []
        tracker, windows = self._tracker, self._windows
        if tracker.last_us and now_us - tracker.last_us > self.silence_ms * 1000 and not self._lost:
            self._lose_source(points, out)
        if self._lost:
            self._find_source(now_us, cause, points, out)
        elif not tracker.last_us:
            self._say_counters(self._counters.resume(now_us), points, out)
        windows.open_at(now_us)
        if windows.start_of(now_us) != self._window_us:
            self._count_from(now_us)
        if ended := self._heat_map.turn(now_us):
            points.extend(figures.heat_points(self.site, self.camera, ended))
        self._look(f)
        self._turn(now_us)
        affinity, vectors = NO_AFFINITY, None
        if f.embeddings:
            affinity, vectors = tracker.compare(_embeddings(f), f.embedding_model)
        self._scratch.load(f, passed=True)
        size, _ = kernel.advance(self._memory.memory, self._scratch.memory, affinity)
        if vectors is not None:
            tracker.remember(vectors)
        tracks = Output(topics.TRACKS, self.camera, self._scratch.message(size))
        self._react(now_us, cause, points, out)
        self._count_intake(now_us)
        if windows.due(now_us):
            self._figures(windows.close(now_us), points)
        self._say_counters(self._counters.close(now_us), points, out)
        out.append(tracks)
        out.extend(self._points(points))
        until_us = min(
            self._window_us + windows.length_us, windows.due_us(), self._alerts.turn_us(), self._counters.due_us(),
            self._heat_map.due_us(),
        )  # fmt: skip
        self._memory.limits[kernel.USUAL_UNTIL_US] = until_us

    def _count_intake(self, now_us: int) -> None:
        """Count repeats and missing frames for the window in which they were noticed."""
        totals = {figures.DUPLICATES: self._intake.duplicate_count, figures.MISSING: self._intake.missing_count}
        self._count_totals(now_us, totals)

    def _count_totals(self, at_us: int, totals: dict[int, int]) -> None:
        for what, total in totals.items():
            if total > self._counted[what]:
                self._windows.tally(at_us)[what] += total - self._counted[what]
            self._counted[what] = total

    def _count_from(self, now_us: int) -> None:
        """Let the kernel count frames and detections for the window that holds `now_us`."""
        self._stop_counting()
        self._window_us = self._windows.start_of(now_us)
        counts = self._windows.tally(now_us)
        self._memory.tally[:] = counts[figures.FRAMES], counts[figures.DETECTIONS]
        counts[figures.FRAMES] = counts[figures.DETECTIONS] = 0

    def _stop_counting(self) -> None:
        """Give the window what the kernel has counted."""
        if self._window_us:
            _add_counts(self._windows.tally(self._window_us), self._memory.tally.tolist())
            self._count_totals(
                self._window_us,
                {
                    figures.UNTRACKED: self._tracker.refused_count,
                    figures.REFUSED_CHANGES: self._windows.refused,
                    figures.REFUSED_ALERTS: self._alerts.refused,
                    figures.REFUSED_PAIRS: int(self._conditions.pair_head[REFUSED_PAIRS]),
                },
            )
        self._memory.tally[:] = 0
        self._window_us = 0

    def _look(self, f: DetectionFrame) -> None:
        """Get the memory ready for frames like this one."""
        if f.labels != self._labels_seen and not self._know_labels(f.labels):
            self._map_labels(f.labels)
            self._know_labels(f.labels)
            self._picture = ()
        picture = (f.boot, f.width_px, f.height_px, f.model_sha, self.settings)
        if picture == self._picture:
            return
        self._picture = picture
        self._memory.picture[0] = f.width_px / f.height_px
        self._memory.stand_on(self._tracker.ground(f.height_px, self._memory.picture[0]))
        self._memory.say(
            template(
                {
                    "v": SCHEMA_VERSION, "site": f.site, "camera": f.camera, "boot": f.boot, "width_px": f.width_px,
                    "height_px": f.height_px, "model_sha": f.model_sha, "settings": self.settings, "labels": self._labels,
                }
            )
        )  # fmt: skip

    def _know_labels(self, labels: tuple[str, ...]) -> bool:
        """Have the kernel read the class indices of frames with these labels; False where `_map_labels` must come first."""
        label_of = self._label_maps.get(labels)
        if label_of is None:
            return False
        self._memory.label_of[:] = label_of
        self._labels_seen = labels
        return True

    def _map_labels(self, labels: tuple[str, ...]) -> None:
        """Work out the camera's own index for each of a message's labels (uint8, 256)."""
        for label in labels:
            if label not in self._labels:
                self._labels += (label if len(self._labels) < MAX_CLASSES else OTHER,)
                self._labels = tuple(dict.fromkeys(self._labels))
        if len(self._label_maps) >= 256:  # many combinations of labels: start the cache over
            self._label_maps.clear()
        label_of = np.zeros(256, np.uint8)
        index = {label: i for i, label in enumerate(self._labels)}
        label_of[: len(labels)] = [index.get(label, index.get(OTHER, 0)) for label in labels]
        self._label_maps[labels] = label_of
        for part in (self._zones, self._tripwires, self._conditions, self._heat_map):
            part.set_labels(self._labels)

    # ---- what happened ----------------------------------------------------------------------------------------

    def _note_tracks(self, births: list[int], ends: list[int], out: list[Output]) -> None:
        for slot in births:
            _, born_us, _, _, first_label = self._who.item(slot)
            label = self._labels[first_label]
            self._windows.change(("object", "", label), born_us, +1)
            self._declare_label(label)
        for slot in ends:
            ordinal, born_us, seen_us, label_now, first_label = self._who.item(slot)
            self._windows.change(("object", "", self._labels[first_label]), seen_us, -1)
            self._flows.forget(ordinal)
            subject = track_id(self.site, self.camera, born_us, ordinal)
            trajectory = self._motion.trajectory(seen_us, slot, self._camera.has_ground)
            event = Event(
                id=event_id("track_end", subject, "", seen_us), kind="track_end", site=self.site, camera=self.camera,
                subject=subject, at_us=seen_us, settings=self.settings, label=self._labels[label_now],
                dwell_s=(seen_us - born_us) * 1e-6, reason=self._ending or "unseen", first_us=born_us,
                zone_times={self._zone_ids[zone]: s for zone, s in self._stays.take(slot).items()},
                **trajectory.fields(float(self._memory.picture[0])),
            )  # fmt: skip
            out.append(Output(topics.EVENTS, subject, encode(event)))

    def _add_stays(self, visits: list[Visit]) -> None:
        for v in visits:
            if v.kind == Zones.EXIT:
                self._stays.add(v.slot, v.zone, (v.at_us - v.enter_us) // 1000)

    def _declare_label(self, label: str) -> None:
        for kind, places in (("zone", self._zones.zones), ("tripwire", self._tripwires.wires)):
            for place in places:
                if not place.classes or label in place.classes:
                    self._windows.declare((kind, place.id, label))

    def _note_visits(self, visits: list[Visit], points: list[Point], out: list[Output]) -> None:
        for v in visits:
            zone, label = self._zone_ids[v.zone], self._labels[v.label]
            key = ("zone", zone, label)
            subject = track_id(self.site, self.camera, v.born_us, v.ordinal)
            if v.kind == Zones.ENTER:
                self._windows.enter(key, v.at_us, figures.BORN_INSIDE if v.born_inside else figures.ENTERED)
                self._note_flow(v, label)
                event = Event(
                    id=event_id("enter", subject, zone, v.at_us), kind="enter", site=self.site, camera=self.camera,
                    subject=subject, at_us=v.at_us, settings=self.settings, label=label, zone=zone,
                    born_inside=bool(v.born_inside),
                )  # fmt: skip
                out.append(Output(topics.EVENTS, subject, encode(event)))
            elif v.kind == Zones.EXIT:
                dwell_us = v.at_us - v.enter_us
                dwell_s = dwell_us * 1e-6
                self._flows.end(v.ordinal, v.zone, v.at_us)
                is_open, enter_us = self._visit_now.item(v.slot, v.zone)
                begun_again = is_open != 0 and enter_us != v.enter_us
                speed_mps = self._paces.speed_mps(v.slot, v.zone, dwell_us, begun_again)
                self._windows.leave(key, v.at_us, figures.EXITED, dwell_us, speed_mps)
                event = Event(
                    id=event_id("exit", subject, zone, v.at_us), kind="exit", site=self.site, camera=self.camera,
                    subject=subject, at_us=v.at_us, settings=self.settings, label=label, zone=zone,
                    born_inside=bool(v.born_inside), dwell_s=dwell_s, reason=self._ending,
                )  # fmt: skip
                out.append(Output(topics.EVENTS, subject, encode(event)))
                points.append(figures.visit_point(self.site, self.camera, zone, label, subject, v, dwell_s))

    def _note_flow(self, v: Visit, label: str) -> None:
        """Note where an object comes from, and how long it was on its way: 0 where it is in both zones at a time."""
        before = self._flows.begin(v.ordinal, v.zone)
        if before:
            zone, left_us = before
            if left_us == STILL_THERE:  # it has not been said to have left; when it was last seen inside is known
                left_us = self._zones.visits["inside_us"].item(v.slot, zone)
            place = figures.flow_place(self._zone_ids[zone], self._zone_ids[v.zone])
            self._windows.dwell(("flow", place, label), v.at_us, max(0, v.at_us - left_us))

    def _note_crossings(self, crossings: list[Crossing], now_us: int, out: list[Output]) -> None:
        for c in crossings:
            wire, label = self._wire_ids[c.wire], self._labels[c.label]
            right = c.side > 0
            self._windows.count(("tripwire", wire, label), c.at_us, figures.RIGHT if right else figures.LEFT)
            self._counters.cross(c.wire, right, label, c.at_us, now_us)
            subject = track_id(self.site, self.camera, c.born_us, c.ordinal)
            event = Event(
                id=event_id("crossing", subject, wire, c.at_us), kind="crossing", site=self.site, camera=self.camera,
                subject=subject, at_us=c.at_us, settings=self.settings, label=label, tripwire=wire,
                direction="right" if right else "left",
            )  # fmt: skip
            out.append(Output(topics.EVENTS, subject, encode(event)))

    def _event(self, kind: Any, subject: str, place: str, at_us: int, out: list[Output], **fields: Any) -> None:
        """Say what happened to a subject; `place`: the zone, tripwire or counter that `fields` name."""
        event = Event(
            id=event_id(kind, subject, place, at_us), kind=kind, site=self.site, camera=self.camera, subject=subject,
            at_us=at_us, settings=self.settings, **fields,
        )  # fmt: skip
        out.append(Output(topics.EVENTS, subject, encode(event)))

    def _say(self, transitions: list[AlertTransition], points: list[Point], out: list[Output]) -> None:
        for t in transitions:
            out.append(Output(topics.ALERTS, t.alert_id, encode(t)))
            points.append(figures.alert_point(t))

    # ---- windows ----------------------------------------------------------------------------------------------

    def _figures(self, reports: list[Report | SlidingReport], points: list[Point]) -> None:
        for report in reports:
            if isinstance(report, SlidingReport):
                points.extend(figures.sliding_points(self.site, self.camera, report))
            else:
                points.extend(figures.window_points(self.site, self.camera, report))

    def _say_counters(self, windows: list[CounterWindow], points: list[Point], out: list[Output]) -> None:
        for w in windows:
            points.append(figures.counter_point(self.site, self.camera, w))
            if w.complete:
                self._event(
                    "counter", self.camera, w.counter, w.end_us, out, counter=w.counter, in_count=w.in_count,
                    out_count=w.out_count, occupancy=w.occupancy,
                )  # fmt: skip

    def _points(self, points: list[Point]) -> list[Output]:
        """Pack points into messages of bounded size; of two for one place and time (revisions), the later one stays."""
        if not points:
            return []
        kept = points
        if len(points) > 1:
            kept = list({(p.measurement, *p.tags.values(), p.at_ns): p for p in points}.values())
        out = []
        for i in range(0, len(kept), MAX_POINTS):
            message = Figures(site=self.site, camera=self.camera, points=tuple(kept[i : i + MAX_POINTS]))
            out.append(Output(topics.FIGURES, self.camera, encode(message)))
        return out

    # ---- silence ----------------------------------------------------------------------------------------------

    def on_silence(self) -> list[Output]:
        """The source is silent: close what is open, report the windows as far as they are known."""
        out: list[Output] = []
        points: list[Point] = []
        self._wait_no_more(out)
        if self._tracker.last_us and not self._lost:
            self._lose_source(points, out)
        out.extend(self._points(points))
        return out

    def _wait_no_more(self, out: list[Output]) -> None:
        """Take the frames that are held back for one that is missing."""
        self._expect_unusual()
        for item in self._intake.give_up():
            self._take(item, out)

    def _lose_source(self, points: list[Point], out: list[Output]) -> None:
        """Close everything at the last frame's time. Windows stay open: frames may still come late from a spool.

        No frame is named as the cause: a replay sees the gap at the next frame where a live run saw the silence, and
        both must say the same.
        """
        last_us = self._tracker.last_us
        cause = Cause(self.settings, "", -1, -1, -1, 0)
        self._lost = True
        self._expect_unusual()
        self._end_tracks("source_lost", cause, points, out)
        self._close_alerts("source_lost", "the source is lost", cause, points, out)
        self._event("source_lost", self.camera, "", last_us, out)
        self._say([source_alert(self.site, self.camera, "open", last_us, last_us, cause)], points, out)
        self._report_open(points)

    def _end_tracks(self, ending: str, cause: Cause, points: list[Point], out: list[Output]) -> None:
        """End every track, and with it its visits, as of the last frame."""
        self._ending = ending
        last_us = self._tracker.last_us
        ended = [tuple(h) for h in self._conditions.end_all(self._tracker.tracks, self._tracker.slots)]
        self._tracker.end_all()
        _, births, ends = self._tracker.publish(self._scratch, 1.0)
        visits = self._zones.step(self._tracker.tracks, self._tracker.slots, last_us)
        self._add_stays(visits)
        self._note_tracks(births, ends, out)
        self._note_visits(visits, points, out)
        self._apply_rules(last_us, [h for h in ended if h[2] >= 0], cause, points, out)
        self._alerts.note(self._named(h for h in ended if h[2] < 0))
        self._ending = ""

    def _close_alerts(
        self, because: AlertCause, reason: str, cause: Cause, points: list[Point], out: list[Output]
    ) -> None:
        """Close what alerts are still open after `_end_tracks`, as of the last frame."""
        last_us = self._tracker.last_us
        self._say(self._alerts.close_all(last_us, because, reason, self._facts, cause), points, out)

    def _report_open(self, points: list[Point]) -> None:
        """Report the open windows, the heat map and counters as they stand."""
        self._report_counters(points)
        window_us = self._window_us
        self._stop_counting()
        self._figures(self._windows.report_open(), points)
        if window_us:
            self._count_from(window_us)
        points.extend(figures.heat_points(self.site, self.camera, self._heat_map.report_open()))

    def _report_counters(self, points: list[Point]) -> None:
        points.extend(
            figures.counter_point(self.site, self.camera, w) for w in self._counters.report_open(self._tracker.last_us)
        )

    def _find_source(self, now_us: int, cause: Cause, points: list[Point], out: list[Output]) -> None:
        self._lost = False
        self._event("source_back", self.camera, "", now_us, out)
        lost_us = self._tracker.last_us
        self._say([source_alert(self.site, self.camera, "close", lost_us, now_us, cause)], points, out)
        self._say_counters(self._counters.resume(now_us), points, out)

    # ---- other settings ---------------------------------------------------------------------------------------

    def take_settings(self, site: SiteSettings, camera: Camera, settings: str, out: list[Output]) -> None:
        """Go over to other settings after the last frame. What is open in places that are gone ends then.

        Zones, tripwires and rules are matched by id, as in `restore`; alerts whose rule is gone close with the next frame.
        """
        old = self._site_settings
        if (camera, site.windows, site.schedules, site.timezone) != (
            self._camera, old.windows, old.schedules, old.timezone,
        ):  # fmt: skip
            points: list[Point] = []
            self._leave_places(site, camera, points, out)
            self._alerts.measure(self._facts)
            out.extend(self._points(points))
            state, archive = self.snapshot(), self._windows.archive_now()
            CameraLogic.__init__(self, site, camera, settings, self._scratch)
            CameraLogic.restore(self, state)
            self.restore_archive(archive)
        self._site_settings, self.settings = site, settings

    def _leave_places(self, site: SiteSettings, camera: Camera, points: list[Point], out: list[Output]) -> None:
        """End what the next settings have no place for, and report the windows that they cannot report."""
        cause = Cause(self.settings, "", -1, -1, -1, 0)
        if _tracking(camera) != _tracking(self._camera):
            self._end_tracks("settings", cause, points, out)  # their state means nothing to another tracker
            self._close_alerts("settings", "tracking begins anew with other settings", cause, points, out)
        zones = {z.place for z in camera.zones}
        gone = [i for i, z in enumerate(self._zones.zones) if z.place not in zones]
        visits = self._zones.end(gone, self._tracker.tracks, self._tracker.slots)
        self._add_stays(visits)
        self._ending = "settings"
        self._note_visits(visits, points, out)
        self._ending = ""
        if (
            gone
            or {w.place for w in self._tripwires.wires} - {w.place for w in camera.tripwires}
            or site.windows != self._site_settings.windows
            or _cells(camera.heat_map) != _cells(self._camera.heat_map)
        ):
            self._report_open(points)
        elif camera.counters != self._camera.counters:
            self._report_counters(points)

    # ---- state ------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state."""
        fields = (
            self._labels, self._intake.snapshot()[1], self._windows.snapshot(), self._flows.snapshot(), self._alerts.snapshot(),
            self._tracker.embeddings(), self._lost, self._counted, self._window_us, self._heat_map.period,
            float(self._memory.picture[0]), self._stays.snapshot(), self.settings, self._counters.snapshot(),
        )  # fmt: skip
        scratch = self._scratch
        tables = scratch.packed(packed_state.pack(self._memory.memory, scratch.memory))
        rest = _encode_part(fields)[1:]  # without their own array's head, which is one byte for fewer than 16
        return b"".join((self._fixed, rest, tables))

    def _encode_settings(self) -> bytes:
        """Return the beginning of a `_State`, up to `heat_map`: what the settings say of the rest."""
        fields = (
            STATE_VERSION, [z.place for z in self._zones.zones], [w.place for w in self._tripwires.wires],
            self._conditions.names, self._camera.heat_map,
        )  # fmt: skip
        return _ARRAY + b"".join([_encode_part(field) for field in fields])

    def restore(self, data: bytes) -> None:
        """Take up a snapshot; zones, tripwires and rules are matched by id, so settings may have changed."""
        s = _decode_state(data)
        tables = unpack(s.tables, len(s.zones), len(s.wires), len(s.rules))
        self._labels = s.labels
        self._label_maps.clear()
        self._labels_seen, self._picture = None, ()
        for part in (self._zones, self._tripwires, self._conditions, self._heat_map):
            part.set_labels(s.labels)
        self._intake.restore(tuple(tables.order), s.intake)
        self._tracker.restore(tables.last_us, tables.header, tables.stream, tables.tracks, *s.embeddings)
        self._motion.restore(tables.motions, self._tracker.tracks, self._tracker.slots, self._camera.has_ground)
        self._memory.picture[0] = s.aspect
        self._stays.restore(s.stays, s.zones, [z.place for z in self._zones.zones])
        self._zones.restore(tables.visits, s.zones)
        self._alerts.restore(s.alerts)
        self._tripwires.restore(tables.approaches, s.wires)
        self._conditions.restore(tables.conditions, s.rules)
        self._turn(tables.last_us)  # a silence may be the first that it hears of
        self._counters.restore(s.counters)
        tallies, windows = s.windows
        if s.window_us:
            _add_counts(tallies.setdefault(s.window_us, [0] * figures.TALLIES), tables.tally)
        self._windows.restore(tallies, windows)
        # The tracker's is 0 while the settings do not name the camera.
        last_us = max(tables.last_us, self._intake.capture_us)
        if _cells(s.heat_map) == _cells(self._camera.heat_map):
            self._heat_map.restore(s.heat, tables.cells_us, last_us)
        else:
            self._heat_map.begin_after(max(last_us, s.heat.start_us))
        places = [z.place for z in self._zones.zones]
        zone_of = [places.index(z) if z in places else -1 for z in s.zones]
        self._flows.restore(s.flows, zone_of)
        self._paces.restore(tables.paces, zone_of)
        self._known_places = (
            {z.id for z in self._zones.zones if z.place in s.zones},
            {w.id for w in self._tripwires.wires if w.place in s.wires},
        )
        self._windows.keep(self._was_known)
        self._declare(self._camera)
        self._lost, self._counted = s.lost, s.counted
        refused_pairs = int(self._conditions.pair_head[REFUSED_PAIRS])
        self._counted[figures.REFUSED_PAIRS] = min(self._counted[figures.REFUSED_PAIRS], refused_pairs)
        self._window_us, self._memory.wake_us[0] = 0, 0
        self._expect_unusual()
        if s.window_us:
            self._count_from(s.window_us)

    def archive(self) -> bytes | None:
        """Return what of the state changes only when windows are closed or amended; None where it has not since last asked."""
        return self._windows.archive()

    def restore_archive(self, data: bytes) -> None:
        """Take up an archive, after the snapshot of the same record."""
        self._windows.restore_archive(data, self._was_known)

    def _was_known(self, key: Key) -> bool:
        """Whether the settings of before had the place of a series, on the same plane."""
        zones, wires = self._known_places
        what, place, _ = key
        if what == "flow":
            return set(place.split(" ")) <= zones
        return what == "object" or place in (zones if what == "zone" else wires)


def _windows(site: SiteSettings, grace_s: float) -> Windows:
    def us(seconds: float) -> int:
        return round(seconds * 1e6)

    w = site.windows
    sliding = [(us(x.length_s), us(x.step_s)) for x in w.sliding]
    return Windows(us(w.length_s), us(grace_s), sliding, us(w.lateness_s), figures.TALLIES)


def _cells(heat_map: HeatMapSettings | None) -> tuple[object, ...] | None:
    return heat_map.cells if heat_map else None


def _tracking(camera: Camera) -> tuple[object, ...]:
    """Return the settings that a track's state hangs on."""
    return camera.tracker, camera.pose, camera.ground_points


def _add_counts(counts: list[int], more: list[int]) -> None:
    """Add what a kernel has counted (frames, detections) to a window's tally."""
    counts[figures.FRAMES] += more[kernel.TALLY_FRAMES]
    counts[figures.DETECTIONS] += more[kernel.TALLY_DETECTIONS]


def _decode_state(data: bytes) -> _State:
    version = _version_decoder.decode(data).version
    if version != STATE_VERSION:
        raise ValueError(f"camera stage: expected state version {STATE_VERSION}, got {version}")
    return _state_decoder.decode(data)


def state_settings(data: bytes) -> tuple[str, int]:
    """Return the settings that a snapshot was made under, and the time of its last frame."""
    s = _decode_state(data)
    return s.settings, packed_state.last_us(s.tables)


def _arrays(f: DetectionFrame) -> tuple[Any, Any, Any]:
    boxes = np.frombuffer(f.boxes, "<f4").reshape(-1, 4)
    return boxes, np.frombuffer(f.scores, "<f4"), np.frombuffer(f.classes, np.uint8)


def _embeddings(f: DetectionFrame) -> Any:
    return np.frombuffer(f.embeddings, "<f2").reshape(-1, f.embedding_dim) if f.embeddings else None
