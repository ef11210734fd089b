"""Blocks hold arrays as they are, track frames are written as msgspec writes them, packed tables come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.block import Block, matrix, place, vector
from operators.compiled import kernel
from operators.conditions import Conditions, Kept
from operators.heat_map import HeatMap
from operators.intake import Intake
from operators.motion import Motion
from operators.pace import Paces
from operators.stages import camera_kernel, track_frame
from operators.stages.camera_memory import CameraMemory, CameraScratch
from operators.stages.camera_stage import CameraLogic
from operators.stages.packed_state import BIN_HEAD, pack, packed_room, unpack
from operators.tracking import FREE, TRACK, Tracker, TrackerConfig
from operators.tracking.table import SLOTS
from operators.tripwires import Tripwires
from operators.tripwires.kernel import APPROACH
from operators.zones import Zones
from operators.zones.kernel import VISIT
from schemas.rules import AnyRule, Crowding, Intrusion, Proximity, Tailgating
from schemas.wire import TrackFrame, encode
from tests.unit.operators.scenes import bounded, noisy_scene

CAPACITY = 8
PAIR = np.dtype([("a", "<i8"), ("b", "<f4", (2,))], align=True)
SIZES = (8, 4, 16, 8, 1, 1, 4, 8, 8, 4)  # bytes per track of each of track_frame.ARRAYS


class Holder:
    """Something with arrays."""

    def __init__(self) -> None:
        self.numbers = np.arange(5)
        self.grid = np.arange(6.0).reshape(2, 3)
        self.pairs = np.zeros(3, PAIR)
        self.nothing = np.zeros((4, 0), PAIR)


@kernel
def _change(memory: Any, pair: Any, number: Any) -> Any:
    return _add(vector(memory, 2, pair), vector(memory, 0, number)), matrix(memory, 1, np.dtype("<f8"))[1, 2]


@kernel
def _add(pairs: Any, numbers: Any) -> Any:
    pairs[1].a += numbers[3]
    pairs[2].b[1] = 0.5
    return pairs.shape[0]


def held() -> tuple[Holder, Block]:
    holder = Holder()
    names = ("numbers", "grid", "pairs", "nothing")
    return holder, Block.holding([(holder, name) for name in names])


def test_arrays_keep_what_they_hold_when_they_move_into_a_block() -> None:
    holder, block = held()
    assert holder.numbers.tolist() == [0, 1, 2, 3, 4] and holder.grid.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert holder.nothing.shape == (4, 0)
    assert all(np.shares_memory(a, block.memory) for a in (holder.numbers, holder.grid, holder.pairs))


def test_a_kernel_changes_the_same_memory() -> None:
    holder, block = held()
    assert _change(block.memory, PAIR, np.dtype("<i8")) == (3, 5.0)
    assert holder.pairs["a"].tolist() == [0, 3, 0] and holder.pairs["b"][2].tolist() == [0, 0.5]
    assert block.place(2) == place(block.memory, 2) and block.place(2) % 64 == 0


def test_a_section_can_be_shortened_within_its_room() -> None:
    _, block = held()
    block.shorten(0, 2)
    assert vector(block.memory, 0, np.dtype("<i8")).tolist() == [0, 1]
    with pytest.raises(ValueError, match="at most 5 rows"):
        block.shorten(0, 6)


@bounded(200)
@given(
    st.integers(0, 5000), st.sampled_from([0, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, 1 << 62]),
    st.lists(st.text(max_size=300), max_size=3), st.binary(min_size=62, max_size=62),
)  # fmt: skip
def test_track_frames_are_the_bytes_of_the_schema(n: int, seq: int, labels: list[str], content: bytes) -> None:
    constants = {
        "v": 1, "site": "s", "camera": "seq", "boot": 1_700_000_000_000_000, "width_px": 640, "height_px": 70_000,
        "model_sha": "f" * 16, "settings": "", "labels": tuple(labels),
    }  # fmt: skip
    arrays = [(content * n)[: n * size] for size in SIZES]
    numbers = (seq, 1_700_000_000_100_000, 5)
    fields = dict(zip(track_frame.NUMBERS + track_frame.ARRAYS, (*numbers, *arrays), strict=True))
    pieces, ends = track_frame.joined(track_frame.template(constants))
    sizes = tuple(len(a) for a in arrays)
    begins = tuple(int(b) for b in np.cumsum([0, *sizes[:-1]]))
    source = np.frombuffer(b"".join(arrays) + b"\0", np.uint8).copy()
    out = np.zeros(len(pieces) + len(source) + track_frame.ROOM_FOR_HEADS, np.uint8)
    size = track_frame.write_track_frame(out, pieces.copy(), ends, numbers, source, begins, sizes)
    assert out[:size].tobytes() == encode(TrackFrame(**constants, **fields))


def test_a_template_without_all_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="all fields but"):
        track_frame.template({"v": 1})


def test_packed_tables_come_back_without_what_nobody_can_read() -> None:
    scene = noisy_scene(1)
    logic = scene.fresh()
    assert isinstance(logic, CameraLogic)
    for record in scene.records[:80]:
        logic.on_record(record)
    memory, scratch = logic._memory.memory, logic._scratch
    zones, wires = logic._zones.visits.shape[1], logic._tripwires.approaches.shape[1]
    packed = scratch.packed(pack(memory, scratch.memory))[BIN_HEAD:]
    tables = unpack(packed, zones, wires, len(logic._conditions.names))
    tracks, n = logic._tracker.tracks, logic._tracker.slots
    used = tracks["status"][:n] != FREE
    assert used.any()
    got = np.frombuffer(tables.tracks, TRACK)
    assert (got["status"] != FREE).tolist() == used.tolist()
    for name in (name for name in TRACK.names or () if name not in ("ground", "box")):
        assert np.array_equal(got[name][used], tracks[name][:n][used])
    visits = np.frombuffer(tables.visits, VISIT).reshape(n, zones)
    is_open = (logic._zones.visits[:n]["open"] > 0) & used[:, None]
    assert np.array_equal(visits["enter_us"][is_open], logic._zones.visits[:n]["enter_us"][is_open])
    assert not visits["open"][~is_open].any()
    approaches = np.frombuffer(tables.approaches, APPROACH).reshape(n, wires)
    assert np.array_equal(approaches["x"][used], logic._tripwires.approaches[:n]["x"][used])
    assert tables.last_us == logic._tracker.last_us and tables.order == list(logic._intake.snapshot()[0])


def test_packed_conditions_come_back() -> None:
    rules: list[AnyRule] = [Intrusion(id=str(n), zone="z") for n in range(61)]
    rules += [Tailgating(id="t", tripwire="w"), Proximity(id="p", distance_m=1.0), Crowding(id="c", zone="z", count=1)]
    conditions = Conditions(rules, ["z"], ["w"], CAPACITY)
    tracker = Tracker(TrackerConfig(capacity=CAPACITY))
    memory = CameraMemory(
        Intake(), tracker, Motion(0.5, 0.25, CAPACITY), Zones([], CAPACITY), Tripwires([], CAPACITY), conditions,
        Paces(0, False, CAPACITY), HeatMap(None), 0,
    )  # fmt: skip
    scratch = CameraScratch(CAPACITY)
    scratch.make_room(0, 0, 0, packed_room(CAPACITY, 0, 0, len(rules), 0))

    def packed() -> Kept:
        data = scratch.packed(pack(memory.memory, scratch.memory))[BIN_HEAD:]
        return unpack(data, 0, 0, len(rules)).conditions

    assert packed() == conditions.snapshot(0)
    slots = tracker.header[SLOTS] = 3
    tracker.tracks["status"][[0, 2]] = 2
    for run in (conditions.runs[0, 63], conditions.runs[0, 1], conditions.runs[2, 0], conditions.places[63]):
        run["phase"], run["since_us"], run["true_us"], run["value"] = (
            2,
            1_700_000_000_000_000,
            1_700_000_000_000_001,
            0.5,
        )
    for n in range(2):
        conditions.pairs[n] = (5, 6 + n, 0.25, n, 2, 62, 1)
    conditions.pair_head[:] = 2, 77
    conditions.passages[61, 1] = (9, 8, 7, 6, 5)
    assert packed() == conditions.snapshot(slots)
    assert packed().refused_pairs == 77 and any(packed().runs) and any(packed().pairs) and any(packed().passages)


def test_the_stamp_of_composed_kernels_changes_with_the_source_of_their_parts() -> None:
    whole = camera_kernel.source_stamp(track_frame, camera_kernel.zones)
    assert whole == camera_kernel.source_stamp(track_frame, camera_kernel.zones)
    assert whole != camera_kernel.source_stamp(track_frame, camera_kernel.tripwires)
