"""The InfluxDB stage: `figures` to points, written before the next record is taken.

A record counts as processed only once its points are in the database, so a checkpoint never covers a point that is not.
After a crash the records since the last checkpoint are written again, to the same measurement, tags and times: the
database ends up as if nothing had happened. While InfluxDB is down the stage waits, and Flink holds the stream back.
"""

from __future__ import annotations

from operators.influx.line_protocol import BadPoint, line
from operators.influx.writer import InfluxTarget, Writer
from operators.stages.camera_stage import dead_letter
from operators.stages.stage import Input, KeyLogic, Output
from schemas import topics
from schemas.wire import BadMessage, Figures, decode


class InfluxStage:
    """Holds the target only; connects on the worker."""

    def __init__(self, target: InfluxTarget, patience_s: float = 90.0) -> None:
        self._target = target
        self._patience_s = patience_s

    def open(self) -> None:
        """Connect (lazily: a server that is down is waited for at the first write)."""
        self._writer = Writer(self._target, self._patience_s)

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()

    def logic(self, key: str) -> KeyLogic:
        """Return the logic of one camera's figures."""
        return InfluxLogic(key, self._writer)


class InfluxLogic:
    """Writes one key's batches. No state: what is not written has not been processed."""

    silence_ms = 0

    def __init__(self, key: str, writer: Writer) -> None:
        self._key = key
        self._writer = writer

    def on_record(self, record: Input) -> list[Output]:
        """Write one batch; what cannot be written goes to the dead letters."""
        out: list[Output] = []
        try:
            figures = decode(record.value or b"", Figures)
        except BadMessage as e:
            return [dead_letter(e.reason, e.detail, "influx", topics.FIGURES, self._key, record)]
        lines = []
        for point in figures.points:
            try:
                lines.append(line(point))
            except BadPoint as e:
                out.append(dead_letter("bad_point", str(e), "influx", topics.FIGURES, self._key, record))
        for bad in self._writer.write(lines):
            refused = record._replace(value=bad.line.encode())
            out.append(dead_letter("refused_by_influxdb", bad.reason, "influx", topics.FIGURES, self._key, refused))
        return out

    def on_silence(self) -> list[Output]:
        """Do nothing."""
        return []

    def snapshot(self) -> bytes | None:
        """Return None: there is no state."""
        return None

    def restore(self, data: bytes) -> None:
        """Do nothing."""
