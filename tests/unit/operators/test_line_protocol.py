"""Line protocol against influxdb-client's own serialisation and a parser."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client import Point as ClientPoint

from operators.influx import line_protocol
from operators.influx.line_protocol import BadPoint, line
from schemas.wire import Point
from tests.unit.operators.scenes import bounded

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
TAG = TEXT.filter(lambda t: not t.endswith("\\"))
VALUE = st.one_of(
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12),
)
POINT = st.builds(
    Point,
    TAG.filter(lambda t: not t.startswith("#")),
    st.dictionaries(TAG, TAG, max_size=3),
    st.integers(0, 1 << 62),
    st.dictionaries(TAG, VALUE, min_size=1, max_size=4),
)


def split(text: str, separator: str) -> list[str]:
    """Split at separators that neither follow a backslash nor stand in quotes (where \\" and \\\\ are escapes)."""
    parts, part, quoted, i = [], "", False, 0
    while i < len(text):
        c = text[i]
        if quoted and c == "\\" and text[i + 1 : i + 2] in ('"', "\\"):
            part, i = part + text[i : i + 2], i + 2
            continue
        if c == '"' and (quoted or part.endswith("=")):
            quoted = not quoted
        if c == separator and not quoted and not part.endswith("\\"):
            parts.append(part)
            part = ""
        else:
            part += c
        i += 1
    return [*parts, part]


def unescape(text: str) -> str:
    for c in ",= ":
        text = text.replace("\\" + c, c)
    return text


@bounded(300)
@given(POINT)
def test_tags_and_numbers_are_written_as_influxdb_client_writes_them(point: Point) -> None:
    numbers = {k: v for k, v in point.fields.items() if not isinstance(v, (str, float))} or {"n": 1}
    mine = line(Point(point.measurement, point.tags, point.at_ns, numbers))
    theirs = ClientPoint(point.measurement).time(point.at_ns)
    for k, v in point.tags.items():
        theirs.tag(k, v)
    for k, v in numbers.items():
        theirs.field(k, v)
    assert mine == theirs.to_line_protocol()


@bounded(300)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30))
def test_text_fields_read_back_as_they_were(text: str) -> None:
    written = line(Point("m", {}, 1, {"f": text}))
    head, fields, at = split(written, " ")
    assert (head, at) == ("m", "1")
    assert fields[:3] == 'f="' and fields[-1] == '"'
    body, read, i = fields[3:-1], "", 0
    while i < len(body):
        i += body[i] == "\\"
        read, i = read + body[i], i + 1
    assert read == text


@bounded(200)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back_to_the_last_bit(number: float) -> None:
    assert float(line(Point("m", {}, 1, {"f": number})).split("=")[1].split(" ")[0]) == number


@pytest.mark.parametrize(
    "point",
    [
        Point("", {}, 1, {"f": 1}),
        Point("#m", {}, 1, {"f": 1}),
        Point("m", {}, 1, {}),
        Point("m", {"t": ""}, 1, {"f": 1}),
        Point("m", {"t": "a\\"}, 1, {"f": 1}),
        Point("m", {"t": "a\nb"}, 1, {"f": 1}),
        Point("m", {"t": "\ud800"}, 1, {"f": 1}),
        Point("m", {}, 1, {"f": "a\nm f=2i"}),
        Point("m", {}, 1, {"f": 1 << 63}),
        Point("m", {}, 1, {"f": math.nan}),
        Point("m", {}, 1, {"f": math.inf}),
        Point("m", {}, 1 << 63, {"f": 1}),
    ],
)
def test_what_the_protocol_cannot_carry_is_refused(point: Point) -> None:
    with pytest.raises(BadPoint):
        line(point)


ODD = st.text(st.sampled_from('a, =\\"#\n\x7f\ud800é\u2028'), max_size=3)


@bounded(300)
@given(st.builds(Point, ODD, st.dictionaries(ODD, ODD, max_size=3), st.just(1), st.dictionaries(ODD, ODD, max_size=3)))
def test_what_was_written_before_changes_no_line_and_no_refusal(point: Point) -> None:
    def outcome() -> str:
        try:
            return line(point)
        except BadPoint as e:
            return f"refused: {e}"

    after_others = outcome()
    line_protocol._written.clear()
    assert outcome() == after_others == outcome()


def test_equal_texts_and_numbers_are_written_by_what_they_are() -> None:
    text = 'a =,"b'
    point = Point(text, {text: text}, 1, {text: text, "t": True, "u": 1, "v": 1.0, "w": "1", "x": "True"})
    key = r'a\ \=\,"b'
    fields = rf'{key}="a =,\"b",t=true,u=1i,v=1.0,w="1",x="True"'
    for _ in range(2):
        assert line(point) == rf'a\ =\,"b,{key}={key} {fields} 1'


def test_a_text_that_may_be_a_field_is_still_refused_as_a_tag_and_named_by_its_place() -> None:
    assert line(Point("m", {}, 1, {"f": "a\\"})) == r'm f="a\\" 1'
    for _ in range(2):
        with pytest.raises(BadPoint, match=r"^tag t: must not end"):
            line(Point("m", {"t": "a\\"}, 1, {"f": 1}))
        with pytest.raises(BadPoint, match=r"^tag or field name: must not end"):
            line(Point("m", {"a\\": "t"}, 1, {"f": 1}))


def test_what_is_remembered_of_texts_is_bounded_in_number_and_length() -> None:
    for i in range(3 * line_protocol._KEPT_TEXTS):
        long = f"{i}" * line_protocol._KEPT_LENGTH
        assert line(Point("m", {f"k{i}": long}, 1, {"f": 1})) == f"m,k{i}={long} f=1i 1"
        assert len(line_protocol._written) <= line_protocol._KEPT_TEXTS
    assert max(map(len, line_protocol._written)) <= line_protocol._KEPT_LENGTH
