"""The memory of the camera stage: one block per camera, and one that all cameras of a thread share."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.block import Block
from operators.conditions import Conditions
from operators.conditions.table import HELD
from operators.heat_map import HeatMap
from operators.intake import Intake
from operators.motion import Motion
from operators.pace import Paces
from operators.stages import camera_kernel as k
from operators.stages import track_frame
from operators.tracking import Scratch, Tracker
from operators.tracking.tracker import MAX_DETECTIONS
from operators.tripwires import Tripwires
from operators.tripwires.kernel import CROSSING
from operators.zones import Zones
from operators.zones.kernel import RECORD
from schemas.wire import DetectionFrame

TEMPLATE_BYTES = 1 << 16
"""Room for the constant part of a track frame: 200 labels of up to 256 bytes, and names."""
FLOOR_SIZE = 9
WORD = 8  # bytes
DETECTION_BYTES = 16 + 4 + 1  # box, score, class


class CameraMemory:
    """A camera's arrays in one block. The capabilities' own are moved there."""

    def __init__(
        self, intake: Intake, tracker: Tracker, motion: Motion, zones: Zones, tripwires: Tripwires,
        conditions: Conditions, paces: Paces, heat_map: HeatMap, silence_us: int,
    ) -> None:  # fmt: skip
        if max(len(zones.zones), len(tripwires.wires)) > k.MAX_PLACES:
            raise ValueError(f"expected at most {k.MAX_PLACES} zones and as many tripwires per camera")
        self.tally = np.zeros(2, np.int64)  # frames and detections of the window that is counted now
        self.limits = np.array([0, silence_us], np.int64)  # `camera_kernel.let_pass`
        self.picture = np.ones(1)  # width / height
        self.wake_us = np.zeros(1, np.int64)  # `Alerts.wake_us`
        self.label_of = np.zeros(256, np.uint8)  # the camera's index of each label of the frame
        self.floor = np.zeros(FLOOR_SIZE)  # `Tracker.ground`
        self.template = np.zeros(TEMPLATE_BYTES, np.uint8)
        self.template_ends = np.zeros(track_frame.PIECES, np.int64)
        owners: dict[str, tuple[Any, str]] = {name: (self, name) for name in k.SECTIONS if hasattr(self, name)}
        owners["order"] = (intake, "order")
        owners |= {name: (tracker, name) for name in ("clock", "header", "stream", "parameters", "tracks", "column_of")}
        owners |= {name: (motion, name) for name in ("motions", "still")}
        zone_names = ("points", "starts", "anchors", "on_ground", "bands", "gap_us", "min_inside_us", "wanted")
        owners |= {f"zone_{name}": (zones, name) for name in zone_names}
        owners |= {"visits": (zones, "visits")}
        wire_names = ("points", "starts", "anchors", "on_ground", "bands", "wanted")
        owners |= {f"wire_{name}": (tripwires, name) for name in wire_names}
        owners["approaches"] = (tripwires, "approaches")
        owners |= {name: (conditions, name) for name in ("rules", "threshold", "runs", "passages", "pair_head")}
        owners |= {f"rule_{name}": (conditions, name) for name in ("wanted", "other", "counts")}
        owners |= {"place_runs": (conditions, "places"), "pair_runs": (conditions, "pairs")}
        owners["paces"] = (paces, "paces")
        owners |= {f"heat_{name}": (heat_map, name) for name in ("cells_us", "grid", "wanted")}
        self._block = Block.holding([owners[name] for name in k.SECTIONS])
        self.memory = self._block.memory
        self.stand_on(np.zeros(0))

    def stand_on(self, floor: npt.NDArray[np.float64]) -> None:
        """Take `Tracker.ground`."""
        self._block.shorten(k.FLOOR, len(floor))
        self.floor[: len(floor)] = floor

    def say(self, pieces: list[bytes]) -> None:
        """Take the constant part of the camera's track frames (`track_frame.template`)."""
        whole, ends = track_frame.joined(pieces)
        if len(whole) > len(self.template):
            raise ValueError(f"expected a template of at most {len(self.template)} bytes, got {len(whole)}")
        self.template[: len(whole)] = whole
        self.template_ends[:] = ends


class CameraScratch(Scratch):
    """Arrays that one thread's cameras share: their contents mean nothing from one record to the next."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.ground = np.zeros((capacity, 2), np.float32)
        self.ground_velocities = np.zeros((capacity, 2), np.float32)
        self.speed_sds = np.zeros(capacity, np.float32)
        self._message_bytes = TEMPLATE_BYTES + track_frame.ROOM_FOR_HEADS + capacity * track_frame.BYTES_PER_TRACK
        self.found = np.zeros(5, np.int64)
        self.keys, self.items = np.zeros(capacity), np.zeros(capacity, np.int64)
        self.frame = np.zeros((k.FRAME_HEAD + DETECTION_BYTES * MAX_DETECTIONS) // WORD + 1, np.int64)
        self._room: tuple[int, ...] = (-1, 0, 0, 0)
        self.make_room(0, 0, 0, 0)

    def make_room(self, visits: int, crossings: int, held: int, state_bytes: int) -> None:
        """Have room for what one step can find, and for a packed state. Views of before are void afterwards."""
        room = (visits, crossings, held, state_bytes)
        if all(asked <= there for asked, there in zip(room, self._room, strict=True)):
            return
        self._room = tuple(map(max, room, self._room))
        visits, crossings, held, state_bytes = self._room
        self.visit_records = np.zeros(visits, RECORD)
        self.crossing_records = np.zeros(crossings, CROSSING)
        self.held_records = np.zeros(held, HELD)
        self.out = np.zeros(max(self._message_bytes, state_bytes) // WORD * WORD + WORD, np.uint8)
        block = Block.holding([(self, name) for name in k.SCRATCH_SECTIONS])
        self.memory = block.memory
        self._bytes = memoryview(self.memory)  # type: ignore[arg-type]  # an array is a buffer
        self._frame_at, self._out_at = block.place(k.FRAME), block.place(k.OUT)

    def load(self, f: DetectionFrame, passed: bool) -> None:
        """Put a frame where the kernels look for it; `passed`: the intake has let it pass."""
        n = len(f.classes)
        _packer(n).pack_into(
            self._bytes, self._frame_at, f.capture_us, f.boot, f.seq, f.sent_us, n, len(f.labels), passed, f.boxes,
            f.scores, f.classes,
        )  # fmt: skip

    def message(self, size: int) -> bytes:
        """Return a copy of the message that `camera_kernel.advance` has written."""
        return self._bytes[self._out_at : self._out_at + size].tobytes()

    def packed(self, end: int) -> bytes:
        """Return a copy of what `packed_state.pack` has written."""
        return self._bytes[self._out_at : self._out_at + end].tobytes()


@lru_cache(maxsize=MAX_DETECTIONS + 1)
def _packer(n: int) -> Struct:
    return Struct(f"<7q{16 * n}s{4 * n}s{n}s")
