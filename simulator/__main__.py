"""`python -m simulator`: a scene or a load into Kafka, or a scene as files, with its settings and its truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from schemas.fields import SettingsError
from schemas.settings import SiteSettings
from schemas.settings_file import load_settings
from simulator.layout import scene_settings, settings_yaml
from simulator.load import Load, LoadPlan
from simulator.poison import poison_messages
from simulator.producer import SendError, pace, print_progress, send_records
from simulator.records import Record, length_prefixed, to_records, with_disorder, with_duplicates, with_poison
from simulator.rule_scenes import RULE_SCENES, rules_scene
from simulator.rule_truth import RuleAlert, rule_alerts
from simulator.scenario import build_scene
from simulator.scene import DEFAULT_START_US, NOISY_DETECTOR, DetectorModel, FrameClock, Scene
from simulator.truth import Truth, scene_truth
from simulator.walks import WalkPlan

ALL_RULES = "all"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (SendError, SettingsError, ValueError, OSError) as e:
        print(f"simulator: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    scene = commands.add_parser("scene", help="send a scene with known truth", description=_scene.__doc__)
    _add_scene_options(scene)
    scene.add_argument("--bootstrap-servers", default="127.0.0.1:9092", metavar="HOST:PORT")
    scene.add_argument("--speed", type=float, default=0.0, help="times real time; 0: as fast as possible (default)")
    scene.add_argument("--live", action="store_true", help="date the frames to now (with --speed 1: a live camera)")
    scene.add_argument("--duplicates", type=float, default=0.0, metavar="RATIO", help="share of records sent twice")
    scene.add_argument("--disorder", type=float, default=0.0, metavar="RATIO", help="share of records held back")
    scene.add_argument("--poison", type=int, default=0, metavar="COUNT", help="bad messages strewn in between")
    scene.set_defaults(run=_scene)
    files = commands.add_parser("files", help="write a scene's frames, settings and truth", description=_files.__doc__)
    _add_scene_options(files)
    files.add_argument(
        "--frames-out", type=Path, metavar="FILE", help="write the frames, for `sightflow replay` (.wire)"
    )
    files.set_defaults(run=_files)
    load = commands.add_parser("load", help="send a benchmark's load", description=_load.__doc__)
    load.add_argument("--bootstrap-servers", default="127.0.0.1:9092", metavar="HOST:PORT")
    load.add_argument("--cameras", type=int, default=100)
    load.add_argument("--detections", type=int, default=10, help="per frame")
    load.add_argument("--frames", type=int, default=100_000, help="records to send")
    load.add_argument("--fps", type=float, default=10.0, help="frames per second of event time and camera")
    load.add_argument("--rate", type=float, default=0.0, help="records per second; 0: as fast as possible (default)")
    load.set_defaults(run=_load)
    return parser


def _add_scene_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rule", action="append", default=[], metavar="NAME", choices=[ALL_RULES, *RULE_SCENES],
        help=f"the scene made for this rule, on a camera of that name (again for more): {ALL_RULES}, {', '.join(RULE_SCENES)}",
    )  # fmt: skip
    parser.add_argument("--settings", type=Path, help="a site file to simulate for (default: made for the scene)")
    parser.add_argument("--cameras", type=int, default=1)
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--jitter", type=float, default=0.0, metavar="RATIO", help="of the frame interval")
    parser.add_argument("--lanes", type=int, default=6, help="objects in view at once, at most")
    parser.add_argument("--crowded", action="store_true", help="objects may overlap")
    parser.add_argument("--noisy", action="store_true", help="a detector that errs")
    parser.add_argument("--start-us", type=int, default=DEFAULT_START_US, help="capture time of the first frame")
    parser.add_argument("--settings-out", type=Path, metavar="FILE", help="write the site file used")
    parser.add_argument("--truth-out", type=Path, metavar="FILE", help="write the truth as JSON")


def _make_scene(a: argparse.Namespace) -> Scene:
    scene = _rules_scene(a) if a.rule else _walks_scene(a)
    if a.settings_out:
        a.settings_out.write_text(settings_yaml(scene.settings), encoding="utf-8")
    if a.truth_out:
        a.truth_out.write_bytes(truth_json(scene_truth(scene), rule_alerts(scene) if a.rule else ()))
    return scene


def _rules_scene(a: argparse.Namespace) -> Scene:
    if a.settings:
        raise ValueError("expected --rule or --settings: scenes for rules bring their own")
    return rules_scene(
        () if ALL_RULES in a.rule else tuple(dict.fromkeys(a.rule)),
        a.seed,
        clock=FrameClock(a.fps, a.jitter),
        detector=NOISY_DETECTOR if a.noisy else DetectorModel(),
        start_us=a.start_us,
    )


def _walks_scene(a: argparse.Namespace) -> Scene:
    settings: SiteSettings = load_settings(a.settings) if a.settings else scene_settings(a.cameras, spare=True)
    return build_scene(
        a.seed,
        settings=settings,
        duration_s=a.duration_s,
        plan=WalkPlan(lane_count=a.lanes, crowded=a.crowded, fps_min=min(5.0, a.fps)),
        clock=FrameClock(a.fps, a.jitter),
        detector=NOISY_DETECTOR if a.noisy else DetectorModel(),
        start_us=a.start_us,
    )


def truth_json(truth: Truth, by_rule: tuple[RuleAlert, ...] = ()) -> bytes:
    """Return visits, crossings and alerts as JSON; `by_rule`, where there are any, as `rule_alerts`."""
    found: dict[str, object] = {"visits": truth.visits, "crossings": truth.crossings, "alerts": truth.alerts}
    if by_rule:
        found["rule_alerts"] = by_rule
    return msgspec.json.format(msgspec.json.encode(found), indent=1)


def _files(a: argparse.Namespace) -> int:
    """Write the scene's frames, site file and truth (--frames-out, --settings-out, --truth-out) and send nothing."""
    scene = _make_scene(a)
    if a.frames_out:
        with a.frames_out.open("wb") as file:
            file.writelines(length_prefixed(scene.frames()))
    print(_summary(scene, a))
    return 0


