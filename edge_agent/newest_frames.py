"""The hand-over from the cameras to the detector: of each camera the newest frame, of the cameras each in turn."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.wire import Clock


@dataclass
class CapturedFrame:
    """One frame, its pixels still in the capture's memory: `release` it once they are no longer needed."""

    camera: str
    bgr: npt.NDArray[np.uint8]  # height × width × 3
    capture_us: int
    clock: Clock
    recv_us: int
    release: Callable[[], None]


class NewestFrames:
    """One waiting frame for each camera; a newer one takes its place, and the older is released and counted.

    `keep_all` cameras (files played as fast as they are taken) wait in line instead: their capture bounds the line.
    """

    def __init__(self, on_replaced: Callable[[str], None]) -> None:
        self._on_replaced = on_replaced
        self._waiting: OrderedDict[str, deque[CapturedFrame]] = OrderedDict()
        self._ready = threading.Condition()
        self._closed = False

    def put(self, frame: CapturedFrame, keep_all: bool = False) -> None:
        """Offer a frame; never blocks."""
        replaced: CapturedFrame | None = None
        with self._ready:
            line = self._waiting.setdefault(frame.camera, deque())
            if line and not keep_all:
                replaced = line.popleft()
            line.append(frame)
            self._ready.notify()
        if replaced is not None:
            replaced.release()
            self._on_replaced(frame.camera)

    def take(self, timeout_s: float) -> CapturedFrame | None:
        """Return the next frame: of the camera that has waited for its turn longest; None after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        with self._ready:
            while True:
                for camera, line in self._waiting.items():
                    if line:
                        self._waiting.move_to_end(camera)
                        return line.popleft()
                remaining_s = deadline_s - time.monotonic()
                if remaining_s <= 0 or self._closed:
                    return None
                self._ready.wait(remaining_s)

    def is_empty(self) -> bool:
        """Whether no frame waits."""
        with self._ready:
            return not any(self._waiting.values())

    def close(self) -> None:
        """Let `take` return at once."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
