"""Which frame of the footage a capture time belongs to, and its picture. A frame that is not known for sure is not shown."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sightflow.errors import SightflowError

JPEG_QUALITY = 82
MAX_LINES = 2_000_000
TOLERANCE_US = 30_000
"""A frame captured further than this from every pushed one has no picture; frames at 10/s are 100 ms apart."""


@dataclass(frozen=True)
class PushLog:
    """What the RTSP camera showed when: `frames[i]` of the footage at `times_us[i]`, ascending."""

    times_us: tuple[int, ...]
    frames: tuple[int, ...]

    @staticmethod
    def read(path: Path, mount: str) -> PushLog:
        """Read the log that `simulator.rtsp_camera --log` writes, and its older half where it was rotated.

        Raises:
            SightflowError: there is none, or a line is not of this kind.
        """
        older = path.with_name(path.name + ".1")
        pushes: list[tuple[int, int]] = []
        for part in (older, path):
            if part.exists() or part is path:
                pushes += _read_lines(part, mount)
        pushes.sort()
        return PushLog(tuple(t for t, _ in pushes), tuple(f for _, f in pushes))

    def frame_at(self, capture_us: int) -> int | None:
        """Return the number of the footage's frame that was shown at `capture_us`, or None."""
        i = bisect_left(self.times_us, capture_us)
        near = [j for j in (i - 1, i) if 0 <= j < len(self.times_us)]
        if not near:
            return None
        best = min(near, key=lambda j: abs(self.times_us[j] - capture_us))
        return self.frames[best] if abs(self.times_us[best] - capture_us) <= TOLERANCE_US else None


def _read_lines(path: Path, mount: str) -> list[tuple[int, int]]:
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SightflowError(f"the push log {path} cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines[:MAX_LINES], 1):
        try:
            push = json.loads(line)
            if push["mount"] == mount:
                found.append((int(push["capture_us"]), int(push["frame"])))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # being written while we read
                break
            raise SightflowError(f"{path}, line {number}: no line of a push log: {line[:80]!r}") from error
    return found


def read_pictures(footage: Path, wanted: Iterable[int]) -> dict[int, bytes]:
    """Return these frames of a video file as JPEG, by number from 0.

    The file is read from its beginning, because seeking is not exact in every container.

    Raises:
        SightflowError: the file cannot be read.
    """
    import cv2

    missing = set(wanted)
    pictures: dict[int, bytes] = {}
    if not missing:
        return pictures
    video = cv2.VideoCapture(str(footage))
    try:
        if not video.isOpened():
            raise SightflowError(f"the footage {footage} cannot be read as video")
        number = 0
        while missing and video.grab():
            if number in missing:
                ok, picture = video.retrieve()
                done, jpeg = (
                    cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]) if ok else (ok, b"")
                )
                if done:
                    pictures[number] = bytes(jpeg)
                missing.discard(number)
            number += 1
    finally:
        video.release()
    return pictures
