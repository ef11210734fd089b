"""What a stage is to the shell that runs it (`operators.flink`), to tests and to tools."""

from __future__ import annotations

from collections.abc import Sequence
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

    The shell keeps the object alive between records and stores `snapshot()` after each record (but see `Repeatable`); after
    a restart, another object takes up the last stored snapshot and must go on with the same outputs.
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
        """Return the whole state, or None for a key that must not have any."""
        ...

    def restore(self, data: bytes) -> None:
        """Take up a snapshot of this or an earlier version."""
        ...


@runtime_checkable
class Archiving(Protocol):
    """Logic of which a part of the state changes too seldom to be stored with every record."""

    def archive(self) -> bytes | None:
        """Return that part, or None where it is as it was when this was last asked. Stored beside the snapshot."""
        ...

    def restore_archive(self, data: bytes) -> None:
        """Take up that part, after the snapshot of the same record."""
        ...


@runtime_checkable
class Repeatable(Protocol):
    """Logic that comes from a snapshot to the same state by taking the records since then once more.

    The shell then need not store a snapshot with each record: it stores the record, which is far smaller, and a snapshot
    now and then.
    """

    must_store: bool
    """Set by the logic with a record whose work hung on more than the state and the record, so that it cannot be repeated:
    the shell stores a snapshot with it, and sets this back."""

    def terms(self) -> bytes | None:
        """Return what besides the snapshot a repetition needs, or None where it is as when this was last asked."""
        ...

    def restore_terms(self, data: bytes) -> None:
        """Take up what `terms` last returned, before the snapshot."""
        ...

    def repeat(self, records: Sequence[Input]) -> None:
        """Take the records that came after the snapshot which has just been restored; their outputs are out already."""
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

    The shell holds what `take` returns in keyed state and hands it to `write` after `max_wait_ms` or `max_bytes`; what was
    held at a crash is handed over again, so writing must be repeatable.
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
