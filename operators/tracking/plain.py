"""The step of `kernel` over whole arrays, for where there is no numba; the same bits, tested.

It shares the numbers and most formulas with `kernel`, not the loops. What costs here is the number of calls to numpy, and three
times as much each call for operands of different shapes or types or that do not lie side by side. So

- the table's records are seen as plain numbers (`_Rows`), and coordinates lie side by side in one array;
- what is taken out of the table is first made float64;
- all pairs of a frame are looked at once, for both rounds of the assignment;
- only what has more than one candidate goes through the assignment, as lists;
- what does not occur in most frames (doubles, weak pairs, births, …) is asked for first.
"""

from __future__ import annotations

import functools
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
    TRACK,
)

F64 = npt.NDArray[np.float64]


def _formula(function: Any) -> Any:
    """Return what stands in the source, which works on arrays, be it compiled or not."""
    return getattr(function, "py_func", None) or function.__wrapped__


predicted, variance, corrected = _formula(k.predicted), _formula(k.variance), _formula(k.corrected)
augment = _formula(k.augment)
on_ground, ground_predicted = _formula(k.on_ground), _formula(k.ground_predicted)
ground_distance, ground_corrected = _formula(k.ground_distance), _formula(k.ground_corrected)


def _places(name: str) -> tuple[int, int]:
    """Return the first place of a field and the one behind its last among the record's numbers of the field's own size."""
    dtype, offset = TRACK.fields[name][:2]  # type: ignore[index]
    first = offset // dtype.base.itemsize
    return first, first + dtype.itemsize // dtype.base.itemsize


WORDS = TRACK.itemsize // 8
ORDINAL, BORN_US, SEEN_US = _places("ordinal")[0], _places("born_us")[0], _places("seen_us")[0]
KALMAN, GROUND, OBSERVED, BOX = (slice(*_places(name)) for name in ("kalman", "ground", "observed", "box"))
SCORE, SCORE_SUM_OF, HITS = _places("score")[0], _places("score_sum")[0], _places("hits")[0]
LABEL_WEIGHT, RIVAL_WEIGHT = _places("label_weight")[0], _places("rival_weight")[0]
POSITION, VELOCITY = slice(KALMAN.start, KALMAN.stop, 5), slice(KALMAN.start + 1, KALMAN.start + 7, 5)
SIGHTING = slice(OBSERVED.start, SCORE + 1)  # `observed`, `box` and `score` lie side by side
STATUS, SEEN, BORN_NOW = _places("status")[0], _places("seen")[0], _places("born_now")[0]
LABEL, RIVAL, FIRST_LABEL = _places("label")[0], _places("rival")[0], _places("first_label")[0]
HAS_EMBEDDING, HAS_GROUND = _places("has_embedding")[0], _places("has_ground")[0]


class _Rows:
    """Rows of the table as numbers of each size."""

    __slots__ = ("bytes", "floats", "words")

    def __init__(self, words: Any) -> None:
        self.words, self.floats, self.bytes = words, words.view(np.float32), words.view(np.uint8)

    def kalman(self) -> Any:
        """Return a view of 5 (position, velocity, pp, pv, vv) × 4 coordinates × rows."""
        return self.floats[:, KALMAN].reshape(-1, 4, 5).transpose(2, 1, 0)

    def hits(self) -> Any:
        """Return a view of the numbers of observations."""
        return self.words.view(np.int32)[:, HITS]


count = np.count_nonzero  # a fifth of the time of `all` and `any`
NUMBERS = np.arange(1024)


def _up_to(n: int) -> Any:
    """Return 0 … n − 1, not to be changed."""
    return NUMBERS[:n] if n <= len(NUMBERS) else np.arange(n)


@functools.lru_cache(maxsize=64)
def _bounds(n: int) -> tuple[F64, F64]:
    """Return the least and the most that width, height, x1, y1, x2, y2 and score of `n` usable detections can be."""
    least = np.array([5e-324, 5e-324, -k.EDGE, -k.EDGE, -np.inf, -np.inf, 0.0])
    most = np.array([np.inf, np.inf, np.inf, np.inf, 1.0 + k.EDGE, 1.0 + k.EDGE, 1.0])
    return least.repeat(n).reshape(7, n), most.repeat(n).reshape(7, n)


def _one(value: float, dtype: Any = None) -> Any:
    """Return an array of one number, which numpy takes much faster than Python's."""
    return np.array(value, dtype)


ZERO, HALF, ONE, MICRO, MILLION = _one(0.0), _one(0.5), _one(1.0), _one(1e-6), _one(1e6)
MIN_SIZE, IOU_MIN = _one(k.MIN_SIZE), _one(k.IOU_MIN)
FREE_CODE, TENTATIVE_CODE, CONFIRMED_CODE = bytes((FREE,)), _one(TENTATIVE, np.uint8), _one(CONFIRMED, np.uint8)
NOT_SEEN, ONE_MORE = _one(0, np.uint8), _one(1, np.int32)
VOTE_MEMORY, VOTE_GAP = _one(k.VOTE_MEMORY), _one(k.VOTE_GAP)
CALMER, LIVELIER = _one(k.CALMER), _one(k.LIVELIER)
_NONE = np.empty(0, np.int64)


