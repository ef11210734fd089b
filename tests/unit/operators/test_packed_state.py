"""Packed tables come back bit by bit, whatever times and numbers they hold; damage is noticed; an object takes few bytes."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scene import Street, full_settings
from bench.stage import per_object
from operators.conditions import Conditions
from operators.conditions.table import MAX_PAIRS, PAIR_COUNT, PAIR_RUN, PASSAGE, REFUSED_PAIRS, RUN
from operators.heat_map import HeatMap
from operators.intake import Intake
from operators.motion import Motion
from operators.motion.kernel import KEPT_BYTES, MAX_VERTICES, MOTION
from operators.pace import Paces
from operators.pace.kernel import PACE
from operators.stages import packed_state as ps
from operators.stages.camera_memory import CameraMemory, CameraScratch
from operators.stages.camera_stage import CameraLogic
from operators.stages.packed_state import BIN_HEAD, BITS, COUNT, TIME, Tables, pack, packed_room, unpack
from operators.stages.stage import Input
from operators.tracking import Tracker, TrackerConfig
from operators.tracking.table import SLOTS, TRACK
from operators.tripwires import Tripwires
from operators.tripwires.kernel import APPROACH
from operators.zones import Zones
from operators.zones.kernel import VISIT
from schemas.rules import AnyRule, Intrusion, Proximity, Speeding
from schemas.settings import HeatMap as HeatMapSettings
from schemas.settings import SiteSettings, Tripwire, Zone
from schemas.wire import EARLIEST_US, LATEST_US, NEVER_US
from tests.unit.operators.scenes import bounded, make_frame, noisy_scene, open_stage, store, take_up, to_input

CAPACITY = 6
ZONES, WIRES, RULES = 3, 2, 4
NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
TIMES_US = (
    0, 1, NOW_US, NOW_US - 1, NOW_US + 1, NOW_US - 100_000, NOW_US - (1 << 31), NOW_US - (1 << 31) - 1, NOW_US - (1 << 32),
    NOW_US - 24 * HOUR_US, NOW_US - 8766 * HOUR_US, EARLIEST_US, LATEST_US, NEVER_US, -1, -NOW_US,
)  # fmt: skip
LAST_US = (0, NOW_US, EARLIEST_US, LATEST_US)
ROWS = {
    "tracks": (TRACK, ps.TRACK_ROW, {"box"}),
    "motions": (MOTION, ps.MOTION_ROW, {"errors", "vertices", *(MOTION.names or ())[-7:]}),
    "visits": (VISIT, ps.VISIT_ROW, set()),
    "paces": (PACE, ps.PACE_ROW, {"before_m", "spare"}),
    "approaches": (APPROACH, ps.APPROACH_ROW, set()),
    "runs": (RUN, ps.RUN_ROW, set()),
    "pairs": (PAIR_RUN, ps.PAIR_ROW, set()),
    "passages": (PASSAGE, ps.PASSAGE_ROW, set()),
}
"""Of each kind of row: its columns, and the fields that are not among them."""


class Packed(NamedTuple):
    """All that is stored of a camera, as its tables hold it, beside how `pack` writes it."""

    parts: dict[str, Any]
    memory: CameraMemory
    scratch: CameraScratch

    def bytes(self) -> bytes:
        return self.scratch.packed(pack(self.memory.memory, self.scratch.memory))[BIN_HEAD:]


def camera() -> Packed:
    """Return a camera with places, rules, the ground and a heat map, and nothing in its tables."""
    triangle = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    rules: list[AnyRule] = [Intrusion(id=str(n), zone="0") for n in range(RULES - 1)]
    rules.append(Proximity(id="p", distance_m=1.0))
    tracker, intake = Tracker(TrackerConfig(capacity=CAPACITY)), Intake()
    motion, paces = Motion(0.5, 0.25, CAPACITY), Paces(ZONES, True, CAPACITY)
    places = Zones([Zone(id=str(n), polygon=triangle) for n in range(ZONES)], CAPACITY)
    wires = Tripwires([Tripwire(id=str(n), points=triangle) for n in range(WIRES)], CAPACITY)
    conditions, heat_map = Conditions(rules, ["0"], [], CAPACITY), HeatMap(HeatMapSettings(columns=4, rows=4))
    memory = CameraMemory(intake, tracker, motion, places, wires, conditions, paces, heat_map, 0)
    scratch = CameraScratch(CAPACITY)
    scratch.make_room(0, 0, 0, packed_room(CAPACITY, ZONES, WIRES, RULES, 16))
    parts = {
        "tracker": tracker, "intake": intake, "tracks": tracker.tracks, "motions": motion.motions, "visits": places.visits,
        "paces": paces.paces, "approaches": wires.approaches, "conditions": conditions, "runs": conditions.runs,
        "places": conditions.places, "pairs": conditions.pairs, "passages": conditions.passages,
        "cells_us": heat_map.cells_us, "tally": memory.tally,
    }  # fmt: skip
    return Packed(parts, memory, scratch)


def fill(rows: npt.NDArray[Any], kind: str, rng: np.random.Generator) -> None:
    """Put anything into the stored columns of a table; times out of TIMES_US."""
    dtype, columns, _ = ROWS[kind]
    cells = rows.reshape(-1).view(np.uint8).reshape(-1, dtype.itemsize)
    calm = rng.random() < 0.5
    for kind_of, offset, size, signed in columns.tolist():
        if kind_of == TIME:
            chosen = rng.choice(np.array(TIMES_US), len(cells))
            cells[:, offset : offset + 8] = chosen.astype("<i8").view(np.uint8).reshape(-1, 8)
        elif kind_of == BITS:
            codes = rng.integers(0, 1 << size, len(cells))
            cells[:, offset] = (codes - (codes >> (size - 1) << size)) if signed else codes
        else:
            cells[:, offset : offset + size] = rng.integers(0, 256, (len(cells), size))
            if calm:  # many alike, many zero
                cells[rng.random(len(cells)) < 0.7, offset : offset + size] = 0
            elif kind_of == COUNT:
                cells[rng.random(len(cells)) < 0.5, offset + 1 : offset + size] = 0


def filled(seed: int) -> Packed:
    """Return a camera with anything in its tables, and zeros where nothing is stored."""
    rng, made = np.random.default_rng(seed), camera()
    parts = made.parts
    for kind in ROWS:
        fill(parts[kind], kind, rng)
    tracker, conditions = parts["tracker"], parts["conditions"]
    fill(parts["places"], "runs", rng)
    slots = int(rng.integers(0, CAPACITY + 1))
    for numbers in (tracker.header, parts["intake"].order):
        numbers[:] = rng.choice(np.array([0, 1, 127, 128, -1, 1 << 40, NEVER_US]), len(numbers))
    tracker.header[SLOTS], tracker.clock[0] = slots, int(rng.choice(LAST_US))
    tracker.stream[:] = rng.random(len(tracker.stream))
    parts["tally"][:] = rng.integers(0, 1 << 40, 2)
    parts["cells_us"][:] = rng.choice(np.array([0, 0, 1, HOUR_US, 24 * HOUR_US]), 16)
    conditions.pair_head[[PAIR_COUNT, REFUSED_PAIRS]] = rng.choice([0, 1, MAX_PAIRS]), rng.integers(0, 1 << 40)
    parts["pairs"][conditions.pair_head[PAIR_COUNT] :] = np.zeros((), PAIR_RUN)
    motions = parts["motions"]
    motions["vertex_count"] = rng.integers(0, MAX_VERTICES + 1, CAPACITY)
    for m in motions:
        m["errors"][: m["vertex_count"]] = rng.integers(0, 256, m["vertex_count"])
        m["vertices"][: 4 * int(m["vertex_count"])] = rng.integers(0, 1 << 16, 4 * int(m["vertex_count"]))
    free = (parts["tracks"]["status"] == 0) | (np.arange(CAPACITY) >= slots)
    for kind in ("tracks", "motions", "visits", "paces", "approaches", "runs"):
        parts[kind][free] = np.zeros((), parts[kind].dtype)
    parts["paces"][parts["visits"]["open"] == 0] = np.zeros((), PACE)
    for kind, used in (
        ("visits", "open"),
        ("approaches", "known"),
        ("runs", "phase"),
        ("places", "phase"),
        ("passages", "at_us"),
    ):
        parts[kind][parts[kind][used] == 0] = np.zeros((), parts[kind].dtype)
    return made


def expected(made: Packed) -> Tables:
    """Return what `unpack` must give."""
    parts = made.parts
    tracker, slots = parts["tracker"], parts["tracker"].slots
    return Tables(
        tracker.header.tobytes(), tracker.stream.tobytes(), parts["tally"].tolist(), parts["intake"].order.tolist(),
        tracker.last_us, parts["tracks"][:slots].tobytes(), parts["motions"][:slots].tobytes(),
        parts["visits"][:slots].tobytes(), parts["approaches"][:slots].tobytes(), parts["conditions"].snapshot(slots),
        {int(c): int(parts["cells_us"][c]) for c in np.flatnonzero(parts["cells_us"])}, parts["paces"][:slots].tobytes(),
    )  # fmt: skip


@bounded(300)
@given(st.integers(0, 1 << 32))
def test_tables_with_any_times_and_numbers_come_back(seed: int) -> None:
    made = filled(seed)
    packed = made.bytes()
    assert unpack(packed, ZONES, WIRES, RULES) == expected(made)
    assert ps.last_us(packed) == made.parts["tracker"].last_us


def test_full_tables_fit_into_the_room_for_them() -> None:
    made = camera()
    parts = made.parts
    for kind in (*ROWS, "places"):
        cells = parts[kind].reshape(-1).view(np.uint8).reshape(-1, parts[kind].dtype.itemsize)
        cells[::2], cells[1::2] = 0x80, 0x7F  # as far from each other as it goes, each in use
    parts["motions"]["vertex_count"] = MAX_VERTICES
    for numbers in (parts["tracker"].header, parts["intake"].order, parts["tally"], parts["cells_us"]):
        numbers[:] = -NEVER_US
    parts["conditions"].pair_head[:] = MAX_PAIRS, -1
    parts["tracker"].header[SLOTS], parts["tracker"].clock[0] = CAPACITY, -NEVER_US
    parts["visits"]["open"], parts["approaches"]["known"] = 1, 1
    parts["runs"]["phase"], parts["places"]["phase"] = 1, 1
    parts["tracks"]["status"] = 1
    room = packed_room(CAPACITY, ZONES, WIRES, RULES, 16)
    assert 0.7 * room < len(made.bytes()) + BIN_HEAD <= room


def test_each_field_of_a_table_is_stored_or_named_as_one_that_is_not() -> None:
    for dtype, columns, left_out in ROWS.values():
        stored = np.zeros(dtype.itemsize, bool)
        for kind, offset, size, _ in columns.tolist():
            stored[offset : offset + (1 if kind == BITS else size)] = True
        fields = {name: stored[at : at + kept.itemsize] for name, (kept, at, *_) in (dtype.fields or {}).items()}
        assert {name for name, is_stored in fields.items() if not is_stored.any()} == left_out
        assert all(is_stored.all() for name, is_stored in fields.items() if name not in left_out)
    worked_out = [name for name, (_, at, *_) in (MOTION.fields or {}).items() if at >= KEPT_BYTES]
    assert set(worked_out) == ROWS["motions"][2] - {"errors", "vertices"}


@bounded(60)
@given(st.integers(0, 1 << 32), st.data())
def test_damaged_tables_are_refused_or_read_never_worse(seed: int, data: st.DataObject) -> None:
    packed = filled(seed).bytes()
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(ValueError, match=f"expected packed tables, got {cut} damaged bytes"):
        unpack(packed[:cut], ZONES, WIRES, RULES)
    with pytest.raises(ValueError, match="damaged bytes"):
        unpack(packed + b"\0", ZONES, WIRES, RULES)
    damaged = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(12, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpack(bytes(damaged), ZONES, WIRES, RULES)
    except ValueError as e:
        assert "damaged bytes" in str(e)


def test_foreign_bytes_are_refused() -> None:
    for foreign in (b"", b"\xff" * 200, bytes(range(256))):
        with pytest.raises(ValueError, match="damaged bytes"):
            unpack(foreign, ZONES, WIRES, RULES)
        with pytest.raises(ValueError, match="damaged bytes"):
            ps.last_us(foreign[:8])
    logic = noisy_scene(0).fresh()
    assert isinstance(logic, CameraLogic)
    with pytest.raises(ValueError, match=r"windows: expected a snapshot, got 2 damaged bytes"):
        logic._windows.restore({}, b"no")


def test_times_of_a_minute_an_hour_and_a_day_ago_take_4_5_and_6_bytes() -> None:
    sizes = []
    for ago_us in (0, 60_000_000, HOUR_US, 24 * HOUR_US):
        made = camera()
        made.parts["tracker"].header[SLOTS], made.parts["tracker"].clock[0] = 1, NOW_US
        made.parts["tracks"][0]["status"], made.parts["tracks"][0]["born_us"] = 2, NOW_US - ago_us
        sizes.append(len(made.bytes()))
    assert [size - sizes[0] for size in sizes] == [0, 3, 4, 5]


def test_who_stays_for_hours_comes_back_with_all_times() -> None:
    stage = open_stage(full_settings(1))
    live, other = stage.logic("cam-000"), stage.logic("cam-000")
    start_us, step_us = LATEST_US - 3 * HOUR_US, 1_400_000  # nearly as long as a track is remembered
    for seq in range(3 * HOUR_US // step_us):
        at_us = start_us + seq * step_us
        frame = make_frame(
            seq, at_us, site="sim-site", camera="cam-000", boxes=((0.2, 0.4, 0.25, 0.6), (0.7, 0.4, 0.75, 0.6))
        )
        if seq % 500 == 499:
            took_up, other = other, stage.logic("cam-000")
            take_up(other, store(took_up))
            assert store(other) == store(live)
        assert other.on_record(to_input(frame, seq)) == live.on_record(to_input(frame, seq))
    assert isinstance(other, CameraLogic)
    visits = other._zones.visits[:2]
    assert (at_us - visits["enter_us"][visits["open"] > 0] > 2 * HOUR_US).all() and visits["open"].sum() == 8


# ---- how much that is ------------------------------------------------------------------------------------------------


def busy_settings() -> SiteSettings:
    """Return `full_settings` with rules two of which are under way for everybody, though no alert opens yet."""
    site = full_settings(1)
    camera = site.cameras[0]
    at_work = (Intrusion(id="inside", zone="all", hold_s=600.0), Speeding(id="moving", limit_mps=0.1, hold_s=600.0))
    kept = tuple(rule for rule in camera.rules if rule.id not in ("loiter", "fast"))
    camera = msgspec.structs.replace(camera, rules=kept + at_work)
    return msgspec.structs.replace(site, cameras=(camera,))


@functools.cache
def sizes(object_count: int, busy: bool) -> list[tuple[int, int]]:
    """Return (live objects, bytes) of snapshots of a camera with everything on, once its view has filled."""
    logic, found = open_stage(busy_settings() if busy else full_settings(1)).logic("cam-000"), []
    assert isinstance(logic, CameraLogic)
    for n, record in enumerate(Street(object_count, 1).records(300)):
        logic.on_record(Input(record.value, 0, n, record.timestamp_ms))
        if n >= 150 and n % 5 == 0:
            tracks = logic._tracker.tracks[: logic._tracker.slots]
            found.append((int((tracks["status"] > 0).sum()), len(store(logic).snapshot)))
    runs = logic._conditions.runs[: logic._tracker.slots]
    assert not busy or (runs["phase"] > 0).sum() > 1.5 * object_count
    return found


MOST_BYTES = 400  # per object
CONSTANT_BYTES = 2500  # per camera, with the names, rules and heat map of `full_settings`


@pytest.mark.parametrize("busy", [False, True])
def test_with_everything_on_another_object_takes_less_than_400_bytes(busy: bool) -> None:
    means = [tuple(np.mean(sizes(count, busy), axis=0).tolist()) for count in (10, 20, 50, 100)]
    for fewer, more in itertools.pairwise(means):
        assert (more[1] - fewer[1]) / (more[0] - fewer[0]) < MOST_BYTES
    slope, constant = per_object([(objects, size) for objects, size in means])
    assert slope < (360 if busy else 340) and constant < CONSTANT_BYTES


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("count", [10, 20, 50, 100])
def test_no_state_is_larger_than_the_constant_and_400_bytes_per_object(count: int, busy: bool) -> None:
    for objects, size in sizes(count, busy):
        assert size <= CONSTANT_BYTES + MOST_BYTES * objects
