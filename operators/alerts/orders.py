"""Acknowledgements and mutes of all sites: which hold for a camera at an event time.

What the book holds depends on the messages of the topic `settings` and their order alone, and what it answers on that and an
event time alone, as with versions of settings.
"""

from __future__ import annotations

from operators.alerts.alerts import Orders
from schemas.alert_orders import ANY, Acknowledgement, AnyOrder, Mute, camera_of, decode_order
from schemas.fields import SettingsError
from schemas.live_settings import SettingsAck, SettingsProblem
from schemas.wire import NEVER_US

MAX_KEPT = 50_000  # orders of all sites; beyond, the one that was taken first is forgotten


class OrderBook:
    """Takes orders in the topic's order; answers what holds."""

    def __init__(self) -> None:
        self._orders: dict[str, AnyOrder] = {}  # by key
        self._of: dict[tuple[str, str], dict[str, AnyOrder]] = {}  # of a site and a camera, or '*'

    def take(self, key: str, value: bytes, partition: int, offset: int) -> SettingsAck:
        """Take one message; return what to say to it. The same message again changes nothing.

        Raises BadMessage where the bytes are no order. What is refused changes nothing.
        """
        order = decode_order(key, value)
        try:
            camera = _check(order)
        except SettingsError as e:
            return _answer(key, order, "failure", "", (SettingsProblem(e.path, e.problem),), partition, offset)
        self._forget(key)
        self._orders[key] = order
        self._of.setdefault((order.site, camera), {})[key] = order
        if len(self._orders) > MAX_KEPT:
            self._forget(next(iter(self._orders)))
        return _answer(key, order, "success", camera, (), partition, offset)

    def _forget(self, key: str) -> None:
        order = self._orders.pop(key, None)
        if order is not None:
            about = order.site, _check(order)
            del self._of[about][key]
            if not self._of[about]:
                del self._of[about]

    def holding(self, site: str, camera: str, at_us: int) -> Orders:
        """Return what holds for a camera at an event time."""
        acknowledged: dict[str, Acknowledgement] = {}
        mutes: dict[tuple[str, str], Mute] = {}
        for order in self._about(site, camera):
            if order.from_us > at_us:
                continue
            if isinstance(order, Mute):
                last = mutes.get((order.camera, order.rule))
                if last is None or last.from_us <= order.from_us:
                    mutes[order.camera, order.rule] = order
            else:
                first = acknowledged.get(order.alert_id)
                if first is None or order.from_us < first.from_us:
                    acknowledged[order.alert_id] = order
        return Orders(
            frozenset(m.rule for m in mutes.values() if at_us < m.until_us),
            {name: (a.author, a.comment) for name, a in acknowledged.items()},
        )

    def next_us(self, site: str, camera: str, at_us: int) -> int:
        """Return the event time after `at_us` at which something else may hold; NEVER_US: as far as is known, never."""
        times = [t for o in self._about(site, camera) for t in (o.from_us, o.until_us if isinstance(o, Mute) else 0)]
        return min((t for t in times if t > at_us), default=NEVER_US)

    def _about(self, site: str, camera: str) -> list[AnyOrder]:
        return [order for name in (camera, ANY) for order in self._of.get((site, name), {}).values()]


def _check(order: AnyOrder) -> str:
    """Return the camera that an order is about, or '*'. Raises SettingsError."""
    if isinstance(order, Acknowledgement):
        return camera_of(order.alert_id, order.site)
    if order.until_us < order.from_us:
        problem = f"expected a time not before from_us, {order.from_us}, got {order.until_us}"
        raise SettingsError(order.site, "until_us", problem)
    return order.camera


def _answer(
    key: str,
    order: AnyOrder,
    status: str,
    camera: str,
    errors: tuple[SettingsProblem, ...],
    partition: int,
    offset: int,
) -> SettingsAck:
    return SettingsAck(
        id=f"{key}/{offset}", stage="taken", status=status, site=order.site, version=0,  # type: ignore[arg-type]
        fingerprint="", from_us=order.from_us, cameras=() if camera in ("", ANY) else (camera,), errors=errors,
        partition=partition, offset=offset, order=key,
    )  # fmt: skip
