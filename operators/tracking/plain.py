"""The step of `kernel` over whole arrays, for where there is no numba; the same bits, tested.

It shares the formulas and the assignment with `kernel`, not the loops: pairs are one flat list, made by two binary
searches, and only what has more than one candidate goes through the assignment.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from operators.tracking import kernel as k
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

F64 = npt.NDArray[np.float64]
AXES = np.arange(4)


def _formula(function: Any) -> Any:
    """Return what stands in the source, which works on arrays, be it compiled or not."""
    return getattr(function, "py_func", None) or function.__wrapped__


predicted, variance, corrected = _formula(k.predicted), _formula(k.variance), _formula(k.corrected)
overlap, likeness, reach = _formula(k.overlap), _formula(k.likeness), _formula(k.reach)
on_ground, ground_predicted = _formula(k.on_ground), _formula(k.ground_predicted)
ground_distance, ground_corrected = _formula(k.ground_distance), _formula(k.ground_corrected)
assign, learn = _formula(k.assign), _formula(k.learn)


def step(
    tracks: Any, header: Any, stream: Any, boxes: Any, scores: Any, classes: Any, label_of: Any, affinity: Any,
    ground: Any, column_of: Any, now_us: int, last_us: int, aspect: float, p: F64,
) -> None:  # fmt: skip
    """Do what `kernel.step` does."""
    with np.errstate(all="ignore"):
        _step(
            tracks, header, stream, boxes, scores, classes, label_of, affinity, ground, column_of, now_us, last_us,
            aspect, p,
        )  # fmt: skip


def _step(
    tracks: Any, header: Any, stream: Any, boxes: Any, scores: Any, classes: Any, label_of: Any, affinity: Any,
    ground: Any, column_of: Any, now_us: int, last_us: int, aspect: float, p: F64,
) -> None:  # fmt: skip
    slots, n = int(header[SLOTS]), len(scores)
    dt = (now_us - last_us) * 1e-6
    if stream[NOISE] == 0.0:
        stream[NOISE:] = 1.0
    if slots:
        _age(tracks[:slots], stream, ground, now_us, last_us, dt, p)
    z, good = _observe_frame(boxes, scores, aspect)
    header[BAD_DETECTIONS] += n - int(np.count_nonzero(good))
    own = _own_score(stream, scores, good, dt, p)
    order = np.argsort(z[:, 0], kind="stable")
    _leave_out_doubles(z, scores, order, good, p)
    labels = label_of[classes]
    row_of = np.full(n, -1, np.int64)
    column_of[:slots] = -1
    frame = _Frame(z, scores.astype(np.float64), labels, affinity, ground, own, now_us, p)
    if slots:
        _match(tracks[:slots], frame, order, good, column_of, row_of, last_us)
        _update(tracks[:slots], header, stream, frame, boxes, column_of, dt, aspect)
    _bear(tracks, header, stream, frame, boxes, scores, column_of, (row_of < 0) & good)


class _Frame:
    """What all of a frame's functions need."""

    def __init__(
        self, z: F64, scores: F64, labels: Any, affinity: Any, ground: F64, own: float, now_us: int, p: F64
    ) -> None:
        self.z, self.scores, self.labels, self.affinity, self.ground = z, scores, labels, affinity, ground
        self.own, self.now_us, self.p = own, now_us, p


def _age(tracks: Any, stream: F64, ground: F64, now_us: int, last_us: int, dt: float, p: F64) -> None:
    status = tracks["status"]
    status[status == ENDED] = FREE
    unseen_us, in_last = now_us - tracks["seen_us"], tracks["seen_us"] == last_us
    lives = status != FREE
    tracks["seen"][lives] = 0
    tracks["born_now"][lives] = 0
    over = (unseen_us > p[k.MEMORY] * 1e6) & ~(in_last & (unseen_us <= p[k.GAP] * 1e6))
    doubtful = (status == TENTATIVE) & (unseen_us > p[k.TENTATIVE_GAP] * 1e6) & ~in_last
    status[lives & over & (status == CONFIRMED)] = ENDED
    status[lives & (over | doubtful) & (status == TENTATIVE)] = FREE
    rows = np.flatnonzero((status == CONFIRMED) | (status == TENTATIVE))
    f = tracks["kalman"][rows].reshape(-1, 4, 5)
    fade = 1.0 + dt * p[[k.FADE_VELOCITY, k.FADE_VELOCITY, k.FADE_SIZE, k.FADE_SIZE]]
    unseen = ~in_last[rows]
    f[unseen, :, 1] = f[unseen, :, 1] / fade
    wide = f.astype(np.float64)
    height = np.maximum(wide[:, 3, 0], k.MIN_SIZE)[:, None]
    agility = p[k.AGILITY : k.AGILITY + 4] * stream[NOISE : NOISE + 4] * height
    f[..., 0], f[..., 2], f[..., 3], f[..., 4] = predicted(
        wide[..., 0], wide[..., 1], wide[..., 2], wide[..., 3], wide[..., 4], agility, p[k.DRIFT] * height, dt
    )
    tracks["kalman"][rows] = f.reshape(-1, 20)
    if len(ground):
        stood = rows[tracks["has_ground"][rows] == 1]
        mps = p[k.GROUND_AGILITY] * max(1.0, float(stream[NOISE]))
        _keep_ground(tracks, stood, ground_predicted(_ground(tracks[stood]), mps * mps, dt))


