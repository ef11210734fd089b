"""How the tables of a camera are stored: few bytes per object, exactly, and independent of what the tables hold unused.

All is a sequence of bytes, in the order in which `pack` writes it. A *number* is a varint (7 bits to a byte, the lowest
first, LEB128), a *signed* one a varint of its zigzag code (0, −1, 1, −2, …). A *row* of a table is what differs from
the row of its kind before it, or from zeros: a varint with the small fields' own bits and one bit for each other
column that differs, then those columns. `_layout` says for each kind of row what it stores, in order:

- TIME: event time, µs: 0 for never, else 1 + the zigzag code of how long before the camera's last frame it was.
  Times of a minute ago take 4 bytes, of an hour 5, of a day 6.
- COUNT: a whole number: what it is more than in the row before, signed.
- RAW: bytes as they stand.
- BITS: a small number, in the row's first varint.

What nobody reads before it is written again is not stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from operators import block
from operators.block import matrix, place, vector, vector_at
from operators.compiled import kernel
from operators.conditions import Kept
from operators.conditions import table as condition_table
from operators.conditions.table import IDLE, MAX_PAIRS, PAIR_COUNT, PAIR_RUN, PASSAGE, REFUSED_PAIRS, RULE, RUN
from operators.motion import kernel as motion
from operators.motion.kernel import MAX_VERTICES, MOTION
from operators.pace import kernel as pace
from operators.pace.kernel import PACE
from operators.stages import camera_kernel as k
from operators.tracking import table
from operators.tracking.table import FREE, HEADER_SIZE, SLOTS, STREAM_SIZE, TRACK
from operators.tripwires import kernel as tripwires
from operators.tripwires.kernel import APPROACH
from operators.zones import kernel as zones
from operators.zones.kernel import VISIT

TIME, COUNT, RAW, BITS = range(4)
Column = tuple[int, int, int, int]
"""Kind, byte offset in the row, bytes (of BITS: bits), 1 for a signed number."""

I8, I4, I2, U1 = (np.dtype(name) for name in ("<i8", "<i4", "<i2", "u1"))
BIN_HEAD = 5  # bytes: how MessagePack begins a `bin`
MOST_OF_A_VARINT = 10  # bytes
MAX_SLOTS = 1 << 16  # of a table that is read, whatever is damaged
HEAD_NUMBERS = HEADER_SIZE + 2 + 5 + 1 + 2  # header, tally, order, clock; whether there are paces, how many cells
VERTEX_BYTES, ERRORS_AT, VERTICES_AT = 8, MOTION.fields["errors"][1], MOTION.fields["vertices"][1]  # type: ignore[index]


def _layout(dtype: npt.DTypeLike, *columns: tuple[int, str] | tuple[int, str, int]) -> npt.NDArray[np.int64]:
    """Return Columns: of each (kind, first field), with the last field of several that stand side by side, or with bits."""
    fields = np.dtype(dtype).fields
    assert fields is not None
    rows: list[Column] = []
    for kind, names, *bits in columns:
        first, _, last = names.partition("…")
        kept, begin = fields[first][:2]
        end = fields[last or first][1] + fields[last or first][0].itemsize
        rows.append((kind, begin, bits[0] if bits else end - begin, int(kept.kind == "i")))
    return np.array(rows, np.int64)


# Bits that are mostly 0 come last, for short varints.
TRACK_ROW = _layout(
    TRACK, (BITS, "status", 2), (BITS, "seen", 1), (BITS, "has_ground", 1), (BITS, "has_embedding", 1),
    (COUNT, "ordinal"), (TIME, "born_us"), (TIME, "seen_us"), (RAW, "kalman"), (RAW, "observed"), (RAW, "score"),
    (RAW, "label_weight"), (COUNT, "hits"), (RAW, "ground"), (RAW, "rival_weight"), (COUNT, "label"), (COUNT, "rival"),
    (COUNT, "first_label"), (RAW, "score_sum"), (BITS, "born_now", 1),
)  # fmt: skip
MOTION_ROW = _layout(
    MOTION, (BITS, "vertex_count", 3), (BITS, "still_on_ground", 1), (TIME, "still_us"), (RAW, "still_x…still_y"),
    (COUNT, "last_ms"), (RAW, "u…leeway"), (RAW, "begin…first_y"), (RAW, "walked_m"), (RAW, "fastest_mps"),
    (COUNT, "stopped_ms"),
)  # fmt: skip
"""Of the path follow, for each vertex in use, its byte of `errors` and its four numbers."""
VISIT_ROW = _layout(
    VISIT, (BITS, "open", 2), (BITS, "inside", 1), (BITS, "held", 1), (TIME, "enter_us"), (TIME, "inside_us"),
    (COUNT, "label"), (BITS, "born_inside", 1),
)  # fmt: skip
PACE_ROW = _layout(PACE, (RAW, "from_m"), (RAW, "to_m"))
APPROACH_ROW = _layout(
    APPROACH, (BITS, "side", 2), (BITS, "odd", 1), (BITS, "known", 1), (RAW, "x…y"), (TIME, "at_us"),
    (TIME, "crossed_us"), (BITS, "pending", 2),
)  # fmt: skip
RUN_ROW = _layout(RUN, (BITS, "phase", 2), (TIME, "since_us"), (TIME, "true_us"), (RAW, "value"))
PAIR_ROW = _layout(
    PAIR_RUN, (BITS, "phase", 2), (TIME, "since_us"), (TIME, "true_us"), (RAW, "value"), (COUNT, "other"),
    (COUNT, "subject"), (COUNT, "rule"),
)  # fmt: skip
PASSAGE_ROW = _layout(
    PASSAGE, (TIME, "at_us"), (COUNT, "ordinal"), (TIME, "born_us"), (COUNT, "slot"), (COUNT, "label")
)  # fmt: skip

TRACK_BYTES, MOTION_BYTES, VISIT_BYTES, PACE_BYTES = TRACK.itemsize, MOTION.itemsize, VISIT.itemsize, PACE.itemsize
APPROACH_BYTES, RUN_BYTES = APPROACH.itemsize, RUN.itemsize
PAIR_BYTES, PASSAGE_BYTES = PAIR_RUN.itemsize, PASSAGE.itemsize
NO_ROW = -1


# ---- writing -----------------------------------------------------------------------------------------------------------


@kernel
def _zigzag(x: Any) -> Any:
    return (x << 1) ^ (x >> 63)


@kernel
def _write(out: Any, at: int, number: Any) -> int:
    """Write a number (int64, taken for unsigned); return where it ends."""
    while number < 0 or number > 127:
        out[at] = (number & 127) | 128
        number = (number >> 7) & ((1 << 57) - 1)
        at += 1
    out[at] = number
    return at + 1


@kernel
def _write_all(out: Any, at: int, numbers: Any) -> int:
    for i in range(numbers.shape[0]):
        at = _write(out, at, _zigzag(numbers[i]))
    return at


@kernel
def _copy(out: Any, at: int, memory: Any, begin: int, size: int) -> int:
    for b in range(size):
        out[at + b] = memory[begin + b]
    return at + size


@kernel
def _differs(memory: Any, a: int, b: int, size: int) -> bool:
    """Whether the bytes at `a` differ from those at `b`; from zeros where `b` < 0."""
    i = 0
    while i < size and memory[a + i] == (memory[b + i] if b >= 0 else 0):
        i += 1
    return i < size


@kernel
def _whole(memory: Any, at: int, size: int) -> Any:
    """Return the whole number of that many bytes, as if it were signed."""
    if size == 8:
        return vector_at(memory, at, 1, I8)[0]
    if size == 4:
        return np.int64(vector_at(memory, at, 1, I4)[0])
    if size == 2:
        return np.int64(vector_at(memory, at, 1, I2)[0])
    return np.int64(memory[at])


@kernel
def _write_row(out: Any, at: int, memory: Any, row: int, before: int, columns: Any, last_us: Any) -> int:
    """Write the row at byte `row` as it differs from that at `before`, or from zeros (NO_ROW); return where it ends."""
    head, bit, end = np.int64(0), 0, columns.shape[0]
    for c in range(end):
        offset, size = columns[c, 1], columns[c, 2]
        if columns[c, 0] == BITS:
            head |= (np.int64(memory[row + offset]) & ((1 << size) - 1)) << bit
            bit += size
        else:
            if _differs(memory, row + offset, before + offset if before >= 0 else NO_ROW, size):
                head |= np.int64(1) << bit
            bit += 1
    at, bit = _write(out, at, head), 0
    for c in range(end):
        kind, offset, size = columns[c, 0], columns[c, 1], columns[c, 2]
        if kind == BITS:
            bit += size
            continue
        if (head >> bit) & 1:
            if kind == RAW:
                at = _copy(out, at, memory, row + offset, size)
            else:
                value = _whole(memory, row + offset, size)
                if kind == COUNT:
                    code = _zigzag(value - (_whole(memory, before + offset, size) if before >= 0 else 0))
                else:
                    code = _zigzag(last_us - value) + 1 if value else np.int64(0)
                at = _write(out, at, code)
        bit += 1
    return at


@kernel
def _write_runs(out: Any, at: int, memory: Any, begin: int, count: int, before: int, last_us: Any) -> Any:
    """Write a mask of those of `count` RUN rows that are under way, and these; return where they end, and the last one."""
    runs, mask = vector_at(memory, begin, count, RUN), np.int64(0)
    for r in range(count):
        if runs[r].phase != IDLE:
            mask |= np.int64(1) << r
    at = _write(out, at, mask)
    for r in range(count):
        if runs[r].phase != IDLE:
            row = begin + RUN_BYTES * r
            at = _write_row(out, at, memory, row, before, RUN_ROW, last_us)
            before = row
    return at, before


@kernel
def _write_conditions(out: Any, at: int, memory: Any, rules: int, last_us: Any) -> int:
    """Write what is kept of the rules beside their objects' runs: those of places, pairs, passages (each with its number)."""
    at, _ = _write_runs(out, at, memory, place(memory, k.PLACE_RUNS), rules, NO_ROW, last_us)
    head, before = vector(memory, k.PAIR_HEAD, I8), NO_ROW
    at = _write(out, _write(out, at, head[PAIR_COUNT]), head[REFUSED_PAIRS])
    for p in range(head[PAIR_COUNT]):
        row = place(memory, k.PAIR_RUNS) + PAIR_BYTES * p
        at = _write_row(out, at, memory, row, before, PAIR_ROW, last_us)
        before = row
    passages, count, before = vector_at(memory, place(memory, k.PASSAGES), 2 * rules, PASSAGE), np.int64(0), NO_ROW
    for p in range(2 * rules):
        if passages[p].at_us:
            count += 1
    at = _write(out, at, count)
    for p in range(2 * rules):
        if passages[p].at_us:
            row = place(memory, k.PASSAGES) + PASSAGE_BYTES * p
            at = _write_row(out, _write(out, at, np.int64(p)), memory, row, before, PASSAGE_ROW, last_us)
            before = row
    return at


