"""`sightflow demo`: the whole product at work on real footage, through every real part, and what came out of it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sightflow.demo_run import DemoPlan, run_demo
from sightflow.demo_summary import summary
from sightflow.errors import CheckFailed
from sightflow.places import Local
from sightflow.progress import Progress
from sightflow.report.outcome import SOURCE_LOST, Outcome

DEFAULT_SECONDS = 38.0
"""Long enough for two crowdings and a loitering in the footage; with start and end it stays under 90 s on two free cores."""

_EPILOG = """\
examples:
  sightflow demo
  sightflow demo --seconds 79             once through the whole clip
  sightflow demo --keep                   leave the servers and the job running, to look around
  sightflow demo --json figures.json      the figures for a program
It has a stack of its own, beside one of `sightflow up`: what you run is left alone. Ctrl-C leaves nothing behind.
It returns 1 where something is wrong with what came out, such as a lost frame.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 1 where something is wrong with what came out."""
    a = _parser().parse_args(argv)
    if not 5 <= a.seconds <= 3600:
        raise CheckFailed(f"--seconds: from 5 to 3600, found {a.seconds:g}")
    began_s = time.monotonic()
    plan = DemoPlan(
        run_dir=a.run_dir.absolute(), seconds=a.seconds, keep=a.keep, report=a.report.absolute(), local=Local.find()
    )
    print("sightflow demo: RTSP camera → edge agent → Kafka → Flink → Kafka and InfluxDB, all of it real\n", flush=True)
    with Progress.to_stdout() as progress:
        done = run_demo(plan, progress)
    problems = find_demo_problems(done.outcome)
    took_s = time.monotonic() - began_s
    print(summary(done, problems, took_s), flush=True)
    if a.json:
        a.json.write_text(json.dumps(_figures(done.outcome, problems, done.report, took_s), indent=2) + "\n")
    return 1 if problems else 0


def find_demo_problems(outcome: Outcome) -> list[str]:
    """Return what is wrong: with the frames' way, or because a demo that shows nothing shows nothing."""
    found = list(outcome.problems)
    if outcome.frames.detection_count and not outcome.objects:
        found.append("frames came through, but not one object was tracked in them")
    if outcome.frames.detection_count and not outcome.windows:
        found.append("InfluxDB has no window of this camera")
    return found


def _parser() -> argparse.ArgumentParser:
    local = Local.find()
    made = argparse.ArgumentParser(
        prog="sightflow demo",
        description="Run everything once on real footage and show what came out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, metavar="S",
                      help="how long to watch the stream (default: %(default)g)")  # fmt: skip
    made.add_argument("--keep", action="store_true", help="leave the servers and the job running afterwards")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON too")
    made.add_argument("--report", type=Path, default=local.root / "reports" / "demo.html", metavar="FILE",
                      help="where the page goes (default: .local/reports/demo.html)")  # fmt: skip
    made.add_argument("--run-dir", type=Path, default=local.root / "demo", metavar="FOLDER",
                      help="its data and logs; deleted at the next demo (default: .local/demo)")  # fmt: skip
    return made


def _figures(o: Outcome, problems: list[str], report: Path, took_s: float) -> dict[str, object]:
    """Return the outcome as plain data, with the sums that a reader asks for first."""
    whole: dict[str, object] = msgspec.to_builtins(o)
    alerts = [i for i in o.incidents if i.rule_type != SOURCE_LOST]
    return whole | {
        "problems": problems,
        "took_s": round(took_s, 1),
        "report": str(report),
        "object_count": sum(o.objects.values()),
        "crossing_count": sum(c.left_count + c.right_count for c in o.crossings),
        "visit_count": sum(v.count for v in o.visits),
        "alert_count": len(alerts),
        "lost_count": o.frames.lost_count,
        "duplicate_count": o.frames.duplicate_count,
    }