def _ground(t: Any) -> Any:
    return tuple(t["ground"].astype(np.float64).T)


def _keep_ground(tracks: Any, rows: Any, state: Any) -> None:
    tracks["ground"][rows] = np.stack(state, axis=1)


def _foot(z: F64, frame: _Frame) -> Any:
    p = frame.p
    return on_ground(z[:, 0], z[:, 1] + z[:, 3] / 2.0, z[:, 3], frame.ground, p[k.GROUND_X], p[k.GROUND_Y])


def _stand(tracks: Any, rows: Any, z: F64, frame: _Frame) -> None:
    gx, gy, rxx, rxy, ryy, third = _foot(z, frame)
    below = third > 0.0
    tracks["has_ground"][rows[~below]] = 0
    old = below & (tracks["has_ground"][rows] == 1)
    _keep_ground(
        tracks, rows[old],
        ground_corrected(_ground(tracks[rows[old]]), gx[old], gy[old], rxx[old], rxy[old], ryy[old]),
    )  # fmt: skip
    new = below & ~old
    o = np.zeros(int(np.count_nonzero(new)))
    vv = o + frame.p[k.GROUND_START] * frame.p[k.GROUND_START]
    _keep_ground(
        tracks, rows[new], (gx[new], gy[new], o, o, rxx[new], rxy[new], o, o, ryy[new], o, o, vv, o, vv)
    )  # fmt: skip
    tracks["has_ground"][rows[new]] = 1


def _observe_frame(boxes: Any, scores: Any, aspect: float) -> tuple[F64, npt.NDArray[np.bool_]]:
    b = boxes.astype(np.float64).reshape(-1, 4)
    good = (b[:, 0] >= -k.EDGE) & (b[:, 1] >= -k.EDGE) & (b[:, 2] <= 1.0 + k.EDGE) & (b[:, 3] <= 1.0 + k.EDGE)
    good &= (b[:, 0] < b[:, 2]) & (b[:, 1] < b[:, 3]) & (scores >= 0.0) & (scores <= 1.0)
    z = np.empty((len(b), 4))
    z[:, 0], z[:, 1] = (b[:, 0] + b[:, 2]) / 2.0 * aspect, (b[:, 1] + b[:, 3]) / 2.0
    z[:, 2], z[:, 3] = (b[:, 2] - b[:, 0]) * aspect, b[:, 3] - b[:, 1]
    z[~good] = (0.0, 0.0, 1.0, 1.0)
    return z, good


def _in_order(values: F64) -> float:
    """Add one after the other, as a loop does (`sum` of an array adds in pairs)."""
    return float(np.cumsum(values)[-1]) if len(values) else 0.0


def _own_score(stream: F64, scores: Any, good: Any, dt: float, p: F64) -> float:
    fade = 1.0 / (1.0 + dt / p[k.SCORE_MEMORY])
    s = scores[good].astype(np.float64)
    stream[SCORE_SQUARES] = stream[SCORE_SQUARES] * fade + _in_order(s * s) * dt
    stream[SCORE_SUM] = stream[SCORE_SUM] * fade + _in_order(s) * dt
    mean = (stream[SCORE_SQUARES] + p[k.SCORE_EXPECTED] * k.SCORE_PRIOR) / (stream[SCORE_SUM] + k.SCORE_PRIOR)
    return float(min(max(mean, p[k.SCORE_FLOOR]), 1.0))


