"""One step of all rules of a camera: runs of conditions over objects, places and pairs, and what happens at tripwires.

A run is a condition that must hold for a time, with tolerated gaps:

========== ============================== ==========================================
phase      condition true                 condition false, or the object unseen
========== ============================== ==========================================
IDLE       → POTENTIAL (since now)        –
POTENTIAL  held ≥ hold: → OPEN, BEGAN     longer than the gap: → IDLE
OPEN       –                              longer than the gap: → IDLE, ENDED
========== ============================== ==========================================

It can only begin while it is true, never by waiting. A hole longer than the gap ends it even if it is true on both sides; then
another begins (POTENTIAL) in the same step, and that can open with the next. An OPEN run whose hold is no longer reached,
since the threshold was raised, says ENDED and is POTENTIAL again. No two runs of one subject that begin are dated alike: where
the time that they measure goes on, the later one begins when it does, with so many seconds passed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.compiled import kernel
from operators.conditions.table import (
    AGAINST,
    ALONE,
    BEGAN,
    COUNT,
    CROSSING,
    DWELL,
    EMPTY,
    ENDED,
    FOLLOWING,
    GONE,
    IDLE,
    MAX_PAIRS,
    OPEN,
    PAIR,
    PAIR_COUNT,
    POTENTIAL,
    PULSE,
    REFUSED_PAIRS,
    SPEED,
    STILL,
    TOLD,
)

_CONFIRMED, _OVER = 2, 3  # operators.tracking.table: CONFIRMED, ENDED
_REPORTED = 2  # operators.zones.kernel: `open` of a visit that has been reported
_VX, _VY, _H = 1, 6, 15  # of TRACK.kalman, frame heights (per second)
_MIN_SIZE = 1e-4
_GAPS = (301, 132, 57, 23, 10, 4, 1)  # Ciura, Best Increments for the Average Case of Shellsort, 2001


@kernel
def to_us(seconds: Any) -> Any:
    """Round to microseconds."""
    return np.int64(np.rint(seconds * 1e6))


@kernel
def is_time(measure: int) -> bool:
    """Whether a rule measures how long something has lasted."""
    return measure <= ALONE or measure == EMPTY


@kernel
def run_value(run: Any, measure: int) -> Any:
    """Return what a run measured when it was true last."""
    if is_time(measure):
        return np.float64(run.true_us - run.since_us) * 1e-6 + np.float64(run.value)
    return np.float64(run.value)


@kernel
def run_lasted_us(run: Any, measure: int, now_us: int) -> Any:
    """Return how long a run has lasted, with what had passed before it was dated."""
    before = to_us(np.float64(run.value)) if is_time(measure) else np.int64(0)
    return now_us - run.since_us + before


@kernel
def _write(
    out: Any, n: int, kind: int, rule: int, slot: int, label: int, ordinal: int, born_us: int, other_ordinal: int,
    other_born_us: int, since_us: Any, at_us: Any, value: Any,
) -> int:  # fmt: skip
    h = out[n]
    h.kind, h.rule, h.slot, h.label = kind, rule, slot, label
    h.ordinal, h.born_us, h.other_ordinal, h.other_born_us = ordinal, born_us, other_ordinal, other_born_us
    h.since_us, h.at_us, h.value = since_us, at_us, value
    return n + 1


@kernel
def clear(run: Any) -> None:
    """Set a run back to nothing, so that live and restored tables stay equal."""
    run.since_us, run.true_us, run.value, run.phase = 0, 0, 0.0, IDLE


@kernel
def advance_run(
    out: Any, n: int, run: Any, measure: int, holds: bool, over: bool, measured: Any, began_us: Any, hold_us: Any,
    gap_us: int, now_us: int, rule: int, slot: int, label: int, ordinal: int, born_us: int, other_ordinal: int, other_born_us: int,
) -> int:  # fmt: skip
    """Take a condition at `now_us`; return the number of records in `out`.

    `over`: the subject is no more. `began_us`: since when the condition is true, if it begins now.
    """
    ended = False
    if run.phase == OPEN or run.phase == POTENTIAL:
        lapsed = over or now_us - run.true_us > gap_us
        ended = run.phase == OPEN and (lapsed or (holds and run_lasted_us(run, measure, now_us) < hold_us))
        if ended:
            n = _write(
                out, n, ENDED, rule, slot, label, ordinal, born_us, other_ordinal, other_born_us, run.since_us,
                run.true_us, run_value(run, measure),
            )  # fmt: skip
        if lapsed and measure == STILL:
            run.phase = TOLD
        elif lapsed:
            clear(run)
        elif ended:
            run.value = np.float64(run_lasted_us(run, measure, now_us)) * 1e-6
            run.phase, run.since_us = POTENTIAL, now_us
    if over or (run.phase == TOLD and began_us > run.true_us):
        clear(run)
    if not holds:
        return n
    if run.phase == IDLE:
        run.phase, run.since_us, run.value = POTENTIAL, began_us, 0.0
    elif run.phase == TOLD:
        run.phase, run.since_us, run.value = POTENTIAL, now_us, np.float64(now_us - began_us) * 1e-6
    run.true_us = now_us
    if not is_time(measure):
        run.value = measured
    if run.phase == POTENTIAL and not ended and run_lasted_us(run, measure, now_us) >= hold_us:
        run.phase = OPEN
        n = _write(
            out, n, BEGAN, rule, slot, label, ordinal, born_us, other_ordinal, other_born_us, run.since_us, now_us,
            run_value(run, measure),
        )  # fmt: skip
    return n


# ---- one object --------------------------------------------------------------------------------------------------------


@kernel
def is_inside(t: Any, i: int, visits: Any, zone: int) -> bool:
    """Whether a confirmed object is observed in a rule's place in this frame."""
    if t.status != _CONFIRMED or not t.seen:
        return False
    if zone < 0:
        return True
    v = visits[i, zone]
    return bool(v.inside == 1 and v.open == _REPORTED)


