"""The rules of one camera as conditions: which hold, since when, for whom."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.anchors import class_mask
from operators.conditions import kernel, table
from operators.conditions.compilation import compile_rules, second_classes
from operators.conditions.table import (
    HELD,
    MAX_PAIRS,
    MAX_RULES,
    OPEN,
    PAIR,
    PAIR_COUNT,
    PAIR_RUN,
    PASSAGE,
    POTENTIAL,
    REFUSED_PAIRS,
    RUN,
)
from schemas.rules import AnyRule, identity

Rows = npt.NDArray[Any]
_NOBODY = {"label": -1, "ordinal": -1, "born_us": 0}


class Held(NamedTuple):
    """A condition began (`kind` BEGAN), ended (ENDED) or something happened (PULSE); all times in event time, µs.

    Of a place itself `slot`, `label` and `ordinal` are −1. `other_ordinal` is that of the other one of a pair, or of who went
    first through a tripwire, else −1. `since_us` is when the condition began; `at_us` this frame's time for BEGAN, the last time
    that it was true for ENDED, when it happened for PULSE (which may lie before the frame). `value` is what the rule measured then.
    """

    kind: int
    rule: int
    slot: int
    label: int
    ordinal: int
    born_us: int
    other_ordinal: int
    other_born_us: int
    since_us: int
    at_us: int
    value: float


class Kept(NamedTuple):
    """State as bytes: RUN rows of all slots in use, of places, PASSAGE rows, PAIR_RUN rows in use, and refused pairs."""

    runs: bytes
    places: bytes
    passages: bytes
    pairs: bytes
    refused_pairs: int


class Conditions:
    """All rules of one camera.

    Args:
        rules: as in the settings; records name them by index.
        zone_ids, wire_ids: the camera's, in the order of its tables.
        capacity: slots of the track table.

    BEGAN and ENDED alternate for each (rule, subject, other), never two of them in one frame; a PULSE stands alone.
    """

    BEGAN, ENDED, PULSE = table.BEGAN, table.ENDED, table.PULSE

    def __init__(
        self, rules: Sequence[AnyRule], zone_ids: Sequence[str], wire_ids: Sequence[str], capacity: int
    ) -> None:
        if len(rules) > MAX_RULES:
            raise ValueError(f"expected at most {MAX_RULES} rules per camera, got {len(rules)}")
        self._rules = tuple(rules)
        n = len(self._rules)
        self.names = tuple(identity(rule) for rule in self._rules)
        self.rules, self.threshold = compile_rules(self._rules, zone_ids, wire_ids)
        self.wanted, self.other = np.zeros((n, 256), np.bool_), np.zeros((n, 256), np.bool_)
        self.runs: Rows = np.zeros((capacity, n), RUN)
        self.places: Rows = np.zeros(n, RUN)
        self.passages: Rows = np.zeros((n, 2), PASSAGE)
        self.pairs: Rows = np.zeros(MAX_PAIRS if table.PAIR in self.rules["measure"] else 0, PAIR_RUN)
        self.pair_head = np.zeros(2, np.int64)
        self.counts = np.zeros(n, np.int64)
        self._keys, self._items = np.zeros(capacity), np.zeros(capacity, np.int64)
        self._out: Rows = np.zeros(0, HELD)

    def set_labels(self, labels: Sequence[str]) -> None:
        """Say what the label indices of tracks mean; call again when labels are added."""
        for i, rule in enumerate(self._rules):
            self.wanted[i, : len(labels)] = class_mask(rule.classes, labels)
            self.other[i, : len(labels)] = class_mask(second_classes(rule), labels)

    def set_threshold(self, rule: int, value: float) -> None:
        """Change a rule's threshold, in the unit of its field; what is under way is judged by it from the next frame on."""
        self.threshold[rule] = value

    def room(self, slots: int) -> int:
        """Return how many records one step can make: per rule and object one, per rule one, per pair one."""
        return (slots + 1) * len(self._rules) + 2 * len(self.pairs)

    def step(
        self, tracks: Rows, slots: int, motions: Rows, visits: Rows, crossings: Rows, aspect: float, now_us: int
    ) -> list[Held]:
        """Take a frame, arrays as `kernel.step`; return what began, ended or happened.

        By slot and rule for objects, then places by rule, known pairs, and by rule new pairs and tripwires (by time of crossing).
        """
        if self.room(slots) > len(self._out):
            self._out = np.zeros(self.room(slots), HELD)
        n = kernel.step(
            tracks, slots, motions, visits, crossings, len(crossings), self.rules, self.threshold, self.wanted, self.other,
            self.runs, self.places, self.passages, self.pairs, self.pair_head, self.counts, self._keys, self._items, aspect,
            now_us, self._out,
        )  # fmt: skip
        return [Held(*h) for h in self._out[:n].tolist()]

    def end_all(self, tracks: Rows, slots: int) -> list[Held]:
        """End everything at the last time that it was true, and forget it: nothing more is known. Nothing is taken for gone."""
        out = []
        for slot, rule in itertools.product(range(slots), range(len(self._rules))):
            if self.runs[slot, rule]["phase"] == OPEN:
                out.append(self._ended(self.runs[slot, rule], rule, slot, tracks[slot]))
        for rule in range(len(self._rules)):
            if self.places[rule]["phase"] == OPEN:
                out.append(self._ended(self.places[rule], rule))
        for pair in self.pairs[: self.pair_head[PAIR_COUNT]]:
            if pair["phase"] == OPEN:
                slot, other = int(pair["subject"]), int(pair["other"])
                out.append(self._ended(pair, int(pair["rule"]), slot, tracks[slot], tracks[other]))
        self._forget()
        return out

    def _ended(self, run: Any, rule: int, slot: int = -1, subject: Any = _NOBODY, other: Any = _NOBODY) -> Held:
        return Held(
            self.ENDED, rule, slot, int(subject["label"]), int(subject["ordinal"]), int(subject["born_us"]),
            int(other["ordinal"]), int(other["born_us"]), int(run["since_us"]), int(run["true_us"]), self._measured(run, rule),
        )  # fmt: skip

    def _measured(self, run: Any, rule: int) -> float:
        if kernel.is_time(int(self.rules[rule]["measure"])):
            return int(run["true_us"] - run["since_us"]) * 1e-6 + float(run["value"])
        return float(run["value"])

    def value(self, tracks: Rows, slots: int, rule: int, ordinal: int = -1, other_ordinal: int = -1) -> float:
        """Return what a rule measured of a subject in the last frame in which it was true; NaN where nothing is under way.

        Seconds of a visit, inside, still, alone or empty; m/s; metres; a count. `ordinal` −1: the rule's place itself.
        """
        run = self._run(tracks, slots, rule, ordinal, other_ordinal)
        return float("nan") if run is None else self._measured(run, rule)

    def holds(
        self, tracks: Rows, slots: int, now_us: int, rule: int, ordinal: int = -1, other_ordinal: int = -1
    ) -> bool:
        """Whether a rule is true of a subject in the frame of `now_us` itself, not only within its gap."""
        run = self._run(tracks, slots, rule, ordinal, other_ordinal)
        return run is not None and int(run["true_us"]) == now_us

    def _run(self, tracks: Rows, slots: int, rule: int, ordinal: int, other_ordinal: int) -> Any:
        """Return the run under way, None where there is none."""
        if ordinal < 0:
            found = self.places[rule : rule + 1]
        elif self.rules[rule]["measure"] == PAIR:
            pairs, numbers = self.pairs[: self.pair_head[PAIR_COUNT]], tracks["ordinal"]
            is_theirs = (numbers[pairs["subject"]] == ordinal) & (numbers[pairs["other"]] == other_ordinal)
            found = pairs[is_theirs & (pairs["rule"] == rule)]
        else:
            found = self.runs[:slots, rule][tracks["ordinal"][:slots] == ordinal]
        found = found[(found["phase"] == POTENTIAL) | (found["phase"] == OPEN)]
        return found[0] if len(found) else None

    def present(self, tracks: Rows, slots: int, visits: Rows, rule: int, now_us: int) -> list[tuple[int, int]]:
        """Return (ordinal, born_us) of those whom a COUNT rule counts in the frame of `now_us`, by slot."""
        row, t = self.rules[rule], tracks[:slots]
        v = visits[:slots, row["zone"]]
        counted = (v["inside"] == 1) & (v["open"] == 2) & (now_us - v["enter_us"] >= row["settled_us"])
        found = t[counted & self.wanted[rule, t["label"]]]
        return list(zip(found["ordinal"].tolist(), found["born_us"].tolist(), strict=True))

    # ---- state ------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        for rows in (self.runs, self.places, self.passages, self.pairs):
            rows[:] = np.zeros((), rows.dtype)
        self.pair_head[PAIR_COUNT] = 0

    def snapshot(self, slots: int) -> Kept:
        """Return the state of the first `slots` slots."""
        pairs = self.pairs[: self.pair_head[PAIR_COUNT]]
        return Kept(
            self.runs[:slots].tobytes(), self.places.tobytes(), self.passages.tobytes(), pairs.tobytes(),
            int(self.pair_head[REFUSED_PAIRS]),
        )  # fmt: skip

    def restore(self, kept: Kept, names: Sequence[str]) -> None:
        """Take up the state of rules of these `names`; that of rules which are gone is forgotten, new ones start empty."""
        self._forget()
        self.pair_head[REFUSED_PAIRS] = (
            kept.refused_pairs if names and self.names else 0
        )  # without rules it is not stored
        runs = np.frombuffer(kept.runs, RUN).reshape(-1, len(names)) if names else np.zeros((0, 0), RUN)
        places, pairs = np.frombuffer(kept.places, RUN), np.frombuffer(kept.pairs, PAIR_RUN)
        passages = np.frombuffer(kept.passages, PASSAGE).reshape(-1, 2)
        for i, name in enumerate(self.names):
            if name in names:
                old = names.index(name)
                self.runs[: len(runs), i], self.places[i], self.passages[i] = runs[:, old], places[old], passages[old]
        for pair in pairs:
            name = names[pair["rule"]]
            if name in self.names:
                at = self.pair_head[PAIR_COUNT]
                self.pairs[at] = pair
                self.pairs[at]["rule"] = self.names.index(name)
                self.pair_head[PAIR_COUNT] += 1