def _leave_out_doubles(z: F64, scores: Any, order: Any, good: Any, p: F64) -> None:
    order = order[good[order]]
    if len(order) < 2:
        return
    x, width = z[order, 0], z[order, 2]
    last = np.searchsorted(x, x + width * (1.0 - p[k.DOUBLE_IOU]) / p[k.DOUBLE_IOU] * (1.0 + 1e-9), "right")
    counts = last - np.arange(len(order)) - 1
    if not counts.any():
        return
    a, b = _pairs(np.arange(len(order)) + 1, counts)
    i, j = order[a], order[b]
    zi, zj = z[i].T, z[j].T
    found = overlap(zi[0], zi[1], zi[2], zi[3], zj[0], zj[1], zj[2], zj[3], 0.5) > p[k.DOUBLE_IOU]
    i, j = i[found], j[found]
    i_is_weaker = (scores[i] < scores[j]) | ((scores[i] == scores[j]) & (i > j))
    good[np.where(i_is_weaker, i, j)] = False


def _pairs(first: Any, counts: Any) -> tuple[Any, Any]:
    """Return (row, first[row] + 0 … counts[row] − 1) of every row, flat."""
    a = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum(counts)
    return a, np.arange(int(ends[-1])) - np.repeat(ends - counts, counts) + first[a]


def _match(
    tracks: Any, frame: _Frame, order: Any, good: Any, column_of: Any, row_of: Any, last_us: int
) -> None:  # fmt: skip
    p, own = frame.p, frame.own
    s = frame.scores[order]
    rows = np.flatnonzero((tracks["status"] == CONFIRMED) | (tracks["status"] == TENTATIVE))
    strong = good[order] & (s >= p[k.SCORE_HIGH] * own)
    _round(tracks, rows, order[strong], frame, column_of, row_of, p[k.FLOOR_HIGH])
    weak = good[order] & (s >= p[k.SCORE_LOW] * own) & (s < p[k.SCORE_HIGH] * own)
    if weak.any():
        lately = last_us - tracks["seen_us"][rows] <= p[k.WEAK_AGE] * 1e6
        _round(
            tracks, rows[(column_of[rows] < 0) & lately], order[weak], frame, column_of, row_of, p[k.FLOOR_WEAK]
        )  # fmt: skip


def _round(
    tracks: Any, rows: Any, order: Any, frame: _Frame, column_of: Any, row_of: Any, floor: float
) -> None:  # fmt: skip
    if not len(rows) or not len(order):
        return
    a, b, costs = _candidates(tracks[rows], rows, order, frame, floor)
    if not len(a):
        return
    mine, theirs = np.full(len(rows), -1, np.int64), np.full(len(order), -1, np.int64)
    # A pair whose row and column have no other candidate is a match: its cost is below that of being alone.
    sure = (np.bincount(a, minlength=len(rows))[a] == 1) & (np.bincount(b, minlength=len(order))[b] == 1)
    mine[a[sure]], theirs[b[sure]] = b[sure], a[sure]
    if not sure.all():
        a, b, costs = a[~sure], b[~sure], costs[~sure]
        some_rows, some_columns = np.unique(a), np.unique(b)
        starts = np.append(np.searchsorted(a, some_rows), len(a))
        column, row = np.full(len(some_rows), -1, np.int64), np.full(len(some_columns), -1, np.int64)
        assign(
            starts.tolist(), np.searchsorted(some_columns, b).tolist(), costs.tolist(), 1.0 - float(floor), column, row
        )  # fmt: skip
        found = column >= 0
        mine[some_rows[found]] = some_columns[column[found]]
    found = mine >= 0
    column_of[rows[found]] = order[mine[found]]
    row_of[order[mine[found]]] = rows[found]


