"""The camera stage with settings that change while it runs.

record of `settings` → version: book → at each camera's first frame captured at its time or later: over to the new settings
                     → order: book → at that frame: an alert is acknowledged, rules are muted
"""

from __future__ import annotations

import msgspec
from msgspec import Struct, msgpack, structs

from operators.alerts import Cause, OrderBook, Orders, source_alert
from operators.intake.intake import Ready
from operators.settings import Placement, SettingsBook, Version
from operators.stages.camera_memory import CameraScratch
from operators.stages.camera_stage import CameraLogic, CameraStage, UnknownCamera, dead_letter, state_settings
from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.alert_orders import is_order
from schemas.live_settings import SettingsAck, SettingsProblem
from schemas.settings import SiteSettings
from schemas.wire import BadMessage, DetectionFrame, Point, encode

ABSENT = "-"
"""Stands before the stamp of the last settings while those that hold do not name the camera."""


class LiveCameraStage(CameraStage):
    """Makes the logic of each camera that any version of the settings names; version 0 is what it is made with."""

    def open(self) -> None:
        """Get ready; the versions on the topic come by `on_settings`, before the first frame."""
        super().open()
        self._book = SettingsBook(self.sites)
        self._orders = OrderBook()
        self._live: dict[str, LiveCamera] = {}

    def on_settings(self, key: str, record: Input) -> list[Output]:
        """Take one version or order; return the acknowledgement, or a dead letter. A tombstone is no news."""
        if record.value is None:
            return []
        book = self._orders if is_order(key) else self._book
        try:
            ack = book.take(key, record.value, record.partition, record.offset)
        except BadMessage as e:
            return [dead_letter(e.reason, e.detail, "settings", topics.SETTINGS, key, record)]
        for camera in self._live.values():
            camera.settings_due_us = 0
        return [Output(topics.SETTINGS_ACKS, ack.site, encode(ack))]

    def logic(self, key: str) -> KeyLogic:
        """Return fresh logic for a camera; for one that no version names, logic that refuses everything."""
        if not self._book.knows(key):
            self._live.pop(key, None)
            return UnknownCamera(key)
        live = self._live[key] = LiveCamera(key, self._book, self._orders, self._scratch)
        return live


class _Terms(Struct, array_like=True):
    """Under what frames are worked on, as far as it is not the camera's own state."""

    stamp: str
    site: SiteSettings  # of its cameras this one only
    muted: list[str]
    acknowledged: dict[str, tuple[str, str]]


_terms_decoder = msgspec.msgpack.Decoder(_Terms)


