"""The files of a replay: lines in an order that does not depend on who wrote them first, each file whole or not there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from operators.stages.replay_stage import FILES, RECORDS
from sightflow.errors import SightflowError
from sightflow.replay.sorting import SortedLines

NEW, OLD = "new", "old"
NAMES = tuple(FILES.values())
SUMMARY, PAGE = "summary.json", "timeline.html"


class Happening(Struct):
    """Of an event or a transition of an alert, when; of a transition, which one of which alert."""

    at_us: int = 0
    alert_id: str = ""
    transition: str = ""


class Letter(Struct):
    """Of a dead letter, where its cause lies."""

    partition: int = -1
    offset: int = -1


class Figure(Struct):
    """A line of `windows.jsonl`."""

    measurement: str
    tags: dict[str, str]
    at_ns: int
    fields: dict[str, bool | int | float | str | None]


decode_happening = msgspec.json.Decoder(Happening).decode
decode_letter = msgspec.json.Decoder(Letter).decode
decode_figure = msgspec.json.Decoder(Figure).decode


_BY_RANK = {"open": 0, "close": 2}


def happening_key(line: bytes) -> tuple[int, str, int]:
    """Order events by time, and transitions of one time as they follow each other in an alert's life."""
    h = decode_happening(line)
    return h.at_us, h.alert_id, _BY_RANK.get(h.transition, 1)


def life_key(line: bytes) -> tuple[str, int, int]:
    """Order transitions by alert, and those of an alert as they follow each other in its life, whatever their dates."""
    h = decode_happening(line)
    return h.alert_id, _BY_RANK.get(h.transition, 1), h.at_us


def _letter_key(line: bytes) -> tuple[int, int]:
    letter = decode_letter(line)
    return letter.partition, letter.offset


def _figure_key(line: bytes) -> tuple[int, str, tuple[tuple[str, str], ...], float]:
    f = decode_figure(line)
    revision = f.fields.get("revision", 0)
    return f.at_ns, f.measurement, tuple(sorted(f.tags.items())), revision if isinstance(revision, int) else 0


_KEYS: dict[str, Callable[[bytes], Any]] = {
    "events": happening_key, "alerts": happening_key, "windows": _figure_key, "dead-letters": _letter_key,
}  # fmt: skip


class Outputs:
    """Takes lines as they come, of one side or two; writes them in order in the end.

    Args:
        folder: an empty one to work in, on the disk of the result.
        sides: their names.
    """

    def __init__(self, folder: Path, sides: Iterable[str]) -> None:
        self._sorted: dict[str, SortedLines] = {}
        for side in sides:
            for name in NAMES:
                runs = folder / "runs" / side / name
                runs.mkdir(parents=True)
                self._sorted[f"{side}/{name}"] = SortedLines(_KEYS[name], runs)
        self.folder = folder
        self.record_count = 0

    def add(self, file: str, line: bytes) -> None:
        """Take a line of `side/name`, or one that counts records."""
        if file == RECORDS:
            self.record_count += int(line)
        else:
            self._sorted[file].add(line)

    def finish(self) -> dict[str, Path]:
        """Write every file; return their places by `side/name`."""
        found = {}
        for file, lines in self._sorted.items():
            path = found[file] = self.folder / "done" / f"{file}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            ordered = _last_of_each(lines) if file.endswith("/windows") else iter(lines)
            with path.open("wb") as out:
                out.writelines(line + b"\n" for line in ordered)
        shutil.rmtree(self.folder / "runs")
        return found


def _last_of_each(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Of points with one measurement, tags and time, yield the last revision: what InfluxDB would hold in the end."""
    for _, same in groupby(lines, key=lambda line: _figure_key(line)[:3]):
        *_, last = same
        yield last


def final_files(out: Path, sides: Iterable[str]) -> dict[str, Path]:
    """Return where the results go, by `side/name`: the new side's into the folder itself, the old one's into `old`."""
    return {
        f"{side}/{name}": (out if side == NEW else out / side) / f"{name}.jsonl" for side in sides for name in NAMES
    }


@contextmanager
def working(out: Path | None, overwrite: bool) -> Iterator[Path]:
    """Give a folder to work in: beside the results, or one that vanishes where none are kept.

    Raises:
        SightflowError: something is there that nobody said may be written over, or nothing can be written.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="sightflow-replay-") as folder:
            yield Path(folder)
        return
    try:
        if out.exists() and not out.is_dir():
            raise SightflowError(f"--out {out}: expected a folder, got a file")
        taken = sorted(p.name for p in out.iterdir()) if out.is_dir() else []
        if taken and not overwrite:
            raise SightflowError(
                f"--out {out}: expected a new or empty folder, found {', '.join(taken[:4])}{' …' * (len(taken) > 4)}",
                "name another, or say --overwrite: files of an earlier replay there are then replaced, others stay",
            )
        out.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".replay-", dir=out))
    except OSError as error:
        raise SightflowError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def place(out: Path, done: dict[str, Path], more: dict[str, str]) -> None:
    """Give finished files their names; what an earlier replay left there and this one does not make goes.

    Args:
        done: by `side/name`.
        more: further files, name → text.
    """
    targets = final_files(out, (NEW, OLD))
    for file, target in targets.items():
        if file in done:
            target.parent.mkdir(exist_ok=True)
            done[file].replace(target)
        else:
            target.unlink(missing_ok=True)
    for name, text in more.items():
        part = out / f".{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(out / name)
