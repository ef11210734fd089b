"""One frame of one camera as one call of compiled code.

The capabilities' own kernels are called one after the other; what lies between them stays in registers. All arrays come out
of two blocks of memory: the camera's own (SECTIONS) and one that all cameras of a thread share (SCRATCH_SECTIONS).
"""

from __future__ import annotations

import inspect
import zlib
from types import ModuleType
from typing import Any

import numpy as np

from operators import block
from operators.block import matrix, matrix_at, place, vector, vector_at
from operators.compiled import COMPILED, kernel
from operators.conditions import kernel as conditions
from operators.conditions import table as condition_table
from operators.conditions.table import HELD, PAIR_RUN, PASSAGE, RULE, RUN
from operators.heat_map import kernel as heat_map
from operators.intake.intake import BOOT, CAPTURE_US, NEXT_SEQ
from operators.motion import kernel as motion
from operators.motion.kernel import MOTION
from operators.pace import kernel as pace
from operators.pace.kernel import PACE
from operators.stages import track_frame
from operators.stages.track_frame import write_track_frame
from operators.tracking import kernel as tracking
from operators.tracking import plain as plain_tracking
from operators.tracking import table
from operators.tracking.table import SLOTS, TRACK
from operators.tripwires import kernel as tripwires
from operators.tripwires.kernel import APPROACH, CROSSING
from operators.zones import kernel as zones
from operators.zones.kernel import RECORD, VISIT

SECTIONS = (
    "header", "stream", "tally", "order", "clock", "limits", "picture", "wake_us", "label_of", "parameters", "floor",
    "still", "zone_points", "zone_starts", "zone_anchors", "zone_on_ground", "zone_bands", "zone_gap_us", "zone_min_inside_us",
    "zone_wanted", "wire_points", "wire_starts", "wire_anchors", "wire_on_ground", "wire_bands",
    "wire_wanted", "rules", "threshold", "rule_wanted", "rule_other", "rule_counts",
    "heat_grid", "heat_wanted", "template_ends", "tracks", "motions", "visits", "approaches", "runs", "place_runs", "passages",
    "pair_runs", "pair_head", "paces", "heat_cells_us", "column_of", "template",
)  # fmt: skip
"""Of a camera's block, what every frame needs first. Contents: `camera_memory.CameraMemory`."""
(
    HEADER, STREAM, TALLY, ORDER, CLOCK, LIMITS, PICTURE, WAKE_US, LABEL_OF, PARAMETERS, FLOOR,
    STILL, ZONE_POINTS, ZONE_STARTS, ZONE_ANCHORS, ZONE_ON_GROUND, ZONE_BANDS, ZONE_GAP_US, ZONE_MIN_INSIDE_US,
    ZONE_WANTED, WIRE_POINTS, WIRE_STARTS, WIRE_ANCHORS, WIRE_ON_GROUND, WIRE_BANDS,
    WIRE_WANTED, RULES, THRESHOLD, RULE_WANTED, RULE_OTHER, RULE_COUNTS,
    HEAT_GRID, HEAT_WANTED, TEMPLATE_ENDS, TRACKS, MOTIONS, VISITS, APPROACHES, RUNS, PLACE_RUNS, PASSAGES,
    PAIR_RUNS, PAIR_HEAD, PACES, HEAT_CELLS_US, COLUMN_OF, TEMPLATE,
) = range(len(SECTIONS))  # fmt: skip

SCRATCH_SECTIONS = (
    "found", "frame", "born_us", "ordinals", "boxes", "velocities", "states", "labels", "scores", "ground",
    "ground_velocities", "speed_sds", "births", "ends", "visit_records", "crossing_records", "held_records", "keys", "items", "out",
)  # fmt: skip
"""Of the shared block. Contents: `camera_memory.CameraScratch`."""
(
    FOUND, FRAME, BORN_US, ORDINALS, BOXES, VELOCITIES, STATES, LABELS, SCORES, GROUND,
    GROUND_VELOCITIES, SPEED_SDS, BIRTHS, ENDS, VISIT_RECORDS, CROSSING_RECORDS, HELD_RECORDS, KEYS, ITEMS, OUT,
) = range(len(SCRATCH_SECTIONS))  # fmt: skip

NOW_US, FRAME_BOOT, SEQ, SENT_US, DETECTION_COUNT, LABEL_COUNT, PASSED = range(7)
FRAME_HEAD = 8 * 7
"""A frame lies in `frame` as these numbers (int64), then boxes, scores and classes as they came."""
FOUND_BIRTHS, FOUND_ENDS, FOUND_VISITS, FOUND_CROSSINGS, FOUND_HELD = range(5)
TALLY_FRAMES, TALLY_DETECTIONS = range(2)
USUAL_UNTIL_US, SILENCE_US = range(2)
"""Of `limits`: the event time at which something is to be done beside the kernels (0: at once), and the longest gap."""
NOT_NEXT = -1