@kernel
def _write_motion(out: Any, at: int, memory: Any, row: int, before: int, last_us: Any) -> int:
    at = _write_row(out, at, memory, row, before, MOTION_ROW, last_us)
    for v in range(vector_at(memory, row, 1, MOTION)[0].vertex_count):
        at = _copy(out, at, memory, row + ERRORS_AT + v, 1)
        at = _copy(out, at, memory, row + VERTICES_AT + VERTEX_BYTES * v, VERTEX_BYTES)
    return at


@kernel
def _write_cells(out: Any, at: int, cells_us: Any) -> int:
    """Write how many cells the heat map has, then the µs of each in order; after a 0, how many more of it follow."""
    count, cell = cells_us.shape[0], 0
    at = _write(out, at, np.int64(count))
    while cell < count:
        us = cells_us[cell]
        at = _write(out, at, us)
        cell += 1
        if us == 0:
            begin = cell
            while cell < count and cells_us[cell] == 0:
                cell += 1
            at = _write(out, at, np.int64(cell - begin))
    return at


def _pack(stamp: int) -> Any:
    """Make `pack`, as `camera_kernel._advance` does."""

    @kernel
    def pack(memory: Any, scratch: Any) -> int:
        """Write what must be kept of a camera's memory to `out`, as a MessagePack `bin`; return where it ends.

        Its head takes BIN_HEAD bytes. Then: header of the tracker, tally, order, clock (signed numbers); the tracker's stream as it
        stands; whether there are paces (a number); `_write_cells`; where there are rules, `_write_conditions`; the number of
        objects; of each object how much higher its slot is than that of the one before, its TRACK and MOTION rows, a mask
        of its open visits, and of each the VISIT row and with the ground the PACE row, a mask of its known approaches and
        their APPROACH rows, and with rules `_write_runs`.
        """
        out, header, tracks = vector(scratch, k.OUT, U1), vector(memory, k.HEADER, I8), vector(memory, k.TRACKS, TRACK)
        visits, approaches = matrix(memory, k.VISITS, VISIT), matrix(memory, k.APPROACHES, APPROACH)
        last_us = vector(memory, k.CLOCK, I8)[0]
        at = _write_all(out, BIN_HEAD, header)
        at = _write_all(out, at, vector(memory, k.TALLY, I8))
        at = _write_all(out, at, vector(memory, k.ORDER, I8))
        at = _write_all(out, at, vector(memory, k.CLOCK, I8))
        at = _copy(out, at, memory, place(memory, k.STREAM), 8 * STREAM_SIZE)
        zone_count, wire_count, has_paces = (
            visits.shape[1],
            approaches.shape[1],
            matrix(memory, k.PACES, PACE).shape[1] > 0,
        )
        at = _write_cells(out, _write(out, at, np.int64(has_paces)), vector(memory, k.HEAT_CELLS_US, I8))
        rules = vector(memory, k.RULES, RULE).shape[0]
        if rules:
            at = _write_conditions(out, at, memory, rules, last_us)
        slots, objects, slot = header[SLOTS] if stamp >= 0 else 0, np.int64(0), np.int64(0)
        for i in range(slots):
            objects += tracks[i].status != FREE
        at = _write(out, at, objects)
        a_track, a_motion, a_visit, a_pace, an_approach, a_run = NO_ROW, NO_ROW, NO_ROW, NO_ROW, NO_ROW, NO_ROW
        for i in range(slots):
            if tracks[i].status == FREE:
                continue
            at, slot = _write(out, at, i - slot), np.int64(i)
            row = place(memory, k.TRACKS) + TRACK_BYTES * i
            at, a_track = _write_row(out, at, memory, row, a_track, TRACK_ROW, last_us), row
            row = place(memory, k.MOTIONS) + MOTION_BYTES * i
            at, a_motion = _write_motion(out, at, memory, row, a_motion, last_us), row
            mask = np.int64(0)
            for zone in range(zone_count):
                mask |= np.int64(visits[i, zone].open != 0) << zone
            at = _write(out, at, mask)
            for zone in range(zone_count):
                if visits[i, zone].open:
                    row = place(memory, k.VISITS) + VISIT_BYTES * (i * zone_count + zone)
                    at, a_visit = _write_row(out, at, memory, row, a_visit, VISIT_ROW, last_us), row
                    if has_paces:
                        row = place(memory, k.PACES) + PACE_BYTES * (i * zone_count + zone)
                        at, a_pace = _write_row(out, at, memory, row, a_pace, PACE_ROW, last_us), row
            mask = np.int64(0)
            for wire in range(wire_count):
                mask |= np.int64(approaches[i, wire].known) << wire
            at = _write(out, at, mask)
            for wire in range(wire_count):
                if approaches[i, wire].known:
                    row = place(memory, k.APPROACHES) + APPROACH_BYTES * (i * wire_count + wire)
                    at, an_approach = _write_row(out, at, memory, row, an_approach, APPROACH_ROW, last_us), row
            if rules:
                row = place(memory, k.RUNS) + RUN_BYTES * rules * i
                at, a_run = _write_runs(out, at, memory, row, rules, a_run, last_us)
        size = at - BIN_HEAD
        out[0], out[1], out[2], out[3], out[4] = 0xC6, size >> 24, (size >> 16) & 255, (size >> 8) & 255, size & 255
        return at

    return pack


