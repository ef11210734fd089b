"""Log lines for people or for machines, without secrets."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

from edge_agent.redaction import redact


class PlainFormatter(logging.Formatter):
    """`12:00:01 INFO  camera path-east: streaming …`"""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Return the redacted line."""
        return redact(super().format(record), self._secrets)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, text, and error where there is one."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """Return the redacted line."""
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": redact(record.getMessage(), self._secrets),
        }
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info), self._secrets)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(kind: str, level: str, secrets: tuple[str, ...] = ()) -> None:
    """Log to stderr as `kind` ('plain' or 'json') from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(secrets) if kind == "json" else PlainFormatter(secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # librdkafka repeats itself at each attempt; the agent says it once, in its own words.
    logging.getLogger("edge_agent.librdkafka").setLevel(logging.CRITICAL + 1)
