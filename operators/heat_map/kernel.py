"""One step of a camera's heat map over the cells of its grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.compiled import kernel

COLUMNS, ROWS, ON_GROUND, LEFT, TOP, PER_COLUMN, PER_ROW = range(7)
GRID_SIZE = 7
"""Indices of `grid` (float64): columns and rows; 1 on the ground, else 0; the corner of cell 0; cells per unit (ratio or m)."""
MAX_GAP_US = 1_000_000
"""Of a longer time between two frames, no more than this counts."""

_CONFIRMED = 2  # operators.tracking.table; capabilities do not import each other


@kernel
def step(
    tracks: Any, slots: int, motions: Any, cells_us: Any, grid: Any, wanted: Any, last_us: int, now_us: int
) -> None:  # fmt: skip
    """Add the time since the last frame to the cell of each confirmed object that is seen in this one.

    Args:
        tracks, slots: the track table after its step; the first `slots` rows are live.
        motions: the motion table after its step: `x_m`, `y_m`, NaN where the ground point is not known.
        cells_us: int64 by row, then column, µs; changed in place. Empty: no heat map.
        grid: `GRID_SIZE` numbers, see there.
        wanted: bool 256, by label.
        last_us, now_us: times of the frame before and of this one.

    An object that is confirmed in this frame brings the time since it was first seen.
    """
    if not cells_us.shape[0]:
        return
    columns, rows = int(grid[COLUMNS]), int(grid[ROWS])
    for i in range(slots):
        t = tracks[i]
        if t.status != _CONFIRMED or not t.seen or not wanted[t.label]:
            continue
        if grid[ON_GROUND] != 0.0:
            x, y = np.float64(motions[i].x_m), np.float64(motions[i].y_m)
        else:
            x, y = (np.float64(t.box[0]) + np.float64(t.box[2])) * 0.5, np.float64(t.box[3])
        across, down = np.floor((x - grid[LEFT]) * grid[PER_COLUMN]), np.floor((y - grid[TOP]) * grid[PER_ROW])
        if grid[ON_GROUND] == 0.0:  # boxes end at the frame's edge, which is the edge of its last cells
            across, down = min(max(across, 0.0), columns - 1.0), min(max(down, 0.0), rows - 1.0)
        if not (0.0 <= across < columns and 0.0 <= down < rows):  # true for NaN
            continue
        since_us = t.born_us if t.born_now else last_us
        cells_us[int(down) * columns + int(across)] += min(max(now_us - since_us, 0), MAX_GAP_US)