def _candidates(t: Any, rows: Any, order: Any, frame: _Frame, floor: float) -> tuple[Any, Any, Any]:
    """Return row, column and cost of each possible pair, by row, then along x."""
    z, p, own = frame.z, frame.p, frame.own
    f = t["kalman"].astype(np.float64)
    x = f[:, 0]
    w, h = np.maximum(f[:, 10], k.MIN_SIZE), np.maximum(f[:, 15], k.MIN_SIZE)
    zx = z[order, 0]
    far = reach(x, f[:, 2], w, h, max(0.0, float(z[order, 2].max())), p)
    first = np.searchsorted(zx, x - far, "left")
    counts = np.maximum(np.searchsorted(zx, x + far, "right") - first, 0)
    if not counts.any():
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    a, b = _pairs(first, counts)
    j = order[b]
    zh = z[j, 3]
    alike = (h[a] <= p[k.HEIGHT_RATIO_MAX] * zh) & (zh <= p[k.HEIGHT_RATIO_MAX] * h[a])
    if not alike.all():
        a, b, j, zh = a[alike], b[alike], j[alike], zh[alike]
    score, zt, ft = frame.scores[j], z[j].T, f[a].T
    wa, ha = w[a], h[a]
    dx, dy, dh = zt[0] - ft[0], zt[1] - ft[5], zh - ha
    doubt = p[k.ERROR_DOUBT]
    d2 = (
        dx * dx / (ft[2] + variance(p[k.ERROR], zh, score, own, doubt))
        + dy * dy / (ft[7] + variance(p[k.ERROR + 1], zh, score, own, doubt))
        + p[k.DISTANCE_HEIGHT] * dh * dh / (ft[17] + variance(p[k.ERROR + 3], zh, score, own, doubt))
    )
    if len(frame.ground):
        feet = _foot(zt.T, frame)
        there = (t["has_ground"][a] == 1) & (feet[5] > 0.0)
        apart = ground_distance(tuple(t["ground"].astype(np.float64)[a].T), *feet[:5])
        height = p[k.DISTANCE_HEIGHT] * dh * dh / (ft[17] + variance(p[k.ERROR + 3], zh, score, own, doubt))
        d2 = np.where(there, apart + height, d2)
    iou = overlap(ft[0], ft[5], wa, ha, zt[0], zt[1], zt[2], zh, 0.5 + p[k.BUFFER])
    cost = p[k.COST_UNSEEN] * ((frame.now_us - t["seen_us"]) * 1e-6)
    cost = cost + np.where(t["status"] == TENTATIVE, p[k.COST_TENTATIVE], 0.0)
    s = likeness(iou, d2, wa, ha, zt[2], zh, score, p) - cost[a]
    s = np.where(frame.labels[j] != t["label"][a], s - p[k.COST_LABEL], s)
    if frame.affinity.shape[0]:
        bonus = p[k.WEIGHT_EMBEDDING] * (frame.affinity[rows[a], j].astype(np.float64) - p[k.EMBEDDING_EVEN])
        s = np.where(t["has_embedding"][a] == 1, s + bonus, s)
    possible = ((d2 <= p[k.DISTANCE_MAX]) | (iou >= k.IOU_MIN)) & (s > floor)
    return a[possible], b[possible], np.maximum(1.0 - s[possible], 0.0)


def _update(
    tracks: Any, header: Any, stream: F64, frame: _Frame, boxes: Any, column_of: Any, dt: float, aspect: float
) -> None:  # fmt: skip
    lives = (tracks["status"] == CONFIRMED) | (tracks["status"] == TENTATIVE)
    found = lives & (column_of[: len(tracks)] >= 0)
    _foresee(tracks, np.flatnonzero(lives & ~found), aspect)
    rows = np.flatnonzero(found)
    surprise = np.zeros(4)
    if len(rows):
        columns = column_of[rows]
        surprise = _correct(tracks, rows, columns, frame)
        _see(tracks, rows, columns, frame, boxes)
        if len(frame.ground):
            _stand(tracks, rows, frame.z[columns], frame)
        _confirm(tracks, rows, columns, header, frame)
    learn(stream, surprise, dt, frame.p)


def _foresee(tracks: Any, rows: Any, aspect: float) -> None:
    if not len(rows):
        return
    wide, box = tracks["kalman"][rows].astype(np.float64), tracks["box"][rows]
    half_w, half_h = np.maximum(wide[:, 10], k.MIN_SIZE) / 2.0, np.maximum(wide[:, 15], k.MIN_SIZE) / 2.0
    box[:, 0], box[:, 1] = (wide[:, 0] - half_w) / aspect, wide[:, 5] - half_h
    box[:, 2], box[:, 3] = (wide[:, 0] + half_w) / aspect, wide[:, 5] + half_h
    tracks["box"][rows] = box


