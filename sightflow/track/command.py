"""The command `sightflow track`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from schemas.wire import BadMessage, DetectionFrame, decode_detections
from sightflow.errors import SightflowError
from sightflow.pose_file import PoseFile, read_pose
from sightflow.progress import Progress
from sightflow.track import jsonl_file, mot_file, results, wire_file
from sightflow.track.arguments import fps_of, label_of, size_of
from sightflow.track.outputs import require_distinct
from sightflow.track.render import Renderer, rendering
from sightflow.track.source import CAMERA, SITE, BadInput, Tally, View
from sightflow.track.stage_run import DEFAULT_TRACKER, StageRun, camera_settings, keep_class

DEFAULT_CLASS = "person"
_SHOW_EACH = 64  # frames between two looks at the clock

_DESCRIPTION = """\
Run the camera stage's own tracker over a file of detections, frame by frame, as it runs in the job: what is written for a
frame depends on no later one. Formats and rules: docs/tracking.md."""
_EPILOG = """\
examples:
  sightflow track --detections det.txt --format mot --fps 30 --size 1920x1080 --out tracks.txt
  sightflow track --detections det.txt.gz --format mot --fps 29.97 --size 1920x1080 --camera-pose pose.txt --out tracks.txt
  sightflow track --detections cars.jsonl --format jsonl --fps 10 --size 1242x375 --class car --out tracks.wire
  sightflow track --detections det.txt --format mot --fps 10 --size 768x432 --out t.txt --video in.mp4 --render out.mp4
then:
  sightflow evaluate --truth gt.txt --results tracks.txt
