"""Do the rules raise the alerts that they should, and no others?

    python -m bench rules [--rule NAME …] [--fps 10] [--seeds 5]

The camera stage runs over the simulator's scene for each rule (`simulator/rule_scenes.py`), and its alerts are compared with
those that follow from the true paths (`simulator/rule_truth.py`). A found alert is right where it is of that rule, opened within
`tolerance_s` of the true one, and is about the same objects. With a perfect detector, with one that errs, and with a poor one
(`simulator.scene`: NOISY_DETECTOR, POOR_DETECTOR).
"""

from __future__ import annotations

import argparse
import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import machine
from operators.stages.camera_stage import CameraStage
from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.ids import track_id
from schemas.rules import Abandoned, AnyRule, Proximity, Removed, Speeding, Stopped, WrongWay
from schemas.wire import AlertTransition, Event, TrackFrame, decode, encode
from simulator.objects import SceneObject
from simulator.rule_scenes import QUIET_S, RULE_SCENES, rules_scene
from simulator.rule_truth import RuleAlert, rule_alerts
from simulator.scene import NOISY_DETECTOR, POOR_DETECTOR, DetectorModel, FrameClock, Scene

FPS = 10.0
SEEDS = 5
DETECTORS = {"perfect": DetectorModel(), "noisy": NOISY_DETECTOR, "poor": POOR_DETECTOR}
MIN_OVERLAP = 0.25
"""IoU from which a track stands for an object in a frame."""
LOOK_S = 0.1  # how often
NOISE_S = 1.0
"""By how much more a start may be off where the detector errs."""
SLACK_S: dict[type[AnyRule], float] = {
    Stopped: 0.6, Abandoned: 0.6, Removed: 0.6, Speeding: 0.6, WrongWay: 0.4, Proximity: 0.3,
}  # fmt: skip
"""What is measured late or early by its nature: who stands still came to within `still_m` of the place before it stopped;
speed and direction come from a filter."""
LEAST_SLACK_S = 0.15


def tolerance_s(rule: AnyRule, fps: float, noisy: bool = False) -> float:
    """Return by how much the opening of an alert may be off: two frames, an empty frame where nothing is seen, and SLACK_S."""
    slack = SLACK_S.get(type(rule), LEAST_SLACK_S) + 2 / fps + QUIET_S
    return slack + NOISE_S if noisy else slack


@dataclass(frozen=True)
class Found:
    """One alert of the stage. Times in s from the scene's start; `subjects`: the true objects' names, '?' for none."""

    rule: str
    start_s: float
    open_s: float
    close_s: float
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Watched:
    """What the stage made of one camera's scene. Names are those of the true objects."""

    alerts: tuple[Found, ...]
    visits: tuple[tuple[str, str, float, float], ...]  # zone, name, enter, exit
    crossings: tuple[tuple[str, str, str, float], ...]  # tripwire, name, direction, time
    track_counts: dict[str, int]  # tracks by the object that they stand for


@dataclass
class Score:
    """Right, wrong and missed alerts, and the greatest error of an opening."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    error_s: float = 0.0

    @property
    def precision(self) -> float:
        """Share of the found alerts that are right."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """Share of the true alerts that were found."""
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0

    def add(self, other: Score) -> None:
        """Add the counts of another scene."""
        self.right, self.wrong = self.right + other.right, self.wrong + other.wrong
        self.missed, self.error_s = self.missed + other.missed, max(self.error_s, other.error_s)


# ---- watching ----------------------------------------------------------------------------------------------------------


def watch(scene: Scene, camera: str) -> Watched:
    """Run the camera stage over one camera's frames, and name what it finds by the true objects."""
    stage = CameraStage([scene.settings])
    stage.open()
    return named(scene, camera, run(stage.logic(camera), scene, camera))