@kernel
def against(rule: Any, t: Any, m: Any, aspect: float) -> Any:
    """Return how fast an object goes against the arrow (m/s, or own heights/s); NaN where it does not or is too slow."""
    if rule.ground:
        speed = np.float64(m.speed_mps)
        cosine = -(np.float64(m.heading_x) * rule.arrow_x + np.float64(m.heading_y) * rule.arrow_y)
    else:
        vx, vy = np.float64(t.kalman[_VX]), np.float64(t.kalman[_VY])
        ax, ay = rule.arrow_x * aspect, rule.arrow_y
        length, arrow = np.sqrt(vx * vx + vy * vy), np.sqrt(ax * ax + ay * ay)
        if length == 0.0:
            return np.nan
        speed = length / max(np.float64(t.kalman[_H]), _MIN_SIZE)
        cosine = -(vx * ax + vy * ay) / (length * arrow)
    if speed > rule.slowest and cosine > rule.cos_tolerance:  # false for NaN
        return cosine * speed
    return np.nan


@kernel
def is_attended(tracks: Any, slots: int, motions: Any, i: int, is_owner: Any, near_m: float, near_ratio: float) -> bool:
    """Whether an owner is seen near object `i`: within `near_m`, or where metres are not known `near_ratio` of its height."""
    t, m = tracks[i], motions[i]
    x, y = np.float64(t.observed[0]), np.float64(t.observed[1]) + np.float64(t.observed[3]) / 2.0
    x_m, y_m = np.float64(m.x_m), np.float64(m.y_m)
    for j in range(slots):
        o = tracks[j]
        if o.status != _CONFIRMED or not o.seen or j == i or not is_owner[o.label]:
            continue
        dx_m, dy_m = np.float64(motions[j].x_m) - x_m, np.float64(motions[j].y_m) - y_m
        d2_m = dx_m * dx_m + dy_m * dy_m
        if d2_m <= near_m * near_m:
            return True
        if np.isnan(d2_m):
            height = np.float64(o.observed[3])
            dx, dy = np.float64(o.observed[0]) - x, np.float64(o.observed[1]) + height / 2.0 - y
            if dx * dx + dy * dy <= near_ratio * height * near_ratio * height:
                return True
    return False


