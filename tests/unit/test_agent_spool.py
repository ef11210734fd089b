"""The spool keeps what it took, in order, whatever happens to the process, the file's tail and the disk."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_agent.spool import MIN_SEGMENT_BYTES, Record, RecordTooLarge, Spool, SpoolError, SpoolFull

SEGMENT_BYTES = 4096


def make_record(number: int, size: int = 100) -> Record:
    """A record that can be told from all others, of about `size` bytes."""
    value = f"{number}:".encode().ljust(size, b"x")
    return Record("detections", f"cam-{number % 3}".encode(), 1_700_000_000_000 + number, value)


def read_all(spool: Spool, position: int) -> list[tuple[int, Record]]:
    """Everything stored from `position` on."""
    found: list[tuple[int, Record]] = []
    while True:
        records, positions, after = spool.read(position, 7)
        if not records:
            return found
        found += zip(positions, records, strict=True)
        assert after == positions[-1] + 1
        position = after


def crash(spool: Spool) -> None:
    """What kill -9 leaves: files as they are, nothing said goodbye to."""
    for segment in [*spool._segments, *([spool._spare] if spool._spare else [])]:
        os.close(segment.fd)
    os.close(spool._ack_fd)
    os.close(spool._lock_fd)
    spool._closed = True


class SpoolMachine(RuleBasedStateMachine):
    """The spool and a list get the same actions."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.appended: dict[int, Record] = {}
        self.acked = 0  # told to the spool
        self.kept_from = 0  # everything from here to the end must be there
        self.number = 0
        self.spool = self.open()

    def open(self) -> Spool:
        return Spool(self.path, 100 * SEGMENT_BYTES, SEGMENT_BYTES)

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close()
            self.folder.cleanup()

    @rule(size=st.integers(0, 1500), count=st.integers(1, 12))
    def append(self, size: int, count: int) -> None:
        for _ in range(count):
            record = make_record(self.number, size)
            self.number += 1
            self.appended[self.spool.append(record)] = record

    @rule(ratio=st.floats(0, 1))
    def acknowledge(self, ratio: float) -> None:
        end = self.spool.end
        self.acked = max(self.acked, self.acked + int((end - self.acked) * ratio))
        self.spool.acknowledge(self.acked)

    @rule()
    def sync(self) -> None:
        self.spool.sync()

    @rule()
    def close_and_open(self) -> None:
        self.spool.close()
        self.spool = self.open()
        assert self.spool.acked == self.acked

    @rule()
    def kill_and_open(self) -> None:
        crash(self.spool)
        self.spool = self.open()
        assert self.spool.acked == self.acked

    @rule(cut=st.integers(1, 300), seed=st.integers(0, 1 << 30), garble=st.booleans())
    def lose_power(self, cut: int, seed: int, garble: bool) -> None:
        """The last `cut` bytes of the newest segment are zeros or garbage."""
        newest = self.spool._segments[-1]
        start = max(16, newest.end_byte - cut)
        path, end_byte = newest.path, newest.end_byte
        crash(self.spool)
        noise = random.Random(seed).randbytes(end_byte - start)
        with path.open("r+b") as f:
            f.seek(start)
            f.write(noise if garble else bytes(end_byte - start))
        self.spool = self.open()
        assert self.spool.acked == self.acked
        found = dict(read_all(self.spool, self.acked))
        # A prefix of what was there, nothing else.
        assert all(self.appended[position] == record for position, record in found.items())
        assert sorted(found) == list(range(self.acked, self.acked + len(found)))
        for position in [p for p in self.appended if p >= self.spool.end]:
            del self.appended[position]

    @invariant()
    def everything_unacknowledged_is_there_in_order(self) -> None:
        if not hasattr(self, "spool"):
            return
        found = read_all(self.spool, self.acked)
        expected = [(p, r) for p, r in sorted(self.appended.items()) if p >= self.acked]
        assert found == expected
        assert self.spool.depth_count == len(expected)


TestSpoolMachine: Any = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_at_the_bound_the_oldest_go_and_the_positions_show_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 4 * SEGMENT_BYTES, SEGMENT_BYTES)
    for number in range(500):
        spool.append(make_record(number))
    found = read_all(spool, 0)
    assert [p for p, _ in found] == list(range(found[0][0], 500))
    assert all(record == make_record(p) for p, record in found)
    assert 0 < found[0][0] < 500
    assert sum(f.stat().st_size for f in tmp_path.glob("*.log")) <= 4 * SEGMENT_BYTES
    spool.close()