class _Numbers:
    """The parameters: as a list of numbers, and those of the four coordinates as columns."""

    def __init__(self, vector: F64) -> None:
        self.p: list[float] = vector.tolist()
        p = self.p
        self.half, self.area = _one(0.5 + p[k.BUFFER]), _one(4.0 * (0.5 + p[k.BUFFER]) * (0.5 + p[k.BUFFER]))
        weights = p[k.WEIGHT_IOU], p[k.WEIGHT_DISTANCE], p[k.WEIGHT_SHAPE]
        self.weights = (*(_one(w) for w in weights), _one(weights[0] + weights[1] + weights[2]))
        self.drift, self.cost_unseen = _one(p[k.DRIFT]), _one(p[k.COST_UNSEEN])
        self.distance_half, self.distance_max = _one(p[k.DISTANCE_HALF]), _one(p[k.DISTANCE_MAX])
        self.score_share = _one(1.0 - p[k.SCORE_SHARE]), _one(p[k.SCORE_SHARE])
        self.height_ratio_max, self.surprise_max = _one(p[k.HEIGHT_RATIO_MAX]), _one(p[k.SURPRISE_MAX])
        self.agility, self.start, self.error = (vector[i : i + 4, None] for i in (k.AGILITY, k.START, k.ERROR))
        self.fade = vector[[k.FADE_VELOCITY, k.FADE_VELOCITY, k.FADE_SIZE, k.FADE_SIZE], None]
        self.distance_height = _one(p[k.DISTANCE_HEIGHT])
        self.noise_min, self.noise_max = _one(p[k.NOISE_MIN]), _one(p[k.NOISE_MAX])
        self.reach_error, self.reach_doubt = _one(p[k.ERROR] * p[k.HEIGHT_RATIO_MAX]), _one(1.0 + p[k.ERROR_DOUBT])
        self.error_doubt = _one(p[k.ERROR_DOUBT])
        self.score_least = min(p[k.SCORE_LOW], p[k.SCORE_HIGH], p[k.SCORE_NEW])
        self.floor_least = _one(min(p[k.FLOOR_HIGH], p[k.FLOOR_WEAK]))
        # Two boxes of IoU > c have centres nearer than (1 − c)/c of either one's width, and of its height.
        self.double_reach = _one((1.0 - vector[k.DOUBLE_IOU]) / vector[k.DOUBLE_IOU] * (1.0 + 1e-9))


@functools.lru_cache(maxsize=16)
def _numbers(vector: bytes) -> _Numbers:
    with np.errstate(all="ignore"):
        return _Numbers(np.frombuffer(vector))


class _Frame:
    """What a frame's functions share. Of the rows: `slots_of` their slots, None for all; `is_fresh`: all were seen in the
    last frame; `unseen_s` for how long they were not; `tentative`: which are on probation. `own`: the stream's own score."""

    __slots__ = (
        "affinity", "aspect", "dt", "ground", "is_fresh", "last_us", "now_us", "numbers", "own", "p", "slots_of", "tentative",
        "unseen_s",
    )  # fmt: skip

    def __init__(
        self, vector: F64, affinity: Any, ground: F64, now_us: int, last_us: int, aspect: float
    ) -> None:  # fmt: skip
        self.numbers = _numbers(vector.tobytes())
        self.p, self.affinity, self.ground = self.numbers.p, affinity, ground
        self.now_us, self.last_us, self.dt, self.aspect = now_us, last_us, (now_us - last_us) * 1e-6, _one(aspect)
        self.own, self.is_fresh, self.tentative = 1.0, True, _NONE
        self.slots_of: Any = None
        self.unseen_s: Any = None


class _Seen:
    """Usable detections by centre x: `sightings` 9×M as the record has them (`z` 4×M, box, scores), `variances` 4×M, labels,
    `order` in the message."""

    __slots__ = ("labels", "order", "scores", "sightings", "variances", "z")

    def __init__(self, sightings: F64, labels: Any, order: Any) -> None:
        self.sightings, self.labels, self.order = sightings, labels, order
        self.z = self.variances = sightings[:4]
        self.scores = sightings[8]

    def only(self, kept: Any) -> _Seen:
        """Return those of a mask."""
        return _Seen(self.sightings[:, kept], self.labels[kept], self.order[kept])


def step(
    tracks: Any, header: Any, stream: Any, boxes: Any, scores: Any, classes: Any, label_of: Any, affinity: Any,
    ground: Any, column_of: Any, now_us: int, last_us: int, aspect: float, p: F64,
) -> None:  # fmt: skip
    """Do what `kernel.step` does."""
    frame = _Frame(p, affinity, ground, now_us, last_us, aspect)
    with np.errstate(all="ignore"):
        _step(tracks, header, stream, boxes, scores, classes, label_of, column_of, frame)


