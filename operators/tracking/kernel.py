"""One step of the tracker over the packed table.

Two-stage association (Zhang et al., ByteTrack, ECCV 2022): confident detections first, weak ones only to go on with
tracks that exist. Motion is a constant-velocity Kalman filter per box coordinate with white acceleration noise, so the
8×8 filter falls into four 2-state filters in closed form, and Δt comes from capture times. Similarity is the buffered
IoU (Yang et al., C-BIoU, WACV 2023) with a Mahalanobis term. Everything is in seconds and in frame heights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.compiled import kernel
from operators.tracking.table import CONFIRMED, ENDED, FREE, TENTATIVE

# Noise, as ratios of the object's height. Position: box regression error of common detectors, 3 to 6 %.
POSITION_STD = 0.05
VELOCITY_STD_AT_BIRTH = 1.5  # heights/s: a brisk walk is 0.9, a run 2
ACCELERATION_STD = 2.0  # heights/s²
GATE = 9.0  # squared Mahalanobis distance in the plane; χ² with 2 degrees of freedom passes 98.9 %
BUFFER = 0.3  # boxes grow by this ratio of their size on each side before IoU


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


@kernel
def _predict(k: Any, dt: Any) -> None:
    height: Any = max(np.float64(k[15]), np.float64(1e-3))
    q = ACCELERATION_STD * height
    q = q * q
    for c in range(4):
        o = 5 * c
        k[o] += k[o + 1] * dt
        k[o + 2] += dt * (2.0 * k[o + 3] + dt * k[o + 4]) + q * dt * dt * dt * dt / 4.0
        k[o + 3] += dt * k[o + 4] + q * dt * dt * dt / 2.0
        k[o + 4] += q * dt * dt


@kernel
def _correct(k: Any, z: Any) -> None:
    r = POSITION_STD * z[3]
    r = r * r
    for c in range(4):
        o = 5 * c
        s = k[o + 2] + r
        gain_p, gain_v, e = k[o + 2] / s, k[o + 3] / s, z[c] - k[o]
        k[o] += gain_p * e
        k[o + 1] += gain_v * e
        k[o + 4] -= gain_v * k[o + 3]
        k[o + 3] *= 1.0 - gain_p
        k[o + 2] *= 1.0 - gain_p


@kernel
def _start(k: Any, z: Any) -> None:
    p, v = POSITION_STD * z[3], VELOCITY_STD_AT_BIRTH * z[3]
    for c in range(4):
        o = 5 * c
        k[o], k[o + 1], k[o + 2], k[o + 3] = z[c], 0.0, p * p, 0.0
        # Size changes far more slowly than place.
        k[o + 4] = v * v if c < 2 else v * v / 100.0


@kernel
def _similarity(k: Any, z: Any) -> Any:
    """Return 0 (impossible) to 1 between a predicted track and an observation (cx, cy, w, h in frame heights)."""
    w: Any = max(np.float64(k[10]), np.float64(1e-4))
    h: Any = max(np.float64(k[15]), np.float64(1e-4))
    if h > 2.0 * z[3] or z[3] > 2.0 * h:
        return 0.0
    r = POSITION_STD * z[3]
    r = r * r
    dx, dy = z[0] - k[0], z[1] - k[5]
    d2 = dx * dx / (k[2] + r) + dy * dy / (k[7] + r)
    grow = 0.5 + BUFFER
    ox = min(k[0] + grow * w, z[0] + grow * z[2]) - max(k[0] - grow * w, z[0] - grow * z[2])
    oy = min(k[5] + grow * h, z[1] + grow * z[3]) - max(k[5] - grow * h, z[1] - grow * z[3])
    iou = 0.0
    if ox > 0.0 and oy > 0.0:
        inter = ox * oy
        iou = inter / (4.0 * grow * grow * (w * h + z[2] * z[3]) - inter)
    if d2 > GATE and iou < 0.1:
        return 0.0
    return 0.5 * iou + 0.5 / (1.0 + 0.25 * d2)


@kernel
def _match(sim: Any, rows: int, columns: int, floor: float, column_of: Any, row_of: Any) -> None:
    """Match mutually best pairs until none above `floor` is left; -1 where unmatched. Ties go to the lower index."""
    progress = True
    while progress:
        progress = False
        for i in range(rows):
            if column_of[i] >= 0:
                continue
            best, j_best = floor, -1
            for j in range(columns):
                if row_of[j] < 0 and sim[i, j] > best:
                    best, j_best = sim[i, j], j
            if j_best < 0:
                continue
            mutual = True
            for other in range(rows):
                if column_of[other] < 0 and (sim[other, j_best] > best or (sim[other, j_best] == best and other < i)):
                    mutual = False
                    break
            if mutual:
                column_of[i], row_of[j_best] = j_best, i
                progress = True


@kernel
def _vote(t: Any, label: int, weight: float) -> None:
    """Majority vote with memory (Boyer–Moore with one rival): flicker does not change a settled label."""
    if label == t.label:
        t.label_weight = min(t.label_weight + weight, 10.0)
        return
    if label == t.rival:
        t.rival_weight = min(t.rival_weight + weight, 12.0)
    elif t.rival_weight <= weight:
        t.rival, t.rival_weight = label, weight
    else:
        t.rival_weight -= weight
    if t.rival_weight > np.float64(t.label_weight) + 1.0:
        label_before, weight_before = t.label, t.label_weight
        t.label, t.label_weight = t.rival, min(t.rival_weight, 10.0)
        t.rival, t.rival_weight = label_before, weight_before


@kernel
def _observe(t: Any, z: Any, box: Any, score: float, label: int, now_us: int) -> None:
    for j in range(4):
        t.box[j] = box[j]
    t.score, t.seen_us, t.seen = score, now_us, 1
    t.hits += 1
    _vote(t, label, score)


@kernel
def step(
    tracks: Any, header: Any, boxes: Any, scores: Any, classes: Any, label_of: Any,
    now_us: int, last_us: int, aspect: Any, parameters: Any,
) -> None:  # fmt: skip
    """Advance the table by one frame, in place.

    Args:
        tracks: table of TRACK, one row per slot.
        header: int64 [slots in use (highest + 1), next ordinal, births refused because the table was full].
        boxes, scores, classes: N×4 float32 ratios, N float32, N uint8; already checked; may be read-only.
        label_of: uint8, the camera's own label index for each of the message's.
        now_us, last_us: event time of this frame and of the one before.
        aspect: frame width / height.
        parameters: float64 [score_high, score_low, score_new, memory_us, probation_us].
    """
    score_high, score_low, score_new = parameters[0], parameters[1], parameters[2]
    memory_us, probation_us = parameters[3], parameters[4]
    slots, n = header[0], scores.shape[0]
    dt, aspect = np.float64((now_us - last_us) * 1e-6), np.float64(aspect)
    # 1. Free what ended in the last step, end what was unseen for too long, move the rest to now.
    for i in range(slots):
        t = tracks[i]
        if t.status == ENDED:
            t.status = FREE
        if t.status == FREE:
            continue
        t.seen, t.born_now = 0, 0
        if now_us - t.seen_us > memory_us:
            t.status = ENDED if t.status == CONFIRMED else FREE
        else:
            _predict(t.kalman, dt)
    # 2. Observations as centre and size in frame heights; what sticks out of the frame is clipped.
    z = np.empty((n, 4), np.float64)
    clipped = np.empty((n, 4), np.float32)
    for j in range(n):
        for c in range(4):
            clipped[j, c] = min(max(boxes[j, c], np.float32(0.0)), np.float32(1.0))
        z[j, 0] = (clipped[j, 0] + clipped[j, 2]) / 2.0 * aspect
        z[j, 1] = (clipped[j, 1] + clipped[j, 3]) / 2.0
        z[j, 2] = (clipped[j, 2] - clipped[j, 0]) * aspect
        z[j, 3] = clipped[j, 3] - clipped[j, 1]
    # 3. Two-stage association.
    sim = np.zeros((slots, n), np.float64)
    for i in range(slots):
        t = tracks[i]
        if t.status == FREE or t.status == ENDED:
            continue
        for j in range(n):
            if z[j, 2] <= 0.0 or z[j, 3] <= 0.0 or scores[j] < score_low:
                continue
            s = _similarity(t.kalman, z[j])
            if label_of[classes[j]] != t.label:
                s -= 0.1
            sim[i, j] = s
    column_of = np.full(slots, -1, np.int64)
    row_of = np.full(n, -1, np.int64)
    weak = np.zeros(n, np.uint8)
    for j in range(n):
        if z[j, 2] <= 0.0 or z[j, 3] <= 0.0 or scores[j] < score_low:
            row_of[j] = slots  # as if taken: never matched, never born
        elif scores[j] < score_high:
            row_of[j], weak[j] = slots, 1
    _match(sim, slots, n, 0.15, column_of, row_of)
    for j in range(n):
        if weak[j]:
            row_of[j] = -1
    _match(sim, slots, n, 0.35, column_of, row_of)
    # 4. Update, confirm, drop.
    for i in range(slots):
        t = tracks[i]
        if t.status == FREE or t.status == ENDED:
            continue
        j = column_of[i]
        if j >= 0:
            _correct(t.kalman, z[j])
            _observe(t, z[j], clipped[j], scores[j], label_of[classes[j]], now_us)
            if t.status == TENTATIVE and now_us - t.born_us >= probation_us:
                t.status, t.born_now, t.first_label = CONFIRMED, 1, t.label
                t.ordinal = header[1]
                header[1] += 1
        elif t.status == TENTATIVE and now_us - t.seen_us > 2 * probation_us:
            t.status = FREE
        else:
            k = t.kalman
            half_w, half_h = np.float64(k[10]) / 2.0, np.float64(k[15]) / 2.0
            t.box[0], t.box[1] = (k[0] - half_w) / aspect, k[5] - half_h
            t.box[2], t.box[3] = (k[0] + half_w) / aspect, k[5] + half_h
    # 5. Births, into the lowest free slots. ENDED ones stay untouched until the next step.
    free = 0
    for j in range(n):
        if row_of[j] != -1 or weak[j] or scores[j] < score_new:
            continue
        while free < slots and tracks[free].status != FREE:
            free += 1
        if free == slots:
            if slots == tracks.shape[0]:
                header[2] += 1
                continue
            slots += 1
        t = tracks[free]
        t.ordinal, t.born_us, t.hits, t.status, t.born_now, t.first_label = -1, now_us, 0, TENTATIVE, 0, 0
        t.label, t.rival = label_of[classes[j]], label_of[classes[j]]
        t.label_weight, t.rival_weight = 0.0, 0.0
        _start(t.kalman, z[j])
        _observe(t, z[j], clipped[j], scores[j], label_of[classes[j]], now_us)
    while slots > 0 and tracks[slots - 1].status == FREE:
        slots -= 1
    header[0] = slots


@kernel
def publish(
    tracks: Any, slots: int, aspect: Any, born_us: Any, ordinals: Any, boxes: Any, velocities: Any, states: Any,
    labels: Any, scores: Any, births: Any, ends: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Copy the confirmed tracks into packed arrays (as `schemas.wire.TrackFrame`), by slot.

    Return (tracks, births, ends); `births` and `ends` receive the slots confirmed and ended in this frame.
    """
    n, born, ended, aspect = 0, 0, 0, np.float64(aspect)
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
        born_us[n], ordinals[n], scores[n], labels[n] = t.born_us, t.ordinal, t.score, t.label
        states[n] = 1 - t.seen
        for c in range(4):
            boxes[n, c] = t.box[c]
        velocities[n, 0], velocities[n, 1] = t.kalman[1] / aspect, t.kalman[6]
        n += 1
    return n, born, ended


@kernel
def end_all(tracks: Any, header: Any) -> None:
    """End every confirmed track and forget the others; the next step frees the slots."""
    for i in range(header[0]):
        t = tracks[i]
        if t.status == CONFIRMED:
            t.status, t.seen, t.born_now = ENDED, 0, 0
        elif t.status == TENTATIVE:
            t.status = FREE
