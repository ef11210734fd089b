"""The command line of the jobs: what is wrong is said in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import options


def properties_of(path: Path) -> dict[str, str]:
    return options.parse("", settings=False, influx=False, argv=["--kafka-properties", str(path)]).kafka.properties


def test_properties_are_read(tmp_path: Path) -> None:
    path = tmp_path / "kafka.properties"
    path.write_text("# secrets\n\nsasl.password = a=b \nssl.endpoint.identification.algorithm=\n")
    assert properties_of(path) == {"sasl.password": "a=b", "ssl.endpoint.identification.algorithm": ""}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"a=b\ns3cret\n", "line 2: expected name=value"),
        (b"= s3cret\n", "line 1: expected name=value"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_properties_that_are_none_are_refused_in_a_sentence(
    raw: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kafka.properties"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(SystemExit) as ended:
        properties_of(path)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert said in told and str(path) in told and "s3cret" not in told