I8, F8, F4, U4, U1, B1 = (np.dtype(name) for name in ("<i8", "<f8", "<f4", "<u4", "u1", "?"))
MAX_PLACES = 32  # zones or tripwires of a camera (schemas.settings.Camera)

step_tracks = tracking.step if COMPILED else plain_tracking.step
publish_tracks = tracking.publish if COMPILED else plain_tracking.publish


def source_stamp(*modules: ModuleType) -> int:
    """Return a number that changes with the source of the modules."""
    return zlib.crc32("".join(inspect.getsource(module) for module in modules).encode())


@kernel
def detections(scratch: Any) -> Any:
    """Return boxes, scores and classes of the frame in `scratch`."""
    frame = vector(scratch, FRAME, I8)
    n, at = frame[DETECTION_COUNT], place(scratch, FRAME) + FRAME_HEAD
    return (
        matrix_at(scratch, at, n, 4, F4), vector_at(scratch, at + 16 * n, n, F4), vector_at(scratch, at + 20 * n, n, U1),
    )  # fmt: skip


@kernel
def let_pass(memory: Any, frame: Any) -> bool:
    """Take note of a frame that comes in order, with no gap before it and no time up with it; False for any other."""
    order, limits, now_us = vector(memory, ORDER, I8), vector(memory, LIMITS, I8), frame[NOW_US]
    if frame[FRAME_BOOT] != order[BOOT] or frame[SEQ] != order[NEXT_SEQ] or now_us <= order[CAPTURE_US]:
        return False
    if now_us >= limits[USUAL_UNTIL_US] or now_us - vector(memory, CLOCK, I8)[0] > limits[SILENCE_US]:
        return False
    order[NEXT_SEQ] += 1
    order[CAPTURE_US] = now_us
    return True


