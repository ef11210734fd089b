"""A camera's pose as text: rotation, translation in millimetres, intrinsic matrix, each under its name.

    RotationMatrices
    0.00006 -0.99985 -0.01745
    -0.01396 0.01745 -0.99975
    0.99990 0.00030 -0.01396

    TranslationVectors
    -2 1088 2845

    IntrinsicMatrix
    1265 0 960
    0 1265 540
    0 0 1

That is the layout in which UCMCTrack (Yi et al., AAAI 2024) publishes its estimates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.fields import SettingsError
from schemas.settings import Camera, Pose, SiteSettings
from schemas.settings_checks import check_settings
from sightflow.errors import SightflowError

MAX_FILE_BYTES = 65_536
ORTHONORMAL_TOLERANCE = 1e-2
"""Poses are printed with five decimals or fewer."""

_NUMBER_COUNTS = {"RotationMatrices": 9, "TranslationVectors": 3, "IntrinsicMatrix": 9}
_REMEDY = "write the sections RotationMatrices (3×3), TranslationVectors (3, in mm), IntrinsicMatrix (3×3); see docs/tracking.md"


@dataclass(frozen=True)
class PoseFile:
    """A point of the world X (mm) is seen at the pixel K (R X + T), divided by its third coordinate.

    Args:
        rotation: R, 3×3.
        translation_mm: T, 3.
        intrinsic: K, 3×3, pixels.
    """

    rotation: npt.NDArray[np.float64]
    translation_mm: npt.NDArray[np.float64]
    intrinsic: npt.NDArray[np.float64]

    @property
    def projection(self) -> npt.NDArray[np.float64]:
        """Return K [R | T], 3×4: homogeneous world millimetres to homogeneous pixels."""
        return self.intrinsic @ np.column_stack([self.rotation, self.translation_mm])

    @property
    def settings(self) -> Pose:
        """Return the same as a site file has it."""
        matrices = {
            "rotation": self.rotation.tolist(),
            "translation_mm": self.translation_mm.tolist(),
            "intrinsic": self.intrinsic.tolist(),
        }
        return msgspec.convert(matrices, Pose)


def read_pose(path: Path) -> PoseFile:
    """Read and check a pose file.

    Raises:
        SightflowError: it cannot be read, a section or number is missing, or the matrices are no pose.
    """
    try:
        raw = path.read_bytes()[: MAX_FILE_BYTES + 1]
        text = raw.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SightflowError(f"the camera pose {path} cannot be read: {error}", _REMEDY) from error
    if len(raw) > MAX_FILE_BYTES:
        raise SightflowError(f"{path}: expected at most {MAX_FILE_BYTES} bytes of camera pose", _REMEDY)
    numbers = _sections(path, text)
    for name, count in _NUMBER_COUNTS.items():
        if len(numbers.get(name, [])) != count:
            raise SightflowError(
                f"{path}, section {name}: expected {count} numbers, got {len(numbers.get(name, []))}", _REMEDY
            )
    pose = PoseFile(
        np.array(numbers["RotationMatrices"]).reshape(3, 3),
        np.array(numbers["TranslationVectors"]),
        np.array(numbers["IntrinsicMatrix"]).reshape(3, 3),
    )
    _check(path, pose)
    return pose


def _sections(path: Path, text: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if len(words) == 1 and words[0] in _NUMBER_COUNTS:
            section = words[0]
            if section in found:
                raise SightflowError(f"{path}, line {number}: the section {section} comes twice", _REMEDY)
            found[section] = []
            continue
        for word in words:
            if not section or math.isnan(value := _number(word)):
                expected = "a number" if section else "the name of a section"
                raise SightflowError(f"{path}, line {number}: expected {expected}, got {word[:40]!r}", _REMEDY)
            found[section].append(value)
    return found


def _number(word: str) -> float:
    """Return a finite number, or NaN."""
    try:
        value = float(word)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _check(path: Path, pose: PoseFile) -> None:
    error = float(np.abs(pose.rotation @ pose.rotation.T - np.eye(3)).max())
    if error > ORTHONORMAL_TOLERANCE or np.linalg.det(pose.rotation) < 0:
        raise SightflowError(
            f"{path}, section RotationMatrices: expected a rotation (R·Rᵀ = 1, determinant +1), "
            f"got R·Rᵀ off by {error:.3g} and determinant {np.linalg.det(pose.rotation):.3g}",
            _REMEDY,
        )
    if not (pose.intrinsic[0, 0] > 0 and pose.intrinsic[1, 1] > 0 and np.array_equal(pose.intrinsic[2], [0, 0, 1])):
        raise SightflowError(
            f"{path}, section IntrinsicMatrix: expected positive focal lengths and a last row of 0 0 1, "
            f"got {pose.intrinsic[0, 0]:g}, {pose.intrinsic[1, 1]:g} and {pose.intrinsic[2].tolist()}",
            _REMEDY,
        )
    site = SiteSettings(version=1, site="file", cameras=(Camera(id="file", pose=pose.settings),))
    try:
        check_settings(site, str(path))  # what the camera stage will ask of it
    except SettingsError as refused:
        raise SightflowError(f"{path}, {refused.path.rpartition('.')[2]}: {refused.problem}", _REMEDY) from None
