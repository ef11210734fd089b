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


@pytest.mark.parametrize("name", ["operators/a.py", "operators/flink/java/a/A.java", "jobs/a.py", "schemas/a.py"])
def test_the_build_id_is_of_all_code_that_a_job_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "__file__", str(tmp_path / "jobs" / "options.py"))
    empty = options.build_id()
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text("1")
    first = options.build_id()
    path.write_text("2")
    assert len({empty, first, options.build_id()}) == 3
