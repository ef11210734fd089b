"""Hostile input for the camera stage: valid settings at their extremes, streams that nobody would send, restarts anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from operators.influx.line_protocol import line
from operators.stages.camera_stage import UnknownCamera
from operators.stages.live_camera import LiveCamera, LiveCameraStage
from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.alert_orders import Acknowledgement, Mute, order_key
from schemas.fields import ANCHORS, SettingsError
from schemas.live_settings import SettingsAck, new_version, version_key
from schemas.settings import SiteSettings
from schemas.settings_checks import check_settings
from schemas.wire import (
    EARLIEST_US,
    LATEST_US,
    AlertTransition,
    DeadLetter,
    DetectionFrame,
    Event,
    Figures,
    Point,
    TrackFrame,
    decode,
    encode,
)
from tests.unit.operators.scenes import CAMERA

SITE = "s"
DAY_S = 86_400
ZONES_OF_TIME = (
    "UTC", "Europe/Vienna", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "Africa/Casablanca",
    "America/Sao_Paulo", "Pacific/Kiritimati", "Antarctica/Troll",
)  # fmt: skip
LABELS = ("person", "car", "suitcase", "backpack", "truck", "a b", 'q"', "x=y,z", "über", "\\n")
SECONDS = (0.001, 0.05, 0.3, 1.0, 2.5, 10.0, 61.0, 3600.0, 86_400.0)
KINDS = (
    "line_crossing", "tailgating", "intrusion", "restricted_class", "loitering", "dwell", "queue_wait", "crowding",
    "queue_length", "empty", "stopped", "speeding", "wrong_way", "abandoned", "removed", "proximity",
)  # fmt: skip
Rng = np.random.Generator


def pick(rng: Rng, choices: Sequence[Any]) -> Any:
    """Return one of them."""
    return choices[int(rng.integers(len(choices)))]


def chance(rng: Rng, p: float) -> bool:
    """Return whether something of this probability happens."""
    return bool(rng.random() < p)


# ---- settings ----------------------------------------------------------------------------------------------------------


def _seconds(rng: Rng, zero: bool = False) -> float:
    usual = (0.05, 0.3, 1.0, 2.5)
    return 0.0 if zero and chance(rng, 0.3) else float(pick(rng, usual if chance(rng, 0.7) else SECONDS))


def _classes(rng: Rng, least: int = 0) -> list[str]:
    n = int(rng.integers(least, 4)) if chance(rng, 0.4) or least else 0
    return [str(label) for label in rng.permutation(LABELS)[:n]]


def _polygon(rng: Rng, ground: bool) -> list[list[float]]:
    n = 64 if chance(rng, 0.1) else int(rng.integers(3, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, n))
    reach = rng.uniform(0.3, 1.0, n)
    if ground:
        middle, size = rng.uniform(-5, 20, 2), 10.0 ** rng.uniform(-0.5, 4.5)
    else:
        middle, size = rng.uniform(0.2, 0.8, 2), rng.uniform(0.05, 0.2) if chance(rng, 0.5) else 2.0
    points = middle + size * reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    limit = (-1e5, 1e5) if ground else (0.0, 1.0)
    return [[float(np.clip(c, *limit)) for c in p] for p in points]


def _floor(rng: Rng) -> dict[str, Any]:
    """Points of a floor, sometimes with its horizon in the picture."""
    kind = int(rng.integers(4))
    if kind == 0:
        return {}
    horizon = float(pick(rng, (-2.0, -0.2, 0.2, 0.5)))
    focal, height = 1.2, float(pick(rng, (1.5, 5.0, 50.0)))
    points = []
    for u in (0.1, 0.5, 0.9):
        for v in (max(horizon, 0.0) + 0.05, max(horizon, 0.0) + 0.25, 1.0):
            y = focal * height / (v - horizon)
            points.append({"image": [u, v], "ground_m": [(u - 0.5) * y / focal, y]})
    return {"ground_points": points}


def _rule(rng: Rng, i: int, camera: dict[str, Any], schedules: list[str]) -> dict[str, Any] | None:
    zones, wires = [z["id"] for z in camera["zones"]], [w["id"] for w in camera["tripwires"]]
    kind = pick(rng, KINDS)
    rule: dict[str, Any] = {"id": f"r{i}", "type": kind, "version": int(pick(rng, (1, 1, 2, 1_000_000)))}
    rule["classes"] = _classes(rng, 1 if kind in ("restricted_class", "abandoned") else 0)
    rule |= {"hold_s": _seconds(rng, True), "gap_s": _seconds(rng), "cooldown_s": _seconds(rng, True)}
    rule |= {"update_s": _seconds(rng), "regroup_s": _seconds(rng, True), "grouped": chance(rng, 0.4)}
    rule["severity"] = pick(rng, ("info", "warning", "critical"))
    after = sorted({_seconds(rng) for _ in range(int(rng.integers(0, 5)))})
    rule["escalate"] = [{"after_s": s, "severity": pick(rng, ("info", "warning", "critical"))} for s in after]
    own: dict[str, Any] = {}
    if kind in ("line_crossing", "tailgating"):
        if not wires:
            return None
        rule |= {"tripwire": pick(rng, wires), "direction": pick(rng, ("any", "left", "right"))}
    elif zones and chance(rng, 0.8):
        rule["zone"] = pick(rng, zones)
    elif kind not in ("stopped", "speeding", "wrong_way", "abandoned", "removed", "proximity"):
        return None
    if kind == "tailgating":
        own = {"within_s": float(pick(rng, (0.01, 1.5, 60.0)))}
    elif kind in ("loitering", "empty", "stopped", "abandoned", "removed"):
        own = {"since_s": _seconds(rng)}
    elif kind == "dwell":
        own = {"limit_s": _seconds(rng)}
    elif kind == "queue_wait":
        own = {"wait_s": _seconds(rng)}
    elif kind in ("crowding", "queue_length"):
        own = {"count": int(pick(rng, (1, 1, 2, 3, 1000)))}
    elif kind == "speeding":
        own = {"limit_mps": float(pick(rng, (1e-6, 0.5, 3.0, 200.0)))}
        rule["sure_sd"] = float(pick(rng, (0.0, 1.0, 10.0)))
    elif kind == "proximity":
        own = {"distance_m": float(pick(rng, (1e-6, 1.0, 5.0, 1000.0)))}
        rule["other_classes"] = _classes(rng)
    elif kind == "wrong_way":
        rule["tolerance_deg"] = float(pick(rng, (1e-6, 60.0, 179.999)))
        rule |= {"slowest_mps": float(pick(rng, (0, 0.5, 200))), "slowest_ratio": float(pick(rng, (0, 0.3, 100)))}
        on_ground = "ground_points" in camera and chance(rng, 0.5)
        rule |= {"allowed": [[0.2, 0.2], [0.8, 0.3]], "plane": "ground" if on_ground else "image"}
    if kind == "abandoned":
        rule |= {"owner_classes": _classes(rng), "owner_m": float(pick(rng, (0, 3, 100)))}
        rule["owner_ratio"] = float(pick(rng, (0, 1.5, 20)))
    if kind == "queue_length":
        rule["settled_s"] = _seconds(rng, True)
    rule |= own
    if schedules and chance(rng, 0.4):
        rule["schedule"] = pick(rng, schedules)
        if own and chance(rng, 0.6):
            name, _value = next(iter(own.items()))
            other = {"count": pick(rng, (1, 2, 1000)), "limit_mps": 1.0, "distance_m": 3.0, "within_s": 0.5}
            rule["off_hours"] = {name: other.get(name, _seconds(rng))}
    return rule


def _camera(rng: Rng, schedules: list[str]) -> dict[str, Any]:
    most = 32 if chance(rng, 0.1) else 4
    camera: dict[str, Any] = {"id": CAMERA, **_floor(rng), "zones": [], "tripwires": [], "rules": [], "counters": []}
    grounded = "ground_points" in camera
    camera["silence_s"] = float(pick(rng, (0.1, 1.0, 10.0, 10.0, 3600.0, DAY_S)))
    camera["track_memory_s"] = float(pick(rng, (0.001, 0.5, 3.0, 3.0, 60.0, DAY_S)))
    camera["tracker"] = pick(rng, ("default", "default", "sort"))
    camera |= {"still_m": float(pick(rng, (1e-6, 0.5, 10))), "still_ratio": float(pick(rng, (1e-6, 0.25, 2)))}
    for i in range(int(rng.integers(0, most + 1))):
        ground = grounded and chance(rng, 0.5)
        zone: dict[str, Any] = {
            "id": f"z{i}",
            "polygon": _polygon(rng, ground),
            "plane": "ground" if ground else "image",
        }
        zone |= {"anchor": pick(rng, ANCHORS), "classes": _classes(rng), "gap_s": _seconds(rng)}
        zone["min_inside_s"] = _seconds(rng, True)
        zone |= {"band_ratio": float(pick(rng, (0, 0.01, 0.25))), "band_m": float(pick(rng, (0, 0.2, 10)))}
        camera["zones"].append(zone)
    for i in range(int(rng.integers(0, most + 1))):
        ground = grounded and chance(rng, 0.5)
        n = 64 if chance(rng, 0.1) else int(rng.integers(2, 5))
        points = rng.uniform(-10, 30, (n, 2)) if ground else rng.uniform(0, 1, (n, 2))
        wire: dict[str, Any] = {"id": f"w{i}", "points": points.tolist(), "plane": "ground" if ground else "image"}
        wire |= {"anchor": pick(rng, ANCHORS), "classes": _classes(rng)}
        wire |= {"band_ratio": float(pick(rng, (0, 0.01, 0.5))), "band_m": float(pick(rng, (0, 0.1, 10)))}
        camera["tripwires"].append(wire)
    if camera["tripwires"]:
        for i in range(int(rng.integers(0, 17 if most > 4 else 4))):
            n = int(rng.integers(1, len(camera["tripwires"]) + 1))
            entrances = [
                {"tripwire": f"w{w}", "entering": pick(rng, ("left", "right"))}
                for w in rng.permutation(len(camera["tripwires"]))[:n]
            ]
            resets = [f"{h:02}:{int(rng.integers(60)):02}" for h in rng.permutation(24)[: int(pick(rng, (0, 1, 24)))]]
            report_s = float(pick(rng, (1.0, 1.5, 60.0, 86_400.0)))
            camera["counters"].append(
                {"id": f"c{i}", "wires": entrances, "reset": resets, "report_s": report_s, "classes": _classes(rng)}
            )
    if chance(rng, 0.6):
        size = {"columns": int(pick(rng, (1, 7, 64))), "rows": int(pick(rng, (1, 7, 64))), "classes": _classes(rng)}
        if grounded and chance(rng, 0.5):
            size |= {"plane": "ground", "from_m": [-20.0, 0.0], "to_m": [20.0, float(pick(rng, (1e-3, 40.0, 1e5)))]}
        # No draw of its own, so that seeds mean what they meant.
        size["report_s"] = (1.0, 86_400.0, 1.5, 60.0)[(size["columns"] + size["rows"]) % 4]
        camera["heat_map"] = size
    for i in range(64 if most > 4 else int(rng.integers(0, 20))):
        rule = _rule(rng, i, camera, schedules)
        if rule and (grounded or rule["type"] not in ("speeding", "proximity")):
            camera["rules"].append(rule)
    return camera


def _time_of_day(rng: Rng) -> str:
    return f"{int(rng.integers(24)):02}:{int(pick(rng, (0, 0, 30, 59))):02}"


def _schedule(rng: Rng, i: int) -> dict[str, Any]:
    periods = []
    for _ in range(32 if chance(rng, 0.1) else int(rng.integers(1, 4))):
        start, end = _time_of_day(rng), "24:00" if chance(rng, 0.1) else _time_of_day(rng)
        days = [str(d) for d in rng.permutation(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])]
        if start != end:
            periods.append({"start": start, "end": end, "days": days[: int(rng.integers(1, 8))]})
    return {"id": f"h{i}", "periods": periods or [{}], "except_dates": ["2024-03-31"] if chance(rng, 0.3) else []}


def _site(rng: Rng, with_camera: bool) -> dict[str, Any]:
    schedules = [_schedule(rng, i) for i in range(int(rng.integers(0, 4)))]
    length_s = float(pick(rng, (1.0, 1.5, 5.0, 10.0, 60.0, 3600.0)))
    sliding: dict[float, dict[str, float]] = {}
    for _ in range(int(rng.integers(0, 5))):
        step_s = length_s * int(pick(rng, (1, 1, 2, 12)))
        whole_s = step_s * int(pick(rng, (1, 2, 3, 24, 288)))
        if step_s <= DAY_S and whole_s <= DAY_S:
            sliding[whole_s] = {"length_s": whole_s, "step_s": step_s}
    cameras = [{"id": "other"}]
    if with_camera:
        cameras.insert(int(rng.integers(2)), _camera(rng, [s["id"] for s in schedules]))
    lateness_s = float(pick(rng, (0.0, 5.0, 3600.0, 86_400.0)))
    return {
        "version": 1, "site": SITE, "timezone": pick(rng, ZONES_OF_TIME), "schedules": schedules, "cameras": cameras,
        "windows": {"length_s": length_s, "sliding": list(sliding.values()), "lateness_s": lateness_s},
    }  # fmt: skip


def draw_site(rng: Rng, with_camera: bool = True) -> SiteSettings:
    """Return settings that are valid and that nobody would write."""
    while True:
        try:
            site = msgspec.convert(_site(rng, with_camera), SiteSettings)
            check_settings(site)
        except SettingsError:
            continue
        return site


def vary(rng: Rng, site: SiteSettings) -> SiteSettings:
    """Return settings that change some of these."""
    other = draw_site(rng)
    mine = next((c for c in site.cameras if c.id == CAMERA), None)
    theirs = next(c for c in other.cameras if c.id == CAMERA)
    if mine is None or chance(rng, 0.3):
        return other
    names = ["zones", "tripwires", "counters", "rules", "heat_map", "silence_s", "track_memory_s", "tracker"]
    taken = {n: getattr(theirs, n) for n in names if chance(rng, 0.3)}
    camera = msgspec.structs.replace(mine, **taken)
    changed = msgspec.structs.replace(site, cameras=(camera, *(c for c in site.cameras if c.id != CAMERA)))
    if chance(rng, 0.3):
        changed = msgspec.structs.replace(changed, windows=other.windows)
    if chance(rng, 0.3):
        changed = msgspec.structs.replace(changed, schedules=other.schedules, timezone=other.timezone)
    try:
        check_settings(changed)
    except SettingsError:
        return other
    return changed


# ---- streams -----------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What happens next: a record of detections, one of settings (with its key), or a silence (neither)."""

    record: Input | None = None
    key: str = ""


