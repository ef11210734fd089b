"""One run of real jobs on the stack: topics and bucket of its own, records in, silence awaited, results read back."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import psutil
from confluent_kafka.admin import AdminClient

from schemas import topics
from schemas.settings import SiteSettings
from sightflow.stack import TASKMANAGER, Stack
from simulator.layout import settings_yaml
from simulator.producer import send_records
from simulator.records import Record
from tests.integration.outcome import Outcome, Points, end_offset, read_points, read_topic

OUTPUTS = (topics.TRACKS, topics.EVENTS, topics.ALERTS, topics.DEAD_LETTERS)
CHECKPOINT_INTERVAL_S = 2
WAIT_S = 150.0
"""For broken programs, not a measure."""
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Feed(threading.Thread):
    """Sends records in the background, evenly, at a pace that may change; `join_or_raise` waits for their acknowledgement.

    A test holds the pace back until it has done what has to happen in mid-run, and hurries then: no machine is too slow.
    """

    def __init__(self, records: Sequence[Record], bootstrap: str, whole_s: float) -> None:
        super().__init__(name="feed", daemon=True)
        self._records, self._servers, self._interval_s = records, bootstrap, whole_s / len(records)
        self._error: BaseException | None = None

    def pace(self, whole_s: float) -> None:
        """From now on, send as if all records were to take `whole_s` seconds."""
        self._interval_s = whole_s / len(self._records)

    def hurry(self) -> None:
        """Send the rest as fast as Kafka takes it."""
        self._interval_s = 0.0

    def run(self) -> None:
        """Send."""
        try:
            send_records(self._paced(), self._servers, progress=None)
        except BaseException as error:  # noqa: BLE001
            self._error = error

    def _paced(self) -> Iterator[Record]:
        due_s = time.monotonic()
        for record in self._records:
            while self._interval_s and (left_s := due_s - time.monotonic()) > 0:
                time.sleep(min(left_s, 0.05))
            yield record
            due_s = max(due_s + self._interval_s, time.monotonic() - 1.0)  # after a stall: no burst of what was missed

    def join_or_raise(self) -> None:
        """Wait until everything is acknowledged. Raises what sending raised."""
        self.join(WAIT_S)
        assert not self.is_alive(), f"feeding did not end within {WAIT_S} s"
        if self._error is not None:
            raise self._error


@dataclass
class Pipeline:
    """A context manager: leaving it ends its jobs."""

    stack: Stack
    folder: Path
    bucket: str
    jobs: list[str] = field(default_factory=list)

    @classmethod
    def fresh(cls, stack: Stack, folder: Path) -> Pipeline:
        """Empty the topics, make a new bucket."""
        empty_topics(stack)
        bucket = f"test-{uuid4().hex[:12]}"
        made = cls(stack, folder, bucket)
        made._make_bucket()
        return made

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self.jobs:
            if self.stack.job_state(job) not in ("FINISHED", "CANCELED", "FAILED"):
                self.stack.cancel(job)

    # ---- in -------------------------------------------------------------------------------------------------------

    def submit(
        self,
        job: str,
        sites: Sequence[SiteSettings] = (),
        extra_args: Sequence[str] = (),
        savepoint: str | None = None,
        checkpoint_interval_s: int = CHECKPOINT_INTERVAL_S,
        flink_args: Sequence[str] = (),
    ) -> str:
        """Submit a job of ours and wait until it runs. The last word on an option counts, so ours override the stack's."""
        args = ["--checkpoint-interval-s", str(checkpoint_interval_s), *extra_args]
        if job != "camera_stage":
            # The stack's write token is for its own bucket only.
            args += ["--influx-bucket", self.bucket, "--influx-token-file", str(self.stack.influx.token_file)]
        job_id = self.stack.submit(
            job,
            self.settings_files(sites),
            args,
            savepoint,
            flink_args=flink_args,
            fresh_taskmanagers=False,
            timeout_s=WAIT_S,
        )
        self.jobs.append(job_id)
        return job_id

    def settings_files(self, sites: Sequence[SiteSettings]) -> list[Path]:
        """Write each site's settings to a file."""
        paths = []
        for site in sites:
            path = self.folder / f"{site.site}.yaml"
            path.write_text(settings_yaml(site), encoding="utf-8")
            paths.append(path)
        return paths

    def feed(self, records: Iterable[Record]) -> None:
        """Send records as fast as Kafka takes them."""
        send_records(records, self.stack.kafka_bootstrap, progress=None)

    def start_feed(self, records: Sequence[Record], whole_s: float) -> Feed:
        """Send records evenly, in the background; at this pace all of them take `whole_s` seconds."""
        feed = Feed(records, self.stack.kafka_bootstrap, whole_s)
        feed.start()
        return feed

    # ---- while it runs --------------------------------------------------------------------------------------------

    def await_silence(self, cameras: Iterable[str]) -> None:
        """Wait until the job has noticed that each camera sends no more: then all that was sent has come out."""
        wanted = set(cameras)
        self.until(f"the end of {sorted(wanted)}", lambda: wanted <= self._silent_cameras())

    def _silent_cameras(self) -> set[str]:
        lost = [k for k in self.points() if k.measurement == "alert" and k.tag("rule") == "source-lost"]
        opened = {k.tag("camera") for k in lost if k.tag("transition") == "open"}
        return opened - {k.tag("camera") for k in lost if k.tag("transition") == "close"}

    def until(self, what: str, probe: Callable[[], object], within_s: float = WAIT_S, poll_s: float = 0.2) -> None:
        """Wait until `probe` is true; fail with what the jobs say of themselves."""
        deadline_s = time.monotonic() + within_s
        while not probe():
            assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}\n{self.diagnosis()}"
            time.sleep(poll_s)

    def until_running(self, job_id: str) -> None:
        """Wait until every task of a job runs."""
        self.until(f"job {job_id} runs", lambda: self.stack.flink.all_tasks_running(job_id), poll_s=0.05)

    def restarts(self, job_id: str) -> int:
        """Return how often Flink has restarted the job."""
        return self.stack.num_restarts(job_id)

    def output_count(self, topic: str) -> int:
        """Return how many records a topic holds, open transactions and their markers included."""
        return end_offset(self.stack.kafka_bootstrap, topic)

    def checkpoints(self, job_id: str) -> int:
        """Return how many checkpoints of a job were completed."""
        return self.stack.flink.completed_checkpoints(job_id)

    def await_recovery(self, job_id: str, since_ms: int) -> None:
        """Wait until a job has noticed a failure later than `since_ms` (Unix time) and all its tasks run again."""

        def recovered() -> bool:
            job = self.stack.flink.job(job_id)
            noticed = max(job["timestamps"][state] for state in ("FAILING", "RESTARTING"))
            return noticed >= since_ms and self.stack.flink.all_tasks_running(job_id)

        self.until(f"job {job_id} runs again", recovered, poll_s=0.05)

    def points(self) -> Points:
        """Return what the bucket holds now."""
        return read_points(self.stack.influx, self.bucket)

    def python_inside_taskmanager(self) -> tuple[list[str], list[str]]:
        """Return command lines of Python processes under the TaskManager, and the Python libraries inside of it."""
        process = psutil.Process(self.stack.pid(TASKMANAGER))
        family = [process, *process.children(recursive=True)]
        commands = [
            " ".join(p.cmdline()) for p in family if "python" in p.name() or "pyflink" in " ".join(p.cmdline()[:2])
        ]
        mapped = {m.path for p in family for m in p.memory_maps()}
        return commands, sorted(path for path in mapped if "libpython" in path or "pemja" in path)

    # ---- out ------------------------------------------------------------------------------------------------------

    def stop(self) -> list[str]:
        """Stop every running job with a savepoint, which commits its transactions; return the savepoints."""
        running = [job for job in self.jobs if self.stack.job_state(job) == "RUNNING"]
        return [self.stack.stop_with_savepoint(job, WAIT_S) for job in running]

    def collect(self, extra_topics: Sequence[str] = ()) -> Outcome:
        """Read everything back."""
        bootstrap = self.stack.kafka_bootstrap
        return Outcome({t: read_topic(bootstrap, t) for t in (*OUTPUTS, *extra_topics)}, self.points())

    def diagnosis(self) -> str:
        """Return states, restarts and last failures of the jobs, and the end of the TaskManager's log."""
        lines = []
        for job in self.jobs:
            lines.append(f"job {job}: {self.stack.job_state(job)}, {self.restarts(job)} restarts")
            lines += self.stack.flink.root_exception(job).splitlines()[:12]
        try:
            lines.append(
                f"output records: { {t: self.output_count(t) for t in OUTPUTS} }, points: {len(self.points())}"
            )
        except OSError as error:
            lines.append(f"outputs cannot be read: {error}")
        return "\n".join([*lines, "TaskManager:", self.stack.supervisor.log_tail(TASKMANAGER)])

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _make_bucket(self) -> None:
        org = self._influx("GET", f"/api/v2/orgs?org={self.stack.influx.org}")["orgs"][0]["id"]
        self._influx("POST", "/api/v2/buckets", {"orgID": org, "name": self.bucket, "retentionRules": []})

    def _influx(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        target = self.stack.influx
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Token {target.token()}", "Content-Type": "application/json"}
        request = urllib.request.Request(target.url + path, data=data, headers=headers, method=method)
        with _DIRECT.open(request, timeout=10) as answer:
            return dict(json.load(answer))


def empty_topics(stack: Stack) -> None:
    """Delete and create every topic, so that offsets start at 0 and no open transaction is left."""
    admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
    names = [t.name for t in topics.TOPICS]
    for future in admin.delete_topics([n for n in names if n in admin.list_topics(timeout=30).topics]).values():
        future.result(timeout=30)
    deadline_s = time.monotonic() + WAIT_S
    while True:
        if not set(names) & set(admin.list_topics(timeout=30).topics):
            break
        assert time.monotonic() < deadline_s, "topics were not deleted"
        time.sleep(0.05)
    stack.create_topics()
