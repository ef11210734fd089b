"""One step of all motions of a camera over the packed table MOTION[slot].

- Speed is the length of the velocity in the tracker's ground filter; its deviation follows from the filter's covariance along
  the way that is walked (first-order propagation; Bar-Shalom et al., Estimation with Applications, 2001, 1.4).
- An object stands still while it stays within a radius of its own mean place. When it leaves, its surroundings begin anew; the
  distance walked is the sum of the ways from one such beginning to the next, so that what a box jitters is not walked.
- The path is simplified while it grows, to a piecewise linear course in space and time (in the manner of the swing filter:
  Elmeleegy et al., VLDB 2009). A stretch is open as long as some velocity passes every observation, at its own time, within the
  tolerance; such velocities are kept as one disc. The first observation that no such velocity passes becomes the next vertex, and
  how far off it was is noted as the stretch's error. There is room for a fixed number of vertices: when there are more, the one
  goes whose removal costs the least.

Nothing but + − × ÷ √ min max, whose results are the same bits everywhere.
"""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np

from operators.compiled import kernel

MAX_VERTICES = 6
MOTION = np.dtype(
    [
        ("still_us", "<i8"),  # event time since when the object has stayed where it is; 0: not seen yet
        ("still_x", "<f4"),  # mean place since then: m, or frame heights where `still_on_ground` is not set
        ("still_y", "<f4"),
        ("walked_m", "<f4"),  # up to where `begin` says; with the ground only
        ("fastest_mps", "<f4"),  # mean speed of the fastest closed stretch of at least STRETCH_S
        ("stopped_ms", "<u4"),  # sum of past stops of at least STOP_S
        ("last_ms", "<u4"),  # of the last observation, since born_us: there the open stretch of the path ends
        ("u", "<f4"),  # velocity of the open stretch: centre …
        ("v", "<f4"),
        ("leeway", "<f4"),  # … and radius of the velocities that are possible; −1 before its first observation
        ("begin", "<u2", (2,)),  # where the present surroundings begin, as vertices are
        ("first_x", "<f4"),  # where the path begins: m, or frame heights
        ("first_y", "<f4"),
        ("errors", "u1", (MAX_VERTICES,)),  # of the stretch before each vertex, and first of the open one: `coded_error`
        ("vertex_count", "u1"),
        ("still_on_ground", "u1"),
        ("vertices", "<u2", (4 * MAX_VERTICES,)),  # each: x, y in steps from the first one, + ZERO; ms since born_us, low and high
        # What follows is worked out anew in each frame (`derive`).
        ("speed_mps", "<f4"),  # NaN: not known, as are the next five
        ("speed_sd_mps", "<f4"),
        ("heading_x", "<f4"),  # unit vector; NaN also where the velocity is not sure
        ("heading_y", "<f4"),
        ("x_m", "<f4"),
        ("y_m", "<f4"),
        ("distance_m", "<f4"),  # walked so far; NaN where the camera's ground is not known
    ],
    align=True,
)  # fmt: skip
KEPT_BYTES = MOTION.fields["speed_mps"][1]  # type: ignore[index]
"""What a snapshot must hold of a row; of its vertices only those in use."""

STILL_M, STILL_RATIO = range(2)
"""Of the parameters (float64): radius on the ground, and in heights of the box where the ground is not known."""
SURE = 2.0  # deviations by which a velocity must exceed 0 to have a heading: some 30° of error
STOP_S = 3.0  # shorter stays are no stops
STRETCH_S = 1.0  # shorter stretches tell no speed
TOLERANCE = 0.5  # of the path: radii of standing still
NOISE_SDS = 4.0  # neither radius nor tolerance is less than so many deviations of the place
VAGUE_M = 5.0  # a place that is not known better than this is left out of the path
STEP_M, STEP_RATIO = 0.02, 1.0 / 4096.0  # of vertices: m, frame heights
LEAST_STEPS = 8.0  # the tolerance is never less than so many steps
ZERO = 32768
ERRORS = np.array(list(accumulate([1.1] * 255, mul, initial=1.0)))  # what each code of an error stands for, in steps
LATEST_MS = 0xFFFFFFFF  # what lies later in a track's life than 49 days is dated there

_FREE, _ENDED = 0, 3  # operators.tracking.table; capabilities do not import each other


@kernel
def coded_error(error: Any, step: Any, code: Any) -> int:
    """Return the lowest code (0 to 255) from `code` on that stands for at least this error."""
    code = np.int64(code)
    while ERRORS[code] * step < error and code < 255:
        code += 1
    return code  # type: ignore[no-any-return]


@kernel
def decoded_error(code: int, step: Any) -> Any:
    """Return the error that a code stands for."""
    return ERRORS[code] * step