@kernel
def _tell(out: Any, n: int, kind: int, run: Any, at_us: Any, rule: int, slot: int, t: Any) -> int:
    """Write what becomes of a visit's run."""
    return _write(
        out, n, kind, rule, slot, t.label, t.ordinal, t.born_us, -1, 0, run.since_us, at_us, run_value(run, DWELL)
    )  # fmt: skip


@kernel
def _dwell(
    out: Any, n: int, run: Any, v: Any, over: bool, inside: bool, wanted: bool, least_us: int, now_us: int, rule: int, slot: int,
    t: Any,
) -> int:  # fmt: skip
    """A run that lasts as long as the visit: its gaps are the zone's, and so is its class once it has begun."""
    if run.phase != IDLE and (over or not v.open or v.enter_us > run.true_us):
        ended = run.phase == OPEN
        if ended:
            n = _tell(out, n, ENDED, run, run.true_us, rule, slot, t)
        clear(run)
        if ended:
            return n
    if not inside:
        return n
    long_enough = now_us - v.enter_us >= least_us
    if run.phase == OPEN and not long_enough:
        n = _tell(out, n, ENDED, run, run.true_us, rule, slot, t)
        run.phase = TOLD
    elif run.phase == OPEN:
        run.true_us = now_us
    elif long_enough and wanted:
        if run.phase == IDLE:
            run.since_us = v.enter_us
        else:
            run.since_us, run.value = now_us, np.float64(now_us - v.enter_us) * 1e-6
        run.phase, run.true_us = OPEN, now_us
        n = _tell(out, n, BEGAN, run, now_us, rule, slot, t)
    return n


@kernel
def _gone(
    out: Any, n: int, run: Any, m: Any, over: bool, inside: bool, wanted: bool, least_us: int, now_us: int, rule: int, slot: int,
    t: Any,
) -> int:  # fmt: skip
    """POTENTIAL since an object stands still long enough; a PULSE when it moves or is no more."""
    left = run.phase != IDLE and (over or (t.seen and m.still_us != run.since_us))
    if left:
        if run.true_us - run.since_us >= least_us:
            at_us = run.true_us if over else now_us
            value = np.float64(run.true_us - run.since_us) * 1e-6
            n = _write(out, n, PULSE, rule, slot, t.label, t.ordinal, t.born_us, -1, 0, run.since_us, at_us, value)
        clear(run)
    if over or not t.seen or m.still_us == 0 or now_us - m.still_us < least_us:
        return n
    if run.phase != IDLE:
        run.true_us = now_us
    elif inside and wanted:
        run.phase, run.since_us, run.true_us = POTENTIAL, m.still_us, now_us
    return n