def _step(
    tracks: Any, header: Any, stream: F64, boxes: Any, scores: Any, classes: Any, label_of: Any, column_of: Any,
    frame: _Frame,
) -> None:  # fmt: skip
    slots = int(header[SLOTS])
    if stream[NOISE] == 0.0:
        stream[NOISE:] = 1.0
    table = tracks.view(np.int64).reshape(-1, WORDS)
    column_of[:slots] = -1
    slots_of, rows, wide = _age(table[:slots], stream, frame)
    frame.slots_of = slots_of
    seen = _observe(boxes, scores, classes, label_of, header, stream, frame)
    matched, columns = _match(rows, wide, seen, frame)
    if len(matched):
        column_of[slots_of[matched] if slots_of is not None else matched] = seen.order[columns]
    _update(rows, wide, matched, columns, header, stream, seen, frame)
    if slots_of is not None and len(slots_of):
        table[slots_of] = rows.words
    _bear(table, header, stream, columns, column_of, seen, frame)


# ---- tracks to now -----------------------------------------------------------------------------------------------


def _age(table: Any, stream: F64, frame: _Frame) -> tuple[Any, _Rows, F64]:
    """Return the slots that live on (None: all), their rows (copied unless all), and the filters in float64."""
    status = table.view(np.uint8)[:, STATUS]
    codes = status.tobytes()
    if ENDED in codes:
        status[status == ENDED] = FREE
        codes = status.tobytes()
    slots_of = None
    if FREE in codes:
        slots_of = status.nonzero()[0]
    rows = _Rows(table if slots_of is None else table.take(slots_of, 0))
    if not len(rows.words):
        return slots_of, rows, np.empty((5, 4, 0))
    rows.bytes[:, SEEN] = 0
    rows.bytes[:, BORN_NOW] = 0
    unseen_us = _one(frame.now_us) - rows.words[:, SEEN_US]
    unseen_s = unseen_us.astype(np.float64) * MICRO
    in_last = unseen_us == _one(frame.now_us - frame.last_us)
    frame.is_fresh = count(in_last) == len(in_last)
    p, has_tentative = frame.p, TENTATIVE in codes
    shortest_s = min(p[k.MEMORY], p[k.TENTATIVE_GAP]) if has_tentative else p[k.MEMORY]
    if max(unseen_us.tolist()) > shortest_s * 1e6:
        lives = _drop(rows, unseen_us, in_last, frame)
        if count(lives) < len(lives):
            if slots_of is None:
                slots_of = np.arange(len(table))
            table[slots_of] = rows.words
            slots_of, in_last, unseen_s = slots_of[lives], in_last[lives], unseen_s[lives]
            rows = _Rows(rows.words[lives])
    if has_tentative:
        frame.tentative = (rows.bytes[:, STATUS] == TENTATIVE_CODE).nonzero()[0]
    frame.unseen_s = unseen_s
    return slots_of, rows, _predict(rows, in_last, stream, frame)


def _drop(rows: _Rows, unseen_us: Any, in_last: Any, frame: _Frame) -> Any:
    """End or free who was unseen for too long; return who lives."""
    p, status = frame.p, rows.bytes[:, STATUS]
    over = (unseen_us > p[k.MEMORY] * 1e6) & ~(in_last & (unseen_us <= p[k.GAP] * 1e6))
    doubtful = (unseen_us > p[k.TENTATIVE_GAP] * 1e6) & ~in_last
    ends, goes = over & (status == CONFIRMED), (over | doubtful) & (status == TENTATIVE)
    status[ends] = ENDED
    status[goes] = FREE
    return ~(ends | goes)


def _predict(rows: _Rows, in_last: Any, stream: F64, frame: _Frame) -> F64:
    """Move the filters to now."""
    dt, f = _one(frame.dt), rows.kalman()
    wide = f.astype(np.float64, order="C")
    x, v, pp, pv, vv = wide[0], wide[1], wide[2], wide[3], wide[4]
    height = np.maximum(x[3], MIN_SIZE)
    if not frame.is_fresh:
        faded = (v / (ONE + dt * frame.numbers.fade)).astype(np.float32)
        np.copyto(v, faded, where=~in_last)
    agility = frame.numbers.agility * stream[NOISE : NOISE + 4, None] * height
    x[:], pp[:], pv[:], vv[:] = predicted(x, v, pp, pv, vv, agility, frame.numbers.drift * height, dt)
    f[:] = rounded = wide.astype(np.float32)
    if len(frame.ground):
        stood = rows.bytes[:, HAS_GROUND].nonzero()[0]
        mps = frame.p[k.GROUND_AGILITY] * max(1.0, float(stream[NOISE]))
        rows.floats[stood, GROUND] = np.stack(ground_predicted(_ground(rows, stood), mps * mps, dt), axis=1)
    aged: F64 = rounded.astype(np.float64)
    return aged


def _ground(rows: _Rows, some: Any) -> Any:
    return tuple(rows.floats[some, GROUND].astype(np.float64).T)


# ---- detections --------------------------------------------------------------------------------------------------