def _advance(stamp: int) -> Any:
    """Make `advance`. Numba's cache knows nothing of changes in called modules, but it looks at what a closure holds."""

    @kernel
    def advance(memory: Any, scratch: Any, affinity: Any) -> tuple[int, bool]:
        """Take the frame that lies in `scratch` into the camera whose block is `memory`.

        Returns the size of the track frame in `out`, and whether anything else is to be looked at: something was found, or
        rules have work. Instead of the size: NOT_NEXT for a frame that the intake must see (one that has PASSED it is not
        asked), −2 − its index for a bad detection. Such a frame has changed nothing.
        """
        frame, found = vector(scratch, FRAME, I8), vector(scratch, FOUND, I8)
        now_us, n = frame[NOW_US], frame[DETECTION_COUNT]
        boxes, scores, classes = detections(scratch)
        bad = tracking.check(boxes, scores, classes, frame[LABEL_COUNT])
        if bad >= 0 or stamp < 0:
            return -2 - bad, False
        if not frame[PASSED] and not let_pass(memory, frame):
            return NOT_NEXT, False
        header, parameters = vector(memory, HEADER, I8), vector(memory, PARAMETERS, F8)
        tracks, aspect = vector(memory, TRACKS, TRACK), vector(memory, PICTURE, F8)[0]
        clock = vector(memory, CLOCK, I8)
        last_us = clock[0] if clock[0] else now_us
        clock[0] = now_us
        step_tracks(
            tracks, header, vector(memory, STREAM, F8), boxes, scores, classes, vector(memory, LABEL_OF, U1), affinity,
            vector(memory, FLOOR, F8), vector(memory, COLUMN_OF, I8), now_us, last_us, aspect, parameters,
        )  # fmt: skip
        slots = header[SLOTS]
        motions, on_ground = vector(memory, MOTIONS, MOTION), vector(memory, FLOOR, F8).shape[0] > 0
        motion.step(tracks, slots, motions, vector(memory, STILL, F8), on_ground, now_us)
        count, births, ends = publish_tracks(
            tracks, slots, aspect, parameters, vector(scratch, BORN_US, I8), vector(scratch, ORDINALS, U4),
            matrix(scratch, BOXES, F4), matrix(scratch, VELOCITIES, F4), vector(scratch, STATES, U1),
            vector(scratch, LABELS, U1), vector(scratch, SCORES, F4), vector(scratch, BIRTHS, I8),
            vector(scratch, ENDS, I8),
        )  # fmt: skip
        if on_ground:
            motion.publish(
                tracks, slots, motions, vector(scratch, BORN_US, I8), vector(scratch, ORDINALS, U4), count,
                matrix(scratch, GROUND, F4), matrix(scratch, GROUND_VELOCITIES, F4), vector(scratch, SPEED_SDS, F4),
            )  # fmt: skip
        on_ground_count = count if on_ground else 0
        visits = zones.step(
            tracks, slots, matrix(memory, VISITS, VISIT), matrix(memory, ZONE_POINTS, F8), vector(memory, ZONE_STARTS, I8),
            matrix(memory, ZONE_ANCHORS, F8), vector(memory, ZONE_ON_GROUND, B1), vector(memory, ZONE_BANDS, F8),
            vector(memory, ZONE_GAP_US, I8), vector(memory, ZONE_MIN_INSIDE_US, I8), matrix(memory, ZONE_WANTED, B1),
            aspect, now_us, vector(scratch, VISIT_RECORDS, RECORD),
        )  # fmt: skip
        crossings = tripwires.step(
            tracks, slots, matrix(memory, APPROACHES, APPROACH), matrix(memory, WIRE_POINTS, F8),
            vector(memory, WIRE_STARTS, I8), matrix(memory, WIRE_ANCHORS, F8), vector(memory, WIRE_ON_GROUND, B1),
            vector(memory, WIRE_BANDS, F8), matrix(memory, WIRE_WANTED, B1), aspect,
            tripwires.ground_sense(vector(memory, FLOOR, F8)), now_us, vector(scratch, CROSSING_RECORDS, CROSSING),
        )  # fmt: skip
        held = conditions.step(
            tracks, slots, vector(memory, MOTIONS, MOTION), matrix(memory, VISITS, VISIT),
            vector(scratch, CROSSING_RECORDS, CROSSING), crossings, vector(memory, RULES, RULE), vector(memory, THRESHOLD, F8),
            matrix(memory, RULE_WANTED, B1), matrix(memory, RULE_OTHER, B1), matrix(memory, RUNS, RUN),
            vector(memory, PLACE_RUNS, RUN), matrix(memory, PASSAGES, PASSAGE), vector(memory, PAIR_RUNS, PAIR_RUN),
            vector(memory, PAIR_HEAD, I8), vector(memory, RULE_COUNTS, I8), vector(scratch, KEYS, F8),
            vector(scratch, ITEMS, I8), aspect, now_us, vector(scratch, HELD_RECORDS, HELD),
        )  # fmt: skip
        pace.step(
            tracks, slots, vector(memory, MOTIONS, MOTION), matrix(memory, VISITS, VISIT), matrix(memory, PACES, PACE), now_us
        )  # fmt: skip
        heat_map.step(
            tracks, slots, vector(memory, MOTIONS, MOTION), vector(memory, HEAT_CELLS_US, I8), vector(memory, HEAT_GRID, F8),
            vector(memory, HEAT_WANTED, B1), last_us, now_us,
        )  # fmt: skip
        found[FOUND_BIRTHS], found[FOUND_ENDS] = births, ends
        found[FOUND_VISITS], found[FOUND_CROSSINGS], found[FOUND_HELD] = visits, crossings, held
        tally = vector(memory, TALLY, I8)
        tally[TALLY_FRAMES] += 1
        tally[TALLY_DETECTIONS] += n
        size = write_track_frame(
            vector(scratch, OUT, U1), vector(memory, TEMPLATE, U1), vector(memory, TEMPLATE_ENDS, I8),
            (frame[SEQ], now_us, frame[SENT_US]), scratch,
            (
                place(scratch, BORN_US), place(scratch, ORDINALS), place(scratch, BOXES), place(scratch, VELOCITIES),
                place(scratch, STATES), place(scratch, LABELS), place(scratch, SCORES), place(scratch, GROUND),
                place(scratch, GROUND_VELOCITIES), place(scratch, SPEED_SDS),
            ),
            (
                8 * count, 4 * count, 16 * count, 8 * count, count, count, 4 * count, 8 * on_ground_count,
                8 * on_ground_count, 4 * on_ground_count,
            ),
        )  # fmt: skip
        happened = births + ends + visits + crossings + held > 0
        return size, happened or now_us >= vector(memory, WAKE_US, I8)[0]

    return advance


advance = _advance(
    source_stamp(
        tracking,
        plain_tracking,
        table,
        motion,
        zones,
        tripwires,
        conditions,
        condition_table,
        pace,
        heat_map,
        track_frame,
        block,
    )
)