@kernel
def vertex(m: Any, i: int, step: Any) -> Any:
    """Return the i-th vertex: x, y, ms since born_us."""
    w, at = m.vertices, 4 * i
    x = np.float64(m.first_x) + (np.float64(w[at]) - ZERO) * step
    y = np.float64(m.first_y) + (np.float64(w[at + 1]) - ZERO) * step
    return x, y, np.int64(w[at + 2]) + np.int64(w[at + 3]) * 65536


@kernel
def open_end(m: Any, step: Any) -> Any:
    """Return where the open stretch ends, at the last observation: x, y, ms since born_us."""
    x, y, ms = vertex(m, m.vertex_count - 1, step)
    dt = (np.int64(m.last_ms) - ms) * 1e-3
    return x + np.float64(m.u) * dt, y + np.float64(m.v) * dt, np.int64(m.last_ms)


@kernel
def _steps(x: Any, first: Any, step: Any) -> int:
    """Return a place in steps, as near as it goes."""
    return int(min(max(np.floor((x - first) / step + 0.5) + ZERO, 0.0), 65535.0))


@kernel
def _put_vertex(m: Any, i: int, x: Any, y: Any, ms: int, step: Any) -> None:
    w, at = m.vertices, 4 * i
    w[at], w[at + 1] = _steps(x, np.float64(m.first_x), step), _steps(y, np.float64(m.first_y), step)
    w[at + 2], w[at + 3] = ms % 65536, ms // 65536


@kernel
def way(m: Any, x: Any, y: Any) -> float:
    """Return how far a place lies from where the present surroundings begin, in m."""
    dx = x - np.float64(m.first_x) - (np.float64(m.begin[0]) - ZERO) * STEP_M
    dy = y - np.float64(m.first_y) - (np.float64(m.begin[1]) - ZERO) * STEP_M
    return float(np.sqrt(dx * dx + dy * dy))


@kernel
def _walk(m: Any, x: Any, y: Any) -> None:
    """Let new surroundings begin."""
    walked = np.float64(m.walked_m)
    begin_x, begin_y = _steps(x, np.float64(m.first_x), STEP_M), _steps(y, np.float64(m.first_y), STEP_M)
    to_x = np.float64(m.first_x) + (begin_x - ZERO) * STEP_M
    to_y = np.float64(m.first_y) + (begin_y - ZERO) * STEP_M
    m.walked_m = walked + way(m, to_x, to_y)
    m.begin[0], m.begin[1] = begin_x, begin_y


@kernel
def _detour(m: Any, i: int, step: Any) -> float:
    """Return how far vertex i lies from the straight course between its neighbours, at its own time."""
    ax, ay, a_ms = vertex(m, i - 1, step)
    bx, by, b_ms = vertex(m, i, step)
    cx, cy, c_ms = vertex(m, i + 1, step)
    share = (b_ms - a_ms) / max(c_ms - a_ms, 1)
    dx, dy = ax + share * (cx - ax) - bx, ay + share * (cy - ay) - by
    return float(np.sqrt(dx * dx + dy * dy))


@kernel
def _make_room(m: Any, step: Any) -> None:
    """Remove the vertex whose removal leaves the smallest error."""
    best, least = 1, np.inf
    for i in range(1, m.vertex_count - 1):
        error = _detour(m, i, step) + decoded_error(max(m.errors[i], m.errors[i + 1]), step)
        if error < least:
            best, least = i, error
    for i in range(best, m.vertex_count - 1):
        for c in range(4):
            m.vertices[4 * i + c] = m.vertices[4 * i + 4 + c]
        m.errors[i] = m.errors[i + 1]
    m.errors[best] = coded_error(least, step, 0)
    m.vertex_count -= 1


@kernel
def _close(m: Any, x: Any, y: Any, ms: int, step: Any, on_ground: bool) -> None:
    """Let the open stretch end in an observation that it cannot hold, and the next one begin there."""
    ax, ay, a_ms = vertex(m, m.vertex_count - 1, step)
    dt = (ms - a_ms) * 1e-3
    if m.vertex_count == MAX_VERTICES:
        _make_room(m, step)
    i = m.vertex_count
    _put_vertex(m, i, x, y, ms, step)
    bx, by, _ = vertex(m, i, step)
    slip_x, slip_y = (
        bx - ax - np.float64(m.u) * dt,
        by - ay - np.float64(m.v) * dt,
    )  # from a course that held all others
    error = decoded_error(m.errors[0], step) + np.sqrt(slip_x * slip_x + slip_y * slip_y)
    m.errors[i] = coded_error(error, step, 0)
    m.vertex_count, m.u, m.v, m.leeway, m.errors[0] = i + 1, 0.0, 0.0, -1.0, 0
    if on_ground and ms - a_ms >= STRETCH_S * 1e3:
        stretch = np.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))
        m.fastest_mps = max(np.float64(m.fastest_mps), stretch / ((ms - a_ms) * 1e-3))