def _observe(
    boxes: Any, scores: Any, classes: Any, label_of: Any, header: Any, stream: F64, frame: _Frame
) -> _Seen:  # fmt: skip
    """Return the usable detections, by centre x; learn the stream's own score."""
    numbers, n = frame.numbers, len(scores)
    a = np.empty((9, n))
    z, b, s = a[:4], a[4:8], a[8]
    b[:], s[:] = boxes.reshape(-1, 4).T, scores
    np.subtract(b[2:], b[:2], out=z[2:])
    good = _good(a[2:])
    if good is not None:
        header[BAD_DETECTIONS] += n - count(good)
    centre = z[:2]
    np.add(b[:2], b[2:], out=centre)
    centre *= HALF
    z[0] *= frame.aspect
    z[2] *= frame.aspect
    np.minimum(np.maximum(b, ZERO, out=b), ONE, out=b)
    b += ZERO  # −0.0 becomes 0.0
    _learn_score(stream, s if good is None else s[good], frame)
    usable = s >= numbers.score_least * frame.own
    if good is not None:
        usable &= good
    order = z[0].argsort(kind="stable")
    if count(usable) < n:
        order = order[usable[order]]
    seen = _without_doubles(_Seen(a.take(order, 1), label_of[classes[order]], order), frame)
    seen.variances = variance(numbers.error, seen.z[3], seen.scores, _one(frame.own), numbers.error_doubt)
    return seen


def _good(q: F64) -> Any:
    """Return which detections (rows as of `_bounds`) are usable, None for all."""
    least, most = _bounds(q.shape[1])
    inside = q >= least  # False for NaN too
    inside &= q <= most
    return None if count(inside) == inside.size else inside.all(axis=0)


def _learn_score(stream: F64, s: F64, frame: _Frame) -> None:
    """Fade in this frame's scores, one after the other as a loop does (`sum` of an array adds in pairs)."""
    p, dt = frame.p, frame.dt
    fade = 1.0 / (1.0 + dt / p[k.SCORE_MEMORY])
    squares = total = 0.0
    if len(s):
        squares, total = float(np.add.accumulate(s * s)[-1]), float(np.add.accumulate(s)[-1])
    stream[SCORE_SQUARES] = squares = float(stream[SCORE_SQUARES]) * fade + squares * dt
    stream[SCORE_SUM] = total = float(stream[SCORE_SUM]) * fade + total * dt
    mean = (squares + p[k.SCORE_EXPECTED] * k.SCORE_PRIOR) / (total + k.SCORE_PRIOR)
    frame.own = min(max(mean, p[k.SCORE_FLOOR]), 1.0)


def _without_doubles(seen: _Seen, frame: _Frame) -> _Seen:
    """Leave out what a stronger one overlaps by more than `double_iou`."""
    z, most, near = seen.z, frame.p[k.DOUBLE_IOU], frame.numbers.double_reach
    first = _up_to(z.shape[1] + 1)[1:]
    counts = z[0].searchsorted(z[0] + near * z[2], "right") - first
    if not count(counts):
        return seen
    a, b = _pairs(first, counts)
    y = z[1]
    close = (np.abs(y[a] - y[b]) <= (near * z[3])[a]).nonzero()[0]
    if not len(close):
        return seen
    a, b = a[close], b[close]
    both, sum_of_areas = _overlap(z.take(a, 1), z.take(b, 1), HALF, ONE)
    found = both / (sum_of_areas - both) > most
    if not count(found):
        return seen
    a, b = a[found], b[found]
    sa, sb = seen.scores[a], seen.scores[b]
    kept = np.ones(len(z[0]), bool)
    kept[np.where((sa < sb) | ((sa == sb) & (seen.order[a] > seen.order[b])), a, b)] = False
    return seen.only(kept)


def _pairs(first: Any, counts: Any) -> tuple[Any, Any]:
    """Return (row, first[row] + 0 … counts[row] − 1) of every row, flat."""
    ends = np.add.accumulate(counts)
    a = _up_to(len(counts)).repeat(counts)
    return a, _up_to(len(a)) + (first - ends + counts)[a]


def _overlap(t: F64, z: F64, half: F64, area: F64) -> tuple[F64, F64]:
    """Return the common area of boxes (centre and size, 4×N) that reach `half` of their size to each side, and the sum of
    both areas (see `kernel.overlap`). `area` is 4 `half`²."""
    reach_t, reach_z = half * t[2:], half * z[2:]
    o = np.minimum(t[:2] + reach_t, z[:2] + reach_z) - np.maximum(t[:2] - reach_t, z[:2] - reach_z)
    o = np.maximum(o, ZERO, out=o)
    return o[0] * o[1], area * (t[2] * t[3] + z[2] * z[3])


# ---- assignment --------------------------------------------------------------------------------------------------


def _match(rows: _Rows, wide: F64, seen: _Seen, frame: _Frame) -> tuple[Any, Any]:
    """Return rows (rising) and their detections."""
    n, m = len(rows.words), len(seen.scores)
    if not n or not m:
        return _NONE, _NONE
    a, b, s = _candidates(rows, wide, seen, frame)
    p = frame.p
    strong = seen.scores >= p[k.SCORE_HIGH] * frame.own
    if count(strong) == m:
        return _round(a, b, s, p[k.FLOOR_HIGH])
    first = strong.take(b)
    i, j = _round(a[first], b[first], s[first], p[k.FLOOR_HIGH])
    weak = ~first & (seen.scores >= p[k.SCORE_LOW] * frame.own).take(b)
    if not count(weak):
        return i, j
    free = frame.last_us - rows.words[:, SEEN_US] <= p[k.WEAK_AGE] * 1e6
    free[i] = False
    weak &= free.take(a)
    if not count(weak):
        return i, j
    i_weak, j_weak = _round(a[weak], b[weak], s[weak], p[k.FLOOR_WEAK])
    i, j = np.concatenate((i, i_weak)), np.concatenate((j, j_weak))
    rising = i.argsort(kind="stable")
    return i.take(rising), j.take(rising)


