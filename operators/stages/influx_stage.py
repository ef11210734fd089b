"""The InfluxDB stage: `figures` to points, many cameras' in one request.

Lines that are not written when a checkpoint is taken go into Flink's state, so a checkpoint never covers a point that is
neither in the database nor in the state. After a crash the lines since the last checkpoint are written again, to the same
measurement, tags and times: the database ends up as if nothing had happened.
While InfluxDB is down the stage waits, and Flink holds the stream back.
"""

from __future__ import annotations

import msgspec

from operators.influx.line_protocol import BadPoint, line
from operators.influx.writer import InfluxTarget, Writer
from operators.stages.camera_stage import dead_letter
from operators.stages.stage import Input, Output
from schemas import topics
from schemas.wire import BadMessage, Figures, decode


class _Held(msgspec.Struct, array_like=True):
    """Lines of one record, and where that came from."""

    key: str
    partition: int
    offset: int
    time_ms: int
    lines: list[str]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Held)


class InfluxStage:
    """A `BatchStage`. Holds the target only; connects on the worker."""

    max_wait_ms = 500
    max_bytes = 1 << 20  # about 5,000 lines, the size that InfluxDB's makers advise

    def __init__(self, target: InfluxTarget, patience_s: float = 90.0) -> None:
        self._target = target
        self._patience_s = patience_s

    def open(self) -> None:
        """Connect (lazily: a server that is down is waited for at the first write)."""
        self._writer = Writer(self._target, self._patience_s)

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()

    def take(self, key: str, record: Input) -> tuple[bytes | None, list[Output]]:
        """Make lines of one batch of points; a point that makes none goes to the dead letters."""
        try:
            figures = decode(record.value or b"", Figures)
        except BadMessage as e:
            return None, [dead_letter(e.reason, e.detail, "influx", topics.FIGURES, key, record)]
        lines, out = [], []
        for point in figures.points:
            try:
                lines.append(line(point))
            except BadPoint as e:
                out.append(dead_letter("bad_point", str(e), "influx", topics.FIGURES, key, record))
        if not lines:
            return None, out
        return _encoder.encode(_Held(key, record.partition, record.offset, record.time_ms, lines)), out

    def write(self, held: list[bytes]) -> dict[int, list[Output]]:
        """Write what was held; a line that the server refuses goes to the dead letters, once for its last record."""
        batches = [_decoder.decode(piece) for piece in held]
        bad = self._writer.write([line for batch in batches for line in batch.lines])
        origin = {line: i for i, batch in enumerate(batches) for line in batch.lines} if bad else {}
        out: dict[int, list[Output]] = {}
        for refused in bad:
            i = origin[refused.line]
            b = batches[i]
            record = Input(refused.line.encode(), b.partition, b.offset, b.time_ms)
            letter = dead_letter("refused_by_influxdb", refused.reason, "influx", topics.FIGURES, b.key, record)
            out.setdefault(i, []).append(letter)
        return out
