"""The command `sightflow evaluate`."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sightflow.errors import SightflowError
from sightflow.evaluate import environment, sequences
from sightflow.evaluate.page import render
from sightflow.evaluate.sequences import SequenceTables
from sightflow.places import Local
from sightflow.progress import Progress

_SCORER = Path(__file__).with_name("scorer.py")
_DESCRIPTION = """\
Score tracking results against ground truth with TrackEval: HOTA, CLEAR (MOTA, id switches) and identity (IDF1).
Formats and what is left out of the score: docs/tracking.md."""
_EPILOG = """\
examples:
  sightflow evaluate --truth gt.txt --results tracks.txt
  sightflow evaluate --truth gt.txt.gz --results tracks.txt --frames 264-525 --html scores.html
  sightflow evaluate --truth truth/ --results results/ --html scores.html       NAME/gt.txt beside NAME.txt
  sightflow evaluate --truth 0006.txt --truth-format kitti --class car --results tracks.txt
"""
_COLUMNS = (
    ("HOTA", "HOTA", 100), ("DetA", "DetA", 100), ("AssA", "AssA", 100), ("LocA", "LocA", 100), ("IDF1", "IDF1", 100),
    ("MOTA", "MOTA", 100), ("IDSW", "IDSW", 1), ("Frag", "Frag", 1), ("FP", "CLR_FP", 1), ("FN", "CLR_FN", 1),
    ("MT", "MT", 1), ("ML", "ML", 1), ("objects", "GT_IDs", 1), ("ids", "IDs", 1),
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    a = _parser().parse_args(argv)
    span = _span(a.frames)
    pairs, extra = sequences.pair_up(a.truth, a.results)
    with Progress(sys.stderr) as progress:
        tables = []
        with progress.step("read"):
            for name, truth, results in pairs:
                tables.append(sequences.load(name, truth, results, a.truth_format, a.preprocess, a.label, span))
        if extra:
            progress.say(f"  --  results without ground truth are left out: {', '.join(extra[:10])}")
        python = environment.ensure(Local.find(), progress)
        with progress.step(f"score {len(tables)} sequence{'s' if len(tables) != 1 else ''}"):
            answer = score(tables, python)
    print(table_text(answer, tables))
    if a.html:
        _write(a.html, render(answer, tables, span))
        print(f"page: {a.html}", file=sys.stderr)
    return 0


def score(tables: Sequence[SequenceTables], python: Path) -> dict[str, Any]:
    """Return the scorer's answer: figures of each sequence, and of all combined.

    Raises:
        SightflowError: the scorer failed.
    """
    with tempfile.TemporaryDirectory(prefix="sightflow-evaluate-") as folder:
        request, answer = Path(folder) / "request.npz", Path(folder) / "answer.json"
        arrays: dict[str, Any] = {"names": np.array([t.name for t in tables])}
        for i, t in enumerate(tables):
            arrays |= {f"truth_{i}": t.truth, f"results_{i}": t.results, f"regions_{i}": t.regions}
            arrays[f"min_height_{i}"] = np.array(t.min_height_px)
        np.savez(request, **arrays)
        done = subprocess.run(
            [str(python), "-I", str(_SCORER), str(request), str(answer)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SightflowError(f"TrackEval failed with status {done.returncode}:\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(answer.read_text())
        return found


def table_text(answer: dict[str, Any], tables: Sequence[SequenceTables]) -> str:
    """Return the table that is printed: ratios in percent, a line per sequence, and one for all where there are several."""
    rows = [(name, s["figures"]) for name, s in answer["sequences"].items()]
    if len(rows) > 1:
        rows.append(("all", answer["combined"]))
    width = max(len("sequence"), *(len(name) for name, _ in rows))
    head = f"{'sequence':<{width}}" + "".join(f"{title:>8}" for title, _, _ in _COLUMNS)
    body = [
        f"{name:<{width}}" + "".join(_cell(figures[key], times) for _, key, times in _COLUMNS) for name, figures in rows
    ]
    prepared = ", ".join(sorted({t.preprocess for t in tables}))
    return "\n".join(
        [head, *body, f"TrackEval; preparation: {prepared}; CLEAR and identity at IoU 0.5; in percent up to MOTA"]
    )


def _cell(value: float, times: int) -> str:
    return f"{value * times:>8.1f}" if times != 1 else f"{value:>8.0f}"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SightflowError(f"--html {path} cannot be written: {error.strerror or error}") from error


def _span(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,9})-(\d{1,9})", text.strip())
    if not found or not 1 <= int(found.group(1)) <= int(found.group(2)):
        raise SightflowError(f"--frames: expected FIRST-LAST, such as 264-525, got {text!r}")
    return int(found.group(1)), int(found.group(2))


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="sightflow evaluate", description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = made.add_argument
    add("--truth", type=Path, required=True, metavar="FILE|DIR", help="ground truth, plain or gzip")
    add("--results", type=Path, required=True, metavar="FILE|DIR", help="MOTChallenge text, plain or gzip")
    add("--truth-format", choices=("mot", "kitti"), default="mot", help="of the truth (default: %(default)s)")
    add("--preprocess", choices=sequences.PREPROCESS, default="auto",
        help="what is left out of the score (default: by the truth's format and columns)")  # fmt: skip
    add(
        "--class",
        dest="label",
        default="car",
        metavar="NAME",
        help="KITTI labels: what is scored (default: %(default)s)",
    )
    add("--frames", default="", metavar="A-B", help="score these frames alone")
    add("--html", type=Path, metavar="OUT", help="also write a page with charts")
    return made