def _round(a: Any, b: Any, s: F64, floor: float) -> tuple[Any, Any]:
    """Return the best matches among candidate pairs, by row. A pair without rival is one: it costs less than being alone."""
    alone = 1.0 - floor
    costs = np.maximum(ONE - s, ZERO)
    some = s > floor
    if count(some) < len(s):
        a, b, costs = a[some], b[some], costs[some]
    if len(a) < 2 or (count(a[1:] != a[:-1]) == len(a) - 1 and len(set(b.tolist())) == len(b)):
        sure = costs < alone
        return (a, b) if count(sure) == len(a) else (a[sure], b[sure])
    rivals_a, rivals_b = np.bincount(a).take(a), np.bincount(b).take(b)
    sure = (rivals_a == 1) & (rivals_b == 1)
    row_of, column_of = a[sure & (costs < alone)].tolist(), b[sure & (costs < alone)].tolist()
    _solve(a[~sure].tolist(), b[~sure].tolist(), costs[~sure].tolist(), alone, row_of, column_of)
    i, j = np.array(row_of, np.int64), np.array(column_of, np.int64)
    rising = i.argsort()
    return i.take(rising), j.take(rising)


def _solve(
    a: list[int], b: list[int], costs: list[float], alone: float, rows: list[int], columns: list[int]
) -> None:  # fmt: skip
    """Append the best matches of pairs by rising row to `rows` and `columns`."""
    column_names = sorted(set(b))
    number_of = {name: i for i, name in enumerate(column_names)}
    starts = [e for e, row in enumerate(a) if not e or row != a[e - 1]]
    n, m = len(starts), len(column_names)
    row_names = [a[e] for e in starts]
    column_of, row_of = [-1] * n, [-1] * m
    augment(
        [*starts, len(a)], [number_of[name] for name in b], costs, alone, column_of, row_of, [0.0] * n, [0.0] * m,
        [0.0] * m, [0.0] * n, [0] * m, [0] * m, [0] * m, [0] * (n + 1),
    )  # fmt: skip
    for row, j in zip(row_names, column_of, strict=True):
        if j >= 0:
            rows.append(row)
            columns.append(column_names[j])


def _candidates(rows: _Rows, wide: F64, seen: _Seen, frame: _Frame) -> tuple[Any, Any, F64]:
    """Return row, detection and similarity of each possible pair, by row, then along x."""
    z, numbers = seen.z, frame.numbers
    t = wide[0].copy()
    np.maximum(t[2:], MIN_SIZE, out=t[2:])
    far = _reach(wide[2, 0], t[2], t[3], _one(max(z[2].tolist())), numbers)
    first = z[0].searchsorted(t[0] - far)
    a, b = _pairs(first, z[0].searchsorted(t[0] + far, "right") - first)
    if not len(a):
        return _NONE, _NONE, np.empty(0)
    zb, ta = z.take(b, 1), t.take(a, 1)
    e = zb - ta
    d2s = e.copy()
    d2s[3] *= numbers.distance_height
    d2s *= e
    d2s /= wide[2].take(a, 1) + seen.variances.take(b, 1)
    d2 = d2s[0] + d2s[1] + d2s[3]
    if len(frame.ground):
        d2 = _on_ground(rows, a, zb, d2, d2s[3], frame)
    both, sum_of_areas = _overlap(ta, zb, numbers.half, numbers.area)
    iou = both / (sum_of_areas - both)
    small, large = np.minimum(ta[2:], zb[2:]), np.maximum(ta[2:], zb[2:])
    s = _likeness(iou, d2, small / large, numbers)
    s *= (numbers.score_share[0] + numbers.score_share[1] * seen.scores)[b]
    _charge(s, rows, a, seen.labels[b], frame)
    if frame.affinity.shape[0]:
        s = _with_looks(s, rows, a, seen.order[b], frame)
    possible = d2 <= numbers.distance_max
    possible |= iou >= IOU_MIN
    possible &= large[1] <= numbers.height_ratio_max * small[1]
    possible &= s > numbers.floor_least
    return (a, b, s) if count(possible) == len(s) else (a[possible], b[possible], s[possible])


def _reach(variances: F64, w: F64, h: F64, widest: Any, numbers: _Numbers) -> F64:
    """Return what `kernel.reach` does."""
    far: F64 = numbers.reach_error * h
    far *= numbers.reach_doubt
    far *= far
    far += variances
    far *= numbers.distance_max
    np.sqrt(far, out=far)
    wide = w + widest
    wide *= numbers.half
    return np.maximum(far, wide, out=far)


def _charge(s: F64, rows: _Rows, a: Any, labels: Any, frame: _Frame) -> None:
    """Take from similarities what time unseen, probation and another class cost."""
    p, own_labels = frame.p, rows.bytes[:, LABEL]
    cost = frame.numbers.cost_unseen * frame.unseen_s
    if len(frame.tentative):
        cost[frame.tentative] += p[k.COST_TENTATIVE]
    s -= cost[a]
    if len(set(labels.tobytes() + own_labels.tobytes())) > 1:
        np.subtract(s, p[k.COST_LABEL], out=s, where=labels != own_labels[a])


