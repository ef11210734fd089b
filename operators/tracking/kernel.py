"""One step of the tracker over the packed table, compiled.

Per frame: move every track to now, match confident detections, then weak ones with what is left, correct, confirm, drop,
bear. Everything is in seconds and in sizes of the object, so that frame rate, resolution and distance do not matter.

- Two rounds by score: Zhang et al., ByteTrack, ECCV 2022; the thresholds are ratios of the stream's own score.
- Motion: a constant-velocity Kalman filter per box coordinate with white acceleration noise (Bar-Shalom et al.,
  Estimation with Applications, 2001, 6.2.2), so that the 8×8 filter falls into four 2-state filters in closed form.
- Noise: by score (Du et al., StrongSORT, 2023; Stadler & Beyerer, 2023) and scaled by how surprising the stream's
  observations have been of late (innovation-based adaptation: Mehra, 1972), which is what a moving camera or a car needs.
- Similarity: buffered IoU (Yang et al., C-BIoU, WACV 2023), Mahalanobis distance and shape (Stanojević & Todorović,
  BoostTrack, 2024). With the camera's pose the distance is measured on the ground (Yi et al., UCMCTrack, AAAI 2024).
- Assignment: sparse shortest augmenting paths (Jonker & Volgenant, 1987) over pairs that a sweep along x has found.

The formulas take numbers or arrays: `plain` is the same tracker over whole arrays of pairs, without numba. They use
nothing but + − × ÷ √ min max, whose results are the same bits everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.compiled import kernel
from operators.tracking.config import index, layout
from operators.tracking.table import (
    BAD_DETECTIONS,
    CONFIRMED,
    ENDED,
    FREE,
    NEXT_ORDINAL,
    NOISE,
    REFUSED_BIRTHS,
    SCORE_SQUARES,
    SCORE_SUM,
    SLOTS,
    TENTATIVE,
)

AGILITY, START, ERROR = index("agility_x"), index("start_x"), index("error_x")
ERROR_DOUBT, DRIFT, START_NOISE = index("error_doubt"), index("drift"), index("start_noise")
FADE_VELOCITY, FADE_SIZE = index("fade_velocity"), index("fade_size")
NOISE_RATE, NOISE_MIN, NOISE_MAX = index("noise_rate"), index("noise_min"), index("noise_max")
SURPRISE_MAX, BUFFER, HEIGHT_RATIO_MAX = index("surprise_max"), index("buffer"), index("height_ratio_max")
WEIGHT_IOU, WEIGHT_DISTANCE, WEIGHT_SHAPE = index("weight_iou"), index("weight_distance"), index("weight_shape")
DISTANCE_HEIGHT, DISTANCE_HALF, DISTANCE_MAX = index("distance_height"), index("distance_half"), index("distance_max")
SCORE_SHARE, COST_UNSEEN, COST_TENTATIVE = index("score_share"), index("cost_unseen"), index("cost_tentative")
COST_LABEL, FLOOR_HIGH, FLOOR_WEAK = index("cost_label"), index("floor_high"), index("floor_weak")
WEIGHT_EMBEDDING, EMBEDDING_EVEN = index("weight_embedding"), index("embedding_even")
SCORE_HIGH, SCORE_LOW, SCORE_NEW = index("score_high"), index("score_low"), index("score_new")
SCORE_MEMORY, SCORE_FLOOR, SCORE_EXPECTED = index("score_memory_s"), index("score_floor"), index("score_expected")
WEAK_AGE, DOUBLE_IOU = index("weak_age_s"), index("double_iou")
MEMORY, GAP = index("memory_s"), index("gap_s")
PROBATION, DOUBT, TENTATIVE_GAP = index("probation_s"), index("doubt_s"), index("tentative_gap_s")
PUBLISH_SMOOTH = index("publish_smooth")
GROUND_AGILITY, GROUND_START = index("ground_agility_mps"), index("ground_start_mps")
GROUND_X, GROUND_Y = index("ground_error_x"), index("ground_error_y")

LAYOUT = layout()
SCORE_PRIOR = 0.5  # seconds of detections that the expected score counts for
MIN_SIZE = 1e-4  # frame heights; a filter's size is never taken for less
IOU_MIN = 0.1  # overlap (buffered) that makes a pair possible at any distance
CALMER, LIVELIER = -0.3, 0.5  # bounds of how much livelier a stream can get with one frame
SETTLED_HITS = 3  # observations from which on a track's surprises are learnt from
VOTE_MEMORY = 1.0  # seconds of certain votes that a class is remembered for …
VOTE_LEAD = 0.1  # … and that another must lead by to take over
VOTE_GAP = 0.25  # seconds that one observation can vote for at most
EDGE = 0.5  # boxes may stick out of the frame by this (schemas.wire.EDGE_RATIO)
TICK_US = 1000.0  # slack where capture times are rounded


# ---- formulas: of numbers here, of arrays in `plain` ---------------------------------------------------------------


@kernel
def predicted(x: Any, v: Any, pp: Any, pv: Any, vv: Any, agility: Any, drift: Any, dt: Any) -> Any:
    """Return position and variances of a 2-state filter after `dt` seconds; `agility` and `drift` in frame heights."""
    q1 = agility * agility * dt
    q2, turn = q1 * dt, dt * vv
    return (
        x + v * dt,
        pp + dt * (2.0 * pv + turn) + q2 * dt / 3.0 + drift * drift * dt,
        pv + turn + q2 / 2.0,
        vv + q1,
    )


@kernel
def variance(error: Any, height: Any, score: Any, own_score: Any, doubt: Any) -> Any:
    """Return the variance of an observed coordinate of a box of `height`."""
    r = error * height * (1.0 + doubt * np.maximum(0.0, 1.0 - score / own_score))
    return r * r


@kernel
def corrected(x: Any, v: Any, pp: Any, pv: Any, vv: Any, e: Any, s: Any) -> Any:
    """Return a 2-state filter after an observation that is off by `e`, which was expected to have the variance `s`."""
    gain_p, gain_v = pp / s, pv / s
    rest = 1.0 - gain_p
    return x + gain_p * e, v + gain_v * e, pp * rest, pv * rest, vv - gain_v * pv


@kernel
def overlap(ax: Any, ay: Any, aw: Any, ah: Any, bx: Any, by: Any, bw: Any, bh: Any, half: Any) -> Any:
    """Return the IoU of two boxes (centre and size) that reach `half` of their size to each side: 0.5 is plain IoU."""
    ox = np.minimum(ax + half * aw, bx + half * bw) - np.maximum(ax - half * aw, bx - half * bw)
    oy = np.minimum(ay + half * ah, by + half * bh) - np.maximum(ay - half * ah, by - half * bh)
    both = np.maximum(ox, 0.0) * np.maximum(oy, 0.0)
    return both / (4.0 * half * half * (aw * ah + bw * bh) - both)


@kernel
def likeness(iou: Any, d2: Any, w: Any, h: Any, zw: Any, zh: Any, score: Any, p: Any) -> Any:
    """Return the similarity of a track and a detection, 0 to 1, before costs."""
    shape = np.minimum(h, zh) / np.maximum(h, zh) * (np.minimum(w, zw) / np.maximum(w, zw))
    near = 1.0 / (1.0 + d2 / p[DISTANCE_HALF])
    sum_of_weights = p[WEIGHT_IOU] + p[WEIGHT_DISTANCE] + p[WEIGHT_SHAPE]
    s = (p[WEIGHT_IOU] * iou + p[WEIGHT_DISTANCE] * near + p[WEIGHT_SHAPE] * shape) / sum_of_weights
    return s * (1.0 - p[SCORE_SHARE] + p[SCORE_SHARE] * score)


@kernel
def reach(k0: Any, k2: Any, w: Any, h: Any, widest: Any, p: Any) -> Any:
    """Return how far along x a detection's centre may lie from a track's so that the pair can be possible."""
    r = p[ERROR] * p[HEIGHT_RATIO_MAX] * h * (1.0 + p[ERROR_DOUBT])
    return np.maximum((0.5 + p[BUFFER]) * (w + widest), np.sqrt(p[DISTANCE_MAX] * (k2 + r * r)))


@kernel
def on_ground(x: Any, y: Any, zh: Any, g: Any, error_x: Any, error_y: Any) -> Any:
    """Return where a foot stands: x, y (m), variances xx, xy, yy (m²), and the third coordinate: ≤ 0 is no ground.

    Args:
        x, y: the foot in frame heights.
        zh: the box's height.
        g: `ground.image_to_ground`.
        error_x, error_y: the foot's standard deviation, in heights of the box.
    """
    third = g[6] * x + g[7] * y + g[8]
    gx, gy = (g[0] * x + g[1] * y + g[2]) / third, (g[3] * x + g[4] * y + g[5]) / third
    xu, xv = (g[0] - gx * g[6]) / third, (g[1] - gx * g[7]) / third
    yu, yv = (g[3] - gy * g[6]) / third, (g[4] - gy * g[7]) / third
    ru, rv = error_x * zh, error_y * zh
    ru, rv = ru * ru, rv * rv
    return gx, gy, xu * xu * ru + xv * xv * rv, xu * yu * ru + xv * yv * rv, yu * yu * ru + yv * yv * rv, third


@kernel
def ground_predicted(s: Any, q: Any, dt: Any) -> Any:
    """Return state and covariance (as TRACK's `ground`) after `dt` seconds; `q` is the acceleration's density, m²/s³."""
    x, y, vx, vy, xx, xy, x_vx, x_vy, yy, y_vx, y_vy, vx_vx, vx_vy, vy_vy = s
    q1, q2, q3 = q * dt, q * dt * dt / 2.0, q * dt * dt * dt / 3.0
    return (
        x + vx * dt, y + vy * dt, vx, vy,
        xx + dt * (2.0 * x_vx + dt * vx_vx) + q3,
        xy + dt * (x_vy + y_vx + dt * vx_vy),
        x_vx + dt * vx_vx + q2,
        x_vy + dt * vx_vy,
        yy + dt * (2.0 * y_vy + dt * vy_vy) + q3,
        y_vx + dt * vx_vy,
        y_vy + dt * vy_vy + q2,
        vx_vx + q1, vx_vy, vy_vy + q1,
    )  # fmt: skip


@kernel
def ground_distance(s: Any, gx: Any, gy: Any, rxx: Any, rxy: Any, ryy: Any) -> Any:
    """Return the squared Mahalanobis distance of an observation."""
    sxx, sxy, syy = s[4] + rxx, s[5] + rxy, s[8] + ryy
    ex, ey = gx - s[0], gy - s[1]
    return (syy * ex * ex - 2.0 * sxy * ex * ey + sxx * ey * ey) / (sxx * syy - sxy * sxy)


@kernel
def ground_corrected(s: Any, gx: Any, gy: Any, rxx: Any, rxy: Any, ryy: Any) -> Any:
    """Return state and covariance after an observation."""
    x, y, vx, vy, xx, xy, x_vx, x_vy, yy, y_vx, y_vy, vx_vx, vx_vy, vy_vy = s
    sxx, sxy, syy = xx + rxx, xy + rxy, yy + ryy
    det = sxx * syy - sxy * sxy
    ixx, ixy, iyy = syy / det, -sxy / det, sxx / det
    ex, ey = gx - x, gy - y
    ax, bx = xx * ixx + xy * ixy, xx * ixy + xy * iyy  # gains of x on both errors, then of y, vx, vy
    ay, by = xy * ixx + yy * ixy, xy * ixy + yy * iyy
    au, bu = x_vx * ixx + y_vx * ixy, x_vx * ixy + y_vx * iyy
    aw, bw = x_vy * ixx + y_vy * ixy, x_vy * ixy + y_vy * iyy
    return (
        x + ax * ex + bx * ey, y + ay * ex + by * ey, vx + au * ex + bu * ey, vy + aw * ex + bw * ey,
        xx - (ax * xx + bx * xy), xy - (ax * xy + bx * yy),
        x_vx - (ax * x_vx + bx * y_vx), x_vy - (ax * x_vy + bx * y_vy),
        yy - (ay * xy + by * yy), y_vx - (ay * x_vx + by * y_vx), y_vy - (ay * x_vy + by * y_vy),
        vx_vx - (au * x_vx + bu * y_vx), vx_vy - (au * x_vy + bu * y_vy), vy_vy - (aw * x_vy + bw * y_vy),
    )  # fmt: skip


@kernel
def compiled_layout() -> int:
    """Return `config.layout` as it was when the kernels were compiled: numba's cache looks at this file's date alone."""
    return LAYOUT


# ---- checking ----------------------------------------------------------------------------------------------------


@kernel
def check(boxes: Any, scores: Any, classes: Any, label_count: int) -> int:
    """Return −1, or the index of the first detection that `schemas.wire.check_detections` would refuse."""
    for i in range(scores.shape[0]):
        for j in range(4):
            if not (-0.5 <= boxes[i, j] <= 1.5):  # false for NaN too
                return i
        if not (boxes[i, 0] < boxes[i, 2] and boxes[i, 1] < boxes[i, 3]):
            return i
        if not (0.0 <= scores[i] <= 1.0) or classes[i] >= label_count:
            return i
    return -1


# ---- assignment --------------------------------------------------------------------------------------------------


@kernel
def assign(starts: Any, columns: Any, costs: Any, alone: float, column_of: Any, row_of: Any) -> None:
    """Match rows and columns at the least total cost, where a row without match costs `alone`.

    Shortest augmenting paths over the pairs given; each row's own way out is a column that no other row can take. A row's
    search touches nothing but its connected component, so sparse scenes cost as many steps as there are pairs.

    Args:
        starts: int64 rows + 1; pairs of row i are `columns[starts[i]:starts[i + 1]]`, with `costs`, all ≥ 0.
        column_of, row_of: int64, −1 on entry; set to the matches.
    """
    n, m = column_of.shape[0], row_of.shape[0]
    f, i = np.zeros(2 * n + 2 * m), np.zeros(n + 1 + 3 * m, np.int64)  # two, as each costs 50 ns
    augment(
        starts, columns, costs, alone, column_of, row_of, f[:n], f[n : n + m], f[n + m : n + 2 * m], f[n + 2 * m :],
        i[:m], i[m : 2 * m], i[2 * m : 3 * m], i[3 * m :],
    )  # fmt: skip


@kernel
def augment(
    starts: Any, columns: Any, costs: Any, alone: float, column_of: Any, row_of: Any, u: Any, v: Any, distance: Any,
    row_distance: Any, before: Any, touched: Any, state: Any, rows: Any,
) -> None:  # fmt: skip
    """Do what `assign` says, in arrays or lists that hold zeros.

    Args:
        u, v: potentials of rows and columns.
        distance, before, touched, state: of columns: way to it, the row before it, columns reached in order, and
            0 unknown, 1 reached, 2 settled.
        row_distance, rows: of rows: way to it; rows reached in order, one place more than rows.
    """
    for s in range(len(column_of)):
        if starts[s] == starts[s + 1]:
            continue
        n_touched, n_rows, i, base = 0, 1, s, 0.0
        rows[0], row_distance[s] = s, 0.0
        end, end_row, end_column = np.inf, s, -1
        while True:
            if base + alone - u[i] < end:
                end, end_row = base + alone - u[i], i
            for e in range(starts[i], starts[i + 1]):
                j = columns[e]
                d = base + costs[e] - u[i] - v[j]
                if state[j] == 0:
                    state[j], touched[n_touched], distance[j], before[j] = 1, j, d, i
                    n_touched += 1
                elif state[j] == 1 and d < distance[j]:
                    distance[j], before[j] = d, i
            nearest, j_nearest = end, -1
            for q in range(n_touched):
                j = touched[q]
                if state[j] == 1 and distance[j] < nearest:
                    nearest, j_nearest = distance[j], j
            if j_nearest < 0:
                break
            state[j_nearest] = 2
            if row_of[j_nearest] < 0:
                end, end_column = nearest, j_nearest
                break
            i, base = row_of[j_nearest], nearest
            row_distance[i], rows[n_rows] = base, i
            n_rows += 1
        for q in range(n_rows):
            u[rows[q]] += end - row_distance[rows[q]]
        for q in range(n_touched):
            j = touched[q]
            if state[j] == 2:
                v[j] -= end - distance[j]
            state[j] = 0
        j = end_column
        if j < 0 and end_row != s:
            j = column_of[end_row]
            column_of[end_row] = -1
        while j >= 0:
            i = before[j]
            column_of[i], j_before = j, column_of[i]
            row_of[j] = i
            j = j_before if i != s else -1


# ---- one frame ---------------------------------------------------------------------------------------------------


@kernel
def own_score(stream: Any, scores: Any, good: Any, dt: float, p: Any) -> float:
    """Fade in this frame's scores and return the stream's own score: the self-weighted mean of what is reported."""
    fade = 1.0 / (1.0 + dt / p[SCORE_MEMORY])
    squares, total = np.float64(0.0), np.float64(0.0)
    for j in range(scores.shape[0]):
        if good[j]:
            s = np.float64(scores[j])
            squares += s * s
            total += s
    stream[SCORE_SQUARES] = stream[SCORE_SQUARES] * fade + squares * dt
    stream[SCORE_SUM] = stream[SCORE_SUM] * fade + total * dt
    mean = (stream[SCORE_SQUARES] + p[SCORE_EXPECTED] * SCORE_PRIOR) / (stream[SCORE_SUM] + SCORE_PRIOR)
    return float(min(max(mean, p[SCORE_FLOOR]), 1.0))


@kernel
def _observe_frame(boxes: Any, scores: Any, aspect: float, z: Any, good: Any) -> int:
    """Set `z` to centre and size in frame heights; return how many detections are unusable."""
    bad = 0
    for j in range(scores.shape[0]):
        x1, y1 = np.float64(boxes[j, 0]), np.float64(boxes[j, 1])
        x2, y2 = np.float64(boxes[j, 2]), np.float64(boxes[j, 3])
        inside = x1 >= -EDGE and y1 >= -EDGE and x2 <= 1.0 + EDGE and y2 <= 1.0 + EDGE  # false for NaN too
        if not (inside and x1 < x2 and y1 < y2 and 0.0 <= scores[j] <= 1.0):
            bad += 1
            good[j] = 0
            z[j, 0], z[j, 1], z[j, 2], z[j, 3] = 0.0, 0.0, 1.0, 1.0
            continue
        good[j] = 1
        z[j, 0], z[j, 1] = (x1 + x2) / 2.0 * aspect, (y1 + y2) / 2.0
        z[j, 2], z[j, 3] = (x2 - x1) * aspect, y2 - y1
    return bad


@kernel
def _sort_along_x(z: Any) -> Any:
    """Return indices by centre x; equal ones stay in order."""
    n = z.shape[0]
    if n > 64:
        return np.argsort(z[:, 0].copy(), kind="mergesort")
    order = np.empty(n, np.int64)
    for j in range(n):
        q = j
        while q > 0 and z[order[q - 1], 0] > z[j, 0]:
            order[q] = order[q - 1]
            q -= 1
        order[q] = j
    return order


@kernel
def _leave_out_doubles(z: Any, scores: Any, order: Any, good: Any, p: Any) -> None:
    """Clear `good` of each detection that a stronger one overlaps by more than `double_iou`."""
    n = z.shape[0]
    double = np.zeros(n, np.uint8)
    for a in range(n):
        i = order[a]
        if not good[i]:
            continue
        for b in range(a + 1, n):
            j = order[b]
            # Two boxes of IoU > c have centres nearer than (1 − c)/c of the first one's width.
            if z[j, 0] - z[i, 0] > z[i, 2] * (1.0 - p[DOUBLE_IOU]) / p[DOUBLE_IOU]:
                break
            if not good[j]:
                continue
            iou = overlap(z[i, 0], z[i, 1], z[i, 2], z[i, 3], z[j, 0], z[j, 1], z[j, 2], z[j, 3], 0.5)
            if iou > p[DOUBLE_IOU]:
                weaker = i if scores[i] < scores[j] or (scores[i] == scores[j] and i > j) else j
                double[weaker] = 1
    for j in range(n):
        if double[j]:
            good[j] = 0


@kernel
def _age(t: Any, stream: Any, ground: Any, now_us: int, last_us: int, p: Any) -> None:
    """End or free a track that was unseen for too long, move others to now."""
    if t.status == ENDED:
        t.status = FREE
    if t.status == FREE:
        return
    unseen_us = np.float64(now_us - t.seen_us)
    t.seen, t.born_now = 0, 0
    in_last = t.seen_us == last_us
    if unseen_us > p[MEMORY] * 1e6 and not (in_last and unseen_us <= p[GAP] * 1e6):
        t.status = ENDED if t.status == CONFIRMED else FREE
        return
    if t.status == TENTATIVE and unseen_us > p[TENTATIVE_GAP] * 1e6 and not in_last:
        t.status = FREE
        return
    k, dt = t.kalman, np.float64((now_us - last_us) * 1e-6)
    height = max(np.float64(k[15]), MIN_SIZE)
    for c in range(4):
        o = 5 * c
        if not in_last:
            k[o + 1] = np.float64(k[o + 1]) / (1.0 + dt * p[FADE_VELOCITY if c < 2 else FADE_SIZE])
        k[o], k[o + 2], k[o + 3], k[o + 4] = predicted(
            np.float64(k[o]), np.float64(k[o + 1]), np.float64(k[o + 2]), np.float64(k[o + 3]), np.float64(k[o + 4]),
            p[AGILITY + c] * stream[NOISE + c] * height, p[DRIFT] * height, dt,
        )  # fmt: skip
    if ground.shape[0] and t.has_ground:
        agility = p[GROUND_AGILITY] * max(1.0, stream[NOISE])
        _keep_ground(t, ground_predicted(_ground(t), agility * agility, dt))


@kernel
def _ground(t: Any) -> Any:
    g = t.ground
    return (
        np.float64(g[0]), np.float64(g[1]), np.float64(g[2]), np.float64(g[3]), np.float64(g[4]), np.float64(g[5]),
        np.float64(g[6]), np.float64(g[7]), np.float64(g[8]), np.float64(g[9]), np.float64(g[10]), np.float64(g[11]),
        np.float64(g[12]), np.float64(g[13]),
    )  # fmt: skip


@kernel
def _keep_ground(t: Any, s: Any) -> None:
    for c in range(14):
        t.ground[c] = s[c]


@kernel
def _foot(z: Any, ground: Any, p: Any) -> Any:
    return on_ground(z[0], z[1] + z[3] / 2.0, z[3], ground, p[GROUND_X], p[GROUND_Y])


@kernel
def _stand(t: Any, z: Any, ground: Any, p: Any) -> None:
    """Take an observation's foot into the track's place on the ground."""
    gx, gy, rxx, rxy, ryy, third = _foot(z, ground, p)
    if not third > 0.0:
        t.has_ground = 0  # above the horizon: the pose or the box is wrong
    elif t.has_ground:
        _keep_ground(t, ground_corrected(_ground(t), gx, gy, rxx, rxy, ryy))
    else:
        vv = p[GROUND_START] * p[GROUND_START]
        _keep_ground(t, (gx, gy, 0.0, 0.0, rxx, rxy, 0.0, 0.0, ryy, 0.0, 0.0, vv, 0.0, vv))
        t.has_ground = 1


@kernel
def _round(
    tracks: Any, rows: Any, z: Any, scores: Any, labels: Any, order: Any, column_of: Any, row_of: Any, affinity: Any,
    ground: Any, own: float, now_us: int, widest: float, floor: float, p: Any,
) -> None:  # fmt: skip
    """Match `rows` (slots) with the detections in `order` (by x), and note it in `column_of` and `row_of`."""
    n, m = rows.shape[0], order.shape[0]
    if n == 0 or m == 0:
        return
    # What pairs need of a detection: centre, size, score, variances of x, y and height, foot (`on_ground`).
    seen, has_feet = np.empty((m, 14)), ground.shape[0] > 0
    for b in range(m):
        j = order[b]
        s, zh, score = seen[b], z[j, 3], np.float64(scores[j])
        s[0], s[1], s[2], s[3], s[4] = z[j, 0], z[j, 1], z[j, 2], zh, score
        s[5] = variance(p[ERROR], zh, score, own, p[ERROR_DOUBT])
        s[6] = variance(p[ERROR + 1], zh, score, own, p[ERROR_DOUBT])
        s[7] = variance(p[ERROR + 3], zh, score, own, p[ERROR_DOUBT])
        if has_feet:
            s[8], s[9], s[10], s[11], s[12], s[13] = _foot(z[j], ground, p)
    starts = np.empty(n + 1, np.int64)
    columns, costs = np.empty(4 * m + 4 * n, np.int64), np.empty(4 * m + 4 * n, np.float64)
    e = 0
    buffered, ratio_max, distance_max = 0.5 + p[BUFFER], p[HEIGHT_RATIO_MAX], p[DISTANCE_MAX]
    for a in range(n):
        starts[a] = e
        t = tracks[rows[a]]
        k, place, stands = t.kalman, _ground(t), has_feet and t.has_ground
        x, y, pp_x, pp_y, pp_h = (
            np.float64(k[0]), np.float64(k[5]), np.float64(k[2]), np.float64(k[7]), np.float64(k[17]),
        )  # fmt: skip
        w, h = max(np.float64(k[10]), MIN_SIZE), max(np.float64(k[15]), MIN_SIZE)
        far = reach(x, pp_x, w, h, widest, p)
        error_y = p[ERROR + 1] * p[HEIGHT_RATIO_MAX] * h * (1.0 + p[ERROR_DOUBT])
        far_y2 = p[DISTANCE_MAX] * (pp_y + error_y * error_y) * (1.0 + 1e-9)  # as `reach`, squared
        cost = p[COST_UNSEEN] * ((now_us - t.seen_us) * 1e-6) + (p[COST_TENTATIVE] if t.status == TENTATIVE else 0.0)
        low, high = 0, m
        while low < high:  # first detection at or right of x − far
            middle = (low + high) // 2
            if seen[middle, 0] < x - far:
                low = middle + 1
            else:
                high = middle
        for b in range(low, m):
            s = seen[b]
            if s[0] > x + far:
                break
            zh = s[3]
            if h > ratio_max * zh or zh > ratio_max * h:
                continue
            dx, dy, dh = s[0] - x, s[1] - y, zh - h
            is_beside = abs(dy) <= buffered * (h + zh)  # else they do not overlap, as most in a large scene
            if stands and s[13] > 0.0:
                d2 = ground_distance(place, s[8], s[9], s[10], s[11], s[12])
                d2 += p[DISTANCE_HEIGHT] * dh * dh / (pp_h + s[7])
            elif is_beside or dy * dy <= far_y2:
                d2 = dx * dx / (pp_x + s[5]) + dy * dy / (pp_y + s[6]) + p[DISTANCE_HEIGHT] * dh * dh / (pp_h + s[7])
            else:
                continue
            if d2 > distance_max and not is_beside:
                continue
            iou = overlap(x, y, w, h, s[0], s[1], s[2], zh, buffered)
            if d2 > distance_max and iou < IOU_MIN:
                continue
            j = order[b]
            alike = likeness(iou, d2, w, h, s[2], zh, s[4], p) - cost
            if labels[j] != t.label:
                alike -= p[COST_LABEL]
            if affinity.shape[0] and t.has_embedding:
                alike += p[WEIGHT_EMBEDDING] * (np.float64(affinity[rows[a], j]) - p[EMBEDDING_EVEN])
            if alike <= floor:
                continue
            if e == columns.shape[0]:
                columns, costs = np.append(columns, np.empty(e, np.int64)), np.append(costs, np.empty(e, np.float64))
            columns[e], costs[e] = b, max(1.0 - alike, 0.0)
            e += 1
    starts[n] = e
    mine, theirs = np.full(n, -1, np.int64), np.full(m, -1, np.int64)
    assign(starts, columns, costs, 1.0 - floor, mine, theirs)
    for a in range(n):
        if mine[a] >= 0:
            column_of[rows[a]] = order[mine[a]]
            row_of[order[mine[a]]] = rows[a]


@kernel
def _vote(t: Any, label: int, weight: float) -> None:
    """Majority vote with memory (Boyer–Moore with one rival): flicker does not change a settled label.

    `weight` is score × seconds. A rival wins when it leads by VOTE_LEAD; agreement takes from it half of what it gives.
    """
    if label == t.label:
        t.label_weight = min(t.label_weight + weight, VOTE_MEMORY)
        t.rival_weight = max(t.rival_weight - 0.5 * weight, 0.0)
        return
    if label == t.rival:
        t.rival_weight = min(t.rival_weight + weight, VOTE_MEMORY + 2.0 * VOTE_LEAD)
    elif t.rival_weight <= weight:
        t.rival, t.rival_weight = label, weight
    else:
        t.rival_weight -= weight
    if t.rival_weight > np.float64(t.label_weight) + VOTE_LEAD:
        label_before, weight_before = t.label, t.label_weight
        t.label, t.label_weight = t.rival, min(t.rival_weight, VOTE_MEMORY)
        t.rival, t.rival_weight = label_before, weight_before


@kernel
def _see(t: Any, z: Any, box: Any, score: Any, label: int, now_us: int) -> None:
    for c in range(4):
        t.observed[c] = z[c]
        t.box[c] = min(max(box[c], np.float32(0.0)), np.float32(1.0)) + np.float32(0.0)  # −0.0 becomes 0.0
    _vote(t, label, np.float64(score) * min((now_us - t.seen_us) * 1e-6, VOTE_GAP))
    t.score, t.seen_us, t.seen = score, now_us, 1
    t.hits += 1


@kernel
def _foresee(t: Any, aspect: float) -> None:
    """Set the box of an unseen track."""
    k = t.kalman
    half_w, half_h = np.maximum(np.float64(k[10]), MIN_SIZE) / 2.0, np.maximum(np.float64(k[15]), MIN_SIZE) / 2.0
    t.box[0], t.box[1] = (k[0] - half_w) / aspect, k[5] - half_h
    t.box[2], t.box[3] = (k[0] + half_w) / aspect, k[5] + half_h


@kernel
def _correct(t: Any, z: Any, score: Any, own: float, surprise: Any, p: Any) -> None:
    """Take an observation into the filter and add to `surprise` how far off it was."""
    k = t.kalman
    for c in range(4):
        o = 5 * c
        e = z[c] - np.float64(k[o])
        s = np.float64(k[o + 2]) + variance(p[ERROR + c], z[3], score, own, p[ERROR_DOUBT])
        if t.hits >= SETTLED_HITS:
            surprise[c] += min(e * e / s, p[SURPRISE_MAX]) - 1.0
        k[o], k[o + 1], k[o + 2], k[o + 3], k[o + 4] = corrected(
            np.float64(k[o]), np.float64(k[o + 1]), np.float64(k[o + 2]), np.float64(k[o + 3]), np.float64(k[o + 4]),
            e, s,
        )  # fmt: skip


@kernel
def learn(stream: Any, surprise: Any, dt: float, p: Any) -> None:
    """Make the stream livelier where observations surprised, calmer where they did not."""
    for c in range(4):
        change = min(max(p[NOISE_RATE] * min(dt, 0.5) * surprise[c], CALMER), LIVELIER)
        stream[NOISE + c] = min(max(stream[NOISE + c] * (1.0 + change), p[NOISE_MIN]), p[NOISE_MAX])


@kernel
def bear(
    t: Any, z: Any, box: Any, score: Any, label: int, own: float, now_us: int, stream: Any, p: Any
) -> None:  # fmt: skip
    """Make a tentative track of a detection, in a free slot."""
    t.ordinal, t.born_us, t.hits, t.status, t.born_now, t.first_label = -1, now_us, 0, TENTATIVE, 0, 0
    t.label, t.rival, t.label_weight, t.rival_weight = label, label, 0.0, 0.0
    t.score_sum, t.has_embedding, t.has_ground, t.seen_us = score, 0, 0, now_us
    t.ground[:] = 0.0  # whatever the slot's last owner left, so that live and restored tables stay equal
    k = t.kalman
    for c in range(4):
        o = 5 * c
        v = p[START + c] * z[3] * max(1.0, p[START_NOISE] * stream[NOISE + c])
        k[o], k[o + 1], k[o + 3], k[o + 4] = z[c], 0.0, 0.0, v * v
        k[o + 2] = variance(p[ERROR + c], z[3], np.float64(score), own, p[ERROR_DOUBT])
    _see(t, z, box, score, label, now_us)


@kernel
def step(
    tracks: Any, header: Any, stream: Any, boxes: Any, scores: Any, classes: Any, label_of: Any, affinity: Any,
    ground: Any, column_of: Any, now_us: int, last_us: int, aspect: float, p: Any,
) -> None:  # fmt: skip
    """Advance the table by one frame, in place.

    Args:
        tracks: table of TRACK, one row per slot.
        header, stream: as in `table`.
        boxes, scores, classes: N×4 float32 ratios, N float32, N uint8; may be read-only.
        label_of: uint8, the camera's own label index for each of the message's.
        affinity: float32 slots × N, cosine similarity of appearance; 0×0 without.
        ground: `ground.image_to_ground`; empty without a pose.
        column_of: int64, one per slot, set to the detection seen by the slot's track in this frame or −1.
        now_us, last_us: event time of this frame and of the one before.
        aspect: frame width / height.
        p: `TrackerConfig.vector`.
    """
    slots, n = header[SLOTS], scores.shape[0]
    dt = (now_us - last_us) * 1e-6
    if stream[NOISE] == 0.0:
        stream[NOISE:] = 1.0
    for i in range(slots):
        _age(tracks[i], stream, ground, now_us, last_us, p)
    z, good = np.empty((n, 4)), np.empty(n, np.uint8)
    header[BAD_DETECTIONS] += _observe_frame(boxes, scores, aspect, z, good)
    own = own_score(stream, scores, good, dt, p)
    order = _sort_along_x(z)
    _leave_out_doubles(z, scores, order, good, p)
    labels = np.empty(n, np.uint8)
    for j in range(n):
        labels[j] = label_of[classes[j]]
    row_of = np.full(n, -1, np.int64)
    column_of[:slots] = -1
    _match(tracks, slots, z, scores, labels, order, good, column_of, row_of, affinity, ground, own, now_us, last_us, p)
    _update(tracks, header, stream, z, boxes, scores, labels, column_of, ground, own, now_us, dt, aspect, p)
    # Births, into the lowest free slots. ENDED ones stay untouched until the next step.
    free = 0
    for j in range(n):
        if row_of[j] >= 0 or not good[j] or scores[j] < p[SCORE_NEW] * own:
            continue
        while free < slots and tracks[free].status != FREE:
            free += 1
        if free == slots:
            if slots == tracks.shape[0]:
                header[REFUSED_BIRTHS] += 1
                continue
            slots += 1
        bear(tracks[free], z[j], boxes[j], scores[j], labels[j], own, now_us, stream, p)
        if ground.shape[0]:
            _stand(tracks[free], z[j], ground, p)
        column_of[free] = j
    while slots > 0 and tracks[slots - 1].status == FREE:
        slots -= 1
    header[SLOTS] = slots


@kernel
def _match(
    tracks: Any, slots: int, z: Any, scores: Any, labels: Any, order: Any, good: Any, column_of: Any, row_of: Any,
    affinity: Any, ground: Any, own: float, now_us: int, last_us: int, p: Any,
) -> None:  # fmt: skip
    n = order.shape[0]
    rows, some = np.empty(slots, np.int64), np.empty(n, np.int64)
    least = min(p[SCORE_LOW], p[SCORE_HIGH], p[SCORE_NEW]) * own
    a, b, widest = 0, 0, 0.0
    for j in range(n):
        if good[j] and scores[j] >= least:
            widest = max(widest, z[j, 2])
    for i in range(slots):
        if tracks[i].status == CONFIRMED or tracks[i].status == TENTATIVE:
            rows[a] = i
            a += 1
    for q in range(n):
        if good[order[q]] and scores[order[q]] >= p[SCORE_HIGH] * own:
            some[b] = order[q]
            b += 1
    _round(
        tracks, rows[:a], z, scores, labels, some[:b], column_of, row_of, affinity, ground, own, now_us, widest,
        p[FLOOR_HIGH], p,
    )  # fmt: skip
    left, b = 0, 0
    for q in range(a):
        i = rows[q]
        if column_of[i] < 0 and last_us - tracks[i].seen_us <= p[WEAK_AGE] * 1e6:
            rows[left] = i
            left += 1
    for q in range(n):
        s = scores[order[q]]
        if good[order[q]] and s >= p[SCORE_LOW] * own and s < p[SCORE_HIGH] * own:
            some[b] = order[q]
            b += 1
    _round(
        tracks, rows[:left], z, scores, labels, some[:b], column_of, row_of, affinity, ground, own, now_us, widest,
        p[FLOOR_WEAK], p,
    )  # fmt: skip


@kernel
def _update(
    tracks: Any, header: Any, stream: Any, z: Any, boxes: Any, scores: Any, labels: Any, column_of: Any, ground: Any,
    own: float, now_us: int, dt: float, aspect: float, p: Any,
) -> None:  # fmt: skip
    surprise = np.zeros(4)
    for i in range(header[SLOTS]):
        t = tracks[i]
        if t.status != CONFIRMED and t.status != TENTATIVE:
            continue
        j = column_of[i]
        if j < 0:
            _foresee(t, aspect)
            continue
        _correct(t, z[j], np.float64(scores[j]), own, surprise, p)
        _see(t, z[j], boxes[j], scores[j], labels[j], now_us)
        if ground.shape[0]:
            _stand(t, z[j], ground, p)
        if t.status == TENTATIVE:
            t.score_sum += scores[j]
            doubt = max(0.0, 1.0 - np.float64(t.score_sum) / t.hits / own)
            if now_us - t.born_us + TICK_US >= (p[PROBATION] + p[DOUBT] * doubt) * 1e6:
                t.status, t.born_now, t.first_label, t.score_sum = CONFIRMED, 1, t.label, 0.0
                t.ordinal = header[NEXT_ORDINAL]
                header[NEXT_ORDINAL] += 1
    learn(stream, surprise, dt, p)


# ---- what others see ---------------------------------------------------------------------------------------------


@kernel
def publish(
    tracks: Any, slots: int, aspect: float, p: Any, born_us: Any, ordinals: Any, boxes: Any, velocities: Any,
    states: Any, labels: Any, scores: Any, births: Any, ends: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Copy the confirmed tracks into packed arrays (as `schemas.wire.TrackFrame`), by slot.

    Return (tracks, births, ends); `births` and `ends` receive the slots confirmed and ended in this frame.
    """
    n, born, ended = 0, 0, 0
    for i in range(slots):
        t = tracks[i]
        if t.status == ENDED:
            ends[ended] = i
            ended += 1
        if t.status != CONFIRMED:
            continue
        if t.born_now:
            births[born] = i
            born += 1
        b = t.box
        if not t.seen and (b[2] <= 0.0 or b[3] <= 0.0 or b[0] >= 1.0 or b[1] >= 1.0):
            continue  # thought to have left the frame
        born_us[n], ordinals[n], scores[n], labels[n] = t.born_us, t.ordinal, t.score, t.label
        states[n] = 1 - t.seen
        k = t.kalman
        share = p[PUBLISH_SMOOTH] if t.seen else 1.0
        for c in range(2):
            scale = aspect if c == 0 else 1.0
            o_centre, o_half = np.float64(t.observed[c]), np.float64(t.observed[c + 2]) / 2.0
            k_centre, k_half = np.float64(k[5 * c]), np.maximum(np.float64(k[5 * c + 10]), MIN_SIZE) / 2.0
            centre, half = o_centre + share * (k_centre - o_centre), o_half + share * (k_half - o_half)
            # A box sticks out of the frame only as far as its detector let it.
            boxes[n, c] = max((centre - half) / scale, min(0.0, (o_centre - o_half) / scale))
            boxes[n, c + 2] = min((centre + half) / scale, max(1.0, (o_centre + o_half) / scale))
        velocities[n, 0], velocities[n, 1] = k[1] / aspect, k[6]
        n += 1
    return n, born, ended


@kernel
def end_all(tracks: Any, header: Any) -> None:
    """End every confirmed track and forget the others, those too that ended in the last step; the next one frees the slots."""
    for i in range(header[SLOTS]):
        t = tracks[i]
        if t.status == CONFIRMED:
            t.status, t.seen, t.born_now = ENDED, 0, 0
        else:
            t.status = FREE
