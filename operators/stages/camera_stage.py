"""The camera stage: everything that is known from one camera alone, in one operator, frame by frame.

record → intake → tracker → zones, tripwires → windows, alerts → tracks, events, alerts, figures, dead letters
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from operators.alerts import Alerts, Cause, Dwelling, source_alert
from operators.intake import Intake
from operators.intake.intake import Ready, Refused
from operators.stages import camera_figures as figures
from operators.stages.stage import Input, KeyLogic, Output
from operators.tracking import Scratch, Tracker, TrackerConfig, tracker_config
from operators.tracking.kernel import check
from operators.tripwires import Crossing, Tripwires
from operators.windows import Report, Windows
from operators.zones import Visit, Zones
from schemas import topics
from schemas.ids import event_id, track_id
from schemas.settings import Camera, SiteSettings, fingerprint, index_cameras
from schemas.wire import (
    AlertTransition,
    BadMessage,
    DeadLetter,
    DetectionFrame,
    Event,
    Figures,
    Point,
    TrackFrame,
    check_detections,
    check_embeddings,
    decode_detections,
    encode,
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
    zone_ids: tuple[str, ...]
    wire_ids: tuple[str, ...]
    labels: tuple[str, ...]
    intake: tuple[tuple[int, ...], bytes]
    tracker: tuple[int, bytes, bytes, bytes, str, bytes]
    visits: bytes
    approaches: bytes
    windows: tuple[dict[int, list[int]], bytes]
    alerts: bytes
    lost: bool
    counted: tuple[int, int]
    settings: str | None = None


_state_encoder = msgspec.msgpack.Encoder()
_state_decoder = msgspec.msgpack.Decoder(_State)
STATE_VERSION = 2


class CameraStage:
    """Makes the logic of each camera of the given sites. Holds settings only, so that it can be pickled."""

    def __init__(self, sites: Sequence[SiteSettings]) -> None:
        self.sites = list(sites)
        index_cameras(self.sites)

    def open(self) -> None:
        """Index the cameras and compile the kernels with the array types that frames have."""
        self._cameras = index_cameras(self.sites)
        self._settings = {site.site: fingerprint(site) for site in self.sites}
        self._scratch = Scratch(TrackerConfig().capacity)
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


NEVER_US = 1 << 62


class CameraLogic:
    """All of one camera."""

    settings_due_us = NEVER_US
    """Event time from which `_settings_due` is asked before a frame: here never, as nothing changes the settings."""
    _ending = ""
    """Why visits and tracks end that do not end by themselves."""

    def __init__(self, site: SiteSettings, camera: Camera, settings: str, scratch: Scratch) -> None:
        self.site, self.camera, self.settings = site.site, camera.id, settings
        self._site_settings, self._camera = site, camera
        self.silence_ms = round(camera.silence_s * 1000)
        self._scratch = scratch
        config = tracker_config(camera.tracker, camera.track_memory_s)
        self._intake = Intake()
        self._tracker = Tracker(config, pose=camera.pose)
        self._zone_ids = tuple(z.id for z in camera.zones)
        self._wire_ids = tuple(w.id for w in camera.tripwires)
        self._alerts = Alerts(site.site, camera.id, camera.rules, self._zone_ids)
        self._zones = Zones(camera.zones, self._alerts.dwell_rules(), config.capacity)
        self._tripwires = Tripwires(camera.tripwires, config.capacity)
        waits = [config.memory_s, config.gap_s, *(z.gap_s + z.min_inside_s for z in camera.zones)]
        self._windows = Windows(round(site.windows.length_s * 1e6), round((max(waits) + CONFIRM_SLACK_S) * 1e6))
        self._labels: tuple[str, ...] = ()
        self._label_maps: dict[tuple[str, ...], Any] = {}
        self._lost = False
        self._counted = (0, 0)  # duplicates and missing frames that windows have counted
        self._declare(camera)

    def _declare(self, camera: Camera) -> None:
        for zone in camera.zones:
            for label in zone.classes:
                self._windows.declare(("zone", zone.id, label))
        for wire in camera.tripwires:
            for label in wire.classes:
                self._windows.declare(("tripwire", wire.id, label))

    # ---- one record -------------------------------------------------------------------------------------------

    def on_record(self, record: Input) -> list[Output]:
        """Take one record of `detections`."""
        out: list[Output] = []
        try:
            frame = decode_detections(record.value)
            self._check(frame, record)
            turn = self._intake.accept(frame, record.value or b"", record.partition, record.offset)
        except BadMessage as e:
            self._refuse(Refused(e.reason, e.detail, record.value or b"", record.partition, record.offset), out)
            return out
        for item in turn:
            self._take(item, out)
        return out

    def _take(self, item: Ready | Refused, out: list[Output]) -> None:
        if isinstance(item, Refused):
            self._refuse(item, out)
            return
        frame = item.frame or decode_detections(item.raw)
        if frame.capture_us >= self.settings_due_us and not self._settings_due(frame, item, out):
            return
        cause = Cause(self.settings, frame.model_sha, item.partition, item.offset, frame.seq, frame.sent_us)
        self._frame(frame, cause, out)

    def _settings_due(self, frame: DetectionFrame, item: Ready, out: list[Output]) -> bool:
        """Go over to the settings that hold for a frame; return whether they name the camera."""
        return True

    def _refuse(self, r: Refused, out: list[Output]) -> None:
        record = Input(r.raw or None, r.partition, r.offset, 0)
        out.append(dead_letter(r.reason, r.detail, "camera", topics.DETECTIONS, self.camera, record))
        if self._windows.oldest_us:
            self._windows.tally(self._intake.capture_us, figures.TALLIES)[figures.REFUSED] += 1

    def _check(self, frame: DetectionFrame, record: Input) -> None:
        if frame.camera != self.camera:
            raise BadMessage("wrong_key", f"expected the record's key {self.camera!r} as camera, got {frame.camera!r}")
        if frame.site != self.site:
            raise BadMessage("wrong_site", f"camera {self.camera!r} belongs to {self.site!r}, got {frame.site!r}")
        if abs(record.time_ms - frame.capture_us // 1000) > MAX_CLOCK_DIFFERENCE_MS:
            raise BadMessage(
                "wrong_timestamp",
                f"expected the record's timestamp {record.time_ms} ms to be capture_us, got {frame.capture_us} µs",
            )
        boxes, scores, classes = _arrays(frame)
        if check(boxes, scores, classes, len(frame.labels)) >= 0:
            raise BadMessage("bad_detection", check_detections(boxes, scores, classes, len(frame.labels)))
        if frame.embeddings and (problem := check_embeddings(frame.embeddings)):
            raise BadMessage("bad_detection", problem)

    # ---- one frame in order -----------------------------------------------------------------------------------

    def _frame(self, f: DetectionFrame, cause: Cause, out: list[Output]) -> None:
        now_us, aspect = f.capture_us, f.width_px / f.height_px
        points: list[Point] = []
        last_us = self._tracker.last_us
        if last_us and now_us - last_us > self.silence_ms * 1000 and not self._lost:
            self._lose_source(points, out)
        if self._lost:
            self._find_source(now_us, cause, points, out)
        windows, tracker = self._windows, self._tracker
        windows.open_at(now_us)
        boxes, scores, classes = _arrays(f)
        tracker.step(
            boxes, scores, classes, self._map_labels(f.labels), now_us, aspect, _embeddings(f), f.embedding_model,
            f.height_px,
        )  # fmt: skip
        n, births, ends = tracker.publish(self._scratch, aspect)
        visits = self._zones.step(tracker.tracks, tracker.slots, now_us)
        crossings = self._tripwires.step(tracker.tracks, tracker.slots, aspect, now_us)
        if births or ends or visits or crossings:
            self._note_tracks(births, ends, out)
            self._note_visits(visits, points, out)
            self._note_crossings(crossings, out)
        inside = self._zones.inside_count.tolist()
        dwellings = self._dwellings(visits) if visits else ()
        self._say(self._alerts.step(now_us, inside, dwellings, cause, self._present), points, out)
        tally = windows.tally(now_us, figures.TALLIES)
        tally[figures.FRAMES] += 1
        tally[figures.DETECTIONS] += len(scores)
        counted = (self._intake.duplicate_count, self._intake.missing_count)
        if counted != self._counted:
            tally[figures.DUPLICATES] += counted[0] - self._counted[0]
            tally[figures.MISSING] += counted[1] - self._counted[1]
            self._counted = counted
        if windows.due(now_us):
            self._figures(windows.close(now_us), points)
        out.append(Output(topics.TRACKS, self.camera, self._track_frame(f, n)))
        if points:
            out.extend(self._points(points))

    def _track_frame(self, f: DetectionFrame, n: int) -> bytes:
        s = self._scratch
        return encode(
            TrackFrame(
                site=f.site, camera=f.camera, boot=f.boot, seq=f.seq, capture_us=f.capture_us, sent_us=f.sent_us,
                width_px=f.width_px, height_px=f.height_px, model_sha=f.model_sha, settings=self.settings,
                labels=self._labels, born_us=s.born_us[:n].tobytes(), ordinals=s.ordinals[:n].tobytes(),
                boxes=s.boxes[:n].tobytes(), velocities=s.velocities[:n].tobytes(), states=s.states[:n].tobytes(),
                classes=s.labels[:n].tobytes(), scores=s.scores[:n].tobytes(),
            )
        )  # fmt: skip

    def _map_labels(self, labels: tuple[str, ...]) -> Any:
        """Return the camera's own index for each of a message's labels (uint8, 256)."""
        label_of = self._label_maps.get(labels)
        if label_of is None:
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
            self._zones.set_labels(self._labels)
            self._tripwires.set_labels(self._labels)
        return label_of

    # ---- what happened ----------------------------------------------------------------------------------------

    def _note_tracks(self, births: list[int], ends: list[int], out: list[Output]) -> None:
        for slot in births:
            t = self._tracker.tracks[slot]
            label = self._labels[t["first_label"]]
            self._windows.change(("object", "", label), int(t["born_us"]), +1)
            self._declare_label(label)
        for slot in ends:
            t = self._tracker.tracks[slot]
            label = self._labels[t["first_label"]]
            born_us, seen_us = int(t["born_us"]), int(t["seen_us"])
            self._windows.change(("object", "", label), seen_us, -1)
            subject = track_id(self.site, self.camera, born_us, int(t["ordinal"]))
            self._event(
                "track_end", subject, seen_us, out, label=self._labels[t["label"]],
                dwell_s=(seen_us - born_us) * 1e-6, reason=self._ending or "unseen",
            )  # fmt: skip

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
                self._windows.change(key, v.at_us, +1)
                self._windows.count(key, v.at_us, figures.BORN_INSIDE if v.born_inside else figures.ENTERED)
                self._event("enter", subject, v.at_us, out, label=label, zone=zone, born_inside=bool(v.born_inside))
            elif v.kind == Zones.EXIT:
                dwell_s = (v.at_us - v.enter_us) * 1e-6
                self._windows.change(key, v.at_us, -1)
                self._windows.count(key, v.at_us, figures.EXITED)
                self._windows.dwell(key, v.at_us, dwell_s)
                self._event(
                    "exit", subject, v.at_us, out, label=label, zone=zone, born_inside=bool(v.born_inside),
                    dwell_s=dwell_s, reason=self._ending,
                )  # fmt: skip
                points.append(figures.visit_point(self.site, self.camera, zone, label, subject, v, dwell_s))

    def _note_crossings(self, crossings: list[Crossing], out: list[Output]) -> None:
        for c in crossings:
            wire, label = self._wire_ids[c.wire], self._labels[c.label]
            right = c.side > 0
            self._windows.count(("tripwire", wire, label), c.at_us, figures.RIGHT if right else figures.LEFT)
            subject = track_id(self.site, self.camera, c.born_us, c.ordinal)
            self._event(
                "crossing", subject, c.at_us, out, label=label, tripwire=wire, direction="right" if right else "left"
            )

    def _event(self, kind: Any, subject: str, at_us: int, out: list[Output], **fields: Any) -> None:
        place = fields.get("zone") or fields.get("tripwire") or ""
        event = Event(
            id=event_id(kind, subject, place, at_us), kind=kind, site=self.site, camera=self.camera, subject=subject,
            at_us=at_us, settings=self.settings, **fields,
        )  # fmt: skip
        out.append(Output(topics.EVENTS, subject, encode(event)))

    def _dwellings(self, visits: list[Visit]) -> list[Dwelling]:
        return [
            Dwelling(
                v.kind == Zones.EXIT, v.zone, v.rule, v.ordinal, v.born_us, v.enter_us, v.at_us, self._labels[v.label]
            )
            for v in visits
            if v.kind != Zones.ENTER
        ]

    def _present(self, zone: int) -> list[tuple[int, int]]:
        """Return (ordinal, born_us) of the objects observed inside in this frame."""
        tracks = self._tracker.tracks[self._zones.present(zone, self._tracker.slots)]
        return [(int(t["ordinal"]), int(t["born_us"])) for t in tracks]

    def _say(self, transitions: list[AlertTransition], points: list[Point], out: list[Output]) -> None:
        for t in transitions:
            out.append(Output(topics.ALERTS, t.alert_id, encode(t)))
            points.append(figures.alert_point(t))

    # ---- windows ----------------------------------------------------------------------------------------------

    def _figures(self, reports: list[Report], points: list[Point]) -> None:
        for report in reports:
            points.extend(figures.window_points(self.site, self.camera, report))

    def _points(self, points: list[Point]) -> list[Output]:
        """Pack points into messages of bounded size; of two for one place and time (revisions), the later one stays."""
        latest = {(p.measurement, *p.tags.values(), p.at_ns): p for p in points}
        kept = list(latest.values())
        return [
            Output(
                topics.FIGURES,
                self.camera,
                encode(Figures(site=self.site, camera=self.camera, points=tuple(kept[i : i + MAX_POINTS]))),
            )
            for i in range(0, len(kept), MAX_POINTS)
        ]

    # ---- silence ----------------------------------------------------------------------------------------------

    def on_silence(self) -> list[Output]:
        """The source is silent: close what is open, report the windows as far as they are known."""
        out: list[Output] = []
        points: list[Point] = []
        for item in self._intake.give_up():
            self._take(item, out)
        if self._tracker.last_us and not self._lost:
            self._lose_source(points, out)
        out.extend(self._points(points))
        return out

    def _lose_source(self, points: list[Point], out: list[Output]) -> None:
        """Close everything at the last frame's time. Windows stay open: frames may still come late from a spool.

        No frame is named as the cause: a replay sees the gap at the next frame where a live run saw the silence, and
        both must say the same.
        """
        last_us = self._tracker.last_us
        cause = Cause(self.settings, "", -1, -1, -1, 0)
        self._lost = True
        self._end_tracks("source_lost", cause, points, out)
        self._say(self._alerts.close_all(last_us, "the source is lost", cause), points, out)
        self._event("source_lost", self.camera, last_us, out)
        self._say([source_alert(self.site, self.camera, "open", last_us, last_us, cause)], points, out)
        self._figures(self._windows.report_open(), points)

    def _end_tracks(self, ending: str, cause: Cause, points: list[Point], out: list[Output]) -> None:
        """End every track, and with it its visits, as of the last frame."""
        self._ending = ending
        last_us = self._tracker.last_us
        self._tracker.end_all()
        _, births, ends = self._tracker.publish(self._scratch, 1.0)
        visits = self._zones.step(self._tracker.tracks, self._tracker.slots, last_us)
        self._note_tracks(births, ends, out)
        self._note_visits(visits, points, out)
        nobody = [0] * len(self._zone_ids)
        self._say(self._alerts.step(last_us, nobody, self._dwellings(visits), cause, self._present), points, out)
        self._ending = ""

    def _find_source(self, now_us: int, cause: Cause, points: list[Point], out: list[Output]) -> None:
        self._lost = False
        self._event("source_back", self.camera, now_us, out)
        lost_us = self._tracker.last_us
        self._say([source_alert(self.site, self.camera, "close", lost_us, now_us, cause)], points, out)

    # ---- other settings ---------------------------------------------------------------------------------------

    def take_settings(self, site: SiteSettings, camera: Camera, settings: str, out: list[Output]) -> None:
        """Go over to other settings after the last frame. What is open in places that are gone ends then.

        Zones, tripwires and rules are matched by id, as in `restore`; alerts whose rule is gone close with the next frame.
        """
        if camera != self._camera or site.windows != self._site_settings.windows:
            points: list[Point] = []
            self._leave_places(site, camera, points, out)
            out.extend(self._points(points))
            state = self.snapshot()
            CameraLogic.__init__(self, site, camera, settings, self._scratch)
            CameraLogic.restore(self, state)
        self._site_settings, self.settings = site, settings

    def _leave_places(self, site: SiteSettings, camera: Camera, points: list[Point], out: list[Output]) -> None:
        """End what the next settings have no place for, and report the windows that they cannot report."""
        cause = Cause(self.settings, "", -1, -1, -1, 0)
        if (camera.tracker, camera.pose) != (self._camera.tracker, self._camera.pose):
            self._end_tracks("settings", cause, points, out)  # their state means nothing to another tracker
        zones = {z.id for z in camera.zones}
        gone = [i for i, name in enumerate(self._zone_ids) if name not in zones]
        visits = self._zones.end(gone, self._tracker.tracks, self._tracker.slots)
        self._ending = "settings"
        self._note_visits(visits, points, out)
        self._ending = ""
        if (
            gone
            or set(self._wire_ids) - {w.id for w in camera.tripwires}
            or site.windows != self._site_settings.windows
        ):
            self._figures(self._windows.report_open(), points)

    # ---- state ------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state; a few microseconds, since what rarely changes is encoded only when it has."""
        slots = self._tracker.slots
        return _state_encoder.encode(
            _State(
                STATE_VERSION, self._zone_ids, self._wire_ids, self._labels, self._intake.snapshot(),
                self._tracker.snapshot(), self._zones.snapshot(slots), self._tripwires.snapshot(slots),
                self._windows.snapshot(), self._alerts.snapshot(), self._lost, self._counted, self.settings,
            )
        )  # fmt: skip

    def restore(self, data: bytes) -> None:
        """Take up a snapshot; zones, tripwires and rules are matched by id, so settings may have changed."""
        s = _state_decoder.decode(data)
        if s.version != STATE_VERSION:
            raise ValueError(f"camera {self.camera}: expected state version {STATE_VERSION}, got {s.version}")
        self._labels = s.labels
        self._label_maps.clear()
        self._zones.set_labels(s.labels)
        self._tripwires.set_labels(s.labels)
        self._intake.restore(*s.intake)
        self._tracker.restore(*s.tracker)
        self._zones.restore(s.visits, s.zone_ids, self._alerts.restore(s.alerts))
        self._tripwires.restore(s.approaches, s.wire_ids)
        self._windows.restore(*s.windows)
        places = {"zone": self._zone_ids, "tripwire": self._wire_ids}
        self._windows.keep(lambda key: key[0] not in places or key[1] in places[key[0]])
        self._declare(self._camera)
        self._lost, self._counted = s.lost, s.counted


def state_settings(data: bytes) -> tuple[str | None, int]:
    """Return the settings that a snapshot was made under (None: it does not say), and the time of its last frame."""
    s = _state_decoder.decode(data)
    return s.settings, s.tracker[0]


def _arrays(f: DetectionFrame) -> tuple[Any, Any, Any]:
    boxes = np.frombuffer(f.boxes, "<f4").reshape(-1, 4)
    return boxes, np.frombuffer(f.scores, "<f4"), np.frombuffer(f.classes, np.uint8)


def _embeddings(f: DetectionFrame) -> Any:
    return np.frombuffer(f.embeddings, "<f2").reshape(-1, f.embedding_dim) if f.embeddings else None