def _likeness(iou: F64, d2: F64, ratios: F64, numbers: _Numbers) -> F64:
    """Return the similarity before score and costs; `ratios` of widths and heights (see `kernel.likeness`)."""
    by_iou, by_distance, by_shape, sum_of_weights = numbers.weights
    s: F64 = by_iou * iou
    s += by_distance * (ONE / (ONE + d2 / numbers.distance_half))
    s += by_shape * (ratios[1] * ratios[0])
    s /= sum_of_weights
    return s


def _with_looks(s: F64, rows: _Rows, a: Any, columns: Any, frame: _Frame) -> F64:
    p, slots = frame.p, a if frame.slots_of is None else frame.slots_of[a]
    bonus = p[k.WEIGHT_EMBEDDING] * (frame.affinity[slots, columns].astype(np.float64) - p[k.EMBEDDING_EVEN])
    return np.where(rows.bytes[a, HAS_EMBEDDING] == 1, s + bonus, s)


def _on_ground(rows: _Rows, a: Any, zb: F64, d2: F64, of_height: F64, frame: _Frame) -> F64:
    """Return distances, on the ground where both stand on it."""
    feet = _foot(zb, frame)
    there = (rows.bytes[a, HAS_GROUND] == 1) & (feet[5] > 0.0)
    return np.where(there, ground_distance(_ground(rows, a), *feet[:5]) + of_height, d2)


def _foot(z: F64, frame: _Frame) -> Any:
    return on_ground(z[0], z[1] + z[3] / 2.0, z[3], frame.ground, frame.p[k.GROUND_X], frame.p[k.GROUND_Y])


# ---- what was seen -----------------------------------------------------------------------------------------------


def _update(
    rows: _Rows, wide: F64, matched: Any, columns: Any, header: Any, stream: F64, seen: _Seen, frame: _Frame
) -> None:  # fmt: skip
    n = len(rows.words)
    if len(matched) < n:
        is_seen = np.zeros(n, bool)
        is_seen[matched] = True
        _foresee(rows, wide, (~is_seen).nonzero()[0], frame.aspect)
    if len(matched):
        some, unseen_s = rows, frame.unseen_s
        if len(matched) < n:
            some, wide, unseen_s = _Rows(rows.words.take(matched, 0)), wide.take(matched, 2), unseen_s[matched]
        sightings = seen.sightings.take(columns, 1)
        z = sightings[:4]
        surprise = _correct(some, wide, z, seen.variances.take(columns, 1), frame)
        _vote(some, sightings[8], unseen_s, seen.labels[columns])
        some.floats[:, SIGHTING] = sightings.T
        some.words[:, SEEN_US] = frame.now_us
        some.bytes[:, SEEN] = 1
        if len(frame.ground):
            _stand(some, z, frame)
        if some is not rows:
            rows.words[matched] = some.words
        if len(frame.tentative):
            _confirm(rows, header, frame)
        if surprise is not None:
            _learn(stream[NOISE : NOISE + 4], surprise, frame)


def _foresee(rows: _Rows, wide: F64, some: Any, aspect: F64) -> None:
    x = wide[0].take(some, 1)
    half = np.maximum(x[2:], MIN_SIZE) * HALF
    box = np.empty((4, len(some)))
    np.subtract(x[:2], half, out=box[:2])
    np.add(x[:2], half, out=box[2:])
    box[0] /= aspect
    box[2] /= aspect
    rows.floats[some, BOX] = box.T


def _correct(rows: _Rows, wide: F64, z: F64, variances: F64, frame: _Frame) -> F64 | None:
    """Take observations into the filters; return how far off those of settled tracks were, by coordinate."""
    x, v, pp, pv, vv = wide[0], wide[1], wide[2], wide[3], wide[4]
    s, e = pp + variances, z - x
    x[:], v[:], pp[:], pv[:], vv[:] = corrected(x, v, pp, pv, vv, e, s)
    rows.kalman()[:] = wide
    surprise = np.minimum(e * e / s, frame.numbers.surprise_max) - ONE
    hits = rows.hits()
    if min(hits.tolist()) < k.SETTLED_HITS:
        surprise = surprise[:, hits >= k.SETTLED_HITS]
    np.add(hits, ONE_MORE, out=hits)
    if not surprise.shape[1]:
        return None
    return np.add.accumulate(surprise, axis=1)[:, -1]


def _learn(noise: F64, surprise: F64, frame: _Frame) -> None:
    """Do what `kernel.learn` does; without a surprise that would be nothing."""
    change = _one(frame.p[k.NOISE_RATE] * min(frame.dt, 0.5)) * surprise
    np.minimum(np.maximum(change, CALMER, out=change), LIVELIER, out=change)
    change += ONE
    noise *= change
    np.minimum(np.maximum(noise, frame.numbers.noise_min, out=noise), frame.numbers.noise_max, out=noise)