pack = _pack(k.source_stamp(table, motion, zones, tripwires, condition_table, pace, block))


def packed_room(capacity: int, zone_count: int, wire_count: int, rule_count: int, cell_count: int) -> int:
    """Return how many bytes a packed state can take."""
    per_visit, per_run = _most(VISIT_ROW) + _most(PACE_ROW), _most(RUN_ROW)
    per_object = _most(TRACK_ROW) + _most(MOTION_ROW) + MAX_VERTICES * (1 + VERTEX_BYTES) + 4 * MOST_OF_A_VARINT
    per_object += zone_count * per_visit + wire_count * _most(APPROACH_ROW) + rule_count * per_run
    rules = 4 * MOST_OF_A_VARINT + rule_count * (per_run + 2 * (MOST_OF_A_VARINT + _most(PASSAGE_ROW)))
    rules += MAX_PAIRS * _most(PAIR_ROW)
    head = BIN_HEAD + MOST_OF_A_VARINT * (HEAD_NUMBERS + 1 + 2 * cell_count) + 8 * STREAM_SIZE
    return head + rules + capacity * per_object


def _most(columns: npt.NDArray[np.int64]) -> int:
    """Return how many bytes a row can take."""
    most = MOST_OF_A_VARINT
    for kind, _, size, _ in columns.tolist():
        if kind == RAW:
            most += size
        elif kind != BITS:
            most += size + 1 if size < 8 else MOST_OF_A_VARINT
    return most


