"""Ground truth and results as tables: MOTChallenge text, KITTI tracking labels; one file, or a folder of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sightflow.errors import SightflowError
from sightflow.track.source import BadInput, lines, opened

Table = npt.NDArray[np.float64]

MAX_LINE_BYTES = 4096
MAX_ROWS = 20_000_000
_MOT_COLUMNS = 7
PREPROCESS = ("auto", "mot17", "kitti", "none")

NEUTRAL, SCORED, OTHER = 0, 1, 2  # as in `scorer`
_MOT_SCORED = 1
_MOT_NEUTRAL = (2, 7, 8, 12)
"""MOT16 and MOT17: person on vehicle, static person, distractor, reflection. Milan et al., arXiv 1603.00831, table 3."""

_KITTI_SCORED = {"car": "Car", "pedestrian": "Pedestrian", "person": "Pedestrian", "cyclist": "Cyclist"}
_KITTI_NEUTRAL = {"Car": "Van", "Pedestrian": "Person_sitting", "Cyclist": ""}
_KITTI_REGION = "DontCare"
_KITTI_MIN_HEIGHT_PX = 25.0
_KITTI_MAX_OCCLUSION, _KITTI_MAX_TRUNCATION = 2, 0
"""The benchmark's own limits, as in TrackEval's `Kitti2DBox`."""

_GT_NAMES = ("gt/gt.txt", "gt/gt.txt.gz", "gt.txt", "gt.txt.gz")


@dataclass(frozen=True)
class SequenceTables:
    """One sequence, ready to be scored; columns as `scorer` describes them."""

    name: str
    truth: Table
    results: Table
    regions: Table
    min_height_px: float
    preprocess: str


def pair_up(truth: Path, results: Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Return (name, truth, results) of each sequence, and results that have no truth.

    A folder of truth holds `NAME.txt`, `NAME/gt.txt` or `NAME/gt/gt.txt`; one of results `NAME.txt`; each plain or `.gz`.

    Raises:
        SightflowError: one is a folder and the other is not, or a sequence has no results.
    """
    if truth.is_dir() != results.is_dir():
        kinds = ["a folder" if path.is_dir() else "a file" for path in (truth, results)]
        raise SightflowError(
            f"--truth {truth} is {kinds[0]} and --results {results} is {kinds[1]}: expected two of a kind"
        )
    if not truth.is_dir():
        return [(_stem(results), truth, results)], []
    truths, found = _truths(truth), {_stem(path): path for path in _texts(results)}
    if not truths:
        raise SightflowError(f"--truth {truth}: expected NAME.txt, NAME/gt.txt or NAME/gt/gt.txt, found none")
    missing = [name for name in truths if name not in found]
    if missing:
        raise SightflowError(
            f"--results {results}: expected {missing[0]}.txt, found {', '.join(sorted(found)) or 'no .txt file'}",
            f"add results of {', '.join(missing[:10])}; an empty file means that nothing was tracked",
        )
    return [(name, path, found[name]) for name, path in truths.items()], sorted(set(found) - set(truths))


def _texts(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name.removesuffix(".gz").endswith(".txt"))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".txt")


def _truths(folder: Path) -> dict[str, Path]:
    found = {_stem(path): path for path in _texts(folder)}
    for below in sorted(p for p in folder.iterdir() if p.is_dir()):
        for name in _GT_NAMES:
            if (below / name).is_file():
                found[below.name] = below / name
                break
    return dict(sorted(found.items()))


def load(
    name: str, truth: Path, results: Path, truth_format: str, preprocess: str, label: str, span: tuple[int, int] | None
) -> SequenceTables:
    """Read one sequence and give each row of truth its role.

    Args:
        truth_format: mot or kitti.
        preprocess: of PREPROCESS; auto is kitti for KITTI labels, mot17 where column 8 of the truth is a class, else none.
        label: the class that is scored, for KITTI labels.
        span: first and last frame that count; None counts all.

    Raises:
        BadInput: a row is not of its format, or one id comes twice in a frame.
    """
    found = _read_mot(results, most=7)
    regions, min_height = np.zeros((0, 5)), -1.0
    if truth_format == "kitti":
        chosen = "kitti" if preprocess == "auto" else preprocess
        table, regions = _read_kitti(truth, label)
        if chosen == "none":
            table, regions = table[table[:, 7] == SCORED], regions[:0]
        else:
            min_height = _KITTI_MIN_HEIGHT_PX
    else:
        table = _read_mot(truth, most=9)
        chosen = ("mot17" if _has_classes(table) else "none") if preprocess == "auto" else preprocess
        table = _with_roles(truth, table, chosen)
    if span:
        table, found, regions = (
            rows[(rows[:, 0] >= span[0]) & (rows[:, 0] <= span[1])] for rows in (table, found, regions)
        )
    _require_distinct(results, found)
    _require_distinct(truth, table[(table[:, 6] != 0) & (table[:, 7] == SCORED)])
    return SequenceTables(name, table, found, regions, min_height, chosen)