def _scene(a: argparse.Namespace) -> int:
    """Send a scene of known truth to the topic `detections`."""
    scene = _make_scene(a)
    frames = scene.frames()
    if a.speed:
        frames = pace(frames, a.speed, redate=a.live)
    records: Iterator[Record] = to_records(frames)
    if a.disorder:
        records = with_disorder(records, a.disorder, a.seed)
    if a.duplicates:
        records = with_duplicates(records, a.duplicates, a.seed)
    if a.poison:
        good = next(islice(scene.frames(), 1), None)
        if good is None:
            raise ValueError("the scene has no frames to put poison between")
        records = with_poison(records, poison_messages(a.seed, a.poison, good), a.seed, 0.5)
    print(_summary(scene, a), flush=True)
    report = send_records(records, a.bootstrap_servers, progress=print_progress)
    print(f"sent {report.sent_count:,} records, {report.sent_bytes:,} bytes in {report.elapsed_s:.1f} s")
    return 0


def _summary(scene: Scene, a: argparse.Namespace) -> str:
    truth = scene_truth(scene)
    alerts = rule_alerts(scene) if a.rule else truth.alerts
    directions = [c.direction for c in truth.crossings]
    return (
        f"truth: {len(truth.seen)} objects, {len(truth.visits)} visits, crossings {directions.count('left')} to the "
        f"left and {directions.count('right')} to the right, {len(alerts)} alerts"
    )


def _load(a: argparse.Namespace) -> int:
    """Encode frames once and send them over and over, as a benchmark's load."""
    print_progress("encoding frames …")
    load = Load(LoadPlan(a.cameras, a.detections, a.fps))
    report = send_records(load.records(a.frames), a.bootstrap_servers, rate_hz=a.rate or None, total_count=a.frames)
    print(f"sent {report.sent_count:,} records in {report.elapsed_s:.1f} s, {report.rate_hz:,.0f}/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
