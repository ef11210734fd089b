"""When a frame was captured, and by whose clock."""

from __future__ import annotations

from schemas.wire import Clock

NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900-01-01 (NTP) to 1970-01-01 (Unix), RFC 5905, section 6."""
MAX_OFFSET_US = 5_000_000
"""A camera clock further than this from the frame's arrival is wrong; the wire refuses such times too."""
RETURN_AFTER_US = 30_000_000
"""A camera clock that was wrong is believed again after being right for this long."""


def unix_us(ntp_ns: int) -> int:
    """Convert nanoseconds since 1900 to Unix µs.

    NTP seconds wrap in 2036: values without their top bit lie in the next era (RFC 4330, section 3).
    """
    if ntp_ns < (1 << 31) * 1_000_000_000:
        ntp_ns += (1 << 32) * 1_000_000_000
    return ntp_ns // 1000 - NTP_EPOCH_S * 1_000_000


def ntp64_unix_us(ntp64: int) -> int:
    """Convert a sender report's 32.32 fixed point NTP time to Unix µs."""
    return unix_us((ntp64 >> 32) * 1_000_000_000 + (((ntp64 & 0xFFFFFFFF) * 1_000_000_000) >> 32))


def rtp_unix_us(rtp: int, report_rtp: int, report_ntp64: int, clock_hz: int) -> int:
    """Return the Unix µs of RTP time stamp `rtp` by a sender report (RFC 3550, section 6.4.1); wraps are handled."""
    ticks = (rtp - report_rtp + (1 << 31)) % (1 << 32) - (1 << 31)
    return ntp64_unix_us(report_ntp64) + ticks * 1_000_000 // clock_hz


class CaptureClock:
    """Chooses a frame's capture time: the camera's own where it can be believed, else the arrival."""

    def __init__(self) -> None:
        self._distrusted = False
        self._right_since_us = 0
        self.offset_us = 0
        """Last seen difference camera clock − arrival, µs; 0 while the camera tells no time."""

    def stamp(self, camera_us: int, arrival_us: int) -> tuple[int, Clock]:
        """Return (capture time, its clock). `camera_us` is 0 where the camera has not told its time yet."""
        if camera_us == 0:
            return arrival_us, "arrival"
        self.offset_us = camera_us - arrival_us
        if abs(self.offset_us) > MAX_OFFSET_US:
            self._distrusted, self._right_since_us = True, 0
            return arrival_us, "arrival"
        if self._distrusted and not self._regained(arrival_us):
            return arrival_us, "arrival"
        return camera_us, "rtcp_sr"

    def _regained(self, arrival_us: int) -> bool:
        if self._right_since_us == 0:
            self._right_since_us = arrival_us
        if arrival_us - self._right_since_us >= RETURN_AFTER_US:
            self._distrusted = False
        return not self._distrusted
