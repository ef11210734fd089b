"""What the camera stage writes to InfluxDB: flows, sliding windows, and one shape for every measurement."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest

from operators.influx.line_protocol import line
from operators.stages import camera_figures as figures
from operators.stages.camera_stage import CameraLogic
from operators.stages.stage import Input, Output
from schemas.settings import Camera, HeatMap, SiteSettings, Sliding, Windows, Zone
from schemas.wire import Event
from tests.unit.operators.scenes import (
    CAMERA,
    START_US,
    alerts_of,
    events_of,
    feed,
    make_frame,
    noisy_scene,
    open_stage,
    points_of,
    store,
    stored,
    to_input,
)

DOCS = Path(__file__).resolve().parents[3] / "docs" / "influxdb.md"


def flows_of(outputs: list[Output]) -> dict[tuple[str, str, str, int], tuple[int, float, float, float]]:
    """Return (count, sum, mean, max of seconds) by (from, to, class, window)."""
    return {
        (tags["from"], tags["to"], tags["class"], int(at_ns) // 1000): (  # type: ignore[call-overload]
            f["count"], f["transit_sum_s"], f["transit_mean_s"], f["transit_max_s"],
        )
        for (name, key, at_ns), f in stored(points_of(outputs)).items()
        if name == "flow_window" for tags in [dict(key)]  # type: ignore[call-overload]
    }  # fmt: skip


def left_right(fps: float) -> tuple[list[Output], int]:
    """Somebody walks a → b → a, out of a for three seconds and back; b lies in c."""
    zones = (
        Zone(id="a", polygon=((0.0, 0.0), (0.3, 0.0), (0.3, 1.0), (0.0, 1.0))),
        Zone(id="b", polygon=((0.5, 0.0), (0.7, 0.0), (0.7, 1.0), (0.5, 1.0))),
        Zone(id="c", polygon=((0.45, 0.0), (1.0, 0.0), (1.0, 1.0), (0.45, 1.0))),
    )
    site = SiteSettings(version=1, site="s", cameras=(Camera(id=CAMERA, zones=zones),))
    frames, way = (
        [],
        [
            (0.0, 0.1),
            (2.0, 0.1),
            (8.0, 0.6),
            (12.0, 0.6),
            (18.0, 0.1),
            (20.0, 0.35),
            (23.0, 0.35),
            (25.0, 0.1),
            (29, 0.1),
        ],
    )
    for n in range(int(29 * fps)):
        t = n / fps
        (t0, x0), (t1, x1) = next((p, q) for p, q in itertools.pairwise(way) if t < q[0])
        x = x0 + (x1 - x0) * (t - t0) / (t1 - t0)
        frames.append(make_frame(n, START_US + round(t * 1e6), [(x - 0.05, 0.4, x + 0.05, 0.8)]))
    frames.append(make_frame(len(frames), frames[-1].capture_us + 60_000_000))
    return feed(open_stage(site).logic(CAMERA), [to_input(f, n) for n, f in enumerate(frames)]), len(frames)


def test_a_walk_between_zones_is_a_flow_at_any_frame_rate() -> None:
    """Entered in this order: a, c, b (while in c), a, a again."""
    for fps in (5.0, 12.5, 30.0):
        out, _ = left_right(fps)
        found = Counter({(a, b): int(n[0]) for (a, b, _, _), n in flows_of(out).items()})
        assert found == {("a", "c"): 1, ("c", "b"): 1, ("b", "a"): 1, ("a", "a"): 1}, fps
        seconds = {(a, b): n[1] for (a, b, _, _), n in flows_of(out).items()}
        # From x = 0.3 to 0.45 at 1/12 per second, and so on; a frame more or less at either end.
        truth = {("a", "c"): 1.8, ("c", "b"): 0.0, ("b", "a"): 2.4, ("a", "a"): 3.8}
        for pair, want in truth.items():
            assert seconds[pair] == pytest.approx(want, abs=2.2 / fps)


@pytest.mark.parametrize("seed", range(4))
def test_flows_are_those_of_the_visits_in_the_order_of_their_begins(seed: int) -> None:
    scene = noisy_scene(seed, duration_s=40.0)
    out = feed(scene.fresh(), scene.records)
    window_us = round(scene.scene.settings.windows.length_s * 1e6)
    visits: dict[str, list[tuple[Event, Event]]] = defaultdict(list)
    enters = [e for e in events_of(out) if e.kind == "enter"]
    exits = {(e.subject, e.zone, e.at_us - round(e.dwell_s * 1e6)): e for e in events_of(out) if e.kind == "exit"}
    for e in enters:
        visits[e.subject].append((e, exits[e.subject, e.zone, e.at_us]))
    count: Counter[tuple[str, str, str, int]] = Counter()
    seconds: Counter[tuple[str, str, str, int]] = Counter()
    for mine in visits.values():
        for (_, left), (entered, _) in itertools.pairwise(mine):
            key = (left.zone, entered.zone, entered.label, entered.at_us // window_us * window_us)
            count[key] += 1
            seconds[key] += max(0, entered.at_us - left.at_us) * 1e-6  # type: ignore[assignment]
    found = flows_of(out)
    assert {k: v[0] for k, v in found.items()} == dict(count)
    for key, (n, total, mean, most) in found.items():
        # Who comes back within the gap has been away for a moment all the same.
        assert seconds[key] - 1e-5 <= total <= seconds[key] + 2.0 * n
        assert mean == pytest.approx(total / n, abs=1e-5) and most <= total + 1e-6


def test_some_scene_has_flows() -> None:
    assert any(flows_of(feed(s.fresh(), s.records)) for s in (noisy_scene(seed, duration_s=40.0) for seed in range(4)))


def shapes(outputs: list[Output]) -> dict[str, tuple[frozenset[str], frozenset[tuple[str, type]]]]:
    """Return tags and fields with their types by measurement; fail where two points of one differ."""
    found: dict[str, tuple[frozenset[str], frozenset[tuple[str, type]]]] = {}
    for p in points_of(outputs):
        shape = frozenset(p.tags), frozenset((n, type(v)) for n, v in p.fields.items())
        assert found.setdefault(p.measurement, shape) == shape, p
    return found


@pytest.fixture(scope="module")
def walked() -> list[Output]:
    """Outputs of several scenes with every kind of figure, a loss of the source and late frames among them."""
    out: list[Output] = []
    for seed in range(5):
        scene = noisy_scene(seed, duration_s=40.0)
        half = len(scene.records) // 2
        logic, late = scene.fresh(), scene.records[half // 2]
        out += feed(logic, [r for r in scene.records[:half] if r != late])
        out += logic.on_silence()
        out += feed(logic, scene.records[half:])
        out += feed(logic, [late])
    return out + left_right(10.0)[0]


def test_every_point_of_a_measurement_has_the_same_tags_and_fields_of_the_same_types(walked: list[Output]) -> None:
    assert set(shapes(walked)) == {
        "camera_window", "zone_window", "tripwire_window", "object_window", "flow_window", "heat_map", "zone_sliding",
        "tripwire_sliding", "object_sliding", "visit", "alert", "counter",
    }  # fmt: skip


def test_every_point_can_be_written(walked: list[Output]) -> None:
    """No number is missing, even of an alert that the loss of its source has closed."""
    assert all(line(p) for p in points_of(walked))
    lost = [a for a in alerts_of(walked) if a.transition == "close" and a.cause == "source_lost"]
    assert any(a.rule_type == "crowding" and a.value >= 1 for a in lost), lost


def test_the_documentation_names_every_measurement_tag_and_field(walked: list[Output]) -> None:
    rows = re.findall(r"^\| `(\w+)`[^|]*\|([^|]*)\|[^|]*\|([^|]*)\|", DOCS.read_text(encoding="utf-8"), re.M)
    documented = {name: (set(re.findall(r"\w+", tags)), fields) for name, tags, fields in rows}
    for name, (tags, fields) in shapes(walked).items():
        assert documented[name][0] == set(tags), name
        same = re.search(r"as `(\w+)`", documented[name][1])
        text = documented[same[1] if same else name][1]
        also = {"revision", "complete"} if name not in ("visit", "alert") else set()
        for field, _ in fields:
            assert field in also or re.search(rf"\b{field}\b", text), (name, field)
    assert set(documented) == set(shapes(walked))


def test_series_have_no_ids_in_their_tags_and_stay_within_the_bound(walked: list[Output]) -> None:
    for p in points_of(walked):
        assert all("/" not in value for value in p.tags.values()), p


def test_sliding_windows_hold_what_their_tumbling_ones_hold() -> None:
    scene = noisy_scene(2, duration_s=60.0)
    points = stored(points_of(feed(scene.fresh(), scene.records)))
    checked = 0
    for (name, key, at_ns), f in points.items():
        tags = dict(key)  # type: ignore[call-overload]
        if name != "zone_sliding" or not f["complete"]:
            continue
        length_ns = int(tags.pop("window").removesuffix("s")) * 1_000_000_000
        inside = [
            g
            for (other, its, at), g in points.items()
            if (other, its) == ("zone_window", tuple(sorted(tags.items()))) and at_ns <= at < at_ns + length_ns  # type: ignore[operator]
        ]
        for field in ("enter_count", "exit_count", "visit_count", "born_inside_count"):
            assert f[field] == sum(int(g[field]) for g in inside)
        assert f["dwell_sum_s"] == pytest.approx(sum(float(g["dwell_sum_s"]) for g in inside), abs=1e-4)
        assert f["dwell_max_s"] == max(g["dwell_max_s"] for g in inside)  # type: ignore[type-var]
        assert f["occupancy_max"] == max(g["occupancy_max"] for g in inside)  # type: ignore[type-var]
        checked += 1
    assert checked > 5


def test_after_other_settings_what_is_kept_goes_on_and_no_cell_of_another_grid_is_counted() -> None:
    zones = (Zone(id="z", polygon=((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))),)

    def site(rows: int) -> SiteSettings:
        camera = Camera(id=CAMERA, zones=zones, heat_map=HeatMap(columns=4, rows=rows))
        return SiteSettings(
            version=1, site="s", windows=Windows(sliding=(Sliding(length_s=30.0, step_s=10.0),)), cameras=(camera,)
        )

    def standing(first: int, count: int) -> list[Input]:
        box = (0.45, 0.3, 0.55, 0.6)
        return [to_input(make_frame(n, START_US + n * 100_000, [box]), n) for n in range(first, first + count)]

    old = open_stage(site(3)).logic(CAMERA)
    assert isinstance(old, CameraLogic)
    feed(old, standing(0, 350))
    out: list[Output] = []
    new = site(30)
    old.take_settings(new, new.cameras[0], "new", out)
    before = [p for p in points_of(out) if p.measurement == "heat_map"]
    assert before and all(p.fields["row"] == 1 and p.fields["complete"] is False for p in before)
    out = feed(old, standing(350, 300))
    heat = stored([p for p in points_of(out) if p.measurement == "heat_map"])
    assert {f["row"] for f in heat.values()} == {18}
    whole = [f for (name, _, _), f in stored(points_of(out)).items() if name == "zone_sliding"]
    assert whole and all(f["complete"] is True for f in whole)
    assert {f["occupancy_min"] for f in whole} == {1}


def test_a_change_that_is_refused_is_counted_in_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.windows.windows.MAX_SERIES", 2)
    out, _ = left_right(10.0)
    found = [p.fields["refused_change_count"] for p in points_of(out) if p.measurement == "camera_window"]
    assert sum(int(n) for n in found) > 0


def test_refusals_of_alerts_are_counted_once_over_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.alerts.alerts.MAX_ACTIVE", 0)
    scene = noisy_scene(1, duration_s=40.0)
    logic, out = scene.fresh(), []
    for n, record in enumerate(scene.records):
        out += logic.on_record(record)
        if n % 50 == 0:
            logic = scene.restored(store(logic))
    assert isinstance(logic, CameraLogic)
    counted = [f["refused_alert_count"] for (name, _, _), f in stored(points_of(out)).items() if name == "camera_window"]
    assert 0 < sum(int(n) for n in counted) == logic._counted[figures.REFUSED_ALERTS] == logic._alerts.refused


def test_names_of_flows_can_be_taken_apart() -> None:
    assert figures.flow_place("a.b-c_d", "e") == "a.b-c_d e"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"id": "a b", "polygon": [[0, 0], [1, 0], [1, 1]]}, Zone)
