"""Visits, dwell and crossings of two rendered cameras, from their boxes, against those of the true positions on the floor.

The data (`../shared/data/two-cameras`) is no part of the project: without it these tests are skipped. Two people walk round an
aeroplane on the floor of a hall, both seen by each camera; a box's foot is the near edge of who stands there, and the places of
the floor that the data gives (four per camera) leave up to 0.2 m. So a place found is wrong by 0.15 m (first camera) and 0.26 m
(second), the median over all boxes, nearly all of it a constant offset. At 0.4 to 0.5 m/s, and with a frame each 0.1 s, that is,
root mean square and greatest, in s:

| | floor | enter, exit | dwell (of 6.3 s) | crossing |
|---|---|---|---|---|
| first | as given | 0.22, 0.39 | 0.40, 0.63 | 0.07, 0.11 |
| | walked: 24 places where somebody stood | 0.07, 0.10 | 0.13, 0.16 | 0.04, 0.07 |
| second | as given | 0.41, 0.84 | 0.39, 0.53 | 0.37, 0.51 |
| | walked | 0.07, 0.15 | 0.13, 0.20 | 0.01, 0.02 |

No visit or crossing is missing or too many. A dwell is 0.1 s too short at least: it is from the first frame inside to the last.
"""

from __future__ import annotations

import functools
import gzip
import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from operators.stages.stage import Output
from schemas.settings import Camera, GroundPoint, SiteSettings, Tripwire, Zone
from schemas.wire import DetectionFrame
from simulator.floor import in_picture
from simulator.geometry import is_inside, meeting_fraction, side_of
from tests.unit.operators.scenes import events_of, feed, open_stage, to_input

CAMERAS = ("Cam_x1_0", "Cam_x2_0")
WIDTH_PX, HEIGHT_PX = 800, 600
GAP_S = 1.0
FIRST_US = 1_410_148_800_033_000
TRUTH_STEP_S = 0.033
Polygon = tuple[tuple[float, float], ...]
ZONES = {
    "west": ((3.4, 6.2), (5.3, 6.2), (5.3, 9.4), (3.4, 9.4)),
    "north": ((5.6, 9.2), (8.2, 9.2), (8.2, 11.9), (5.6, 11.9)),
    "east": ((8.5, 5.6), (10.2, 5.6), (10.2, 8.8), (8.5, 8.8)),
    "south": ((5.2, 3.9), (8.4, 3.9), (8.4, 5.4), (5.2, 5.4)),
}
WIRES = {
    "west": ((3.4, 7.5), (5.3, 7.5)),
    "north": ((7.0, 9.0), (7.0, 11.9)),
    "east": ((8.4, 7.2), (10.3, 7.2)),
    "south": ((7.0, 3.9), (7.0, 5.5)),
}
SEEN = {"Cam_x1_0": ("west", "north"), "Cam_x2_0": tuple(ZONES)}
"""Places that a camera sees whole: the first one's picture ends at their feet in the south, and the aeroplane hides the east."""


class Stay(NamedTuple):
    """One visit; times in s from the first frame."""

    zone: str
    enter_s: float
    exit_s: float


class Passage(NamedTuple):
    """One crossing; time in s from the first frame."""

    tripwire: str
    direction: str
    at_s: float


def _us(text: str) -> int:
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e6)


@functools.cache
def lines(path: Path) -> list[Any]:
    with gzip.open(path, "rt") as f:
        return [json.loads(line) for line in f]


def given_points(folder: Path, name: str) -> tuple[GroundPoint, ...]:
    """Return the four places of the floor that the data names."""
    sensor = json.loads((folder / "config.json").read_text())["sensors"][name]
    return tuple(
        GroundPoint(image=(u / WIDTH_PX, v / HEIGHT_PX), ground_m=(m[0], m[1]))
        for (u, v), m in zip(sensor["camera points"], sensor["map points"], strict=True)
    )


