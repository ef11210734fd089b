"""A camera stage that does nothing: what a record costs in Flink, Kafka and state alone. Only benchmarks run it."""

from __future__ import annotations

from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics

STATE = bytes(2048)  # about what the camera stage keeps for ten objects


class EmptyStage:
    """Sends each record on as a track frame and keeps a constant state."""

    def open(self) -> None:
        """Do nothing."""

    def logic(self, key: str) -> KeyLogic:
        """Return logic that does nothing."""
        return EmptyLogic(key)

    def on_settings(self, key: str, record: Input) -> list[Output]:
        """Do nothing."""
        return []


class EmptyLogic:
    """Nothing, for one key."""

    silence_ms = 10_000

    def __init__(self, key: str) -> None:
        self._key = key

    def on_record(self, record: Input) -> list[Output]:
        """Send the record's bytes on."""
        return [Output(topics.TRACKS, self._key, record.value or b"")]

    def on_silence(self) -> list[Output]:
        """Do nothing."""
        return []

    def snapshot(self) -> bytes | None:
        """Return the constant state."""
        return STATE

    def restore(self, data: bytes) -> None:
        """Do nothing."""