@kernel
def _objects(
    out: Any, n: int, tracks: Any, slots: int, motions: Any, visits: Any, rules: Any, threshold: Any, wanted: Any, other: Any,
    runs: Any, counts: Any, aspect: float, now_us: int,
) -> int:  # fmt: skip
    counts[:] = 0
    for i in range(slots):
        t = tracks[i]
        if t.status != _CONFIRMED and t.status != _OVER:
            continue
        over, m = t.status == _OVER, motions[i]
        for r in range(rules.shape[0]):
            rule, run = rules[r], runs[i, r]
            measure = rule.measure
            if measure >= PAIR:
                continue
            inside, is_wanted = is_inside(t, i, visits, rule.zone), wanted[r, t.label]
            if measure == COUNT:
                if inside and is_wanted and now_us - visits[i, rule.zone].enter_us >= rule.settled_us:
                    counts[r] += 1
                continue
            if measure == EMPTY:
                if is_wanted and visits[i, rule.zone].open == _REPORTED:
                    counts[r] += 1
                continue
            if run.phase == IDLE and not (inside and is_wanted):
                continue
            least, value = threshold[r], np.float64(0.0)
            if measure == DWELL:
                least_us = to_us(least) + rule.hold_us
                n = _dwell(out, n, run, visits[i, rule.zone], over, inside, is_wanted, least_us, now_us, r, i, t)
                continue
            if measure == GONE:
                n = _gone(out, n, run, m, over, inside, is_wanted, to_us(least), now_us, r, i, t)
                continue
            holds, hold_us, began_us = inside and is_wanted, rule.hold_us, now_us
            if measure == STILL:
                holds = holds and m.still_us > 0 and now_us - m.still_us >= to_us(least) + hold_us
                hold_us, began_us = 0, m.still_us
            elif measure == ALONE:
                hold_us += to_us(least)
                holds = holds and m.still_us > 0
                near = holds and is_attended(tracks, slots, motions, i, other[r], rule.near_m, rule.near_ratio)
                if run.phase == OPEN:
                    holds = holds and not near and m.still_us <= run.since_us
                elif near:
                    holds = False
                    clear(run)
                elif run.phase == POTENTIAL and m.still_us > run.since_us:
                    run.since_us = m.still_us
            elif measure == SPEED:
                value = np.float64(m.speed_mps)
                holds = holds and value - rule.sure_sd * np.float64(m.speed_sd_mps) > least
            elif measure == AGAINST:
                value = against(rule, t, m, aspect)
                holds = holds and not np.isnan(value)
            n = advance_run(
                out, n, run, measure, holds, over, value, began_us, hold_us, rule.gap_us, now_us, r, i, t.label, t.ordinal,
                t.born_us, -1, 0,
            )  # fmt: skip
    return n


# ---- a place -----------------------------------------------------------------------------------------------------------


@kernel
def _places(out: Any, n: int, rules: Any, threshold: Any, places: Any, counts: Any, now_us: int) -> int:
    for r in range(rules.shape[0]):
        rule = rules[r]
        if rule.measure == COUNT:
            holds, hold_us = counts[r] >= threshold[r], rule.hold_us
        elif rule.measure == EMPTY:
            holds, hold_us = counts[r] == 0, rule.hold_us + to_us(threshold[r])
        else:
            continue
        n = advance_run(
            out, n, places[r], rule.measure, holds, False, counts[r], now_us, hold_us, rule.gap_us, now_us, r, -1, -1, -1, 0,
            -1, 0,
        )  # fmt: skip
    return n


# ---- two objects -------------------------------------------------------------------------------------------------------


@kernel
def sort(keys: Any, items: Any, n: int) -> None:
    """Sort the first `n` items by their keys, equal ones by item; both arrays are changed (Shell, 1959)."""
    for gap in _GAPS:
        for i in range(gap, n):
            key, item, j = keys[i], items[i], i
            while j >= gap and (keys[j - gap] > key or (keys[j - gap] == key and items[j - gap] > item)):
                keys[j], items[j] = keys[j - gap], items[j - gap]
                j -= gap
            keys[j], items[j] = key, item


@kernel
def distance(a: Any, b: Any) -> float:
    """Return how far two objects are apart on the ground, in metres; NaN where that is not known."""
    dx, dy = np.float64(a.x_m) - np.float64(b.x_m), np.float64(a.y_m) - np.float64(b.y_m)
    return float(np.sqrt(dx * dx + dy * dy))


@kernel
def _fits(wanted: Any, other: Any, a: int, b: int) -> bool:
    """Whether label `a` can be the subject of a pair whose other one is of label `b`."""
    return bool(wanted[a] and other[b])


