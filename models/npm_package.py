"""Fetch one pinned npm package with the user's own `npm` and verify it byte for byte."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

_FETCH_TIMEOUT_S = 300
#: No single file of a model package is larger; a bound on what is unpacked.
_MAX_MEMBER_BYTES = 256 * 2**20


class FetchError(RuntimeError):
    """The package could not be had, or is not the one that was pinned."""


@dataclass(frozen=True)
class NpmPackage:
    """A pinned package; `integrity` is npm's own `sha512-<base64>` of the tarball."""

    name: str
    version: str
    integrity: str

    @property
    def spec(self) -> str:
        """What npm calls it: `name@version`."""
        return f"{self.name}@{self.version}"


def fetch(package: NpmPackage, folder: Path) -> Path:
    """Download the tarball of `package` into `folder` with `npm pack` and return its path.

    Raises:
        FetchError: npm is missing, fails or takes more than 300 s.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(
            f"npm is needed to fetch {package.spec} and is not installed; "
            "install it (Debian: apt-get install --no-install-recommends npm), "
            "or fetch the tarball elsewhere and pass it with --tarball"
        )
    command = [npm, "pack", package.spec, "--ignore-scripts", "--silent"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"npm pack {package.spec}: no result in {_FETCH_TIMEOUT_S} s") from error
    tarballs = sorted(folder.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        tail = done.stderr.strip()[-500:]
        raise FetchError(f"npm pack {package.spec} failed (status {done.returncode}): {tail}")
    return tarballs[0]


def verify(package: NpmPackage, tarball: Path) -> None:
    """Compare the tarball with the pinned integrity.

    Raises:
        FetchError: the bytes differ.
    """
    digest = hashlib.sha512(tarball.read_bytes()).digest()
    integrity = "sha512-" + base64.b64encode(digest).decode()
    if integrity != package.integrity:
        raise FetchError(
            f"{tarball.name}: expected integrity {package.integrity}, got {integrity}; "
            "it is not the pinned package: nothing was unpacked"
        )


def unpack(tarball: Path, members: list[str], folder: Path) -> None:
    """Write the named `members` (paths inside the package) flat into `folder`.

    Raises:
        FetchError: a member is absent, not a plain file or larger than 256 MiB.
    """
    with tarfile.open(tarball) as archive:
        for member in members:
            try:
                info = archive.getmember(f"package/{member}")
            except KeyError as error:
                raise FetchError(f"{tarball.name}: has no {member}") from error
            stream = archive.extractfile(info) if info.isfile() else None
            if stream is None or info.size > _MAX_MEMBER_BYTES:
                raise FetchError(f"{tarball.name}: {member} is no plain file of bounded size")
            (folder / Path(member).name).write_bytes(stream.read())