def _correct(tracks: Any, rows: Any, columns: Any, frame: _Frame) -> F64:
    p = frame.p
    z, f = frame.z[columns], tracks["kalman"][rows].reshape(-1, 4, 5)
    wide = f.astype(np.float64)
    r = variance(
        p[k.ERROR : k.ERROR + 4], z[:, 3:4], frame.scores[columns][:, None], frame.own, p[k.ERROR_DOUBT]
    )  # fmt: skip
    e = z - wide[..., 0]
    surprise = np.minimum(e * e / (wide[..., 2] + r), p[k.SURPRISE_MAX]) - 1.0
    surprise = surprise[tracks["hits"][rows] >= k.SETTLED_HITS]
    f[..., 0], f[..., 1], f[..., 2], f[..., 3], f[..., 4] = corrected(
        wide[..., 0], wide[..., 1], wide[..., 2], wide[..., 3], wide[..., 4], z, r
    )
    tracks["kalman"][rows] = f.reshape(-1, 20)
    return np.cumsum(surprise, axis=0)[-1] if len(surprise) else np.zeros(4)


def _see(tracks: Any, rows: Any, columns: Any, frame: _Frame, boxes: Any) -> None:
    weights = frame.scores[columns] * np.minimum((frame.now_us - tracks["seen_us"][rows]) * 1e-6, k.VOTE_GAP)
    tracks["observed"][rows] = frame.z[columns]
    tracks["box"][rows] = np.minimum(np.maximum(boxes[columns], np.float32(0.0)), np.float32(1.0))
    tracks["score"][rows] = frame.scores[columns].astype(np.float32)
    tracks["seen_us"][rows], tracks["seen"][rows] = frame.now_us, 1
    tracks["hits"][rows] += 1
    labels = frame.labels[columns]
    same = labels == tracks["label"][rows]
    agree, w = rows[same], weights[same]
    tracks["label_weight"][agree] = np.minimum(tracks["label_weight"][agree].astype(np.float64) + w, k.VOTE_MEMORY)
    tracks["rival_weight"][agree] = np.maximum(tracks["rival_weight"][agree].astype(np.float64) - 0.5 * w, 0.0)
    for i, label, weight in zip(rows[~same].tolist(), labels[~same].tolist(), weights[~same].tolist(), strict=True):
        vote(tracks[i], label, weight)


def vote(t: Any, label: int, weight: float) -> None:
    """Take a vote for another class than the track's (see `kernel._vote`)."""
    if label == t["rival"]:
        t["rival_weight"] = min(float(t["rival_weight"]) + weight, k.VOTE_MEMORY + 2.0 * k.VOTE_LEAD)
    elif t["rival_weight"] <= weight:
        t["rival"], t["rival_weight"] = label, weight
    else:
        t["rival_weight"] = float(t["rival_weight"]) - weight
    if float(t["rival_weight"]) > float(t["label_weight"]) + k.VOTE_LEAD:
        label_before, weight_before = int(t["label"]), float(t["label_weight"])
        t["label"], t["label_weight"] = int(t["rival"]), min(float(t["rival_weight"]), k.VOTE_MEMORY)
        t["rival"], t["rival_weight"] = label_before, weight_before


def _confirm(tracks: Any, rows: Any, columns: Any, header: Any, frame: _Frame) -> None:
    p = frame.p
    waiting = tracks["status"][rows] == TENTATIVE
    if not waiting.any():
        return
    i = rows[waiting]
    tracks["score_sum"][i] += frame.scores[columns[waiting]].astype(np.float32)
    doubt = np.maximum(0.0, 1.0 - tracks["score_sum"][i].astype(np.float64) / tracks["hits"][i] / frame.own)
    needed_us = (p[k.PROBATION] + p[k.DOUBT] * doubt) * 1e6
    i = i[frame.now_us - tracks["born_us"][i] + k.TICK_US >= needed_us]
    tracks["status"][i], tracks["born_now"][i], tracks["first_label"][i] = CONFIRMED, 1, tracks["label"][i]
    tracks["ordinal"][i] = header[NEXT_ORDINAL] + np.arange(len(i))
    header[NEXT_ORDINAL] += len(i)