@kernel
def _known_pairs(
    out: Any, n: int, tracks: Any, motions: Any, visits: Any, rules: Any, threshold: Any, wanted: Any, other: Any, pairs: Any,
    head: Any, now_us: int,
) -> int:  # fmt: skip
    """Go on with every pair whose run is under way; those that have ended make room."""
    kept = 0
    for p in range(head[PAIR_COUNT]):
        pair = pairs[p]
        r, a, b = int(pair.rule), int(pair.subject), int(pair.other)
        ta, tb, rule = tracks[a], tracks[b], rules[r]
        over = ta.status != _CONFIRMED or tb.status != _CONFIRMED
        apart = distance(motions[a], motions[b])
        holds = (
            apart < threshold[r]
            and is_inside(ta, a, visits, rule.zone)
            and is_inside(tb, b, visits, rule.zone)
            and (_fits(wanted[r], other[r], ta.label, tb.label) or _fits(wanted[r], other[r], tb.label, ta.label))
        )
        n = advance_run(
            out, n, pair, PAIR, holds, over, apart, now_us, rule.hold_us, rule.gap_us, now_us, r, a, ta.label, ta.ordinal,
            ta.born_us, tb.ordinal, tb.born_us,
        )  # fmt: skip
        if pair.phase != IDLE:
            if kept < p:
                q = pairs[kept]
                q.since_us, q.true_us, q.value, q.phase = pair.since_us, pair.true_us, pair.value, pair.phase
                q.subject, q.other, q.rule = pair.subject, pair.other, pair.rule
            kept += 1
    for p in range(kept, head[PAIR_COUNT]):
        pair = pairs[p]
        clear(pair)
        pair.subject, pair.other, pair.rule = 0, 0, 0
    head[PAIR_COUNT] = kept
    return n


@kernel
def _is_known(pairs: Any, count: int, rule: int, a: int, b: int) -> bool:
    for p in range(count):
        pair = pairs[p]
        if pair.rule == rule and ((pair.subject == a and pair.other == b) or (pair.subject == b and pair.other == a)):
            return True
    return False


@kernel
def _new_pairs(
    out: Any, n: int, tracks: Any, slots: int, motions: Any, visits: Any, r: int, rule: Any, least: float, wanted: Any,
    other: Any, pairs: Any, head: Any, keys: Any, items: Any, now_us: int,
) -> int:  # fmt: skip
    """Find pairs that have come near: a sweep over the objects by x, up to the first that there is no room for."""
    count = 0
    for i in range(slots):
        t = tracks[i]
        if t.status != _CONFIRMED or not (wanted[t.label] or other[t.label]) or np.isnan(motions[i].x_m):
            continue
        if is_inside(t, i, visits, rule.zone):
            keys[count], items[count] = np.float64(motions[i].x_m), i
            count += 1
    sort(keys, items, count)
    for first in range(count):
        for second in range(first + 1, count):
            if keys[second] - keys[first] >= least:
                break
            a, b = items[first], items[second]
            apart = distance(motions[a], motions[b])
            if not apart < least:
                continue
            ta, tb = tracks[a], tracks[b]
            forth = _fits(wanted, other, ta.label, tb.label)
            back = _fits(wanted, other, tb.label, ta.label)
            if not (forth or back) or _is_known(pairs, head[PAIR_COUNT], r, a, b):
                continue
            if head[PAIR_COUNT] == MAX_PAIRS:
                head[REFUSED_PAIRS] += 1
                return n
            if not forth or (back and tb.ordinal < ta.ordinal):
                a, b = b, a
            pair = pairs[head[PAIR_COUNT]]
            pair.subject, pair.other, pair.rule = a, b, r
            head[PAIR_COUNT] += 1
            s, o = tracks[a], tracks[b]
            n = advance_run(
                out, n, pair, PAIR, True, False, apart, now_us, rule.hold_us, rule.gap_us, now_us, r, a, s.label, s.ordinal,
                s.born_us, o.ordinal, o.born_us,
            )  # fmt: skip
    return n


# ---- tripwires ---------------------------------------------------------------------------------------------------------


