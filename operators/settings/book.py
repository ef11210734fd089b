"""The versions of all sites' settings: which are good, and which one holds for a camera at an event time.

What the book holds depends on the messages of the topic `settings` and their order alone, and which version holds depends
on the book and an event time alone: whoever has read the same topic gives the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schemas.fields import SettingsError
from schemas.live_settings import (
    MAX_VERSIONS,
    SettingsAck,
    SettingsMessage,
    SettingsProblem,
    decode_version,
    site_of,
    stamp_of,
)
from schemas.settings import Camera, SiteSettings, fingerprint, index_cameras
from schemas.wire import NEVER_US

MAX_SITES = 10_000


class Version(NamedTuple):
    """One version of a site; number 0 is what the job was submitted with, from the beginning of time."""

    number: int
    from_us: int
    stamp: str
    site: SiteSettings
    cameras: dict[str, Camera]


class Placement(NamedTuple):
    """What holds for a camera."""

    version: Version
    camera: Camera


class SettingsBook:
    """Takes messages of the topic `settings`, in its order; answers what holds for a camera.

    Args:
        sites: settings that the job was submitted with: version 0 of each.
    """

    def __init__(self, sites: Sequence[SiteSettings]) -> None:
        index_cameras(list(sites))
        self._versions: dict[str, list[Version]] = {}  # by number
        self._site_of: dict[str, str] = {}  # camera → site: a camera belongs to one
        self._checked: dict[Camera, Camera] = {}  # one object for what versions have in common
        for site in sites:
            self._add(Version(0, 0, fingerprint(site), site, {}))

    def take(self, key: str, value: bytes, partition: int, offset: int) -> SettingsAck:
        """Take one message; return what to say to it. The same message again is taken again and changes nothing.

        Raises BadMessage where the bytes are no version of anything. What is refused changes nothing.
        """
        message = decode_version(key, value)
        try:
            changed = self._accept(message)
        except SettingsError as e:
            return _ack(message, "failure", (), (SettingsProblem(e.path, e.problem),), partition, offset)
        return _ack(message, "success", changed, (), partition, offset)

    def _accept(self, message: SettingsMessage) -> tuple[str, ...]:
        versions = self._versions.get(message.site, [])
        stamp = stamp_of(message.version, message.fingerprint)
        for i, known in enumerate(versions):
            if (known.number, known.stamp, known.from_us) == (message.version, stamp, message.from_us):
                return _changed(versions[i - 1] if i else None, known)
        if versions and message.version <= versions[-1].number:
            newest = versions[-1].number
            problem = f"expected a version above {newest}, the newest of this site, got {message.version}"
            raise SettingsError(message.site, "version", problem)
        if not versions and len(self._versions) >= MAX_SITES:
            raise SettingsError(message.site, "site", f"expected at most {MAX_SITES} sites")
        site = site_of(message, self._checked)
        for i, camera in enumerate(site.cameras):
            owner = self._site_of.get(camera.id, site.site)
            if owner != site.site:
                problem = f"{camera.id!r} is a camera of site {owner!r} too: the id is the key"
                raise SettingsError(site.site, f"cameras[{i}].id", problem)
        before = versions[-1] if versions else None
        return _changed(before, self._add(Version(message.version, message.from_us, stamp, site, {})))

    def _add(self, version: Version) -> Version:
        for camera in version.site.cameras:
            version.cameras[camera.id] = self._checked.setdefault(camera, camera)
            self._site_of[camera.id] = version.site.site
        versions = self._versions.setdefault(version.site.site, [])
        versions.append(version)
        if len(versions) > MAX_VERSIONS + 1:  # and the one of the job itself
            del versions[1 if versions[0].number == 0 else 0]
            self._forget()
        return version

    def _forget(self) -> None:
        """Drop what no version that is kept has."""
        kept = [v for versions in self._versions.values() for v in versions]
        self._checked = {camera: camera for v in kept for camera in v.cameras.values()}
        self._site_of = {name: v.site.site for v in kept for name in v.cameras}

    # ---- what holds -------------------------------------------------------------------------------------------------

    def knows(self, camera: str) -> bool:
        """Whether any version names the camera."""
        return camera in self._site_of

    def in_force(self, camera: str, at_us: int) -> Placement | None:
        """Return what holds for a camera at an event time; None: nothing, it is not in the settings then.

        Of the versions whose time has come, the newest by number: a version that is sent later and holds earlier replaces one
        that was to hold later.
        """
        versions = self._versions.get(self._site_of.get(camera, ""), [])
        for version in reversed(versions):
            if version.from_us <= at_us:
                return Placement(version, version.cameras[camera]) if camera in version.cameras else None
        return None

    def next_us(self, camera: str, at_us: int) -> int:
        """Return the event time after `at_us` at which another version may hold; NEVER_US: as far as is known, none will."""
        versions = self._versions.get(self._site_of.get(camera, ""), [])
        return min((v.from_us for v in versions if v.from_us > at_us), default=NEVER_US)

    def stamped(self, camera: str, stamp: str) -> Placement | None:
        """Return the version of the camera's site that outputs name by `stamp`."""
        for version in self._versions.get(self._site_of.get(camera, ""), []):
            if version.stamp == stamp and camera in version.cameras:
                return Placement(version, version.cameras[camera])
        return None

    def first(self, camera: str) -> Placement:
        """Return the oldest version that names the camera. Raises KeyError where none does."""
        for version in self._versions[self._site_of[camera]]:
            if camera in version.cameras:
                return Placement(version, version.cameras[camera])
        raise KeyError(camera)


def _changed(before: Version | None, after: Version) -> tuple[str, ...]:
    """Return the ids of the cameras that a version changes, adds or removes."""
    if before is None:
        return tuple(sorted(after.cameras))
    if before.site.windows != after.site.windows:
        return tuple(sorted({*before.cameras, *after.cameras}))
    names = {*before.cameras, *after.cameras}
    return tuple(sorted(n for n in names if before.cameras.get(n) != after.cameras.get(n)))


def _ack(
    m: SettingsMessage, status: str, cameras: tuple[str, ...], errors: tuple[SettingsProblem, ...], partition: int,
    offset: int,
) -> SettingsAck:  # fmt: skip
    return SettingsAck(
        id=f"{m.site}/{m.version}/{m.fingerprint}/{offset}", stage="taken", status=status,  # type: ignore[arg-type]
        site=m.site, version=m.version, fingerprint=m.fingerprint, from_us=m.from_us, cameras=cameras, errors=errors,
        partition=partition, offset=offset,
    )  # fmt: skip