class _World:
    """Objects that walk, jump, stand and vanish."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.count = int(pick(rng, (0, 1, 3, 8, 8, 20, 60, 250)))
        self.at = rng.uniform(0, 1, (self.count, 2))
        self.size = 10.0 ** rng.uniform(-2.5, -0.1, (self.count, 2))
        self.speed = rng.normal(0, 0.3, (self.count, 2)) * rng.choice([0, 1, 1, 20], (self.count, 1))
        self.label = rng.integers(0, 3, self.count)
        self.flicker = float(pick(rng, (0.0, 0.0, 0.05, 0.5)))
        self.missed = float(pick(rng, (0.0, 0.05, 0.4)))
        self.labels = LABELS if chance(rng, 0.8) else tuple(f"label {i}" for i in range(256))

    def look(self, passed_s: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return boxes, scores and classes."""
        rng = self.rng
        self.at += self.speed * min(passed_s, 2.0)
        outside = (self.at < 0) | (self.at > 1)
        self.speed[outside] *= -1
        self.at = np.clip(self.at, 0, 1)
        if chance(rng, 0.03):
            return np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
        seen = rng.random(self.count) >= self.missed
        at, size = self.at[seen] + rng.normal(0, 0.003, (int(seen.sum()), 2)), self.size[seen]
        boxes = np.concatenate([at - size / 2, at + size / 2], 1)
        label = self.label[seen].copy()
        flicks = rng.random(len(label)) < self.flicker
        label[flicks] = rng.integers(0, len(self.labels), int(flicks.sum()))
        if chance(rng, 0.03) and len(boxes):  # all at one place
            boxes[:] = boxes[0]
        if chance(rng, 0.01):
            n = 1000
            corner = rng.uniform(-0.5, 1.4, (n, 2))
            boxes = np.concatenate([corner, corner + 10.0 ** rng.uniform(-7, -0.05, (n, 2))], 1)
            label = rng.integers(0, len(self.labels), n)
        if chance(rng, 0.05):
            boxes = np.concatenate([boxes, [[-0.5, -0.5, 1.5, 1.5], [0, 0, 1, 1], [-0.5, -0.5, -0.4, -0.4]]])[:1000]
            label = np.concatenate([label, [0, 1, 2]])[:1000]
        boxes = np.clip(boxes, -0.5, 1.5).astype("<f4")
        good = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
        boxes, label = boxes[good], label[good]
        return boxes, rng.choice([0.0, 0.05, 0.3, 0.9, 1.0], len(boxes), p=[0.02, 0.03, 0.15, 0.7, 0.1]), label


