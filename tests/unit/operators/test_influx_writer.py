"""The writer against a scripted server on a real socket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from operators.influx.writer import InfluxTarget, Unavailable, Writer

Answer = Callable[[list[str]], tuple[int, dict[str, str]]]


class Server(HTTPServer):
    """Answers writes by script: each answer once, then 204. Status 0 cuts the connection after taking the lines."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[tuple[int, dict[str, str]]] = []
        self.is_bad: Callable[[str], bool] = lambda line: False
        self.stored: set[str] = set()
        self.request_count = 0


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        lines = self.rfile.read(int(self.headers["Content-Length"])).decode().split("\n")
        self.server.request_count += 1
        status, headers = self.server.script.pop(0) if self.server.script else (204, {})
        if status in (0, 204) and any(map(self.server.is_bad, lines)):
            status = 400
        if status in (0, 204):
            self.server.stored.update(lines)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Clock:
    """Time that passes only in sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(server: Server, clock: Clock, tmp_path: Path) -> Iterator[Writer]:
    token = tmp_path / "token"
    token.write_text("secret\n")
    target = InfluxTarget(f"http://127.0.0.1:{server.server_port}", "o", "b", str(token))
    writer = Writer(target, patience_s=20.0, sleep=clock.sleep, clock=lambda: clock.now_s, jitter=lambda: 1.0)
    yield writer
    writer.close()


LINES = [f"m f={i}i {i}" for i in range(100)]


def test_what_the_server_takes_is_written_with_one_request(server: Server, writer: Writer) -> None:
    assert writer.write(LINES) == []
    assert server.stored == set(LINES)
    assert server.request_count == 1


def test_one_bad_line_among_a_hundred_is_found_and_the_rest_is_written(server: Server, writer: Writer) -> None:
    server.is_bad = lambda line: line == LINES[37]
    bad = writer.write(LINES)
    assert [b.line for b in bad] == [LINES[37]]
    assert server.stored == set(LINES) - {LINES[37]}
    assert server.request_count <= 2 * 7 + 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_line_comes_back_and_is_not_tried_again(server: Server, writer: Writer, status: int) -> None:
    server.script = [(status, {})]
    assert [b.line for b in writer.write(LINES[:1])] == LINES[:1]
    assert server.request_count == 1


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_what_may_pass_is_waited_for(server: Server, writer: Writer, clock: Clock, status: int) -> None:
    server.script = [(status, {})] * 3
    assert writer.write(LINES) == []
    assert server.stored == set(LINES)
    assert clock.slept_s == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(("asked", "slept_s"), [("7", 7.0), ("-5", 0.1), ("nan", 0.1), ("Wed, 21 Oct 2015", 0.1)])
def test_retry_after_is_obeyed_where_it_is_a_time(
    server: Server, writer: Writer, clock: Clock, asked: str, slept_s: float
) -> None:
    server.script = [(429, {"Retry-After": asked})]
    assert writer.write(LINES) == []
    assert clock.slept_s == [slept_s]


def test_a_connection_cut_before_the_answer_is_written_again(server: Server, writer: Writer) -> None:
    server.script = [(0, {})]
    assert writer.write(LINES) == []
    assert server.stored == set(LINES)
    assert server.request_count == 2


def test_down_for_longer_than_the_patience_raises_and_pauses_stay_bounded(
    server: Server, writer: Writer, clock: Clock
) -> None:
    server.script = [(503, {})] * 1000
    with pytest.raises(Unavailable, match="20 s"):
        writer.write(LINES)
    assert clock.now_s <= 20.0
    assert max(clock.slept_s) <= 5.0
    assert server.request_count < 15
