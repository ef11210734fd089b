"""What must hold of the files named on the command line before any of them is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sightflow.errors import SightflowError

PART_SUFFIXES = (".part", ".part.mp4")


def part_of(out: Path, suffix: str = PART_SUFFIXES[0]) -> Path:
    """Return where a result is written until it is whole; OpenCV chooses a video's container by the suffix."""
    return out.with_name(f".{out.name}{suffix}")


def require_distinct(inputs: Mapping[str, Path | None], outputs: Mapping[str, Path | None]) -> None:
    """Refuse to write over what is read, and to write two results to one file.

    Args:
        inputs: option → file, None where it was not given.
        outputs: likewise; the files need not exist.

    Raises:
        SightflowError: two options name one file, also by way of a link; or an output is a folder.
    """
    seen = [(option, path) for option, path in inputs.items() if path is not None]
    for option, path in outputs.items():
        if path is None:
            continue
        if not path.name or os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises on names that are too long
            raise SightflowError(f"{option} {path}: expected the name of a file, got a folder", "add a file name")
        written = [path, *(part_of(path, suffix) for suffix in PART_SUFFIXES)]
        for other, taken in seen:
            if any(_is_same(mine, taken) for mine in written):
                raise SightflowError(
                    f"{option} {path}: is also the file of {other} ({taken}), which would be written over",
                    f"give {option} another name",
                )
        seen += [(option, mine) for mine in written]


def _is_same(one: Path, other: Path) -> bool:
    try:
        if one.samefile(other):
            return True
    except OSError:  # one of them does not exist (yet)
        pass
    return os.path.realpath(one) == os.path.realpath(other)
