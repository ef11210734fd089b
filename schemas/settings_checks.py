"""What types cannot say of settings: names that must exist or differ, shapes and hours that must make sense."""

from __future__ import annotations

import math
from collections.abc import Container
from datetime import date
from zoneinfo import ZoneInfo

from schemas.fields import XY, SettingsError
from schemas.homography import MIN_POINTS, BadPoints, image_to_ground
from schemas.rules import (
    ON_GROUND,
    AnyRule,
    PlaceRule,
    RestrictedClass,
    WireRule,
    WrongWay,
    ZoneRule,
)
from schemas.settings import Camera, HeatMap, Pose, Schedule, SiteSettings, Windows

MAX_STEPS = 288  # of a sliding window: a day of five minutes
MAX_POSE_NUMBER = 1e9
ROTATION_TOLERANCE = 1e-2  # poses are printed with five decimals or fewer
MIN_HEIGHT_MM = 10.0
MAX_GROUND_M = 100_000.0


def check_settings(settings: SiteSettings, source: str = "settings", known: Container[Camera] = frozenset()) -> None:
    """Check what types cannot say: names that must exist or differ, shapes that must make sense.

    Cameras in `known` have been checked before. Raises SettingsError.
    """
    try:
        ZoneInfo(settings.timezone)
    except (KeyError, ValueError, OSError):
        raise SettingsError(source, "timezone", f"unknown IANA time zone {settings.timezone!r}") from None
    _check_windows(source, settings.windows)
    _check_distinct(source, "schedules", [x.id for x in settings.schedules])
    for i, schedule in enumerate(settings.schedules):
        _check_schedule(source, f"schedules[{i}]", schedule)
    schedules = {x.id for x in settings.schedules}
    _check_distinct(source, "cameras", [c.id for c in settings.cameras])
    for i, camera in enumerate(settings.cameras):
        for j, rule in enumerate(camera.rules):
            if rule.schedule:
                _check_named(source, f"cameras[{i}].rules[{j}].schedule", "schedule", rule.schedule, schedules, "site")
        if camera not in known:
            _check_camera(source, f"cameras[{i}]", camera)


def _check_windows(source: str, windows: Windows) -> None:
    for i, sliding in enumerate(windows.sliding):
        for name, whole, part in (
            ("step_s", sliding.step_s, windows.length_s),
            ("length_s", sliding.length_s, sliding.step_s),
        ):
            if round(whole * 1e6) % round(part * 1e6):
                problem = f"expected a whole multiple of {part:g} s, got {whole:g} s"
                raise SettingsError(source, f"windows.sliding[{i}].{name}", problem)
        if sliding.length_s > MAX_STEPS * sliding.step_s:
            problem = f"expected at most {MAX_STEPS} steps of {sliding.step_s:g} s, got {sliding.length_s:g} s"
            raise SettingsError(source, f"windows.sliding[{i}].length_s", problem)
        if sliding.length_s in [before.length_s for before in windows.sliding[:i]]:
            raise SettingsError(source, f"windows.sliding[{i}].length_s", f"{sliding.length_s:g} s is there already")


def _check_schedule(source: str, path: str, schedule: Schedule) -> None:
    for i, period in enumerate(schedule.periods):
        if period.start == "24:00":
            raise SettingsError(source, f"{path}.periods[{i}].start", "expected 00:00 to 23:59, got 24:00")
        if period.start == period.end:
            raise SettingsError(
                source, f"{path}.periods[{i}].end", f"the period ends when it begins, at {period.start}"
            )
        if len(set(period.days)) < len(period.days):
            raise SettingsError(source, f"{path}.periods[{i}].days", "a day is named twice")
    for i, day in enumerate(schedule.except_dates):
        try:
            date.fromisoformat(day)
        except ValueError:
            raise SettingsError(source, f"{path}.except_dates[{i}]", f"there is no day {day}") from None


def _check_camera(source: str, path: str, camera: Camera) -> None:
    for name in ("zones", "tripwires", "counters", "rules"):
        _check_distinct(source, f"{path}.{name}", [x.id for x in getattr(camera, name)])
    if camera.pose:
        _check_pose(source, f"{path}.pose", camera.pose)
    _check_ground_points(source, path, camera)
    sent = camera.detector.classes
    for i, zone in enumerate(camera.zones):
        at = f"{path}.zones[{i}]"
        _check_plane(source, at, zone.plane, camera)
        _check_polygon(source, f"{at}.polygon", zone.polygon, zone.plane)
        _check_classes(source, f"{at}.classes", zone.classes, sent)
    for i, wire in enumerate(camera.tripwires):
        at = f"{path}.tripwires[{i}]"
        _check_plane(source, at, wire.plane, camera)
        _check_points(source, f"{at}.points", wire.points, wire.plane)
        _check_classes(source, f"{at}.classes", wire.classes, sent)
    wires = {w.id for w in camera.tripwires}
    for i, counter in enumerate(camera.counters):
        at = f"{path}.counters[{i}]"
        for j, entrance in enumerate(counter.wires):
            _check_named(source, f"{at}.wires[{j}].tripwire", "tripwire", entrance.tripwire, wires, "camera")
        if len({w.tripwire for w in counter.wires}) < len(counter.wires):
            raise SettingsError(source, f"{at}.wires", "a tripwire is named twice")
        _check_classes(source, f"{at}.classes", counter.classes, sent)
        if "24:00" in counter.reset:
            raise SettingsError(source, f"{at}.reset", "expected 00:00 to 23:59, got 24:00")
        if len(set(counter.reset)) < len(counter.reset):
            raise SettingsError(source, f"{at}.reset", "a time is named twice")
    if camera.heat_map:
        _check_heat_map(source, f"{path}.heat_map", camera.heat_map, camera)
    for i, rule in enumerate(camera.rules):
        _check_rule(source, f"{path}.rules[{i}]", rule, camera)


