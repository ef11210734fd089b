"""The command `sightflow replay`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from operators.stages.replay_stage import ReplayStage, Side
from operators.stages.stage import Input
from schemas import topics
from schemas.fields import SettingsError
from schemas.settings import SiteSettings, fingerprint, index_cameras
from schemas.settings_file import load_settings
from sightflow.errors import CheckFailed
from sightflow.progress import Progress
from sightflow.replay import comparison, here, job, page, table, topic
from sightflow.replay.arguments import replay_parser
from sightflow.replay.outputs import NEW, OLD, PAGE, SUMMARY, Outputs, final_files, place, working
from sightflow.replay.record import properties_of
from sightflow.replay.records import (
    Keyed,
    Scene,
    Span,
    bodies_of,
    chosen,
    format_of,
    nothing_there,
    of_messages,
    of_recorded,
    of_text,
)
from sightflow.replay.times import shown, us_of
from sightflow.stack import Stack
from sightflow.track import jsonl_file
from sightflow.track.arguments import fps_of, label_of, size_of
from sightflow.track.source import EPOCH_US, Tally, View

STEP = "replay"


@dataclass(frozen=True)
class Plan:
    """What is asked for, checked: nothing has been read or started."""

    inputs: list[str]
    topic: topic.TopicSpan | None
    files: list[Path]
    formats: list[str]
    scene: Scene | None
    span: Span
    cameras: frozenset[str]
    new: list[SiteSettings]
    old: list[SiteSettings]
    submitted: list[SiteSettings]
    tally: Tally = field(default_factory=Tally)


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    a = replay_parser().parse_args(argv)
    plan = _plan(a)
    with Progress(sys.stderr) as progress, working(a.out, a.overwrite) as folder:
        sides = _sides(plan, a)
        outputs = Outputs(folder, [side.name for side in sides])
        if plan.topic is not None and not a.in_process:
            took_s = _on_flink(plan, plan.topic, sides, outputs, a, progress)
        else:
            took_s = _here(plan, sides, outputs, a, progress)
        count = outputs.record_count
        if not count:
            raise nothing_there(plan.inputs[0])
        with progress.step("sort and compare"):
            files = outputs.finish()
            (folder / "rules").mkdir()
            found = comparison.compare(files, sides, folder / "rules")
            facts = page.Facts(", ".join(plan.inputs), {side.name: _name(side, plan) for side in sides}, count)
            html = page.render(found, facts, files) if a.out else ""
        if a.out:
            summary = json.dumps(_summary(found, facts), indent=1, ensure_ascii=False) + "\n"
            place(a.out, files, {SUMMARY: summary, PAGE: html})
    print(table.text_of(found))
    if plan.tally.counts:
        print(f"  {plan.tally.text()}", file=sys.stderr)
    print(f"{count:,} frames in {took_s:.2f} s ({count / max(took_s, 1e-9):,.0f} frames/s)", file=sys.stderr)
    if found.first_us:
        print(f"what came out is from {shown(found.first_us)} to {shown(found.last_us)}", file=sys.stderr)
    if a.out:
        print(f"look at {a.out / PAGE}; files: docs/replay.md", file=sys.stderr)
    return 0


def _summary(found: comparison.Comparison, facts: page.Facts) -> dict[str, object]:
    return {
        "input": facts.inputs,
        "record_count": facts.record_count,
        "settings": dict(facts.settings),
        **comparison.as_data(found),
    }


# --- what is asked for ---------------------------------------------------------------------------------------------


def _plan(a: argparse.Namespace) -> Plan:
    if a.parallelism is not None and a.parallelism < 1:
        raise CheckFailed(f"--parallelism: expected at least 1, got {a.parallelism}")
    named = [text for text in a.input if topic.is_topic(text)]
    if named and len(a.input) > 1:
        raise CheckFailed("--input: expected one topic, or files", "record the topic first: sightflow record --help")
    new, old, submitted = (_sites(option, paths) for option, paths in
                           (("--settings", a.settings), ("--compare", a.compare), ("--submitted", a.submitted)))  # fmt: skip
    if not new and not named:
        raise CheckFailed(
            "--settings: expected a site file: files say nothing of the settings that were in force",
            "an example: sites/demo.yaml; the fields: docs/settings.md",
        )
    if new and submitted:
        raise CheckFailed("--submitted: is for replays of topics without --settings; --settings holds for all of it")
    if named:
        wanted = topic.parse(named[0], a.since, a.until)
        _refuse_text_options(a, "a topic")
        return Plan(a.input, wanted, [], [], None, wanted.span, frozenset(a.camera), new, old, submitted)
    if a.in_process or a.parallelism is not None:
        raise CheckFailed("--in-process and --parallelism are for topics: files are always replayed in this process")
    paths = [Path(text) for text in a.input]
    formats = [format_of(path, a.format) for path in paths]
    if a.out:
        _refuse_to_write_over(a.out, [*paths, *a.settings, *a.compare])
    if any(form in ("mot", "jsonl") for form in formats):
        if len(paths) > 1:
            raise CheckFailed(
                "--input: expected one text file: it is one camera's", "several cameras: messages (.wire)"
            )
        scene = _scene(a, paths[0], formats[0], new)
        return Plan(a.input, None, paths, formats, scene, topic.span_of(a.since, a.until), frozenset(), new, old, [])
    _refuse_text_options(a, "messages")
    span = topic.span_of(a.since, a.until)
    return Plan(a.input, None, paths, formats, None, span, frozenset(a.camera), new, old, [])


def _refuse_to_write_over(out: Path, read: Sequence[Path]) -> None:
    taken = {path.resolve() for path in (out, *final_files(out, (NEW, OLD)).values(), out / SUMMARY, out / PAGE)}
    for path in read:
        if path.resolve() in taken:
            raise CheckFailed(f"--out {out}: {path} is read, and would be written over", "name another folder")


def _refuse_text_options(a: argparse.Namespace, what: str) -> None:
    given = [name for name in ("fps", "size", "start") if getattr(a, name) is not None]
    if given:
        raise CheckFailed(f"--{given[0]}: is for text files; {what} has its own times and sizes")


def _sites(option: str, paths: Sequence[Path]) -> list[SiteSettings]:
    try:
        sites = [load_settings(path) for path in paths]
        index_cameras(sites)
    except SettingsError as error:
        raise CheckFailed(f"{option}: settings refused: {error}", "the fields: docs/settings.md") from error
    return sites


def _scene(a: argparse.Namespace, path: Path, form: str, sites: Sequence[SiteSettings]) -> Scene:
    needs_fps = a.fps is None and not (form == "jsonl" and jsonl_file.has_times(path))
    if needs_fps or a.size is None:
        raise CheckFailed(
            f"--input {path}: needs --size, and --fps where the file has no time_s",
            "add, for example: --fps 30 --size 1920x1080",
        )
    cameras = {camera.id: site.site for site in sites for camera in site.cameras}
    names = a.camera or list(cameras)
    if len(names) != 1 or names[0] not in cameras:
        raise CheckFailed(
            f"--camera: expected the camera whose frames these are, one of {', '.join(list(cameras)[:8])}"
            f"{', …' * (len(cameras) > 8)}, got {' '.join(a.camera) or 'none'}"
        )
    view = View(*size_of(a.size), 25.0 if a.fps is None else fps_of(a.fps))
    start_us = EPOCH_US if a.start is None else us_of("--start", a.start)
    return Scene(cameras[names[0]], names[0], view, label_of(a.label), start_us)


# --- settings ------------------------------------------------------------------------------------------------------


def _sides(plan: Plan, a: argparse.Namespace) -> list[Side]:
    new = Side(NEW, tuple(plan.new))
    if not plan.new and plan.topic is not None:
        new = Side(NEW, tuple(plan.submitted), _versions(properties_of(a, plan.topic.bootstrap)))
        if not new.versions and not new.sites:
            raise CheckFailed(
                "--settings: the topic of settings holds no version, so none was in force",
                "name site files: --settings FILE, or those that the job was submitted with: --submitted FILE",
            )
    return [new, Side(OLD, tuple(plan.old))] if plan.old else [new]


def _versions(properties: dict[str, str]) -> tuple[tuple[str, Input], ...]:
    wanted = topic.TopicSpan("", topics.SETTINGS, Span())
    found = (of_recorded(r) for r in topic.TopicReader(properties).read(wanted))
    return tuple((key, record) for key, record in found if record.value is not None)


def _name(side: Side, plan: Plan) -> str:
    names = [f"{site.site} {fingerprint(site)}" for site in side.sites]
    if side.versions:
        names.append(f"{len(side.versions)} versions of the topic {topics.SETTINGS}")
    return ", ".join(names)


# --- work ----------------------------------------------------------------------------------------------------------


def _records(plan: Plan, a: argparse.Namespace) -> Iterator[Keyed]:
    if plan.topic is not None:
        reader = topic.TopicReader(properties_of(a, plan.topic.bootstrap))
        return map(of_recorded, reader.read(plan.topic))
    if plan.scene is not None:
        return of_text(plan.files[0], plan.formats[0], plan.scene, plan.tally)
    return of_messages(bodies_of(plan.files, plan.formats))


def _here(plan: Plan, sides: list[Side], outputs: Outputs, a: argparse.Namespace, progress: Progress) -> float:
    """Replay in this process; return the seconds that it took."""
    records = chosen(_records(plan, a), plan.span, plan.cameras)
    with progress.step("load the camera stage"):  # compiles its kernels where that has not been done yet
        stage = ReplayStage(sides)
        stage.open()
    begun_s = time.perf_counter()

    def show(count: int) -> None:
        progress.detail(STEP, f"{count:,} frames, {count / (time.perf_counter() - begun_s):,.0f} frames/s")

    with progress.step(STEP):
        here.run(stage, records, outputs.add, show)
    return time.perf_counter() - begun_s


def _on_flink(
    plan: Plan, wanted: topic.TopicSpan, sides: list[Side], outputs: Outputs, a: argparse.Namespace, progress: Progress
) -> float:
    """Replay on Flink; return the same."""
    bootstrap = properties_of(a, wanted.bootstrap)["bootstrap.servers"]
    asked = job.Job(
        wanted, bootstrap, tuple(a.settings or a.submitted), tuple(a.compare), sides[0], plan.cameras,
        a.job_kafka_properties, a.parallelism or 1,
    )  # fmt: skip
    return job.run(Stack(a.run_dir), asked, outputs, progress)