@kernel
def _narrow(m: Any, u: Any, v: Any, r: Any) -> bool:
    """Keep the velocities that also lie in another disc: the largest disc inside both; False: there are none."""
    if m.leeway < 0.0:
        m.u, m.v, m.leeway = u, v, r
        return True
    mu, mv, leeway = np.float64(m.u), np.float64(m.v), np.float64(m.leeway)
    du, dv = u - mu, v - mv
    d = np.sqrt(du * du + dv * dv)
    if d + leeway <= r:
        return True
    if d + r <= leeway:
        m.u, m.v, m.leeway = u, v, r
        return True
    if leeway + r <= d:
        return False
    share = (d + leeway - r) / (2.0 * d)
    m.u, m.v, m.leeway = mu + share * du, mv + share * dv, (leeway + r - d) / 2.0
    return True


@kernel
def extend(m: Any, x: Any, y: Any, ms: int, tolerance: Any, on_ground: bool) -> None:
    """Take one observed place into the path. `ms` since born_us, to be noted as `last_ms`; `tolerance` in m or frame heights."""
    step = STEP_M if on_ground else STEP_RATIO
    tolerance = max(tolerance, LEAST_STEPS * step)
    if m.vertex_count == 0:
        m.first_x, m.first_y = x, y
        _put_vertex(m, 0, np.float64(m.first_x), np.float64(m.first_y), ms, step)
        m.vertex_count, m.leeway = 1, -1.0
        m.begin[:] = ZERO
        return
    if ms <= np.int64(m.last_ms):
        return
    m.errors[0] = coded_error(tolerance, step, m.errors[0])
    ax, ay, a_ms = vertex(m, m.vertex_count - 1, step)
    dt = (ms - a_ms) * 1e-3
    if not _narrow(m, (x - ax) / dt, (y - ay) / dt, tolerance / dt):
        _close(m, x, y, ms, step, on_ground)


