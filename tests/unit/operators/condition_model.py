"""A slow model of conditions: every rule from the whole recorded history, in plain lists and floats.

It knows nothing of runs that go from frame to frame: it collects when something was true, cuts that into stretches, and looks
at each stretch as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from schemas.rules import (
    Abandoned,
    AnyRule,
    Crowding,
    DwellLimit,
    Empty,
    Intrusion,
    LineCrossing,
    Loitering,
    Proximity,
    QueueLength,
    QueueWait,
    Removed,
    RestrictedClass,
    Speeding,
    Stopped,
    Tailgating,
    WireRule,
    WrongWay,
)
from tests.unit.operators.condition_tables import Look, Moment, labels

NAN = float("nan")


class Said(NamedTuple):
    """What a rule is expected to say: when, what, of whom."""

    said_us: int
    kind: str  # began, ended, pulse
    ordinal: int
    other: int
    since_us: int
    at_us: int
    value: float


class Life(NamedTuple):
    """One object: its looks while confirmed, by time, and when it is told that it has ended."""

    ordinal: int
    looks: dict[int, Look]
    ended_us: int | None


def lives(history: Sequence[Moment]) -> list[Life]:
    """Collect every object that was ever confirmed, by ordinal."""
    looks: dict[int, dict[int, Look]] = {}
    ends: dict[int, int] = {}
    for moment in history:
        for look in moment.looks.values():
            if look.status == "confirmed":
                looks.setdefault(look.ordinal, {})[moment.at_us] = look
            elif look.status == "ended":
                ends[look.ordinal] = moment.at_us
    return [Life(ordinal, looks[ordinal], ends.get(ordinal)) for ordinal in sorted(looks)]


def is_of(classes: Sequence[str], look: Look) -> bool:
    return not classes or labels()[look.label] in classes


def is_in(zone: str, look: Look) -> bool:
    return look.seen and (not zone or (look.inside and look.visit == 2))


def us(seconds: float) -> int:
    return round(seconds * 1e6)


def stretches(
    true_at: dict[int, float], frames: Sequence[int], hold_us: int, gap_us: int, over_us: int | None = None
) -> list[tuple[list[int], int | None, int | None]]:
    """Cut when something was true into stretches without longer gaps: (times, begins at, is known to have ended at)."""
    cut: list[list[int]] = []
    for t in sorted(true_at):
        if cut and t - cut[-1][-1] <= gap_us:
            cut[-1].append(t)
        else:
            cut.append([t])
    out: list[tuple[list[int], int | None, int | None]] = []
    for times in cut:
        known = [t for t in frames if t - times[-1] > gap_us or (over_us is not None and t >= over_us)]
        # What begins in the very frame in which another's end is found waits for the next one.
        busy = [end for _, begin, end in out if begin is not None]
        begins = [t for t in times if t - times[0] >= hold_us and t not in busy]
        out.append((times, begins[0] if begins else None, known[0] if known else None))
    return out


def say(
    found: list[tuple[list[int], int | None, int | None]],
    value: Callable[[int, int], float],
    since: Callable[[int], int] = lambda t: t,
    who: Callable[[int], tuple[int, int]] = lambda t: (-1, -1),
) -> list[Said]:
    """Turn stretches into what is said; `value(since, at)`, `since(first)` and `who(first)` may look anything up."""
    out = []
    for times, begin, end in found:
        if begin is None:
            continue
        start, subject = since(times[0]), who(times[0])
        out.append(Said(begin, "began", *subject, start, begin, value(start, begin)))
        if end is not None:
            out.append(Said(end, "ended", *subject, start, times[-1], value(start, times[-1])))
    return out


def lasted(since_us: int, at_us: int) -> float:
    return (at_us - since_us) * 1e-6


def expected(rule: AnyRule, history: Sequence[Moment], aspect: float) -> list[Said]:
    """Return everything that a rule says over a history, in no particular order."""
    if isinstance(rule, WireRule):
        return at_wire(rule, history)
    if isinstance(rule, Crowding | QueueLength | Empty):
        return of_place(rule, history)
    if isinstance(rule, Proximity):
        return of_pairs(rule, history)
    out: list[Said] = []
    for life in lives(history):
        if isinstance(rule, Loitering | DwellLimit | QueueWait):
            out += of_visits(rule, life)
        elif isinstance(rule, Removed):
            out += of_gone(rule, life)
        elif isinstance(rule, Abandoned):
            out += of_alone(rule, life, history)
        else:
            out += of_object(rule, life, history, aspect)
    return out


def of_object(rule: AnyRule, life: Life, history: Sequence[Moment], aspect: float) -> list[Said]:
    frames = [m.at_us for m in history if m.at_us >= min(life.looks)]
    true_at: dict[int, float] = {}
    hold_us = us(rule.hold_s)
    for t, look in life.looks.items():
        if not is_in(rule.zone, look) or not is_of(rule.classes, look):  # type: ignore[union-attr]
            continue
        if isinstance(rule, Intrusion | RestrictedClass):
            true_at[t] = NAN
        elif isinstance(rule, Stopped):
            if look.still_us and t - look.still_us >= us(rule.since_s) + hold_us:
                true_at[t] = NAN
        elif isinstance(rule, Speeding):
            if look.speed_mps - rule.sure_sd * look.speed_sd_mps > rule.limit_mps:
                true_at[t] = look.speed_mps
        elif isinstance(rule, WrongWay):
            speed = speed_against(rule, look, aspect)
            if speed is not None:
                true_at[t] = speed
    if isinstance(rule, Stopped):
        return of_still(rule, life, stretches(true_at, frames, 0, us(rule.gap_s), life.ended_us))
    timed = isinstance(rule, Intrusion | RestrictedClass)
    found = stretches(true_at, frames, hold_us, us(rule.gap_s), life.ended_us)
    return say(found, lasted if timed else lambda _, at: true_at[at], who=lambda _: (life.ordinal, -1))


def of_still(rule: Stopped, life: Life, found: list[tuple[list[int], int | None, int | None]]) -> list[Said]:
    """Date a stretch by the stop, unless there has been another of the same stop."""
    out: list[Said] = []
    told: set[int] = set()
    for times, begin, end in found:
        stop = life.looks[times[0]].still_us
        since = times[0] if stop in told else stop
        told.update(life.looks[t].still_us for t in times)
        if begin is None:
            continue
        out.append(Said(begin, "began", life.ordinal, -1, since, begin, lasted(stop, begin)))
        if end is not None:
            out.append(Said(end, "ended", life.ordinal, -1, since, times[-1], lasted(stop, times[-1])))
    return out


def speed_against(rule: WrongWay, look: Look, aspect: float) -> float | None:
    (x0, y0), (x1, y1) = rule.allowed
    if rule.plane == "ground":
        way, speed, slowest = look.heading, look.speed_mps, rule.slowest_mps
        arrow = (x1 - x0, y1 - y0)
    else:
        way, speed = look.velocity, math.hypot(*look.velocity) / look.height
        slowest, arrow = rule.slowest_ratio, ((x1 - x0) * aspect, y1 - y0)
    if not speed > slowest or math.isnan(way[0]):
        return None
    angle = math.degrees(abs(math.atan2(way[0] * arrow[1] - way[1] * arrow[0], way[0] * arrow[0] + way[1] * arrow[1])))
    return -math.cos(math.radians(angle)) * speed if angle > 180.0 - rule.tolerance_deg else None


def of_visits(rule: Loitering | DwellLimit | QueueWait, life: Life) -> list[Said]:
    least = {Loitering: "since_s", DwellLimit: "limit_s", QueueWait: "wait_s"}[type(rule)]
    least_us = us(getattr(rule, least)) + us(rule.hold_s)
    out = []
    for enter in sorted({look.enter_us for look in life.looks.values() if look.visit == 2}):
        inside = [t for t, k in life.looks.items() if k.enter_us == enter and k.visit == 2 and is_in("z", k)]
        begins = [t for t in inside if t - enter >= least_us and is_of(rule.classes, life.looks[t])]
        if not begins:
            continue
        # One that begins in the frame in which the last one's end is found waits for the next.
        blocked = [s.said_us for s in out if s.kind == "ended"]
        begin = next((t for t in begins if t not in blocked), None)
        if begin is None:
            continue
        out.append(Said(begin, "began", life.ordinal, -1, enter, begin, lasted(enter, begin)))
        later = [t for t, k in life.looks.items() if t > begin and (not k.visit or k.enter_us != enter)]
        known = [*later, *([life.ended_us] if life.ended_us is not None else [])]
        if known:
            last = max(inside)
            out.append(Said(min(known), "ended", life.ordinal, -1, enter, last, lasted(enter, last)))
    return out


def of_gone(rule: Removed, life: Life) -> list[Said]:
    out = []
    seen = [(t, k) for t, k in life.looks.items() if k.seen]
    spells: list[list[tuple[int, Look]]] = []
    for t, k in seen:
        if spells and spells[-1][-1][1].still_us == k.still_us:
            spells[-1].append((t, k))
        else:
            spells.append([(t, k)])
    for n, spell in enumerate(spells):
        still = spell[0][1].still_us
        if not still:
            continue
        long_enough = [(t, k) for t, k in spell if t - still >= us(rule.since_s)]
        if not any(is_in(rule.zone, k) and is_of(rule.classes, k) for _, k in long_enough):
            continue
        last = spell[-1][0]
        if n + 1 < len(spells):
            moved = spells[n + 1][0][0]
            out.append(Said(moved, "pulse", life.ordinal, -1, still, moved, lasted(still, last)))
        elif life.ended_us is not None:
            out.append(Said(life.ended_us, "pulse", life.ordinal, -1, still, last, lasted(still, last)))
    return out


def of_alone(rule: Abandoned, life: Life, history: Sequence[Moment]) -> list[Said]:
    """Walk from one clock to the next: it starts anew wherever the object is not alone, not still or unseen for too long."""
    frames = [m.at_us for m in history if m.at_us >= min(life.looks)]
    owners = {m.at_us: [k for k in m.looks.values() if k.status == "confirmed" and k.seen] for m in history}
    alone: dict[int, bool] = {}  # of the frames in which the object is seen standing: is nobody near
    for t, k in life.looks.items():
        if is_in(rule.zone, k) and is_of(rule.classes, k) and k.still_us:
            alone[t] = not any(
                is_near(k, o, rule) for o in owners[t] if o.ordinal != k.ordinal and is_of(rule.owner_classes, o)
            )
    need, gap, out = us(rule.since_s) + us(rule.hold_s), us(rule.gap_s), []
    known_by = [life.ended_us] if life.ended_us is not None else []
    times, at = sorted(alone), 0
    while at < len(times):
        clock, last, began = None, None, None
        for n in range(at, len(times)):  # to the frame in which the clock has run
            t = times[n]
            if not alone[t]:
                clock = None
                continue
            if clock is None or t - last > gap:  # type: ignore[operator]
                clock = t
            clock, last = max(clock, life.looks[t].still_us), t
            if t - clock >= need and t not in [s.said_us for s in out if s.kind == "ended"]:
                began, at = t, n + 1
                break
        if began is None or clock is None or last is None:
            break
        out.append(Said(began, "began", life.ordinal, -1, clock, began, lasted(clock, began)))
        for t in times[at:]:
            if t - last <= gap and alone[t] and life.looks[t].still_us <= clock:
                last = t
        ends = [t for t in frames if t > last and t - last > gap] + known_by
        if not ends:
            break
        out.append(Said(min(ends), "ended", life.ordinal, -1, clock, last, lasted(clock, last)))
        # The frame of the end starts the next clock only where nothing but the hole has ended the last one.
        hole = min(ends) in alone and alone[min(ends)] and life.looks[min(ends)].still_us <= clock
        at = next((n for n, t in enumerate(times) if t > min(ends) or (hole and t == min(ends))), len(times))
    return out


def is_near(bag: Look, owner: Look, rule: Abandoned) -> bool:
    apart_m = math.dist(bag.at_m, owner.at_m)
    if not math.isnan(apart_m):
        return apart_m <= rule.owner_m
    return math.dist(bag.foot, owner.foot) <= rule.owner_ratio * owner.height


def of_place(rule: Crowding | QueueLength | Empty, history: Sequence[Moment]) -> list[Said]:
    true_at: dict[int, float] = {}
    hold_us = us(rule.hold_s)
    for m in history:
        objects = [k for k in m.looks.values() if k.status == "confirmed" and is_of(rule.classes, k)]
        if isinstance(rule, Empty):
            if not any(k.visit == 2 for k in objects):
                true_at[m.at_us] = NAN
        else:
            settled = us(rule.settled_s) if isinstance(rule, QueueLength) else 0
            count = sum(is_in("z", k) and m.at_us - k.enter_us >= settled for k in objects)
            if count >= rule.count:
                true_at[m.at_us] = count
    if isinstance(rule, Empty):
        hold_us += us(rule.since_s)
    found = stretches(true_at, [m.at_us for m in history], hold_us, us(rule.gap_s))
    return say(found, lasted if isinstance(rule, Empty) else lambda _, at: true_at[at])


def of_pairs(rule: Proximity, history: Sequence[Moment]) -> list[Said]:
    out: list[Said] = []
    all_lives = lives(history)
    for n, a in enumerate(all_lives):
        for b in all_lives[n + 1 :]:
            both = sorted(set(a.looks) & set(b.looks))
            if not both:
                continue
            true_at, subjects = {}, {}
            for t in both:
                x, y = a.looks[t], b.looks[t]
                forth = is_of(rule.classes, x) and is_of(rule.other_classes, y)
                back = is_of(rule.classes, y) and is_of(rule.other_classes, x)
                apart = math.dist(x.at_m, y.at_m)
                if (forth or back) and is_in(rule.zone, x) and is_in(rule.zone, y) and apart < rule.distance_m:
                    true_at[t] = apart
                    subjects[t] = (a.ordinal, b.ordinal) if forth else (b.ordinal, a.ordinal)
            ends = [t for t in (a.ended_us, b.ended_us) if t is not None]
            frames = [m.at_us for m in history if m.at_us >= both[0]]
            found = stretches(true_at, frames, us(rule.hold_s), us(rule.gap_s), min(ends, default=None))
            kept: dict[int, tuple[int, int]] = {}
            for k, (times, _, _) in enumerate(
                found
            ):  # whoever is near again in the frame of the end has not been let go
                ended = found[k - 1][2] if k else None
                kept[times[0]] = kept[found[k - 1][0][0]] if ended == times[0] else subjects[times[0]]
            out += say(found, lambda _, at, true_at=true_at: true_at[at], who=kept.__getitem__)  # type: ignore[misc]
    return out


def at_wire(rule: LineCrossing | Tailgating | WireRule, history: Sequence[Moment]) -> list[Said]:
    out: list[Said] = []
    known = []
    for m in history:
        for p in sorted(m.passes, key=lambda p: p.at_us):
            side = "right" if p.side > 0 else "left"
            if p.wire != 0 or rule.direction not in ("any", side):
                continue
            if rule.classes and labels()[p.label] not in rule.classes:
                continue
            if isinstance(rule, LineCrossing):
                out.append(Said(m.at_us, "pulse", p.ordinal, -1, p.at_us, p.at_us, float(p.side)))
                continue
            before = [q for q in known if q.side == p.side]
            known.append(p)
            if not before:
                continue
            latest = max(reversed(before), key=lambda q: q.at_us)  # of equal times the one known last
            first, second = (latest, p) if p.at_us >= latest.at_us else (p, latest)
            apart = second.at_us - first.at_us
            if latest.ordinal != p.ordinal and apart <= us(rule.within_s):  # type: ignore[union-attr]
                out.append(
                    Said(m.at_us, "pulse", second.ordinal, first.ordinal, first.at_us, second.at_us, apart * 1e-6)
                )
    return out