def _has_classes(table: Table) -> bool:
    """Whether column 8 is a class (MOT16 and later); in MOT15 it is a coordinate."""
    if table.shape[1] < 9 or not len(table):
        return False
    classes = table[:, 7]
    return bool((classes == np.round(classes)).all() and (classes >= 1).all() and (classes <= 13).all())


def _with_roles(path: Path, table: Table, preprocess: str) -> Table:
    if preprocess == "kitti":
        raise SightflowError(
            "--preprocess kitti needs --truth-format kitti: MOTChallenge text has no regions to leave out"
        )
    if preprocess == "mot17" and table.shape[1] < 8:
        raise BadInput(
            path, "", "a class in column 8 for --preprocess mot17", f"{table.shape[1]} columns", "use --preprocess none"
        )
    roles = np.full(len(table), float(SCORED))
    if preprocess == "mot17":
        classes = table[:, 7]
        roles[classes != _MOT_SCORED] = OTHER
        roles[np.isin(classes, _MOT_NEUTRAL)] = NEUTRAL
    return np.column_stack([table[:, :7], roles])


def _read_mot(path: Path, most: int) -> Table:
    """Return all rows: as many columns as the first row has, at least 7 and at most `most`."""
    rows: list[list[float]] = []
    count = most
    with opened(path) as file:
        for number, line in lines(file, path, MAX_LINE_BYTES):
            try:
                row = [float(word) for word in line.split(b",")[:most] if word]
            except ValueError:
                row = []
            if len(row) < _MOT_COLUMNS or not np.isfinite(row[:_MOT_COLUMNS]).all():
                raise BadInput(
                    path, f"line {number}", "at least 7 numbers: frame,id,left,top,width,height,score",
                    repr(line[:80].decode("utf-8", "replace")),
                )  # fmt: skip
            count = len(row) if not rows else count
            if len(row) < count:
                raise BadInput(path, f"line {number}", f"{count} columns, as in line 1", len(row))
            _require_whole(path, number, row)
            rows.append(row[:count])
            _bound(path, rows)
    return np.array(rows, np.float64) if rows else np.zeros((0, most))


def _require_whole(path: Path, number: int, row: Sequence[float]) -> None:
    if row[0] != int(row[0]) or row[0] < 1 or row[1] != int(row[1]):
        raise BadInput(path, f"line {number}", "a frame from 1 and an id, whole numbers", f"{row[0]:g} and {row[1]:g}")


def _bound(path: Path, rows: Sequence[object]) -> None:
    if len(rows) > MAX_ROWS:
        raise BadInput(path, "", f"at most {MAX_ROWS:,} rows", "more")


def _read_kitti(path: Path, label: str) -> tuple[Table, Table]:
    """Return truth and regions of a KITTI tracking label file; its frames count from 0, ours from 1.

    Columns: frame, id, type, truncated, occluded, alpha, left, top, right, bottom, …
    """
    scored = _KITTI_SCORED.get(label.lower())
    if scored is None:
        raise SightflowError(f"--class: expected one of {', '.join(_KITTI_SCORED)} for KITTI labels, got {label!r}")
    truth, regions = [], []
    with opened(path) as file:
        for number, line in lines(file, path, MAX_LINE_BYTES):
            words = line.decode("utf-8", "replace").split()
            try:
                frame, who, kind = int(words[0]) + 1, int(words[1]), words[2]
                truncated, occluded = float(words[3]), float(words[4])
                left, top, right, bottom = (float(word) for word in words[6:10])
            except (ValueError, IndexError):
                expected = "frame id type truncated occluded alpha left top right bottom …"
                raise BadInput(path, f"line {number}", expected, repr(" ".join(words)[:80])) from None
            box = (left, top, right - left, bottom - top)
            if kind == _KITTI_REGION:
                regions.append((frame, *box))
            elif kind in (scored, _KITTI_NEUTRAL[scored]):
                hard = occluded > _KITTI_MAX_OCCLUSION or truncated > _KITTI_MAX_TRUNCATION
                truth.append((frame, who, *box, 1.0, SCORED if kind == scored and not hard else NEUTRAL))
            _bound(path, truth)
    return np.array(truth, np.float64).reshape(-1, 8), np.array(regions, np.float64).reshape(-1, 5)


def _require_distinct(path: Path, table: Table) -> None:
    """Refuse one id twice in a frame: no metric is defined then."""
    if not len(table):
        return
    order = np.lexsort((table[:, 1], table[:, 0]))
    same = (np.diff(table[order, :2], axis=0) == 0).all(axis=1)
    if same.any():
        frame, who = table[order[np.argmax(same)], :2]
        raise BadInput(
            path, f"frame {frame:g}", "each id once", f"id {who:g} twice", "ids must be unique within a frame"
        )