@kernel
def _stay(m: Any, x: Any, y: Any, radius: Any, on_ground: int, now_us: int, seen_us: int) -> bool:
    """Move the mean place on, or begin anew where the object has left its surroundings; return whether it has."""
    dx, dy = x - np.float64(m.still_x), y - np.float64(m.still_y)
    if m.still_us != 0 and m.still_on_ground == on_ground and dx * dx + dy * dy <= radius * radius:
        step_us = np.float64(now_us - seen_us)
        share = step_us / (np.float64(now_us - m.still_us) + step_us) if step_us > 0.0 else 0.0
        m.still_x, m.still_y = np.float64(m.still_x) + share * dx, np.float64(m.still_y) + share * dy
        return False
    if m.still_us != 0 and seen_us - m.still_us >= STOP_S * 1e6:
        m.stopped_ms = min(np.int64(m.stopped_ms) + (seen_us - m.still_us) // 1000, LATEST_MS)
    m.still_us, m.still_x, m.still_y, m.still_on_ground = now_us, x, y, on_ground
    return True


@kernel
def distance(m: Any) -> float:
    """Return how far an object has walked up to its last observation, in m."""
    if m.vertex_count == 0:
        return 0.0
    x, y, _ = open_end(m, STEP_M)
    return float(np.float64(m.walked_m) + way(m, x, y))


@kernel
def course(motions: Any, slot: int, on_ground: bool, out: Any) -> tuple[int, float]:
    """Write an object's path up to its last observation, and return how many places it has, and how far it goes in m.

    Args:
        out: float64, at least (MAX_VERTICES + 1) × 4, changed in place: of each place x, y, ms since born_us, and the error of the
            stretch that ends there (the first one's means nothing).
    """
    m = motions[slot]
    step = STEP_M if on_ground else STEP_RATIO
    count: Any = np.int64(m.vertex_count)
    for i in range(count):
        out[i, 0], out[i, 1], out[i, 2] = vertex(m, i, step)
        out[i, 3] = decoded_error(m.errors[i], step)
    if count > 0 and np.int64(m.last_ms) > out[count - 1, 2]:
        out[count, 0], out[count, 1], out[count, 2] = open_end(m, step)
        out[count, 3] = decoded_error(m.errors[0], step)
        count += 1
    return count, distance(m) if on_ground else 0.0


@kernel
def derive(t: Any, m: Any, on_ground: bool) -> None:
    """Set what follows from the tracker's state."""
    m.distance_m = np.nan
    if on_ground:
        m.distance_m = distance(m)
    if not t.has_ground:
        m.x_m, m.y_m, m.speed_mps, m.speed_sd_mps, m.heading_x, m.heading_y = (
            np.nan,
            np.nan,
            np.nan,
            np.nan,
            np.nan,
            np.nan,
        )
        return
    g = t.ground
    m.x_m, m.y_m = g[0], g[1]
    vx, vy = np.float64(g[2]), np.float64(g[3])
    xx, xy, yy = np.float64(g[11]), np.float64(g[12]), np.float64(g[13])
    speed2 = vx * vx + vy * vy
    speed = np.sqrt(speed2)
    variance = (xx + yy) / 2.0
    if speed > 0.0:
        variance = (vx * vx * xx + 2.0 * vx * vy * xy + vy * vy * yy) / speed2
    sd: Any = np.sqrt(np.maximum(variance, 0.0))
    m.speed_mps, m.speed_sd_mps = speed, sd
    m.heading_x, m.heading_y = np.nan, np.nan
    if speed > SURE * sd and speed2 > SURE * SURE * (xx + yy - variance):
        m.heading_x, m.heading_y = vx / speed, vy / speed


@kernel
def derive_all(tracks: Any, slots: int, motions: Any, on_ground: bool) -> None:
    """Set again what a snapshot does not hold."""
    for i in range(slots):
        if tracks[i].status != _FREE:
            derive(tracks[i], motions[i], on_ground)


@kernel
def publish(
    tracks: Any,
    slots: int,
    motions: Any,
    born_us: Any,
    ordinals: Any,
    count: int,
    ground: Any,
    velocities: Any,
    sds: Any,
) -> None:
    """Fill in what is known of the ground for the published tracks (as `schemas.wire.TrackFrame`); NaN where it is not.

    Args:
        born_us, ordinals, count: which tracks are published, by rising slot.
        ground, velocities, sds: float32 N×2 (m), N×2 (m/s), N (m/s).
    """
    n = 0
    for i in range(slots):
        t = tracks[i]
        if n == count or t.status == _FREE or t.ordinal != ordinals[n] or t.born_us != born_us[n]:
            continue
        ground[n, 0], ground[n, 1], sds[n] = motions[i].x_m, motions[i].y_m, motions[i].speed_sd_mps
        velocities[n, 0], velocities[n, 1] = np.nan, np.nan
        if t.has_ground:
            velocities[n, 0], velocities[n, 1] = t.ground[2], t.ground[3]
        n += 1


@kernel
def _forget(m: Any) -> None:
    """Begin anew, whatever the slot's last owner left."""
    m.still_us, m.still_x, m.still_y, m.still_on_ground = 0, 0.0, 0.0, 0
    m.walked_m, m.fastest_mps, m.stopped_ms, m.last_ms = 0.0, 0.0, 0, 0
    m.u, m.v, m.leeway, m.first_x, m.first_y = 0.0, 0.0, -1.0, 0.0, 0.0
    m.vertex_count = 0
    m.begin[:] = 0
    m.errors[:] = 0
    m.vertices[:] = 0


@kernel
def step(tracks: Any, slots: int, motions: Any, parameters: Any, on_ground: bool, now_us: int) -> None:
    """Advance every motion by one frame.

    Args:
        tracks, slots: the track table after its step; the first `slots` rows are live.
        motions: MOTION[capacity], changed in place. The row of a track that has ended stays as it was.
        parameters: float64, by STILL_M, STILL_RATIO.
        on_ground: whether the camera's ground is known; a path then runs on the ground, else in the image.
    """
    for i in range(slots):
        t, m = tracks[i], motions[i]
        if t.status == _FREE or t.status == _ENDED:
            continue
        if t.born_us == now_us:
            _forget(m)
        if t.seen:
            height = np.float64(t.kalman[15])
            x, y = np.float64(t.kalman[0]), np.float64(t.kalman[5]) + height / 2.0
            radius, tolerance = parameters[STILL_RATIO] * height, parameters[STILL_RATIO] * height * TOLERANCE
            is_path: Any = not on_ground
            if t.has_ground:
                x, y = np.float64(t.ground[0]), np.float64(t.ground[1])
                variance = np.float64(t.ground[4]) + np.float64(t.ground[8])
                least = NOISE_SDS * np.sqrt(variance)
                radius, tolerance = max(parameters[STILL_M], least), max(parameters[STILL_M] * TOLERANCE, least)
                is_path = variance <= VAGUE_M * VAGUE_M
            has_left = _stay(m, x, y, radius, t.has_ground, now_us, t.born_us + np.int64(m.last_ms) * 1000)
            ms = min((now_us - t.born_us) // 1000, LATEST_MS)
            if is_path:
                extend(m, x, y, ms, tolerance, on_ground)
                if has_left and on_ground:
                    _walk(m, x, y)
            m.last_ms = ms
        derive(t, m, on_ground)