def _bear(
    tracks: Any, header: Any, stream: F64, frame: _Frame, boxes: Any, scores: Any, column_of: Any, unmatched: Any
) -> None:  # fmt: skip
    slots = int(header[SLOTS])
    newborn = np.flatnonzero(unmatched & ~(scores < frame.p[k.SCORE_NEW] * frame.own))
    if len(newborn):
        free = np.flatnonzero(tracks["status"][:slots] == FREE)[: len(newborn)]
        beyond = np.arange(slots, min(slots + len(newborn) - len(free), len(tracks)))
        into = np.concatenate([free, beyond])
        header[REFUSED_BIRTHS] += len(newborn) - len(into)
        newborn = newborn[: len(into)]
        _start(tracks, into, newborn, stream, frame, boxes, scores)
        if len(frame.ground):
            _stand(tracks, into, frame.z[newborn], frame)
        column_of[into] = newborn
        slots += len(beyond)
    lives = np.flatnonzero(tracks["status"][:slots] != FREE)
    header[SLOTS] = int(lives[-1]) + 1 if len(lives) else 0


def _start(
    tracks: Any, rows: Any, columns: Any, stream: F64, frame: _Frame, boxes: Any, scores: Any
) -> None:  # fmt: skip
    t, z, p = tracks[rows], frame.z[columns], frame.p
    t["ordinal"], t["born_us"], t["hits"], t["status"] = -1, frame.now_us, 1, TENTATIVE
    t["born_now"], t["first_label"] = 0, 0
    t["label"] = t["rival"] = frame.labels[columns]
    t["label_weight"], t["rival_weight"], t["ground"] = 0.0, 0.0, 0.0
    t["score_sum"] = t["score"] = scores[columns]
    t["has_embedding"], t["has_ground"], t["seen"], t["seen_us"] = 0, 0, 1, frame.now_us
    t["observed"] = z
    t["box"] = np.minimum(np.maximum(boxes[columns], np.float32(0.0)), np.float32(1.0))
    height, score = z[:, 3:4], frame.scores[columns][:, None]
    v = p[k.START : k.START + 4] * height * np.maximum(1.0, p[k.START_NOISE] * stream[NOISE : NOISE + 4])
    f = np.zeros((len(rows), 4, 5), np.float32)
    f[..., 0], f[..., 4] = z, v * v
    f[..., 2] = variance(p[k.ERROR : k.ERROR + 4], height, score, frame.own, p[k.ERROR_DOUBT])
    t["kalman"] = f.reshape(-1, 20)
    tracks[rows] = t


def publish(
    tracks: Any, slots: int, aspect: float, p: F64, born_us: Any, ordinals: Any, boxes: Any, velocities: Any,
    states: Any, labels: Any, scores: Any, births: Any, ends: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Do what `kernel.publish` does."""
    status = tracks["status"][:slots]
    ended = np.flatnonzero(status == ENDED)
    rows = np.flatnonzero(status == CONFIRMED)
    t = tracks[rows]
    born = rows[t["born_now"] == 1]
    b = t["box"]
    gone = (t["seen"] == 0) & ((b[:, 2] <= 0.0) | (b[:, 3] <= 0.0) | (b[:, 0] >= 1.0) | (b[:, 1] >= 1.0))
    if gone.any():
        t = t[~gone]
    n = len(t)
    ends[: len(ended)], births[: len(born)] = ended, born
    born_us[:n], ordinals[:n], scores[:n], labels[:n] = t["born_us"], t["ordinal"], t["score"], t["label"]
    states[:n] = 1 - t["seen"]
    f, o = t["kalman"].astype(np.float64), t["observed"].astype(np.float64)
    share = np.where(t["seen"] == 1, p[k.PUBLISH_SMOOTH], 1.0)
    for c, scale in ((0, aspect), (1, 1.0)):
        o_centre, o_half = o[:, c], o[:, c + 2] / 2.0
        k_centre, k_half = f[:, 5 * c], np.maximum(f[:, 5 * c + 10], k.MIN_SIZE) / 2.0
        centre, half = o_centre + share * (k_centre - o_centre), o_half + share * (k_half - o_half)
        boxes[:n, c] = np.maximum((centre - half) / scale, np.minimum(0.0, (o_centre - o_half) / scale))
        boxes[:n, c + 2] = np.minimum((centre + half) / scale, np.maximum(1.0, (o_centre + o_half) / scale))
    velocities[:n, 0], velocities[:n, 1] = f[:, 1] / aspect, f[:, 6]
    return n, len(born), len(ended)


def end_all(tracks: Any, header: Any) -> None:
    """Do what `kernel.end_all` does."""
    t = tracks[: int(header[SLOTS])]
    confirmed, tentative = t["status"] == CONFIRMED, t["status"] == TENTATIVE
    t["seen"][confirmed] = 0
    t["born_now"][confirmed] = 0
    t["status"][confirmed], t["status"][tentative] = ENDED, FREE