@kernel
def _wire(
    out: Any, n: int, crossings: Any, crossing_count: int, r: int, rule: Any, within_us: int, wanted: Any, passages: Any,
    keys: Any, items: Any,
) -> int:  # fmt: skip
    """Take a frame's crossings of one rule's wire, by the time at which the wire was met."""
    count = 0
    for k in range(crossing_count):
        c = crossings[k]
        if c.wire == rule.wire and (rule.direction == 0 or c.side == rule.direction) and wanted[c.label]:
            keys[count], items[count] = np.float64(c.at_us), k
            count += 1
    sort(keys, items, count)
    for k in range(count):
        c = crossings[items[k]]
        if rule.measure == CROSSING:
            n = _write(out, n, PULSE, r, c.slot, c.label, c.ordinal, c.born_us, -1, 0, c.at_us, c.at_us, c.side)
            continue
        last = passages[0 if c.side < 0 else 1]
        later = c.at_us >= last.at_us
        if last.at_us != 0 and last.ordinal != c.ordinal and abs(c.at_us - last.at_us) <= within_us:
            value = np.float64(abs(c.at_us - last.at_us)) * 1e-6
            if later:
                n = _write(
                    out, n, PULSE, r, c.slot, c.label, c.ordinal, c.born_us, last.ordinal, last.born_us, last.at_us, c.at_us,
                    value,
                )  # fmt: skip
            else:
                n = _write(
                    out, n, PULSE, r, last.slot, last.label, last.ordinal, last.born_us, c.ordinal, c.born_us, c.at_us,
                    last.at_us, value,
                )  # fmt: skip
        if later:
            last.at_us, last.ordinal, last.born_us, last.slot, last.label = (
                c.at_us,
                c.ordinal,
                c.born_us,
                c.slot,
                c.label,
            )
    return n


# ---- all of it ---------------------------------------------------------------------------------------------------------


@kernel
def step(
    tracks: Any, slots: int, motions: Any, visits: Any, crossings: Any, crossing_count: int, rules: Any, threshold: Any,
    wanted: Any, other: Any, runs: Any, places: Any, passages: Any, pairs: Any, pair_head: Any, counts: Any, keys: Any,
    items: Any, aspect: float, now_us: int, out: Any,
) -> int:  # fmt: skip
    """Advance every rule by one frame and write what began, ended or happened to `out` (HELD); return the number of records.

    Args:
        tracks, slots: the track table after its step; the first `slots` rows are live.
        motions: by slot: `speed_mps`, `speed_sd_mps`, `heading_x`, `heading_y`, `x_m`, `y_m` (NaN where not known), `still_us`
            (0: it moves).
        visits: VISIT[capacity, Z] after its step.
        crossings, crossing_count: this frame's, as `operators.tripwires` writes them.
        rules, threshold: RULE R and float64 R, `compilation.compile_rules`.
        wanted, other: bool R×256, by label: `classes`, and the second classes of a rule (owners, others).
        runs, places, passages, pairs, pair_head: RUN[capacity, R], RUN R, PASSAGE[R, 2], PAIR_RUN MAX_PAIRS, int64 2: the
            state, changed in place.
        counts: int64 R, set to what each COUNT or EMPTY rule counts.
        keys, items: float64 and int64, room for capacity each; their contents mean nothing before or after.
        aspect: width / height of the frame.
        out: room for `Conditions.room` records.

    Only confirmed objects count, by the class that they have been voted.
    """
    if rules.shape[0] == 0:
        return 0
    n = _objects(out, 0, tracks, slots, motions, visits, rules, threshold, wanted, other, runs, counts, aspect, now_us)
    n = _places(out, n, rules, threshold, places, counts, now_us)
    if pair_head[PAIR_COUNT]:
        n = _known_pairs(out, n, tracks, motions, visits, rules, threshold, wanted, other, pairs, pair_head, now_us)
    for r in range(rules.shape[0]):
        rule = rules[r]
        if rule.measure == PAIR:
            n = _new_pairs(
                out, n, tracks, slots, motions, visits, r, rule, threshold[r], wanted[r], other[r], pairs, pair_head, keys,
                items, now_us,
            )  # fmt: skip
        elif crossing_count and (rule.measure == CROSSING or rule.measure == FOLLOWING):
            n = _wire(
                out, n, crossings, crossing_count, r, rule, to_us(threshold[r]), wanted[r], passages[r], keys, items
            )
    return n