def _frame(world: _World, boot: int, seq: int, at_us: int, passed_s: float, size: tuple[int, int]) -> DetectionFrame:
    boxes, scores, classes = world.look(passed_s)
    embeddings: dict[str, Any] = {}
    if len(boxes) and chance(world.rng, 0.02):
        vectors = world.rng.normal(0, float(pick(world.rng, (0.0, 1.0, 1e4))), (len(boxes), 8))
        embeddings = {"embeddings": vectors.astype("<f2").tobytes(), "embedding_dim": 8, "embedding_model": "m"}
    return DetectionFrame(
        site=SITE, camera=CAMERA, boot=boot, seq=seq, capture_us=at_us, clock="file", recv_us=max(at_us, boot),
        sent_us=at_us, width_px=size[0], height_px=size[1], labels=world.labels, boxes=boxes.tobytes(),
        scores=scores.astype("<f4").tobytes(), classes=classes.astype(np.uint8).tobytes(), **embeddings,
    )  # fmt: skip


def draw_stream(rng: Rng, frame_count: int) -> list[Step]:
    """Return frames with all that can be wrong with them, versions of settings, orders and silences."""
    world = _World(rng)
    start_us = int(pick(rng, (1_711_846_000_000_000, 1_698_540_000_000_000, 1_700_000_000_000_000, EARLIEST_US + 1)))
    if chance(rng, 0.05):
        start_us = LATEST_US - 20_000_000
    at_us, boot, seq = start_us, start_us - (5_000_000 if start_us > EARLIEST_US + 1 else 0), int(pick(rng, (0, 0, 17)))
    size = (1600, 1000)
    usual_s = float(pick(rng, (0.001, 0.033, 0.1, 0.1, 0.5, 2.0)))
    held: list[tuple[int, Input]] = []
    sent: list[Input] = []
    site, version = draw_site(rng), 0
    steps: list[Step] = []
    for i in range(frame_count):
        passed_us = round(1e6 * usual_s)
        if chance(rng, 0.02):
            passed_us = round(1e6 * float(pick(rng, (0.001, 1.5, 12.0, 70.0, 4000.0, 90_000.0, 864_000.0))))
        if chance(rng, 0.001):
            passed_us = 20 * 365 * DAY_S * 1_000_000
        if chance(rng, 0.01):
            passed_us = 1
        at_us = min(at_us + passed_us, LATEST_US)
        if chance(rng, 0.01):
            boot, seq = at_us + int(pick(rng, (-1, 0, 1_000_000))), int(pick(rng, (0, 0, 3)))
            boot = min(boot, LATEST_US)
        if chance(rng, 0.01):
            size = (int(pick(rng, (1, 640, 65536))), int(pick(rng, (1, 480, 65536))))
        if chance(rng, 0.02):
            seq += int(pick(rng, (1, 5, 70, 2000)))
        record = Input(encode(_frame(world, boot, seq, at_us, passed_us * 1e-6, size)), i % 3, i, at_us // 1000)
        seq += 1
        if chance(rng, 0.03):
            held.append((i + int(pick(rng, (1, 3, 8, 40, 100))), record))
        else:
            steps.append(Step(record))
            sent.append(record)
        steps += [Step(r) for due, r in held if due <= i]
        held = [(due, r) for due, r in held if due > i]
        if chance(rng, 0.02) and sent:
            steps.append(Step(pick(rng, sent)._replace(offset=100_000 + i)))
        if chance(rng, 0.02):
            steps.append(Step(_poison(rng, record)))
        if chance(rng, 0.01):
            steps += [Step()] * int(rng.integers(1, 3))
        if chance(rng, 0.015):
            site = draw_site(rng, False) if chance(rng, 0.2) else vary(rng, site)
            version += int(rng.integers(1, 3))
            from_us = at_us + round(1e6 * float(pick(rng, (-100, -3, -1, 0, 0.1, 0.5, 2, 2, 3600, 1e8))))
            from_us = min(max(from_us, EARLIEST_US), LATEST_US)
            m = new_version(site, version, from_us, START_SENT_US, "me", "")
            steps.append(Step(Input(encode(m), 0, len(steps), 0), version_key(SITE, version, m.fingerprint)))
        if chance(rng, 0.015):
            steps.append(_order(rng, at_us, len(steps)))
    return steps


START_SENT_US = 1_700_000_000_000_000


def _poison(rng: Rng, record: Input) -> Input:
    raw = record.value or b""
    kind = int(rng.integers(5))
    if kind == 0:
        return record._replace(value=None)
    if kind == 1:
        return record._replace(value=raw[: int(rng.integers(len(raw)))])
    if kind == 2:
        at = int(rng.integers(len(raw)))
        return record._replace(value=raw[:at] + bytes([int(rng.integers(256))]) + raw[at + 1 :])
    if kind == 3:
        return record._replace(time_ms=0)
    return record._replace(value=rng.bytes(50))


def _order(rng: Rng, at_us: int, offset: int) -> Step:
    from_us = min(max(at_us + round(1e6 * float(pick(rng, (-5, -1, 0, 1, 1e6)))), EARLIEST_US), LATEST_US)
    if chance(rng, 0.5):
        until_us = min(max(from_us + round(1e6 * float(pick(rng, (-1, 0, 1, 5, 1e6)))), EARLIEST_US), LATEST_US)
        rule, camera = pick(rng, ("*", "r0", "r3", "unknown")), pick(rng, ("*", CAMERA, "other"))
        order: Any = Mute(
            site=SITE, from_us=from_us, sent_us=START_SENT_US, camera=camera, rule=rule, until_us=until_us
        )
    else:
        name = pick(rng, (f"{SITE}/r0@1/{CAMERA}/z0/1/{at_us}", "nothing", f"{SITE}/r1@1/x/z/-/1", NEWEST))
        order = Acknowledgement(site=SITE, from_us=from_us, sent_us=START_SENT_US, author="me", alert_id=name)
    return Step(Input(encode(order), 0, offset, 0), order_key(order))


NEWEST = "newest"
"""Instead of an alert's id: the one that opened last, as the driver knows it."""


# ---- runs --------------------------------------------------------------------------------------------------------------


class Run:
    """The stage as the shell runs it: what is stored after each record is all that a restart finds."""

    def __init__(self, site: SiteSettings) -> None:
        self._site = site
        self._told: list[Step] = []
        self._newest = f"{SITE}/r0@1/{CAMERA}/z0/1/1"
        self.stage = self._open()
        self.logic: KeyLogic | None = None
        self.state: bytes | None = None
        self.archive: bytes | None = None

    def _open(self) -> LiveCameraStage:
        stage = LiveCameraStage([self._site])
        stage.open()
        return stage

    def restart(self) -> None:
        """Forget everything but what is stored and what the topic of settings holds."""
        self.stage = self._open()
        for step in self._told:
            assert step.record is not None
            self.stage.on_settings(step.key, step.record)
        self.logic = None

    def take(self, step: Step, stores: bool = True) -> list[Output]:
        """Take one step."""
        if step.key:
            return self._settings(step)
        logic = self.logic or self._load()
        if step.record is None:
            if not logic.silence_ms:
                return []
            out = logic.on_silence()
        else:
            out = logic.on_record(step.record)
        opened = [decode(o.value, AlertTransition) for o in out if o.topic == topics.ALERTS]
        self._newest = next((t.alert_id for t in opened if t.transition == "open"), self._newest)
        if isinstance(logic, UnknownCamera):
            self.logic = None
        elif stores:
            self.store(logic)
        return out

    def store(self, logic: KeyLogic) -> None:
        """Store as the shell does."""
        assert isinstance(logic, LiveCamera)
        self.state = logic.snapshot()
        archive = logic.archive()
        self.archive = self.archive if archive is None else archive

    def _settings(self, step: Step) -> list[Output]:
        assert step.record is not None
        if NEWEST in step.key.split("/"):
            order = decode(step.record.value or b"", Acknowledgement)
            order = msgspec.structs.replace(order, alert_id=self._newest)
            step = Step(step.record._replace(value=encode(order)), order_key(order))
        self._told.append(step)
        assert step.record is not None
        return self.stage.on_settings(step.key, step.record)

    def _load(self) -> KeyLogic:
        logic = self.logic = self.stage.logic(CAMERA)
        if self.state is not None:
            logic.restore(self.state)
            if self.archive is not None and isinstance(logic, LiveCamera):
                logic.restore_archive(self.archive)
        return logic


# ---- what must be true of outputs ---------------------------------------------------------------------------------------

MESSAGES = {
    topics.TRACKS: TrackFrame, topics.EVENTS: Event, topics.ALERTS: AlertTransition, topics.FIGURES: Figures,
    topics.DEAD_LETTERS: DeadLetter, topics.SETTINGS_ACKS: SettingsAck,
}  # fmt: skip


class Judge:
    """Looks at all outputs of one run."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._seen: dict[str, bytes] = {}
        self._alerts: dict[str, str] = {}
        self._revisions: dict[tuple[object, ...], int] = {}
        self.last_us = 0

    def look(self, outputs: Sequence[Output]) -> None:
        """Note what is wrong with outputs."""
        for o in outputs:
            message: Any = decode(o.value, MESSAGES[o.topic])
            if isinstance(message, TrackFrame):
                self._track(message)
            elif isinstance(message, Event):
                self._once(message.id, o.value)
                self._timed(message.id, message.at_us)
                numbers = (message.dwell_s, message.stopped_s, message.path_error, *message.zone_times.values())
                self._finite(message.id, [*numbers, *(x for p in message.path for x in p)])
                self._finite(message.id, [message.distance_m, message.speed_mean_mps, message.speed_max_mps])
                self._say(min(numbers) < 0, f"{message.id}: negative in {message}")
            elif isinstance(message, AlertTransition):
                self._once(message.id, o.value)
                self._timed(message.id, message.at_us)
                self._timed(message.id, message.start_us)
                self._finite(message.id, [message.value, message.before, *message.thresholds.values()])
                self._alert(message)
            elif isinstance(message, Figures):
                for p in message.points:
                    self._point(p)
        if any(o.topic == topics.SETTINGS_ACKS and decode(o.value, SettingsAck).stage == "in_force" for o in outputs):
            self._revisions.clear()  # of windows that are forgotten with other settings

    def _track(self, m: TrackFrame) -> None:
        self.last_us = max(self.last_us, m.capture_us)
        self._finite("tracks", np.frombuffer(m.boxes, "<f4").tolist())
        self._finite("tracks", np.frombuffer(m.velocities, "<f4").tolist())

    def _say(self, wrong: bool, problem: str) -> None:
        if wrong and len(self.problems) < 20:
            self.problems.append(problem)

    def _once(self, name: str, value: bytes) -> None:
        if name in self._seen:
            same = self._seen[name] == value
            self._say(True, f"id twice, {'the same' if same else 'another content'}: {name}")
        self._seen[name] = value

    def _timed(self, name: str, at_us: int) -> None:
        self._say(not EARLIEST_US - DAY_S * 1_000_000 <= at_us <= LATEST_US, f"time {at_us} of {name}")

    def _finite(self, name: str, numbers: Iterable[float | None]) -> None:
        self._say(any(x is not None and not math.isfinite(x) for x in numbers), f"no number in {name}")

    def _alert(self, t: AlertTransition) -> None:
        before = self._alerts.get(t.alert_id, "none")
        wrong = before != "none" if t.transition == "open" else before not in ("open", "update")
        self._say(wrong, f"{t.transition} after {before} of {t.alert_id} ({t.cause})")
        self._say(t.start_us > t.at_us, f"{t.id}: start {t.start_us} after {t.at_us}")
        self._alerts[t.alert_id] = t.transition

    def _point(self, p: Point) -> None:
        line(p)
        if "revision" in p.fields:
            key = (p.measurement, *sorted(p.tags.items()), p.at_ns)
            revision = int(p.fields["revision"])
            self._say(
                revision < self._revisions.get(key, -1), f"revision {revision} after {self._revisions.get(key)}: {key}"
            )
            self._revisions[key] = revision