"""


@dataclass(frozen=True)
class Job:
    """What is asked for, checked."""

    detections: Path
    format: str
    view: View
    pose: PoseFile | None
    only: str
    camera: str
    tracker: str


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    a = _parser().parse_args(argv)
    require_distinct(
        {"--detections": a.detections, "--camera-pose": a.camera_pose, "--video": a.video},
        {"--out": a.out, "--render": a.render},
    )
    job = _job(a)
    kind = results.format_of(a.out, a.out_format)
    if (a.video is None) != (a.render is None):
        raise SightflowError(
            "--video and --render go together: the video that is drawn on, and the one that is written"
        )
    tally = Tally()
    with Progress(sys.stderr) as progress:
        count = _track(job, a, kind, tally, progress)
    if tally.counts:
        print(f"  {tally.text()}", file=sys.stderr)
    print(count, file=sys.stderr)
    return 0


def _track(job: Job, a: argparse.Namespace, kind: str, tally: Tally, progress: Progress) -> str:
    """Do the work; return one line about it."""
    with progress.step(f"look through {job.detections.name}"):
        messages, total, (site, camera) = _open(job, tally)
    settings = camera_settings(camera, job.tracker, job.pose)
    with progress.step("load the camera stage"):  # compiles its kernels where that has not been done yet
        run = StageRun(site, settings, tally)
    step = "track"
    frames = boxes = 0
    with ExitStack() as stack:
        writer = stack.enter_context(results.writing(a.out, kind, a.predicted))
        renderer: Renderer | None = None
        if a.render is not None:
            renderer = stack.enter_context(rendering(a.video, a.render, job.view.fps))
        stack.enter_context(progress.step(step))
        begun_s = time.perf_counter()
        for tracked in run.frames(messages, are_numbered=job.format != "wire"):
            boxes += writer.write(tracked)
            frames += 1
            if renderer is not None:
                renderer.draw(tracked.number, tracked.frame)
            if frames % _SHOW_EACH == 0:
                rate_hz = frames / (time.perf_counter() - begun_s)
                of = f" of {total:,}" if total else ""
                progress.detail(step, f"frame {tracked.number:,}{of}, {rate_hz:,.0f} frames/s")
        took_s = time.perf_counter() - begun_s
        if renderer is not None and renderer.ended_at:
            progress.say(f"  --  the video ends before frame {renderer.ended_at}; later frames are not drawn")
    return f"{frames:,} frames in {took_s:.2f} s ({frames / max(took_s, 1e-9):,.0f} frames/s), {boxes:,} boxes: {a.out}"


# --- arguments -----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="sightflow track", description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = made.add_argument
    add("--detections", type=Path, required=True, metavar="FILE", help="detections, plain or gzip")
    add("--format", choices=("mot", "jsonl", "wire"), required=True, help="of the detections")
    add(
        "--fps",
        type=float,
        metavar="F",
        help="frames per second, fractions allowed; wire messages and lines with time_s carry their own times",
    )
    add("--size", metavar="WxH", help="of the frame in pixels; wire messages carry their own")
    add("--camera-pose", type=Path, metavar="FILE", help="rotation, translation in mm, intrinsic matrix")
    add("--class", dest="label", default="", metavar="NAME",
        help=f"class of boxes that name none (default: {DEFAULT_CLASS}); jsonl and wire: keep only boxes of this class")  # fmt: skip
    add("--camera", default="", metavar="ID", help="wire: which camera, where the file has several")
    add("--tracker", default=DEFAULT_TRACKER, metavar="NAME", help="as in the site's settings (default: %(default)s)")
    add(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help=".txt: MOTChallenge text; .jsonl: JSON lines; .wire: TrackFrame messages; or with .gz",
    )
    add("--out-format", choices=results.FORMATS, default="", help="default: by the extension of --out")
    add("--predicted", action="store_true", help="mot: also write the predicted places of objects that are not seen")
    add("--video", type=Path, metavar="IN", help="the video of these detections, frame by frame")
    add("--render", type=Path, metavar="OUT.mp4", help="write that video with the tracks drawn on it")
    return made


def _job(a: argparse.Namespace) -> Job:
    view = View(1, 1, 25.0)
    if a.format != "wire":
        needs_fps = a.fps is None and not (a.format == "jsonl" and jsonl_file.has_times(a.detections))
        if needs_fps or a.size is None:
            raise SightflowError(
                f"--format {a.format} needs --size, and --fps where the file has no time_s",
                "add, for example: --fps 30 --size 1920x1080",
            )
        view = View(*size_of(a.size), view.fps if a.fps is None else fps_of(a.fps))
    elif a.fps is not None:
        view = View(1, 1, fps_of(a.fps))  # the rate of a rendered video
    pose = read_pose(a.camera_pose) if a.camera_pose else None
    return Job(a.detections, a.format, view, pose, label_of(a.label), a.camera, a.tracker)


# --- input ---------------------------------------------------------------------------------------------------------

Messages = Iterator[tuple[int, bytes | DetectionFrame]]


def _open(job: Job, tally: Tally) -> tuple[Messages, int, tuple[str, str]]:
    """Return the messages with their numbers, the number of the last frame (0: not known), and (site, camera)."""
    label = job.only or DEFAULT_CLASS
    if job.format == "mot":
        extent = mot_file.measure(job.detections)
        frames = mot_file.read(job.detections, extent, job.view, label, tally)
        return enumerate(frames, 1), extent.frame_count, (SITE, CAMERA)
    if job.format == "jsonl":
        count = jsonl_file.count_frames(job.detections)
        return jsonl_file.read(job.detections, job.view, label, job.only, tally), count, (SITE, CAMERA)
    site, camera = _first_camera(job)
    return _of_camera(job, site, camera), 0, (site, camera)


def _first_camera(job: Job) -> tuple[str, str]:
    """Return site and camera of the messages.

    Raises:
        BadInput: no message can be read, or there are several cameras and none was chosen.
    """
    found: dict[tuple[str, str], None] = {}
    for _, raw in wire_file.read_messages(job.detections):
        try:
            frame = decode_detections(raw)
        except BadMessage:
            continue
        if job.camera in ("", frame.camera):
            found.setdefault((frame.site, frame.camera))
        if len(found) > 1:
            names = " and ".join(camera for _, camera in found)
            raise BadInput(job.detections, "", "messages of one camera", names, "choose one: --camera ID")
    if not found:
        raise BadInput(
            job.detections, "", f"messages of camera {job.camera}" if job.camera else "detection messages", "none",
            "is it this format (--format)? see docs/tracking.md",
        )  # fmt: skip
    return next(iter(found))


def _of_camera(job: Job, site: str, camera: str) -> Messages:
    """Yield what belongs to one camera, and what cannot be read, for the stage to refuse."""
    for number, raw in wire_file.read_messages(job.detections):
        try:
            frame = decode_detections(raw)
        except BadMessage:
            yield number, raw
            continue
        if job.camera and (frame.site, frame.camera) != (site, camera):
            continue
        yield number, keep_class(frame, job.only) if job.only else raw
