"""The heat map of one camera: its grid, and the times of the window that is counted now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from operators.anchors import class_mask
from operators.heat_map import kernel
from schemas.settings import HeatMap as HeatMapSettings


class HeatMap:
    """Times by cell since they were last taken; `cells_us` is changed by `kernel.step`. No settings: a map of no cells."""

    def __init__(self, settings: HeatMapSettings | None) -> None:
        self.settings = settings
        self.grid = np.zeros(kernel.GRID_SIZE)
        self.wanted = np.zeros(256, np.bool_)
        self.cells_us = np.zeros(settings.columns * settings.rows if settings else 0, np.int64)
        if settings is None:
            return
        on_ground = settings.plane == "ground"
        (left, top), (right, bottom) = (settings.from_m, settings.to_m) if on_ground else ((0.0, 0.0), (1.0, 1.0))
        per_unit = settings.columns / (right - left), settings.rows / (bottom - top)
        self.grid[:] = settings.columns, settings.rows, on_ground, left, top, *per_unit

    def set_labels(self, labels: Sequence[str]) -> None:
        """Say what the label indices of tracks mean; call again when labels are added."""
        if self.settings:
            self.wanted[: len(labels)] = class_mask(self.settings.classes, labels)

    def take(self) -> dict[int, int]:
        """Return the µs of each cell where any were spent, by its index (row · columns + column), and begin anew."""
        found = np.flatnonzero(self.cells_us)
        cells_us = dict(zip(found.tolist(), self.cells_us[found].tolist(), strict=True))
        self.cells_us[found] = 0
        return cells_us

    def put(self, cells_us: dict[int, int]) -> None:
        """Set the times of cells; those that the grid does not have are forgotten."""
        self.cells_us[:] = 0
        for cell, us in cells_us.items():
            if cell < len(self.cells_us):
                self.cells_us[cell] = us
