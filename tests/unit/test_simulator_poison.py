"""The poison corpus: every record is what it says it is, by the wire's rules and a plain model of the intake."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from schemas.wire import (
    BadMessage,
    DetectionFrame,
    check_detections,
    check_embeddings,
    decode_detections,
    unpack_boxes,
)
from simulator.layout import SPARE_CAMERA
from simulator.poison import (
    DEAD_LETTER_KINDS,
    KINDS,
    SEQ_PER_S,
    SEQ_SLACK_COUNT,
    TIMESTAMP_SLACK_MS,
    WATERMARK_KINDS,
    PoisonRecord,
    poison_messages,
)
from simulator.scenario import build_scene


@pytest.fixture(scope="module")
def good() -> DetectionFrame:
    return next(f for f in build_scene(0, duration_s=20).frames() if f.classes)


class PlainIntake:
    """What a job must refuse, in the plainest words."""

    def __init__(self, good: DetectionFrame) -> None:
        self.site, self.cameras = good.site, {good.camera, SPARE_CAMERA}
        self.seen: dict[str, DetectionFrame] = {}
        self.numbers: set[tuple[str, int, int]] = set()

    def fate(self, record: PoisonRecord) -> str:
        try:
            frame = decode_detections(record.value)
        except BadMessage:
            return "dead_letter"
        arrays = unpack_boxes(frame), np.frombuffer(frame.scores, "<f4"), np.frombuffer(frame.classes, np.uint8)
        if check_detections(*arrays, len(frame.labels)) or check_embeddings(frame.embeddings):
            return "dead_letter"
        if frame.camera not in self.cameras or frame.site != self.site or record.key != frame.camera.encode():
            return "dead_letter"
        if abs(frame.capture_us // 1000 - record.timestamp_ms) > TIMESTAMP_SLACK_MS:
            return "dead_letter"
        if (frame.camera, frame.boot, frame.seq) in self.numbers:
            return "dropped"
        last = self.seen.get(frame.camera)
        if last and frame.boot < last.boot:
            return "dead_letter"
        if last and frame.seq > last.seq + 1 + SEQ_SLACK_COUNT + SEQ_PER_S * (frame.capture_us - last.capture_us) / 1e6:
            return "dead_letter"
        assert last is None or (frame.seq == last.seq + 1 and frame.capture_us > last.capture_us)
        self.seen[frame.camera] = frame
        self.numbers.add((frame.camera, frame.boot, frame.seq))
        return "accepted"


@pytest.mark.parametrize("seed", range(3))
def test_every_record_meets_the_fate_that_it_names(seed, good):
    intake = PlainIntake(good)
    for record in poison_messages(seed, 1500, good, kinds=KINDS + tuple(WATERMARK_KINDS)):
        assert intake.fate(record) == record.expect, record.kind
        assert record.expect != "accepted" or record.key == SPARE_CAMERA.encode()
    assert good.camera not in intake.seen  # nothing moved the good camera's sequence on


def test_the_corpus_is_broad_and_every_kind_comes_in_turn(good):
    assert len(KINDS) >= 60 and len(DEAD_LETTER_KINDS) >= 45
    kinds = [r.kind for r in poison_messages(0, 2 * len(KINDS), good)]
    assert {*KINDS} == {*kinds}


def test_the_same_seed_gives_the_same_records(good):
    assert list(poison_messages(4, 200, good)) == list(poison_messages(4, 200, good))
    assert list(poison_messages(4, 200, good)) != list(poison_messages(5, 200, good))


def test_records_fit_the_topic_and_do_not_move_watermarks(good):
    from schemas.topics import TOPICS

    limit = next(t for t in TOPICS if t.name == "detections").max_message_bytes
    for record in poison_messages(0, 600, good):
        assert len(record.value or b"") < limit - 4096
        assert 0 < record.timestamp_ms <= good.capture_us // 1000 + 600


def test_an_unknown_kind_is_refused_by_name(good):
    with pytest.raises(ValueError, match="no such kind of poison"):
        list(poison_messages(0, 1, good, kinds=("nonsense",)))


def test_values_are_really_undecodable_or_odd_not_all_alike(good):
    values = [r.value for r in poison_messages(0, 1000, good) if r.value is not None]
    assert len(set(values)) > 0.6 * len(values)
    assert all(isinstance(v, bytes) for v in values)
    assert msgspec.msgpack.decode(next(r.value for r in poison_messages(0, 300, good) if r.kind == "extra_fields"))