def _check_rule(source: str, path: str, rule: AnyRule, camera: Camera) -> None:
    zones, wires, sent = {z.id for z in camera.zones}, {w.id for w in camera.tripwires}, camera.detector.classes
    if isinstance(rule, ZoneRule) or (isinstance(rule, PlaceRule) and rule.zone):
        _check_named(source, f"{path}.zone", "zone", rule.zone, zones, "camera")
    if isinstance(rule, WireRule):
        _check_named(source, f"{path}.tripwire", "tripwire", rule.tripwire, wires, "camera")
    for name in ("classes", "owner_classes", "other_classes"):
        _check_classes(source, f"{path}.{name}", getattr(rule, name, ()), sent)
    if isinstance(rule, RestrictedClass) and not rule.classes:
        raise SettingsError(source, f"{path}.classes", "expected the classes that must not be here, got none")
    if isinstance(rule, ON_GROUND) and not camera.has_ground:
        raise SettingsError(source, f"{path}.type", "needs metres: give the camera a pose or ground_points")
    if isinstance(rule, WrongWay):
        _check_plane(source, path, rule.plane, camera)
        _check_points(source, f"{path}.allowed", rule.allowed, rule.plane)
    after = [e.after_s for e in rule.escalate]
    if sorted(set(after)) != after:
        raise SettingsError(source, f"{path}.escalate", f"expected rising after_s, got {after}")
    _check_off_hours(source, path, rule)


def _check_off_hours(source: str, path: str, rule: AnyRule) -> None:
    if rule.off_hours is None:
        return
    if not rule.schedule:
        raise SettingsError(source, f"{path}.off_hours", "there is no schedule to be outside of: name one")
    known = [name for name in rule.off_hours.__struct_fields__ if hasattr(rule, name)]
    given = [name for name in rule.off_hours.__struct_fields__ if getattr(rule.off_hours, name) is not None]
    for name in given:
        if name not in known:
            raise SettingsError(source, f"{path}.off_hours.{name}", f"this type of rule has no {name} (has: {known})")
    if not given:
        raise SettingsError(
            source, f"{path}.off_hours", f"expected at least one of {known}; leave it out to disarm the rule"
        )


def _check_ground_points(source: str, path: str, camera: Camera) -> None:
    points = camera.ground_points
    if not points:
        return
    if camera.pose:
        raise SettingsError(source, f"{path}.ground_points", "there is a pose already: give one of the two")
    if len(points) < MIN_POINTS:
        raise SettingsError(source, f"{path}.ground_points", f"expected at least four points, got {len(points)}")
    for i, p in enumerate(points):
        _check_point(source, f"{path}.ground_points[{i}].image", p.image, "image")
        _check_point(source, f"{path}.ground_points[{i}].ground_m", p.ground_m, "ground")
    try:
        image_to_ground(points)
    except BadPoints as e:
        place = f"{path}.ground_points[{e.index}]" if e.index >= 0 else f"{path}.ground_points"
        raise SettingsError(source, place, str(e)) from None


def _check_heat_map(source: str, path: str, heat_map: HeatMap, camera: Camera) -> None:
    _check_plane(source, path, heat_map.plane, camera)
    _check_classes(source, f"{path}.classes", heat_map.classes, camera.detector.classes)
    if heat_map.plane == "ground":
        _check_point(source, f"{path}.from_m", heat_map.from_m, "ground")
        _check_point(source, f"{path}.to_m", heat_map.to_m, "ground")
        if heat_map.from_m[0] >= heat_map.to_m[0] or heat_map.from_m[1] >= heat_map.to_m[1]:
            problem = f"expected from_m below to_m on both axes, got {list(heat_map.from_m)} and {list(heat_map.to_m)}"
            raise SettingsError(source, f"{path}.to_m", problem)


def _check_plane(source: str, path: str, plane: str, camera: Camera) -> None:
    if plane == "ground" and not camera.has_ground:
        raise SettingsError(source, f"{path}.plane", "the ground is not known: give the camera a pose or ground_points")


def _check_named(source: str, path: str, kind: str, name: str, known: set[str], owner: str) -> None:
    if name not in known:
        raise SettingsError(source, path, f"no {kind} {name!r} in this {owner} (has: {sorted(known)})")


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


def _check_points(source: str, path: str, points: tuple[XY, ...], plane: str = "image") -> None:
    for i, point in enumerate(points):
        _check_point(source, f"{path}[{i}]", point, plane)
        if i and points[i - 1] == point:
            raise SettingsError(source, f"{path}[{i}]", "the same point twice in a row")


def _check_point(source: str, path: str, point: XY, plane: str) -> None:
    low, high = (0, 1) if plane == "image" else (-MAX_GROUND_M, MAX_GROUND_M)
    expected = "ratios of the frame from 0 to 1" if plane == "image" else f"metres up to {MAX_GROUND_M:g}"
    if not all(math.isfinite(c) and low <= c <= high for c in point):
        raise SettingsError(source, path, f"expected {expected}, got {list(point)}")


def _check_polygon(source: str, path: str, polygon: tuple[XY, ...], plane: str = "image") -> None:
    _check_points(source, path, polygon, plane)
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