# ---- reading -----------------------------------------------------------------------------------------------------------


class Tables(NamedTuple):
    """What `pack` has written, as the capabilities restore it: rows of all slots, free ones zero."""

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


def unpack(packed: bytes, zone_count: int, wire_count: int, rule_count: int) -> Tables:
    """Read what `pack` wrote for a camera of that many zones, tripwires and rules, without its MessagePack head.

    Raises ValueError where it cannot have been.
    """
    try:
        return _Reader(packed).tables(zone_count, wire_count, rule_count)
    except IndexError as e:
        raise ValueError(f"camera stage: expected packed tables, got {len(packed)} damaged bytes ({e})") from e


def last_us(packed: bytes) -> int:
    """Return `Tables.last_us` alone."""
    try:
        return _Reader(packed).last_us
    except IndexError as e:
        raise ValueError(f"camera stage: expected packed tables, got {len(packed)} damaged bytes ({e})") from e


class _Reader:
    """Reads from one end to the other. Raises IndexError for what does not fit."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._header, self._tally = [self._signed() for _ in range(HEADER_SIZE)], [self._signed() for _ in range(2)]
        self._order, self.last_us = [self._signed() for _ in range(5)], self._signed()

    def tables(self, zone_count: int, wire_count: int, rule_count: int) -> Tables:
        stream = self._take(8 * STREAM_SIZE)
        has_paces, cells_us = self._number() == 1, self._cells()
        conditions = self._conditions(rule_count) if rule_count else Kept(b"", b"", b"", b"", 0)
        slots, slot = self._header[SLOTS], 0
        if not 0 <= slots <= MAX_SLOTS:
            raise IndexError(f"{slots} slots")
        tracks, motions = _Rows(TRACK_ROW, TRACK, slots), _Rows(MOTION_ROW, MOTION, slots)
        visits, paces = _Rows(VISIT_ROW, VISIT, slots * zone_count), _Rows(PACE_ROW, PACE, slots * zone_count)
        approaches, runs = _Rows(APPROACH_ROW, APPROACH, slots * wire_count), _Rows(RUN_ROW, RUN, slots * rule_count)
        for _ in range(self._number()):
            slot += self._number()
            self._row(tracks, slot)
            self._motion(motions, slot)
            for zone in self._mask(zone_count):
                self._row(visits, slot * zone_count + zone)
                if has_paces:
                    self._row(paces, slot * zone_count + zone)
            for wire in self._mask(wire_count):
                self._row(approaches, slot * wire_count + wire)
            if rule_count:
                self._runs(runs, slot * rule_count, rule_count)
        if self._at != len(self._data):
            raise IndexError(f"more than {self._at}")
        return Tables(
            np.array(self._header, np.int64).tobytes(), stream, self._tally, self._order, self.last_us, bytes(tracks.data),
            bytes(motions.data), bytes(visits.data), bytes(approaches.data), conditions._replace(runs=bytes(runs.data)),
            cells_us, bytes(paces.data) if has_paces else b"",
        )  # fmt: skip

    def _cells(self) -> dict[int, int]:
        """Read what `_write_cells` wrote; return the µs of those with any."""
        cells_us, cell, count = {}, 0, self._number()
        while cell < count:
            us = self._number()
            if us:
                cells_us[cell] = us
            else:
                cell += self._number()
            cell += 1
        return cells_us

    def _conditions(self, rule_count: int) -> Kept:
        """Read what `_write_conditions` wrote; return it without objects' runs."""
        places, passages = _Rows(RUN_ROW, RUN, rule_count), _Rows(PASSAGE_ROW, PASSAGE, 2 * rule_count)
        self._runs(places, 0, rule_count)
        count, refused = self._number(), self._number()
        if count > MAX_PAIRS:
            raise IndexError(f"{count} pairs")
        pairs = _Rows(PAIR_ROW, PAIR_RUN, count)
        for p in range(count):
            self._row(pairs, p)
        for _ in range(self._number()):
            self._row(passages, self._number())
        return Kept(b"", bytes(places.data), bytes(passages.data), bytes(pairs.data), refused)

    def _runs(self, runs: _Rows, first: int, count: int) -> None:
        for rule in self._mask(count):
            self._row(runs, first + rule)

    def _motion(self, motions: _Rows, slot: int) -> None:
        self._row(motions, slot)
        row = MOTION_BYTES * slot
        count = motions.data[row + MOTION.fields["vertex_count"][1]]  # type: ignore[index]
        if count > MAX_VERTICES:
            raise IndexError(f"{count} vertices")
        for v in range(count):
            motions.data[row + ERRORS_AT + v : row + ERRORS_AT + v + 1] = self._take(1)
            at = row + VERTICES_AT + VERTEX_BYTES * v
            motions.data[at : at + VERTEX_BYTES] = self._take(VERTEX_BYTES)

    def _row(self, rows: _Rows, index: int) -> None:
        """Read a row to its place in a table."""
        if index >= rows.count:
            raise IndexError(f"row {index} of {rows.count}")
        row, head = rows.last, self._number()
        for kind, offset, size, signed in rows.columns:
            if kind == BITS:
                value, head = head & (1 << size) - 1, head >> size
                row[offset] = value if not signed or value < 1 << (size - 1) else value + 256 - (1 << size)
                continue
            if head & 1:
                if kind == RAW:
                    row[offset : offset + size] = self._take(size)
                else:
                    code = self._number()
                    if kind == COUNT:
                        value = int.from_bytes(row[offset : offset + size], "little") + _unzigzag(code)
                    else:
                        value = self.last_us - _unzigzag(code - 1) if code else 0
                    row[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            head >>= 1
        if head:
            raise IndexError("a row of other columns")
        rows.data[len(row) * index : len(row) * (index + 1)] = row

    def _mask(self, count: int) -> list[int]:
        mask = self._number()
        if mask >> count:
            raise IndexError(f"a mask of more than {count} bits")
        return [i for i in range(count) if mask >> i & 1] if mask else []

    def _signed(self) -> int:
        return _unzigzag(self._number())

    def _number(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        if byte < 128:
            return byte
        number, shift = byte & 127, 7
        while True:
            byte = self._data[self._at]
            self._at += 1
            number |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        if number >= 1 << 64:
            raise IndexError(f"{number}")
        return number

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise IndexError("they end too soon")
        self._at += size
        return taken


class _Rows:
    """A table that is read: `data` begins with zeros, `last` is the row that was read last."""

    def __init__(self, columns: npt.NDArray[np.int64], dtype: np.dtype[Any], count: int) -> None:
        self.columns: Sequence[Column] = columns.tolist()
        self.count = count
        self.data, self.last = bytearray(dtype.itemsize * count), bytearray(dtype.itemsize)


def _unzigzag(code: int) -> int:
    return code >> 1 ^ -(code & 1)
