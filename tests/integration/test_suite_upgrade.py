"""Stop with a savepoint and go on from it: as the same job, and as two jobs of the same stages."""

from __future__ import annotations

from collections.abc import Iterable

from schemas import topics
from schemas.wire import Event
from tests.integration.outcome import Outcome, difference, points_difference
from tests.integration.pipeline import Feed, Pipeline
from tests.integration.scenes import two_sites

RUN_S = 60.0  # pace of all frames while a job runs
WAIT_S = 600.0  # and while one is being stopped or started: some must be left for the last
SECOND_TASKMANAGER = "flink-taskmanager-2"


def test_counts_go_on_from_savepoints_in_the_same_job_and_in_jobs_of_its_stages(
    pipeline: Pipeline, undisturbed: Outcome
) -> None:
    """Frames keep coming while no job runs. Each stage takes up its part of the suite's savepoint."""
    scene = two_sites()
    records = scene.records()
    cuts: list[int] = []  # how many frames had been tracked at each stop

    first = pipeline.submit("suite", scene.sites)
    feed = pipeline.start_feed(records, RUN_S)
    pipeline.until("some tracks", lambda: pipeline.output_count(topics.TRACKS) > len(records) // 8)
    feed.pace(WAIT_S)
    savepoint = pipeline.stack.stop_with_savepoint(first)
    cuts.append(pipeline.output_count(topics.TRACKS))

    second = pipeline.submit("suite", scene.sites, savepoint=savepoint)
    feed.pace(RUN_S)
    pipeline.until("more tracks", lambda: pipeline.output_count(topics.TRACKS) > cuts[0] + len(records) // 8)
    feed.pace(WAIT_S)
    savepoint = pipeline.stack.stop_with_savepoint(second)
    cuts.append(pipeline.output_count(topics.TRACKS))

    pipeline.stack.start(SECOND_TASKMANAGER)
    try:
        # Each takes up its own part of the savepoint: the cameras' state, and the points that were not written yet.
        partly = ["--allowNonRestoredState"]
        pipeline.submit("camera_stage", scene.sites, savepoint=savepoint, flink_args=partly)
        pipeline.submit("influx_writer", savepoint=savepoint, flink_args=partly)
        _finish(pipeline, feed, scene.cameras)
    finally:
        pipeline.stack.stop(SECOND_TASKMANAGER)
    outcome = pipeline.collect([topics.FIGURES])

    _assert_as_undisturbed(pipeline, outcome, undisturbed)
    assert outcome.values(topics.FIGURES), "the stages ran as jobs of their own, with figures between them"
    times_us = sorted(f.capture_us for f in scene.frames())
    visits = [
        (e.at_us - e.dwell_s * 1e6, e.at_us) for e in undisturbed.decoded(topics.EVENTS, Event) if e.kind == "exit"
    ]
    for cut in cuts:
        assert any(a < times_us[cut] < b for a, b in visits), "no visit was under way at the stop: choose another scene"


def test_a_job_goes_on_from_its_savepoint_on_two_slots_and_on_one_again(
    pipeline: Pipeline, undisturbed: Outcome
) -> None:
    """Each slot takes up the cameras that fall to it."""
    scene = two_sites()
    records = scene.records()
    feed = pipeline.start_feed(records, WAIT_S)
    savepoint, tracked = None, 0
    pipeline.stack.start(SECOND_TASKMANAGER)
    try:
        for slots in (1, 2, 1):
            job = pipeline.submit("suite", scene.sites, ["--parallelism", str(slots)], savepoint=savepoint)
            feed.pace(RUN_S)
            tracked += len(records) // 8
            _await_tracks(pipeline, tracked)
            if len(pipeline.jobs) < 3:
                feed.pace(WAIT_S)
                savepoint = pipeline.stack.stop_with_savepoint(job)
                tracked = pipeline.output_count(topics.TRACKS)
        _finish(pipeline, feed, scene.cameras)
    finally:
        pipeline.stack.stop(SECOND_TASKMANAGER)
    outcome = pipeline.collect()

    _assert_as_undisturbed(pipeline, outcome, undisturbed)


def _await_tracks(pipeline: Pipeline, count: int) -> None:
    pipeline.until(f"more than {count} tracks", lambda: pipeline.output_count(topics.TRACKS) > count)


def _finish(pipeline: Pipeline, feed: Feed, cameras: Iterable[str]) -> None:
    assert feed.is_alive(), "the feed ended too early: nothing was left to go on with"
    feed.hurry()
    feed.join_or_raise()
    pipeline.await_silence(cameras)
    pipeline.stop()


def _assert_as_undisturbed(pipeline: Pipeline, outcome: Outcome, undisturbed: Outcome) -> None:
    assert all(pipeline.stack.job_exceptions(job) == [] for job in pipeline.jobs)
    assert points_difference(outcome.points, undisturbed.points) == ""
    for topic in (topics.EVENTS, topics.ALERTS, topics.TRACKS, topics.DEAD_LETTERS):
        assert difference(outcome.values(topic), undisturbed.values(topic)) == "", topic
