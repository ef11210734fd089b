"""The scene of all benchmarks: what the cameras see, and the settings with everything switched on.

A street, seen by 100 cameras, at 10 frames/s of event time where no other rate is asked for. On each camera 10 or 50
objects (three people to one car) walk right across the view, in 15 s or in 30 s, in lanes of their own; half of them each
way, so they meet and pass. Who leaves on one side is followed by somebody new on the other: a track lives 15 s or 30 s,
passes the tripwire in the middle once, and spends about half of its life in the zone. The detector errs: edges blur by 2 %
of the box (standard deviation), 1 in 20 objects is missed in a frame, and as many false boxes flash up. The same 30 s come
again and again, without a seam, with new times and numbers.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

import msgspec

from schemas.settings import Camera, SiteSettings
from schemas.settings_checks import check_settings
from schemas.wire import DetectionFrame
from simulator.layout import camera_name, scene_settings
from simulator.load import Load, LoadPlan
from simulator.records import Record
from simulator.scene import MODEL_SHA, Detection, pack_detections

CAMERAS = 100
FPS = 10.0
LOOP_S = 30.0
SLOW_S, FAST_S = 30.0, 15.0  # across the view; both divide the loop
BLUR_RATIO = 0.02
MISSED_RATIO = 0.05
_PLACEHOLDER = 1 << 33  # as wide as every time in µs, so that it can be overwritten in place
_SENT = b"\xa7sent_us\xcf"


def street(count: int, loops: float, camera: int) -> list[tuple[int, Detection]]:
    """Return (object number, detection) of the `count` objects that a perfect detector would see, after so many loops."""
    seen = []
    lane_height = 0.9 / count
    for i in range(count):
        crossings = 1 if i % 2 else 2  # in one loop
        along = (crossings * loops + 0.61803 * i + 0.137 * camera) % 1.0
        if i % 4 >= 2:
            along = 1.0 - along
        height = 0.16 if count <= 20 else 0.08
        x, y = along, 0.06 + height + (i + 0.5) * lane_height * (0.94 - height) / 0.9
        half = 0.2 * height
        box = (max(0.0, x - half), y - height, min(1.0, x + half), min(0.999, y))
        if box[2] - box[0] > 0.5 * half:
            seen.append((i, (box, 0.9, "car" if i % 4 == 3 else "person")))
    return seen


def err(seen: list[Detection], rng: random.Random) -> list[Detection]:
    """Return what a real detector would have reported: blurred, some missed, as many false ones."""
    out: list[Detection] = []
    for (x1, y1, x2, y2), _, label in seen:
        if rng.random() < MISSED_RATIO:
            continue
        w, h = BLUR_RATIO * (x2 - x1), BLUR_RATIO * (y2 - y1)
        box = (x1 + rng.gauss(0, w), y1 + rng.gauss(0, h), x2 + rng.gauss(0, w), y2 + rng.gauss(0, h))
        out.append((box, rng.uniform(0.45, 0.95), label))
    for _ in seen:
        if rng.random() < MISSED_RATIO:
            x, y = rng.uniform(0.0, 0.9), rng.uniform(0.0, 0.8)
            out.append(((x, y, x + 0.05, y + 0.12), rng.uniform(0.2, 0.6), "person"))
    return out


class Street(Load):
    """The simulator's pre-encoded load, with this scene in it."""

    def __init__(
        self, detection_count: int, camera_count: int = CAMERAS, fps: float = FPS, loop_frames: int = 0, **plan: Any
    ) -> None:
        """`loop_frames`: frames until the scene repeats, if not those of `LOOP_S`."""
        count = loop_frames or round(LOOP_S * fps)
        super().__init__(LoadPlan(camera_count, detection_count, fps, loop_count=count, **plan))

    def _frame(self, camera: int, k: int) -> DetectionFrame:
        seen = [detection for _, detection in street(self.plan.detection_count, k / self.plan.loop_count, camera)]
        boxes, scores, classes, labels = pack_detections(err(seen, random.Random(1_000_003 * camera + k)))
        return DetectionFrame(
            site=self.plan.site, camera=camera_name(camera), boot=_PLACEHOLDER, seq=_PLACEHOLDER,
            capture_us=_PLACEHOLDER, clock="rtcp_sr", recv_us=_PLACEHOLDER, sent_us=_PLACEHOLDER,
            width_px=1280, height_px=720, model="simulator", model_sha=MODEL_SHA,
            labels=labels, boxes=boxes, scores=scores, classes=classes,
        )  # fmt: skip


