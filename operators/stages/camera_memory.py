"""The memory of the camera stage: one block per camera, one that all cameras of a thread share, and how the first is stored."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.block import Block
from operators.conditions import Conditions, Kept
from operators.conditions.table import HELD, MAX_PAIRS
from operators.heat_map import HeatMap
from operators.intake import Intake
from operators.motion import Motion
from operators.motion.kernel import MOTION
from operators.pace import Paces
from operators.stages import camera_kernel as k
from operators.stages import track_frame
from operators.tracking import Scratch, Tracker
from operators.tracking.table import SLOTS
from operators.tracking.tracker import MAX_DETECTIONS
from operators.tripwires import Tripwires
from operators.tripwires.kernel import CROSSING
from operators.zones import Zones
from operators.zones.kernel import RECORD
from schemas.wire import DetectionFrame

TEMPLATE_BYTES = 1 << 16
"""Room for the constant part of a track frame: 200 labels of up to 256 bytes, and names."""
FLOOR_SIZE = 9
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
        self.frame = np.zeros((k.FRAME_HEAD + DETECTION_BYTES * MAX_DETECTIONS) // k.WORD + 1, np.int64)
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
        self.out = np.zeros(max(self._message_bytes, state_bytes) // k.WORD * k.WORD + k.WORD, np.uint8)
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
        """Return a copy of what `camera_kernel.pack` has written."""
        return self._bytes[self._out_at + k.WORD - k.BIN_HEAD : self._out_at + end].tobytes()


@lru_cache(maxsize=MAX_DETECTIONS + 1)
def _packer(n: int) -> Struct:
    return Struct(f"<7q{16 * n}s{4 * n}s{n}s")


# ---- the packed state --------------------------------------------------------------------------------------------------


class Tables(NamedTuple):
    """What `camera_kernel.pack` has written, as the capabilities restore it: rows of all slots, free ones zero."""

    header: bytes
    stream: bytes
    tally: list[int]
    order: list[int]
    last_us: int
    tracks: bytes
    motions: bytes
    visits: bytes
    approaches: bytes
    conditions: Kept
    cells_us: dict[int, int]
    paces: bytes


def packed_room(capacity: int, zone_count: int, wire_count: int, rule_count: int, cell_count: int) -> int:
    """Return how many bytes a packed state can take."""
    per_slot = (
        2 + k.TRACK_WORDS + k.MOTION_WORDS + zone_count * (k.VISIT_WORDS + k.PACE_WORDS) + wire_count * k.APPROACH_WORDS
    )
    per_slot += 1 + rule_count * k.RUN_WORDS
    rules = 4 + rule_count * (k.RUN_WORDS + 2 * (1 + k.PASSAGE_WORDS)) + MAX_PAIRS * k.PAIR_WORDS
    return k.WORD * (1 + k.HEAD_WORDS + cell_count + rules + capacity * per_slot)


def unpack(packed: bytes, zone_count: int, wire_count: int, rule_count: int) -> Tables:
    """Read what `camera_kernel.pack` wrote for a camera of that many zones, tripwires and rules."""
    words = np.frombuffer(packed, np.int64)
    header, stream = words[: k.HEADER_END], words[k.HEADER_END : k.STREAM_END]
    slots = int(header[SLOTS])
    tracks = np.zeros((slots, k.TRACK_WORDS), np.int64)
    motions = np.zeros(slots, MOTION)
    motion_words = motions.view(np.int64).reshape(slots, k.MOTION_BYTES // k.WORD)
    visits = np.zeros((slots, zone_count, k.VISIT_WORDS), np.int64)
    approaches = np.zeros((slots, wire_count, k.APPROACH_WORDS), np.int64)
    without_ground = [w for w in range(k.TRACK_WORDS) if not k.GROUND_AT <= w < k.GROUND_END]
    runs = np.zeros((slots, rule_count, k.RUN_WORDS), np.int64)
    paces = np.zeros((slots, zone_count, k.PACE_BYTES // k.WORD), np.int64)
    cells = int(words[k.HEAD_WORDS - 1])
    has_paces, at = cells >> k.PACE_BIT, k.HEAD_WORDS + (cells & (1 << k.PACE_BIT) - 1)
    cells_us = {int(w) >> k.CELL_BIT: int(w) & ((1 << k.CELL_BIT) - 1) for w in words[k.HEAD_WORDS : at]}
    conditions, at = _unpack_conditions(words, at, rule_count)
    while at < len(words):
        head, known = int(words[at]), int(words[at + 1])
        slot = head & ((1 << k.GROUND_BIT) - 1)
        kept = list(range(k.TRACK_WORDS)) if head >> k.GROUND_BIT & 1 else without_ground
        tracks[slot, kept] = words[at + 2 : at + 2 + len(kept)]
        at += 2 + len(kept)
        fixed = k.MOTION_FIXED_WORDS
        motion_words[slot, :fixed] = words[at : at + fixed]
        at += fixed
        vertices = int(motions[slot]["vertex_count"])
        motion_words[slot, fixed : fixed + vertices] = words[at : at + vertices]
        at += vertices
        for zone in _bits(head >> k.VISITS_BIT & (1 << k.MAX_PLACES) - 1):
            visits[slot, zone] = words[at : at + k.VISIT_WORDS]
            at += k.VISIT_WORDS
            if has_paces:
                paces[slot, zone, : k.PACE_WORDS] = words[at : at + k.PACE_WORDS]
                at += k.PACE_WORDS
        for wire in _bits(known):
            approaches[slot, wire] = words[at : at + k.APPROACH_WORDS]
            at += k.APPROACH_WORDS
        if head >> k.RUNS_BIT & 1:
            at = _unpack_runs(words, at, runs[slot])
    tally, order = words[k.STREAM_END : k.TALLY_END].tolist(), words[k.TALLY_END : k.ORDER_END].tolist()
    last_us = int(words[k.ORDER_END])
    return Tables(
        header.tobytes(), stream.tobytes(), tally, order, last_us, tracks.tobytes(), motions.tobytes(), visits.tobytes(),
        approaches.tobytes(), conditions._replace(runs=runs.tobytes()), cells_us, paces.tobytes() if has_paces else b"",
    )  # fmt: skip


def _unpack_conditions(words: npt.NDArray[np.int64], at: int, rule_count: int) -> tuple[Kept, int]:
    """Read what `camera_kernel._copy_conditions` wrote; return it (without objects' runs), and where it ends."""
    places = np.zeros((rule_count, k.RUN_WORDS), np.int64)
    passages = np.zeros((2 * rule_count, k.PASSAGE_WORDS), np.int64)
    if not rule_count:
        return Kept(b"", b"", b"", b"", 0), at
    at = _unpack_runs(words, at, places)
    count, refused = words[at : at + 2].tolist()
    at += 2
    pairs = words[at : at + count * k.PAIR_WORDS]
    at += len(pairs)
    count = int(words[at])
    at += 1
    for _ in range(count):
        passages[words[at]] = words[at + 1 : at + 1 + k.PASSAGE_WORDS]
        at += 1 + k.PASSAGE_WORDS
    return Kept(b"", places.tobytes(), passages.tobytes(), pairs.tobytes(), refused), at


def _unpack_runs(words: npt.NDArray[np.int64], at: int, rows: npt.NDArray[np.int64]) -> int:
    mask = int(words[at]) & (1 << 64) - 1
    at += 1
    for rule in _bits(mask):
        rows[rule] = words[at : at + k.RUN_WORDS]
        at += k.RUN_WORDS
    return at


def _bits(mask: int) -> list[int]:
    return [i for i in range(mask.bit_length()) if mask >> i & 1]
