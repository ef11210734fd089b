"""The command `sightflow report`."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from schemas.fields import SettingsError
from schemas.settings import Camera, SiteSettings
from schemas.settings_file import load_settings
from sightflow.errors import CheckFailed, SightflowError, StackNotRunning
from sightflow.places import REPO_ROOT, Local
from sightflow.progress import Progress
from sightflow.report.material import Question, gather, write
from sightflow.report.records import Span
from sightflow.stack import Stack

SETTLE_S = 3.0
"""Frames younger than this may still be on their way through the job."""

_EPILOG = """\
examples:
  sightflow report                                    the last 15 minutes of the demo's camera
  sightflow report --since 1h --until 30m             a span, counted back from now
  sightflow report --since 2026-05-01T08:00 --until 2026-05-01T09:00     … or in the site's time zone
  sightflow report --settings sites/mine.yaml --camera gate --out gate.html
Pictures: video stays at the site, so the page shows the ways of objects on a blank frame, unless you name the video file
that an RTSP camera of `python -m simulator.rtsp_camera --log FILE` played, and that log:
  sightflow report --footage .local/footage/vtest.mp4 --push-log FILE
"""
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])\Z")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    a = _parser().parse_args(argv)
    site, camera = _site(a.settings, a.camera)
    now_us = time.time_ns() // 1000
    since_us = moment_us(a.since, site.timezone, now_us)
    until_us = moment_us(a.until, site.timezone, now_us) if a.until else now_us - int(SETTLE_S * 1e6)
    if since_us >= until_us:
        raise CheckFailed(f"--since {a.since} is not before --until {a.until or 'now'}")
    if (a.footage is None) != (a.push_log is None):
        raise CheckFailed("--footage and --push-log go together: the log says which frame was shown when")
    stack = Stack(a.run_dir)
    if not stack.is_up():
        raise StackNotRunning(f"no stack runs in {a.run_dir}", "start one: sightflow up; or see a demo: sightflow demo")
    question = Question(
        site=site, camera=camera, span=Span(since_us, until_us), bootstrap=stack.kafka_bootstrap, influx=stack.influx,
        versions=job_versions(stack), footage=a.footage, push_log=a.push_log, mount=a.mount,
    )  # fmt: skip
    with Progress.to_stdout() as progress:
        with progress.step("read Kafka, query InfluxDB"):
            material = gather(question)
        with progress.step("write the page"):
            path = write(material, a.out.absolute())
    o = material.outcome
    if not o.frames.detection_count:
        print(f"no frame of {camera.id} in this span: the page is empty. Does its agent run? sightflow status")
    print(
        f"{o.frames.track_count} frames of {camera.id}, {sum(o.objects.values())} objects, {len(o.incidents)} alerts\n"
        f"report: {path}\n        {path.as_uri()}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    local = Local.find()
    made = argparse.ArgumentParser(
        prog="sightflow report", description="Write one HTML page of what came out of a camera in a span of time.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument("--run-dir", type=Path, default=local.run, help="folder of the stack (default: .local/run)")
    made.add_argument("--settings", type=Path, default=REPO_ROOT / "sites" / "demo.yaml", metavar="FILE",
                      help="the site's settings (default: sites/demo.yaml)")  # fmt: skip
    made.add_argument("--camera", default="", metavar="ID", help="default: the site's only camera")
    made.add_argument("--since", default="15m", metavar="WHEN", help="30s, 15m, 2h, 1d ago, or a time (default: 15m)")
    made.add_argument("--until", default="", metavar="WHEN", help="the same (default: now)")
    made.add_argument("--out", type=Path, default=local.root / "reports" / "report.html", metavar="FILE",
                      help="default: .local/reports/report.html")  # fmt: skip
    made.add_argument("--footage", type=Path, metavar="FILE", help="video file that the RTSP camera played")
    made.add_argument("--push-log", type=Path, metavar="FILE", help="what it wrote with --log")
    made.add_argument("--mount", default="", metavar="NAME", help="its mount in that log (default: the camera's id)")
    return made


def _site(path: Path, camera: str) -> tuple[SiteSettings, Camera]:
    try:
        site = load_settings(path)
    except SettingsError as error:
        raise CheckFailed(str(error), "correct the settings, or name another file with --settings") from error
    ids = [c.id for c in site.cameras]
    if not camera and len(ids) > 1:
        raise CheckFailed(f"{path} has {len(ids)} cameras", f"choose one with --camera: {', '.join(ids)}")
    found = [c for c in site.cameras if c.id == (camera or ids[0])]
    if not found:
        raise CheckFailed(f"{path} has no camera {camera!r}", f"it has: {', '.join(ids)}")
    return site, found[0]


def moment_us(text: str, timezone: str, now_us: int) -> int:
    """Read '15m' (ago), or an ISO date and time, in the site's time zone where it names none.

    Raises:
        CheckFailed: it is neither.
    """
    ago = _AGO.match(text.strip())
    if ago:
        return now_us - int(float(ago.group(1)) * _UNIT_S[ago.group(2)] * 1e6)
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise CheckFailed(f"not a time: {text!r}", "write 30s, 15m, 2h, 1d (ago), or 2026-05-01T08:00") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=ZoneInfo(timezone))
    return round(at.timestamp() * 1e6)


def job_versions(stack: Stack) -> dict[str, str]:
    """Return what Flink says of the jobs that run; nothing where it does not answer."""
    try:
        names = [str(stack.flink.job(j)["name"]) for j, state in stack.flink.jobs().items() if state == "RUNNING"]
        flink = str(stack.flink.overview()["flink-version"])
    except (OSError, KeyError, SightflowError):
        return {}
    return {"Flink": flink} | ({"job and build": ", ".join(sorted(names))} if names else {})
