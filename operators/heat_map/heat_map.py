"""The heat map of one camera: its grid, and the times of the period that is counted now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from operators.anchors import class_mask
from operators.heat_map import kernel
from schemas.settings import HeatMap as HeatMapSettings
from schemas.wire import NEVER_US


class HeatReport(NamedTuple):
    """One period. `complete` is False where it is reported before its end, as it stands."""

    start_us: int
    revision: int
    complete: bool
    columns: int
    cells_us: dict[int, int]  # where any time was spent; by row · columns + column


class Period(Struct, array_like=True):
    """The time that is counted now; it ends with the first frame at `end_us` or later."""

    start_us: int = 0
    end_us: int = 0
    revision: int = 0  # of its next report


class HeatMap:
    """Times by cell in the period under way; `cells_us` is changed by `kernel.step`. No settings: a map of no cells."""

    def __init__(self, settings: HeatMapSettings | None) -> None:
        self.settings = settings
        self.period = Period()
        self._length_us = round(settings.report_s * 1e6) if settings else 0
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

    def due_us(self) -> int:
        """Return from when on `turn` ends a period."""
        return self.period.end_us if self.settings else NEVER_US

    def turn(self, now_us: int) -> HeatReport | None:
        """Go over to the period of the frame at `now_us`, before its step; return the one that has ended.

        Periods begin and end at whole multiples of their length since the Unix epoch. Only after another length or other cells
        one begins later: where the one before has ended.
        """
        if now_us < self.due_us():
            return None
        report = self._report(complete=True)
        self.cells_us[:] = 0
        start_us = self._start_of(now_us)
        self.period = Period(max(start_us, self.period.end_us), start_us + self._length_us)
        return report

    def report_open(self) -> HeatReport:
        """Return the period under way as it stands; it will be reported again, with a higher revision."""
        report = self._report(complete=False)
        self.period.revision += 1
        return report

    def _report(self, complete: bool) -> HeatReport:
        found = np.flatnonzero(self.cells_us)
        cells_us = dict(zip(found.tolist(), self.cells_us[found].tolist(), strict=True))
        columns = self.settings.columns if self.settings else 0
        return HeatReport(self.period.start_us, self.period.revision, complete, columns, cells_us)

    def restore(self, period: Period, cells_us: Mapping[int, int], last_us: int) -> None:
        """Take up what was kept of the same cells after the frame at `last_us`; another length may end the period earlier."""
        self.period = period
        if self.settings and period.start_us:
            start_us = self._start_of(max(last_us, period.start_us))
            period.end_us = min(period.end_us, start_us + self._length_us)
        self.cells_us[:] = 0
        for cell, us in cells_us.items():
            self.cells_us[cell] = us

    def begin_after(self, at_us: int) -> None:
        """Begin anew with the first frame after `at_us`, until which other cells were counted."""
        self.period = Period(end_us=at_us + 1)

    def _start_of(self, at_us: int) -> int:
        return at_us - at_us % self._length_us