def walked_points(folder: Path, name: str) -> tuple[GroundPoint, ...]:
    """Return 24 places where somebody's feet were in the first 40 s: what an integrator gets who walks about with a tape."""
    paths = true_paths(folder)
    pairs = []
    for line in lines(folder / f"{name}_10fps.json.gz")[:400]:
        at_s = (_us(line["timestamp"]) - FIRST_US) / 1e6
        for person in line["objects"].get("person", ()):
            b = person["bounding_box_px"]
            foot = ((b["x"] + b["width"] / 2) / WIDTH_PX, (b["y"] + b["height"]) / HEIGHT_PX)
            if foot[1] < 0.99:  # not cut off by the picture's edge
                times, places = paths[person["id"] + 1]
                x, y = (float(np.interp(at_s, times, places[:, i])) for i in (0, 1))
                pairs.append(GroundPoint(image=foot, ground_m=(x, y)))
    return tuple(pairs[:: len(pairs) // 24][:24])


def camera_of(folder: Path, name: str, kind: str) -> Camera:
    """Return the camera with the zones and tripwires that it sees: on the `given` or `walked` floor, or in the `picture`."""
    zones = tuple(Zone(id=k, polygon=ZONES[k], plane="ground", classes=("person",), gap_s=GAP_S) for k in SEEN[name])
    wires = tuple(Tripwire(id=k, points=WIRES[k], plane="ground", classes=("person",)) for k in SEEN[name])
    points = walked_points(folder, name) if kind == "walked" else given_points(folder, name)
    camera = Camera(id=name, ground_points=points, zones=zones, tripwires=wires)
    if kind != "picture":
        return camera
    return msgspec.structs.replace(in_picture(camera, WIDTH_PX, HEIGHT_PX), ground_points=())


def frames_of(folder: Path, name: str) -> tuple[DetectionFrame, ...]:
    """Return the frames of 10 a second, without the ids that the data gives away."""
    frames = []
    for seq, line in enumerate(lines(folder / f"{name}_10fps.json.gz")):
        at_us = _us(line["timestamp"])
        labels = tuple(sorted(line["objects"]))
        seen = [(labels.index(k), o["bounding_box_px"]) for k, objects in line["objects"].items() for o in objects]
        boxes = [[b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]] for _, b in seen]
        ratios = np.clip(np.array(boxes).reshape(-1, 4) / (WIDTH_PX, HEIGHT_PX, WIDTH_PX, HEIGHT_PX), 0, 1)
        frames.append(
            DetectionFrame(
                site="hall", camera=name, boot=at_us - at_us % 1_000_000, seq=seq, capture_us=at_us, clock="file",
                recv_us=at_us, sent_us=at_us, width_px=WIDTH_PX, height_px=HEIGHT_PX, labels=labels,
                boxes=ratios.astype("<f4").tobytes(), scores=np.full(len(seen), 0.9, "<f4").tobytes(),
                classes=bytes(k for k, _ in seen),
            )
        )  # fmt: skip
    first = frames[0].boot
    return tuple(msgspec.structs.replace(f, boot=first) for f in frames)


@functools.cache
def found(folder: Path, name: str, kind: str) -> tuple[tuple[Stay, ...], tuple[Passage, ...], int]:
    """Return visits, crossings and the number of people's tracks of the camera stage."""
    camera = camera_of(folder, name, kind)
    logic = open_stage(SiteSettings(version=1, site="hall", cameras=(camera,))).logic(name)
    frames = frames_of(folder, name)
    out: list[Output] = feed(logic, [to_input(f, i) for i, f in enumerate(frames)]) + logic.on_silence()
    start_us, events = frames[0].capture_us, events_of(out)
    stays = sorted(
        Stay(e.zone, (e.at_us - start_us) / 1e6 - e.dwell_s, (e.at_us - start_us) / 1e6)
        for e in events
        if e.kind == "exit"
    )
    passages = sorted(
        Passage(e.tripwire, e.direction, (e.at_us - start_us) / 1e6) for e in events if e.kind == "crossing"
    )
    people = sum(e.kind == "track_end" and e.label == "person" for e in events)
    return tuple(stays), tuple(passages), people


@functools.cache
def true_paths(folder: Path) -> dict[int, tuple[Any, Any]]:
    """Return times (s from the first frame) and places (N×2, m) of each person, 30 a second."""
    rows: dict[int, list[tuple[float, float, float]]] = {}
    with gzip.open(folder / "gt_ground.txt.gz", "rt") as f:
        for row in f:
            frame, who, x, y = row.split(",")
            rows.setdefault(int(who), []).append(((int(frame) - 1) * TRUTH_STEP_S, float(x), float(y)))
    return {who: (np.array(r)[:, 0], np.array(r)[:, 1:]) for who, r in rows.items()}


@functools.cache
def true(folder: Path, name: str) -> tuple[tuple[Stay, ...], tuple[Passage, ...]]:
    """Return visits and crossings of the true positions, straight between two of them."""
    stays, passages = [], []
    for times, places in true_paths(folder).values():
        path = list(zip(times.tolist(), map(tuple, places.tolist()), strict=True))
        for zone in SEEN[name]:
            edges = [path[0][0]] if is_inside(path[0][1], ZONES[zone]) else []
            for (t, p), (u, q) in pairwise(path):
                if is_inside(p, ZONES[zone]) != is_inside(q, ZONES[zone]):
                    edges.append(t + _edge_fraction(p, q, ZONES[zone]) * (u - t))
            edges += [path[-1][0]] if is_inside(path[-1][1], ZONES[zone]) else []
            stays += [Stay(zone, a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        for wire in SEEN[name]:
            a, b = WIRES[wire]
            for (t, p), (u, q) in pairwise(path):
                met_at = meeting_fraction(p, q, a, b)
                if met_at is not None and (side_of(a, b, p) > 0) != (side_of(a, b, q) > 0):
                    # On the floor y points up: what `side_of` calls right is left here.
                    passages.append(Passage(wire, "left" if side_of(a, b, q) > 0 else "right", t + met_at * (u - t)))
    return tuple(sorted(stays)), tuple(sorted(passages))


def _edge_fraction(p: tuple[float, float], q: tuple[float, float], polygon: Polygon) -> float:
    edges = zip(polygon, (*polygon[1:], polygon[0]), strict=True)
    return next(m for a, b in edges if (m := meeting_fraction(p, q, a, b)) is not None)


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    """Where the data lies."""
    path = shared_data / "two-cameras"
    if not path.is_dir():
        pytest.skip("needs ../shared/data/two-cameras, which is not part of the project")
    return path


KINDS = {
    ("Cam_x1_0", "given"): (0.45, 0.70, 0.15),
    ("Cam_x1_0", "walked"): (0.15, 0.20, 0.10),
    ("Cam_x1_0", "picture"): (0.45, 0.60, 0.20),
    ("Cam_x2_0", "given"): (0.95, 0.60, 0.60),
    ("Cam_x2_0", "walked"): (0.20, 0.25, 0.05),
    ("Cam_x2_0", "picture"): (0.95, 0.60, 0.60),
}
"""The greatest error of an enter or exit, of a dwell and of a crossing, in s: what was measured, and about a tenth more."""


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_visits_and_dwell_agree_with_the_true_positions(folder: Path, name: str, kind: str) -> None:
    edge_s, dwell_s, _ = KINDS[name, kind]
    stays, want = found(folder, name, kind)[0], true(folder, name)[0]
    assert [s.zone for s in stays] == [w.zone for w in want]
    edges = [e for s, w in zip(stays, want, strict=True) for e in (s.enter_s - w.enter_s, s.exit_s - w.exit_s)]
    dwells = [(s.exit_s - s.enter_s) - (w.exit_s - w.enter_s) for s, w in zip(stays, want, strict=True)]
    assert max(map(abs, edges)) < edge_s
    assert max(map(abs, dwells)) < dwell_s


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_crossings_agree_with_the_true_positions(folder: Path, name: str, kind: str) -> None:
    passages, want = found(folder, name, kind)[1], true(folder, name)[1]
    assert [p[:2] for p in passages] == [w[:2] for w in want]
    assert max(abs(p.at_s - w.at_s) for p, w in zip(passages, want, strict=True)) < KINDS[name, kind][2]


def test_who_is_never_hidden_keeps_one_track(folder: Path) -> None:
    assert found(folder, "Cam_x2_0", "given")[2] == 2