class LiveCamera(CameraLogic):
    """One camera under the versions of a book. While they do not name it, its frames are refused and nothing is open.

    It works under terms: the settings and orders that it has gone over to, which the books may not hold after a restart.
    """

    def __init__(self, camera: str, book: SettingsBook, orders: OrderBook, scratch: CameraScratch) -> None:
        self._terms_changed = True
        self._terms: _Terms | None = None  # that were restored
        self._book, self._orders = book, orders
        first = book.first(camera)
        self._begin(first, ABSENT + first.version.stamp, scratch)
        self._number = -1  # of the version in force

    def _begin(self, placement: Placement, settings: str, scratch: CameraScratch) -> None:
        super().__init__(placement.version.site, placement.camera, settings, scratch)
        self.settings_due_us = 0

    # ---- other settings -------------------------------------------------------------------------------------------

    def _settings_due(self, frame: DetectionFrame, item: Ready, out: list[Output]) -> bool:
        self._terms_changed = True
        at_us = frame.capture_us
        found = self._book.in_force(self.camera, at_us)
        if found is None:
            self._depart(out)
            record = Input(item.raw, item.partition, item.offset, 0)
            detail = f"the settings that hold then do not name the camera {self.camera!r}"
            out.append(dead_letter("unknown_camera", detail, "camera", topics.DETECTIONS, self.camera, record))
            return False
        version = found.version
        if version.stamp != self.settings and version.number >= self._number:
            if version.number:
                out.append(self._ack(found, at_us))
            self.take_settings(version.site, found.camera, version.stamp, out)
            self._number = version.number
        self._alerts.give_orders(self._orders.holding(self.site, self.camera, at_us))
        self._memory.wake_us[0] = min(self._memory.wake_us[0], self._alerts.wake_us())
        self.settings_due_us = min(
            self._book.next_us(self.camera, at_us), self._orders.next_us(self.site, self.camera, at_us)
        )
        return True

    def _ack(self, found: Placement, at_us: int) -> Output:
        number, from_us, stamp, site, _ = found.version
        digest = stamp.partition("@")[0]
        late_us = self._tracker.last_us - from_us
        errors: tuple[SettingsProblem, ...] = ()
        if late_us >= 0:
            problem = f"came when frames up to {late_us * 1e-6:.3f} s after its time had been worked on"
            errors = (SettingsProblem(f"cameras[{self._index(found)}]", problem),)
        ack = SettingsAck(
            id=f"{site.site}/{number}/{digest}/{self.camera}", stage="in_force",
            status="partial" if errors else "success", site=site.site, version=number, fingerprint=digest,
            from_us=from_us, at_us=at_us, cameras=(self.camera,), errors=errors,
        )  # fmt: skip
        return Output(topics.SETTINGS_ACKS, site.site, encode(ack))

    def _index(self, found: Placement) -> int:
        return next(i for i, c in enumerate(found.version.site.cameras) if c.id == self.camera)

    def _depart(self, out: list[Output]) -> None:
        """The settings name the camera no more: end what is open, as of its last frame, and report the windows."""
        self._expect_unusual()
        if self.settings.startswith(ABSENT):
            return
        points: list[Point] = []
        last_us = self._tracker.last_us
        cause = Cause(self.settings, "", -1, -1, -1, 0)
        if self._lost:
            self._say([source_alert(self.site, self.camera, "close", last_us, last_us, cause)], points, out)
            self._lost = False
        else:
            self._end_tracks("settings", cause, points, out)
            self._close_alerts("settings", "the camera is no longer in the settings", cause, points, out)
            self._report_open(points)
        out.extend(self._points(points))
        self.settings = ABSENT + self.settings
        self.settings_due_us = 0  # after a silence, a frame from before its removal may still come
        self._tracker.last_us = 0  # its absence is no silence of the source

    def on_silence(self) -> list[Output]:
        """The source is silent, or is no longer ours."""
        out: list[Output] = []
        self._wait_no_more(out)
        last_us = self._tracker.last_us
        self._terms_changed = True
        if last_us:  # a restored camera has not looked since
            self._alerts.give_orders(self._orders.holding(self.site, self.camera, last_us))
        if last_us and self._book.in_force(self.camera, last_us + self.silence_ms * 1000) is None:
            self._depart(out)
        return out + super().on_silence()

    # ---- state ----------------------------------------------------------------------------------------------------

    def restore(self, data: bytes) -> None:
        """Take up a snapshot under the version that it was made under, so that the next frame finds what it would have.

        Where the book does not know that version, after other settings at submit, its terms tell; where these were not
        restored either, what the state names is matched by id.
        """
        settings, last_us = state_settings(data)
        absent = ABSENT if settings and settings.startswith(ABSENT) else ""
        stamp = settings.removeprefix(ABSENT)
        found = (self._book.stamped(self.camera, stamp) if settings else None) or self._placement(stamp)
        placement = found or self._book.in_force(self.camera, last_us) or self._book.first(self.camera)
        self._begin(placement, absent + placement.version.stamp, self._scratch)
        self._number = placement.version.number if found else -1
        super().restore(data)
        if self._terms is not None and self._terms.stamp == stamp:
            self._alerts.give_orders(Orders(frozenset(self._terms.muted), self._terms.acknowledged))

    def _placement(self, stamp: str) -> Placement | None:
        """Return what held by the restored terms, where the book does not know it any more."""
        terms = self._terms
        if terms is None or terms.stamp != stamp:
            return None
        if terms.site.site != self._book.first(self.camera).version.site.site:
            return None  # it has moved: its frames name the other site
        camera = terms.site.cameras[0]
        return Placement(Version(-1, 0, stamp, terms.site, {camera.id: camera}), camera)

    def terms(self) -> bytes | None:
        """Return settings and orders that frames are worked on under, where they may have changed."""
        if not self._terms_changed:
            return None
        self._terms_changed = False
        site = structs.replace(self._site_settings, cameras=(self._camera,))
        muted, acknowledged = self._alerts.orders
        return msgpack.encode(_Terms(self.settings.removeprefix(ABSENT), site, sorted(muted), dict(acknowledged)))

    def restore_terms(self, data: bytes) -> None:
        """Take up the terms of the snapshot that is restored next."""
        self._terms = _terms_decoder.decode(data)
