"""What a stage is to the shell that runs it (`operators.flink`), to tests and to tools."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable


class Input(NamedTuple):
    """One record for a key. `value` is None for a tombstone; `time_ms` is the record's timestamp."""

    value: bytes | None
    partition: int
    offset: int
    time_ms: int


class Output(NamedTuple):
    """One record for a topic."""

    topic: str
    key: str
    value: bytes


class KeyLogic(Protocol):
    """The logic of one key. It reads no clock, draws no random number and touches no I/O.

    The shell keeps the object alive between records and stores `snapshot()` with each checkpoint; after a restart, another
    object takes up the last stored snapshot and must go on with the same outputs.
    """

    silence_ms: int
    """The shell calls `on_silence` when no record came for this long of processing time; 0: never."""

    def on_record(self, record: Input) -> list[Output]:
        """Take one record."""
        ...

    def on_silence(self) -> list[Output]:
        """Take note that nothing has come for `silence_ms`."""
        ...

    def snapshot(self) -> bytes | None:
        """Return the whole state; None, from the first call on, for a key that must not have any."""
        ...

    def restore(self, data: bytes) -> None:
        """Take up a snapshot of this or an earlier version."""
        ...


@runtime_checkable
class Archiving(Protocol):
    """Logic of which a part of the state changes too seldom to be stored with every checkpoint."""

    def archive(self) -> bytes | None:
        """Return that part, or None where it is as it was when this was last asked. Stored beside the snapshot."""
        ...

    def restore_archive(self, data: bytes) -> None:
        """Take up that part, after the snapshot of the same record."""
        ...


@runtime_checkable
class UnderTerms(Protocol):
    """Logic that works under something that is not its own state, and must be known when it is made again."""

    def terms(self) -> bytes | None:
        """Return it, or None where it is as when this was last asked. Stored beside the snapshot."""
        ...

    def restore_terms(self, data: bytes) -> None:
        """Take up what `terms` last returned, before the snapshot."""
        ...


class Stage(Protocol):
    """Makes the logic of keys. Pickled into the job graph, so it holds settings only."""

    def open(self) -> None:
        """Get ready on the worker: compile kernels. Called once before anything else."""
        ...

    def logic(self, key: str) -> KeyLogic:
        """Return fresh logic for `key`."""
        ...


class LiveStage(Stage, Protocol):
    """A stage whose settings change while it runs."""

    def on_settings(self, key: str, record: Input) -> list[Output]:
        """Take one record of the topic of settings, in its order; one that was taken before changes nothing."""
        ...


class BatchStage(Protocol):
    """Does its work for many records of many keys at once. Pickled into the job graph, so it holds settings only.

    The shell holds what `take` returns and hands it to `write` after `max_wait_ms` or `max_bytes`; what was held at the last
    checkpoint before a crash is handed over again, so writing must be repeatable.
    """

    max_wait_ms: int
    max_bytes: int

    def open(self) -> None:
        """Get ready on the worker. Called once before anything else."""
        ...

    def close(self) -> None:
        """Release what is held."""
        ...

    def take(self, key: str, record: Input) -> tuple[bytes | None, list[Output]]:
        """Return what to hold of one record (None: nothing), and what comes out at once."""
        ...

    def write(self, held: list[bytes]) -> dict[int, list[Output]]:
        """Do the work for all that was held, in order; return what comes out, by the index of the piece it is due to."""
        ...