def run(logic: KeyLogic, scene: Scene, camera: str) -> list[Output]:
    """Hand over all frames, then let the source fall silent, so that everything ends."""
    out: list[Output] = []
    for i, frame in enumerate(scene.camera_frames(camera)):
        out += logic.on_record(Input(encode(frame), 0, i, frame.capture_us // 1000))
    return out + logic.on_silence()


def named(scene: Scene, camera: str, outputs: Iterable[Output]) -> Watched:
    """Name what is found by the true objects."""
    by_topic: dict[str, list[bytes]] = defaultdict(list)
    for o in outputs:
        by_topic[o.topic].append(o.value)
    names = _names_of_tracks(scene, camera, [decode(v, TrackFrame) for v in by_topic[topics.TRACKS]])

    def at(us: int) -> float:
        return (us - scene.start_us) / 1e6

    transitions = [decode(v, AlertTransition) for v in by_topic[topics.ALERTS]]
    rules = {r.id for c in scene.settings.cameras if c.id == camera for r in c.rules}
    closes = {t.alert_id: t for t in transitions if t.transition == "close"}
    alerts = [
        Found(t.rule, at(t.start_us), at(t.at_us), at(closes[t.alert_id].at_us) if t.alert_id in closes else at(t.at_us),
              tuple(names.get(s, "?") for s in t.subjects))
        for t in transitions if t.transition == "open" and t.rule in rules
    ]  # fmt: skip
    events = [decode(v, Event) for v in by_topic[topics.EVENTS]]
    visits = [
        (e.zone, names.get(e.subject, "?"), at(e.at_us) - e.dwell_s, at(e.at_us)) for e in events if e.kind == "exit"
    ]
    crossings = [
        (e.tripwire, names.get(e.subject, "?"), e.direction, at(e.at_us)) for e in events if e.kind == "crossing"
    ]
    return Watched(tuple(alerts), tuple(sorted(visits)), tuple(sorted(crossings)), dict(Counter(names.values())))


def _names_of_tracks(scene: Scene, camera: str, frames: list[TrackFrame]) -> dict[str, str]:
    """Return for each track the object that it was on in most frames."""
    objects = scene.camera(camera).objects
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    looked_s = -LOOK_S
    for f in frames:
        at_s = (f.capture_us - scene.start_us) / 1e6
        if at_s - looked_s < LOOK_S:
            continue
        looked_s = at_s
        boxes = np.frombuffer(f.boxes, "<f4").reshape(-1, 4)
        seen = [o for o in objects if o.is_visible(at_s)]
        for i in range(len(boxes)):
            subject = track_id(
                f.site, f.camera, int(np.frombuffer(f.born_us, "<i8")[i]), int(np.frombuffer(f.ordinals, "<u4")[i])
            )
            if (name := _nearest(boxes[i], seen, at_s)) and f.states[i] == 0:
                votes[subject][name] += 1
    return {subject: count.most_common(1)[0][0] for subject, count in votes.items()}


def _nearest(box: Any, objects: list[SceneObject], at_s: float) -> str:
    best, found = MIN_OVERLAP, ""
    for o in objects:
        x1, y1, x2, y2 = o.box(at_s)
        width, height = min(x2, box[2]) - max(x1, box[0]), min(y2, box[3]) - max(y1, box[1])
        if width <= 0 or height <= 0:
            continue
        both = width * height
        iou = both / ((x2 - x1) * (y2 - y1) + (box[2] - box[0]) * (box[3] - box[1]) - both)
        if iou > best:
            best, found = iou, o.name
    return found


# ---- judging -----------------------------------------------------------------------------------------------------------


def judge(
    truth: Sequence[RuleAlert], found: Sequence[Found], within_s: float
) -> tuple[Score, list[RuleAlert], list[Found]]:
    """Match found alerts with true ones, nearest first; return the score, what was missed and what was wrong."""
    pairs = sorted(
        (abs(f.open_s - t.open_s), i, j)
        for i, t in enumerate(truth)
        for j, f in enumerate(found)
        if t.rule == f.rule and abs(f.open_s - t.open_s) <= within_s and _same(t.subjects, f.subjects)
    )
    score = Score()
    taken: dict[int, int] = {}
    for error_s, i, j in pairs:
        if i not in taken and j not in taken.values():
            taken[i] = j
            score.error_s = max(score.error_s, error_s)
    score.right, score.missed, score.wrong = len(taken), len(truth) - len(taken), len(found) - len(taken)
    missed = [t for i, t in enumerate(truth) if i not in taken]
    return score, missed, [f for j, f in enumerate(found) if j not in taken.values()]


def _same(true: tuple[str, ...], found: tuple[str, ...]) -> bool:
    """Whether an alert is about the same objects; one about a place may name who is there."""
    return not true or set(true) == set(found)


@functools.cache
def scored(name: str, seed: int, fps: float, detector: DetectorModel) -> tuple[Score, list[RuleAlert], list[Found]]:
    """Return how the stage does in one of RULE_SCENES."""
    scene = rules_scene([name], seed, clock=FrameClock(fps), detector=detector)
    rule = RULE_SCENES[name]().rule
    within_s = tolerance_s(rule, fps, noisy=not detector.is_exact)
    return judge(rule_alerts(scene), watch(scene, name).alerts, within_s)


# ---- the table ---------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="bench rules", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rule", action="append", choices=list(RULE_SCENES), metavar="NAME", help="again for more")
    parser.add_argument("--fps", type=float, default=FPS)
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, help="scenes per rule, each with other paths and other errors"
    )
    parser.add_argument("--verbose", action="store_true", help="list what was missed and what was wrong")
    a = parser.parse_args(argv)
    print("\n".join(machine.as_lines(machine.describe())))
    print(f"{a.fps:g} frames/s, {a.seeds} seeds, their alerts together; error: of the openings, the greatest, s\n")
    print(" " * 25 + "".join(f"{name + ' detector':^27}" for name in DETECTORS))
    print(f"{'rule':18}{'true':>6} " + "  precision  recall  error" * len(DETECTORS))
    for name in a.rule or RULE_SCENES:
        row = f"{name:18}"
        for i, (how, detector) in enumerate(DETECTORS.items()):
            total = Score()
            for seed in range(a.seeds):
                score, missed, wrong = scored(name, seed, a.fps, detector)
                total.add(score)
                if a.verbose:
                    for alert in [*missed, *wrong]:
                        print(f"  {'missed' if alert in missed else 'wrong'}, {how}, seed {seed}: {alert}")
            row += "" if i else f"{total.right + total.missed:6d} "
            row += f"{total.precision:11.3f}{total.recall:8.3f}{total.error_s:7.2f}"
        print(row, flush=True)
    return 0
