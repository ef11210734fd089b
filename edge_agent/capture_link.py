"""What a capture process and the agent say to each other, and the memory in which frames change hands.

A Unix socket of packets carries small messages; the pixels lie in a memory file with a few slots, made by the capture
process once it knows the frame size and handed over with `Opened`. A slot belongs to one side at a time: `Frame` gives
it to the agent, `Release` gives it back. So there is nothing that grows, no lock to be left held by a killed process,
and the memory is gone when both sides have let go of it.
"""

from __future__ import annotations

import array
import mmap
import os
import socket

import msgspec
from msgspec import Struct

SLOT_COUNT = 4
"""One being looked at, one waiting, one being written, one to spare."""
MAX_FRAME_BYTES = 256 << 20
MAX_PACKET_BYTES = 16 << 10


class Start(Struct, frozen=True, tag=True):
    """Agent → capture: what to play. Travels here, not on a command line, because of the password."""

    url: str
    username: str = ""
    password: str = ""
    transport: str = "tcp"
    latency_ms: int = 200
    target_fps: float = 10.0
    is_fast: bool = False  # a file: as fast as it is taken, every sampled frame
    time_route: str = "auto"  # 'meta', 'reports': force one way to a frame's RTCP time


class Release(Struct, frozen=True, tag=True):
    """Agent → capture: the slot is free again."""

    slot: int


class Stop(Struct, frozen=True, tag=True):
    """Agent → capture: take leave of the camera and end."""


class Opened(Struct, frozen=True, tag=True):
    """Capture → agent: frames of this shape will come in the attached memory (BGR, rows of `stride_bytes`)."""

    width_px: int
    height_px: int
    stride_bytes: int
    slot_bytes: int
    decoder: str


class Frame(Struct, frozen=True, tag=True):
    """Capture → agent: a frame lies in `slot`."""

    slot: int
    mono_us: int  # monotonic clock when it came out of the decoder
    camera_us: int  # UTC by the camera's sender reports, 0 where unknown; for a file its time on the file's time line
    is_file: bool = False


class Status(Struct, frozen=True, tag=True):
    """Capture → agent, twice a second: totals of this process."""

    decoded_count: int  # that left the decoder and its queue
    skipped_count: int  # by sampling
    dropped: dict[str, int]  # by reason


class Failed(Struct, frozen=True, tag=True):
    """Capture → agent: it is over. `reason` is a fixed word, `detail` free text."""

    reason: str
    detail: str


class Ended(Struct, frozen=True, tag=True):
    """Capture → agent: the file has been played to its end."""


ToCapture = Start | Release | Stop
ToAgent = Opened | Frame | Status | Failed | Ended

_encode = msgspec.msgpack.Encoder().encode
_to_capture: msgspec.msgpack.Decoder[ToCapture] = msgspec.msgpack.Decoder(ToCapture)
_to_agent: msgspec.msgpack.Decoder[ToAgent] = msgspec.msgpack.Decoder(ToAgent)


def make_link() -> tuple[socket.socket, socket.socket]:
    """Return the two ends (agent's, capture's)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return ours, theirs


def send(link: socket.socket, message: ToCapture | ToAgent, fd: int = -1) -> None:
    """Send one message, with an open file where `fd` is given. Raises OSError where the other side is gone."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
    link.sendmsg([_encode(message)], ancillary, socket.MSG_NOSIGNAL)


def receive_in_agent(link: socket.socket) -> tuple[ToAgent | None, int]:
    """Return (message, attached file or -1); None at the end. Raises TimeoutError by the socket's own time-out."""
    data, ancillary, _, _ = link.recvmsg(MAX_PACKET_BYTES, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None, -1
    fd = -1
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fd = int.from_bytes(payload[:4], "little" if array.array("H", [1]).tobytes()[0] else "big")
    return _to_agent.decode(data), fd


def receive_in_capture(link: socket.socket) -> ToCapture | None:
    """Return the next message, None where the agent is gone."""
    data = link.recv(MAX_PACKET_BYTES)
    return _to_capture.decode(data) if data else None


class FrameMemory:
    """Slots for frames in a memory file."""

    def __init__(self, fd: int, slot_bytes: int) -> None:
        """Map the file `fd`, which this object then owns."""
        self.fd, self.slot_bytes = fd, slot_bytes
        self.map = mmap.mmap(fd, slot_bytes * SLOT_COUNT)

    @classmethod
    def create(cls, slot_bytes: int) -> FrameMemory:
        """Make the memory. Raises ValueError where a frame is absurdly large."""
        if not 0 < slot_bytes <= MAX_FRAME_BYTES:
            raise ValueError(f"expected frames of at most {MAX_FRAME_BYTES} bytes, got {slot_bytes}")
        fd = os.memfd_create("sightflow-frames", os.MFD_CLOEXEC)
        os.ftruncate(fd, slot_bytes * SLOT_COUNT)
        return cls(fd, slot_bytes)

    def write(self, slot: int, data: bytes) -> None:
        """Fill a slot."""
        at = slot * self.slot_bytes
        self.map[at : at + len(data)] = data

    def close_file(self) -> None:
        """Close the file; the mapping lives as long as something looks at it."""
        os.close(self.fd)