def restamp_sent(record: Record, sent_us: int) -> Record:
    """Return the record with another `sent_us`: when it is really sent."""
    value = bytearray(record.value or b"")
    at = value.index(_SENT) + len(_SENT)
    value[at : at + 8] = sent_us.to_bytes(8, "big")
    return dataclasses.replace(record, value=bytes(value))


def settings(camera_count: int = CAMERAS, update_s: float = 10.0, crowd_count: int = 8) -> SiteSettings:
    """Return settings with everything on: a zone, a tripwire, windows of 10 s, a crowding and a loitering rule.

    Both rules are worked out for each frame. About five objects are in the zone, for at most 15 s: with the thresholds as
    they stand alerts are rare, as they are meant to be; with `crowd_count` 3 one is open most of the time.
    `update_s`: how often an open alert is repeated.
    """
    made = scene_settings(camera_count, rich=False, crowd_count=crowd_count, hold_s=2.0, since_s=20.0)
    cameras = tuple(_with_update(camera, update_s) for camera in made.cameras)
    return msgspec.structs.replace(made, cameras=cameras)


STREET_M = (20.0, 15.0)
"""What the frame shows, in metres, in `full_settings`: seen straight from above, so that speeds are simple to check."""
_BLOCKS = {
    "west": (0.05, 0.05, 0.35, 0.95), "middle": (0.36, 0.05, 0.64, 0.95), "east": (0.65, 0.05, 0.95, 0.95),
    "all": (0.02, 0.02, 0.98, 0.98),
}  # fmt: skip


def full_settings(camera_count: int = CAMERAS) -> SiteSettings:
    """Return settings with the most that the project states a cost for: four zones, two tripwires, six rules of different
    kinds, windows, a heat map, a counter and the ground. Thresholds are such that alerts are rare."""
    corners = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
    width_m, height_m = STREET_M
    camera = {
        "ground_points": [{"image": [x, y], "ground_m": [x * width_m, (1 - y) * height_m]} for x, y in corners],
        "zones": [
            {"id": name, "polygon": [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]}
            for name, (x1, y1, x2, y2) in _BLOCKS.items()
        ],
        "tripwires": [{"id": f"line-{i}", "points": [[x, 0.0], [x, 1.0]]} for i, x in enumerate((0.4, 0.6))],
        "counters": [{"id": "doors", "wires": [{"tripwire": "line-0"}, {"tripwire": "line-1", "entering": "left"}]}],
        "heat_map": {"columns": 32, "rows": 18},
        "rules": [
            {"id": "crowd", "type": "crowding", "zone": "all", "count": 400},
            {"id": "loiter", "type": "loitering", "zone": "west", "since_s": 20.0},
            {"id": "stopped", "type": "stopped", "zone": "middle", "since_s": 20.0},
            {"id": "fast", "type": "speeding", "limit_mps": 20.0},
            {
                "id": "wrong",
                "type": "wrong_way",
                "zone": "east",
                "allowed": [[0.5, 0.0], [0.5, 1.0]],
                "tolerance_deg": 45.0,
            },
            {"id": "luggage", "type": "abandoned", "classes": ["suitcase"], "since_s": 30.0},
        ],
    }
    site = {
        "version": 1, "site": LoadPlan().site,
        "cameras": [{"id": camera_name(i), "track_memory_s": 1.5, **camera} for i in range(camera_count)],
    }  # fmt: skip
    made = msgspec.convert(site, SiteSettings)
    check_settings(made, "full_settings")
    return made


SETTINGS = {"usual": settings, "full": full_settings}


def _with_update(camera: Camera, update_s: float) -> Camera:
    rules = tuple(msgspec.structs.replace(rule, update_s=update_s) for rule in camera.rules)
    return msgspec.structs.replace(camera, rules=rules)


def naive_messages(detection_count: int, frame_count: int, camera_count: int = CAMERAS) -> Iterator[dict[str, Any]]:
    """Yield what the naive design sends for the same street: one message per object and frame.

    It gets the object's number from a perfect tracker at the edge for nothing, and no false or missed detections.
    """
    start_us = LoadPlan().start_us
    for n in range(frame_count):
        seq, c = divmod(n, camera_count)
        for i, (box, score, label) in street(detection_count, seq / (LOOP_S * FPS), c):
            yield {
                "camera": camera_name(c),
                "object": f"{camera_name(c)}/{i}",
                "capture_us": start_us + seq * round(1e6 / FPS),
                "frame": seq,
                "box": list(box),
                "score": score,
                "class": label,
            }
