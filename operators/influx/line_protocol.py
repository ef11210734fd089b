"""InfluxDB line protocol (docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/), strictly.

Our own, because influxdb-client drops empty tags and NaN fields in silence and writes integers that the server refuses.
"""

from __future__ import annotations

import math
import re

from schemas.wire import Point

_INT64 = 1 << 63
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # and lone surrogates, which UTF-8 cannot carry
_KEY = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_STRING = str.maketrans({'"': '\\"', "\\": "\\\\"})
_KEPT_TEXTS, _KEPT_LENGTH = 4096, 256
"""How many texts are remembered as they are written, and the characters of the longest: a few MB, whatever comes."""
_written: dict[str, str] = {}  # of names and values of tags and names of fields, which come again and again


class BadPoint(ValueError):
    """A point that line protocol cannot carry."""


def line(point: Point) -> str:
    """Return one line without its newline; tags and fields sorted, time in ns. Raises BadPoint."""
    if not point.measurement or point.measurement[0] == "#":
        raise BadPoint(f"expected a measurement that is not empty and no comment, got {point.measurement!r}")
    if not point.fields:
        raise BadPoint(f"{point.measurement}: expected at least one field")
    if not -_INT64 < point.at_ns < _INT64:
        raise BadPoint(f"{point.measurement}: time {point.at_ns} ns does not fit int64")
    head = _text(point.measurement, "measurement").replace(",", "\\,").replace(" ", "\\ ")
    known = _written.get
    tags = "".join([f",{known(k) or _tag(k)}={known(v) or _tag(v, k)}" for k, v in sorted(point.tags.items())])
    fields = ",".join([f"{known(k) or _tag(k)}={_value(k, v)}" for k, v in sorted(point.fields.items())])
    return f"{head}{tags} {fields} {point.at_ns}"


def _text(text: str, what: str) -> str:
    if not text.isprintable() and _CONTROL.search(text):  # the first is told at once, and true of most
        raise BadPoint(f"{what}: expected no control characters and no lone surrogates, got {text!r}")
    return text


def _tag(text: str, name: str = "") -> str:
    what = f"tag {name}" if name else "tag or field name"
    if not text:
        raise BadPoint(f"{what}: expected some text, got none (an empty tag would be another series)")
    if text[-1] == "\\":
        raise BadPoint(f"{what}: must not end in a backslash, got {text!r}")
    written = _text(text, what).translate(_KEY)
    if len(text) <= _KEPT_LENGTH:
        if len(_written) >= _KEPT_TEXTS:
            _written.clear()
        _written[text] = written
    return written


def _value(name: str, value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise BadPoint(f"field {name}: {value} does not fit int64")
        return f"{value}i"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadPoint(f"field {name}: expected a finite number, got {value}")
        return repr(value)
    return '"' + _text(value, f"field {name}").translate(_STRING) + '"'