def _vote(rows: _Rows, scores: F64, unseen_s: F64, labels: Any) -> None:
    weights = scores * np.minimum(unseen_s, VOTE_GAP)
    own, for_it, against = rows.bytes[:, LABEL], rows.floats[:, LABEL_WEIGHT], rows.floats[:, RIVAL_WEIGHT]
    agreed = np.minimum(for_it.astype(np.float64) + weights, VOTE_MEMORY)
    beaten = np.maximum(against.astype(np.float64) - HALF * weights, ZERO)
    if labels.tobytes() == own.tobytes():
        for_it[:], against[:] = agreed, beaten
        return
    same = labels == own
    for_it[same], against[same] = agreed[same], beaten[same]
    others = (~same).nonzero()[0]
    for i, label, weight in zip(others.tolist(), labels[others].tolist(), weights[others].tolist(), strict=True):
        _vote_for_other(rows.floats[i], rows.bytes[i], label, weight)


def _vote_for_other(floats: Any, codes: Any, label: int, weight: float) -> None:
    """Take a vote for another class than the track's (see `kernel._vote`)."""
    if label == codes[RIVAL]:
        floats[RIVAL_WEIGHT] = min(float(floats[RIVAL_WEIGHT]) + weight, k.VOTE_MEMORY + 2.0 * k.VOTE_LEAD)
    elif float(floats[RIVAL_WEIGHT]) <= weight:
        codes[RIVAL], floats[RIVAL_WEIGHT] = label, weight
    else:
        floats[RIVAL_WEIGHT] = float(floats[RIVAL_WEIGHT]) - weight
    if float(floats[RIVAL_WEIGHT]) > float(floats[LABEL_WEIGHT]) + k.VOTE_LEAD:
        label_before, weight_before = int(codes[LABEL]), float(floats[LABEL_WEIGHT])
        codes[LABEL], floats[LABEL_WEIGHT] = int(codes[RIVAL]), min(float(floats[RIVAL_WEIGHT]), k.VOTE_MEMORY)
        codes[RIVAL], floats[RIVAL_WEIGHT] = label_before, weight_before


def _stand(rows: _Rows, z: F64, frame: _Frame) -> None:
    """Take the feet into the places on the ground."""
    gx, gy, rxx, rxy, ryy, third = _foot(z, frame)
    below, stood = third > 0.0, rows.bytes[:, HAS_GROUND] == 1
    old, new = (below & stood).nonzero()[0], (below & ~stood).nonzero()[0]
    moved = ground_corrected(_ground(rows, old), gx[old], gy[old], rxx[old], rxy[old], ryy[old])
    rows.floats[old, GROUND] = np.stack(moved, axis=1)
    o = np.zeros(len(new))
    vv = o + frame.p[k.GROUND_START] * frame.p[k.GROUND_START]
    fresh = (gx[new], gy[new], o, o, rxx[new], rxy[new], o, o, ryy[new], o, o, vv, o, vv)
    rows.floats[new, GROUND] = np.stack(fresh, axis=1)
    rows.bytes[:, HAS_GROUND] = below


def _confirm(rows: _Rows, header: Any, frame: _Frame) -> None:
    p, codes = frame.p, rows.bytes
    i = frame.tentative[codes[:, SEEN][frame.tentative] != NOT_SEEN]
    if not len(i):
        return
    sums = rows.floats[:, SCORE_SUM_OF]
    sums[i] += rows.floats[:, SCORE][i]
    doubt = np.maximum(ZERO, ONE - sums[i].astype(np.float64) / rows.hits()[i] / frame.own)
    needed_us = (p[k.PROBATION] + p[k.DOUBT] * doubt) * MILLION
    i = i[frame.now_us - rows.words[:, BORN_US][i] + k.TICK_US >= needed_us]
    if len(i):
        codes[i, STATUS], codes[i, BORN_NOW], codes[i, FIRST_LABEL] = CONFIRMED, 1, codes[i, LABEL]
        sums[i] = ZERO
        rows.words[i, ORDINAL] = header[NEXT_ORDINAL] + np.arange(len(i))
        header[NEXT_ORDINAL] += len(i)


# ---- births ------------------------------------------------------------------------------------------------------


def _bear(
    table: Any, header: Any, stream: F64, taken: Any, column_of: Any, seen: _Seen, frame: _Frame
) -> None:  # fmt: skip
    """Make tentative tracks of what nobody took, in the order of the message, in the lowest free slots."""
    slots = int(header[SLOTS])
    newborn = _NONE
    if len(taken) < len(seen.scores):
        new = seen.scores >= frame.p[k.SCORE_NEW] * frame.own
        new[taken] = False
        newborn = new.nonzero()[0]
    if len(newborn):
        newborn = newborn[seen.order[newborn].argsort()]
        free = (table.view(np.uint8)[:slots, STATUS] == FREE).nonzero()[0][: len(newborn)]
        beyond = np.arange(slots, min(slots + len(newborn) - len(free), len(table)))
        into = np.concatenate((free, beyond))
        header[REFUSED_BIRTHS] += len(newborn) - len(into)
        newborn = newborn[: len(into)]
        table[into] = _newborn(newborn, stream, seen, frame)
        column_of[into] = seen.order[newborn]
        slots += len(beyond)
    header[SLOTS] = len(table.view(np.uint8)[:slots, STATUS].tobytes().rstrip(FREE_CODE))