def test_restarts_do_not_use_up_the_bound(tmp_path: Path) -> None:
    for number in range(40):
        spool = Spool(tmp_path, 3 * SEGMENT_BYTES, SEGMENT_BYTES)
        spool.append(make_record(number))
        crash(spool)
    spool = Spool(tmp_path, 3 * SEGMENT_BYTES, SEGMENT_BYTES)
    assert [record for _, record in read_all(spool, 0)] == [make_record(n) for n in range(40)]
    spool.close()


def test_what_a_reused_segment_holds_of_its_former_life_is_no_record(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 2 * SEGMENT_BYTES, SEGMENT_BYTES)
    for number in range(200):
        spool.append(make_record(number))
        spool.acknowledge(number)
    crash(spool)
    spool = Spool(tmp_path, 2 * SEGMENT_BYTES, SEGMENT_BYTES)
    assert spool.end == 200
    assert all(record == make_record(p) for p, record in read_all(spool, 0))
    spool.close()


def test_a_damaged_record_in_the_middle_costs_its_segment_only(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100 * SEGMENT_BYTES, SEGMENT_BYTES)
    for number in range(100):
        spool.append(make_record(number))
    second = spool._segments[1]
    os.pwrite(second.fd, b"\xff" * 40, 16 + 300)
    found = read_all(spool, 0)
    lost = set(range(100)) - {p for p, _ in found}
    assert lost and lost <= set(range(second.base, second.end))
    assert all(record == make_record(p) for p, record in found)
    spool.close()


def test_a_record_larger_than_a_segment_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 2 * SEGMENT_BYTES, SEGMENT_BYTES)
    with pytest.raises(RecordTooLarge, match="at most"):
        spool.append(make_record(0, SEGMENT_BYTES))
    assert spool.append(make_record(1)) == 0
    spool.close()


def test_two_agents_cannot_share_a_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    with pytest.raises(SpoolError, match="another agent"):
        Spool(tmp_path, 1 << 20)
    spool.close()
    Spool(tmp_path, 1 << 20).close()


def test_kill_9_in_mid_write_loses_nothing_that_was_taken(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from edge_agent.spool import Record, Spool
        spool = Spool(Path(sys.argv[1]), 64 << 20)
        number = spool.end
        while True:
            spool.append(Record("t", b"k", number, str(number).encode() * 20))
            sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
            number += 1
        """
    )
    taken = -1
    for attempt in range(8):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(50 + 37 * attempt):
            taken = int(process.stdout.readline())
        process.kill()
        said = process.stdout.read().split("\n")[:-1]  # written before the kill; the last may be torn
        taken = int(said[-1]) if said else taken
        process.stdout.close()
        process.wait()
        spool = Spool(tmp_path, 64 << 20)
        found = read_all(spool, 0)
        assert [p for p, _ in found] == list(range(len(found)))
        assert all(record.value == str(p).encode() * 20 for p, record in found)
        assert len(found) > taken
        spool.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A real file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no right to mount a small file system here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path: Path) -> None:
    """Take all room that is left."""
    with path.open("wb", buffering=0) as f:
        try:
            while f.write(b"\0" * 4096) == 4096:
                pass
        except OSError:
            pass


def test_a_disk_filled_by_others_does_not_stop_a_healthy_site(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool", 1 << 30, MIN_SEGMENT_BYTES)
    fill(small_disk / "other")
    for number in range(5000):  # some four times what the two kept segments hold
        assert spool.append(make_record(number)) == number
        assert read_all(spool, number) == [(number, make_record(number))]
        spool.acknowledge(number + 1)
        spool.sync() if number % 500 == 0 else None
    spool.close()


def test_with_disk_full_and_kafka_away_the_newest_stay_and_room_is_used_when_it_returns(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool", 1 << 30, MIN_SEGMENT_BYTES)
    fill(small_disk / "other")
    for number in range(5000):
        spool.append(make_record(number))
    found = read_all(spool, 0)
    assert found[-1] == (4999, make_record(4999)) and found[0][0] > 0
    (small_disk / "other").unlink()
    spool.sync()
    first = found[0][0]
    for number in range(5000, 5900):
        spool.append(make_record(number))
    assert read_all(spool, 0)[0][0] == first  # nothing more was dropped
    spool.close()


def test_a_disk_without_any_room_refuses_records_and_recovers(small_disk: Path) -> None:
    fill(small_disk / "other")
    spool = Spool(small_disk / "spool", 1 << 30, MIN_SEGMENT_BYTES)
    with pytest.raises(SpoolFull, match="no room"):
        spool.append(make_record(0))
    (small_disk / "other").unlink()
    assert spool.append(make_record(0)) == 0
    assert read_all(spool, 0) == [(0, make_record(0))]
    spool.close()