def _newborn(columns: Any, stream: F64, seen: _Seen, frame: _Frame) -> Any:
    p, sightings = frame.p, seen.sightings.take(columns, 1)
    z = sightings[:4]
    rows = _Rows(np.zeros((len(columns), WORDS), np.int64))
    rows.words[:, ORDINAL], rows.words[:, BORN_US], rows.words[:, SEEN_US] = -1, frame.now_us, frame.now_us
    rows.hits()[:], rows.bytes[:, STATUS], rows.bytes[:, SEEN] = 1, TENTATIVE, 1
    rows.bytes[:, LABEL] = rows.bytes[:, RIVAL] = seen.labels[columns]
    rows.floats[:, SIGHTING], rows.floats[:, SCORE_SUM_OF] = sightings.T, sightings[8]
    v = frame.numbers.start * z[3] * np.maximum(ONE, p[k.START_NOISE] * stream[NOISE : NOISE + 4, None])
    f = rows.kalman()
    f[0], f[2], f[4] = z, seen.variances.take(columns, 1), v * v
    if len(frame.ground):
        _stand(rows, z, frame)
    return rows.words


# ---- what others see ---------------------------------------------------------------------------------------------


def publish(
    tracks: Any, slots: int, aspect: float, p: F64, born_us: Any, ordinals: Any, boxes: Any, velocities: Any,
    states: Any, labels: Any, scores: Any, births: Any, ends: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Do what `kernel.publish` does."""
    table = tracks.view(np.int64).reshape(-1, WORDS)[: int(slots)]
    status = table.view(np.uint8)[:, STATUS]
    codes = status.tobytes()
    born = ended = 0
    if ENDED in codes:
        ended = codes.count(ENDED)
        ends[:ended] = (status == ENDED).nonzero()[0]
    if codes.count(CONFIRMED) < len(codes):
        slots_of = (status == CONFIRMED_CODE).nonzero()[0]
        table = table.take(slots_of, 0)
    else:
        slots_of = None
    rows = _Rows(table)
    if 1 in rows.bytes[:, BORN_NOW].tobytes():
        i = rows.bytes[:, BORN_NOW].nonzero()[0]
        born = len(i)
        births[:born] = i if slots_of is None else slots_of.take(i)
    share: Any = _one(p[k.PUBLISH_SMOOTH])
    unseen: Any = None
    if 0 in rows.bytes[:, SEEN].tobytes():
        rows = _in_frame(rows)
        unseen = rows.bytes[:, SEEN] == NOT_SEEN
        share = np.empty(len(unseen))
        share[:] = p[k.PUBLISH_SMOOTH]
        np.copyto(share, ONE, where=unseen)
    n = len(rows.words)
    born_us[:n], ordinals[:n] = rows.words[:, BORN_US], rows.words[:, ORDINAL]
    scores[:n], labels[:n] = rows.floats[:, SCORE], rows.bytes[:, LABEL]
    states[:n] = 0 if unseen is None else unseen
    _write_boxes(rows, share, _one(aspect), boxes[:n])
    moving = rows.floats[:, VELOCITY].T.astype(np.float64, order="C")
    moving[0] /= _one(aspect)
    velocities[:n] = moving.T
    return n, born, ended


def _in_frame(rows: _Rows) -> _Rows:
    """Leave out those unseen who are thought to have left the frame."""
    b = rows.floats[:, BOX]
    if np.maximum.reduce(b[:, :2], axis=None) < 1.0 and np.minimum.reduce(b[:, 2:], axis=None) > 0.0:
        return rows
    gone = (b[:, :2] >= 1.0).any(axis=1) | (b[:, 2:] <= 0.0).any(axis=1)
    gone &= rows.bytes[:, SEEN] == 0
    return _Rows(rows.words[~gone])


def _write_boxes(rows: _Rows, share: Any, aspect: F64, boxes: Any) -> None:
    blend, observed = np.empty((4, len(rows.words))), np.empty((4, len(rows.words)))  # centre and half size
    blend[:], observed[:] = rows.floats[:, POSITION].T, rows.floats[:, OBSERVED].T
    np.maximum(blend[2:], MIN_SIZE, out=blend[2:])
    blend[2:] *= HALF
    observed[2:] *= HALF
    blend -= observed
    blend *= share
    blend += observed
    low, high = blend[:2] - blend[2:], blend[:2] + blend[2:]
    observed_low, observed_high = observed[:2] - observed[2:], observed[:2] + observed[2:]
    for edge in (low, high, observed_low, observed_high):
        edge[0] /= aspect
    # A box sticks out of the frame only as far as its detector let it.
    boxes[:, :2] = np.maximum(low, np.minimum(observed_low, ZERO)).T
    boxes[:, 2:] = np.minimum(high, np.maximum(observed_high, ONE)).T


def end_all(tracks: Any, header: Any) -> None:
    """Do what `kernel.end_all` does."""
    t = tracks[: int(header[SLOTS])]
    confirmed = t["status"] == CONFIRMED
    t["seen"][confirmed] = 0
    t["born_now"][confirmed] = 0
    t["status"] = np.where(confirmed, ENDED, FREE)
