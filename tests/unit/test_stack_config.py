"""Configuration that the stack writes: supervisord, Kafka, Flink, `flink run`."""

from __future__ import annotations

import configparser
import os
import stat
from pathlib import Path

import pytest
import yaml

from schemas.topics import TOPICS
from sightflow.errors import CheckFailed
from sightflow.places import REPO_ROOT, Local
from sightflow.stack import flink_conf, influx, kafka, services
from sightflow.stack.influx import InfluxTarget
from sightflow.stack.jobs import JobSubmission, flink_run_command
from sightflow.stack.ports import HOST, Ports
from sightflow.stack.stack import Stack
from sightflow.stack.supervisor import Program, daemon_config, program_section, socket_path

PORTS = Ports(19092, 19093, 18086, 18081, 16123, 18554)


def _read(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return parser


# --- supervisord ---------------------------------------------------------------------------------------------------


def test_a_program_restarts_by_itself_and_takes_its_children_with_it(tmp_path: Path) -> None:
    section = _read(program_section(Program("tm", ("run", "me")), tmp_path / "tm.log"))["program:tm"]
    assert section["command"] == "run me"
    assert section["autorestart"] == "true"
    assert section["stopasgroup"] == section["killasgroup"] == "true"
    assert int(section["stdout_logfile_maxbytes"]) > 0, "logs are bounded"


def test_percent_signs_and_spaces_reach_the_program(tmp_path: Path) -> None:
    program = Program("p", ("/a b/run", "100%"), env={"X": "50%"})
    section = _read(program_section(program, tmp_path / "p.log"))["program:p"]
    assert section["command"] == '"/a b/run" 100%%'
    assert section["environment"] == 'X="50%%"'


def test_a_value_that_would_end_the_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line break"):
        program_section(Program("p", ("run",), env={"X": "a\nautostart=true"}), tmp_path / "p.log")


def test_the_daemon_listens_on_a_private_socket_only(tmp_path: Path) -> None:
    config = _read(daemon_config(tmp_path, tmp_path / "s.sock"))
    assert config["unix_http_server"]["chmod"] == "0700"
    assert "inet_http_server" not in config


def test_a_deep_run_folder_gets_a_short_socket() -> None:
    deep = Path("/" + "x" * 200)
    assert len(os.fsencode(socket_path(deep))) < 100
    assert socket_path(deep) == socket_path(deep)
    assert socket_path(deep) != socket_path(deep / "y")


# --- Kafka ---------------------------------------------------------------------------------------------------------


def test_the_broker_listens_on_loopback_and_keeps_old_records(tmp_path: Path) -> None:
    properties = kafka.server_properties(tmp_path, PORTS)
    assert f"PLAINTEXT://{HOST}:19092" in properties["listeners"]
    assert "0.0.0.0" not in "".join(properties.values())
    assert properties["log.retention.ms"] == "-1", "a bound by age deletes replayed recordings"
    assert properties["auto.create.topics.enable"] == "false"


def test_the_broker_takes_the_largest_message_of_any_topic(tmp_path: Path) -> None:
    limit = int(kafka.server_properties(tmp_path, PORTS)["message.max.bytes"])
    assert limit >= max(topic.max_message_bytes for topic in TOPICS)


# --- Flink ---------------------------------------------------------------------------------------------------------


def _options(tmp_path: Path, extra: dict[str, str] | None = None) -> dict[str, str]:
    folder = flink_conf.write_local(tmp_path, PORTS, Path("/venv/bin/python"), extra or {})
    return flink_conf.flatten(yaml.safe_load((folder / "config.yaml").read_text()))


def test_what_is_proved_locally_is_the_shared_file(tmp_path: Path) -> None:
    shared = flink_conf.flatten(yaml.safe_load((REPO_ROOT / "flink-conf" / "config.yaml").read_text()))
    local = _options(tmp_path)
    changed = {key for key in shared if local[key] != shared[key]}
    assert changed == {"execution.checkpointing.dir", "execution.checkpointing.savepoint-dir"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("python.execution-mode", "thread"),
        ("taskmanager.numberOfTaskSlots", "1"),
        ("classloader.parent-first-patterns.additional", "pemja."),
        ("pipeline.auto-generate-uids", "false"),
        ("state.backend.type", "rocksdb"),
        ("execution.checkpointing.incremental", "true"),
        ("rest.bind-address", HOST),
        ("rest.port", "18081"),
        ("python.executable", "/venv/bin/python"),
    ],
)
def test_flink_gets(key: str, value: str, tmp_path: Path) -> None:
    assert _options(tmp_path)[key] == value


def test_a_callers_options_win(tmp_path: Path) -> None:
    assert _options(tmp_path, {"execution.checkpointing.interval": "1s"})["execution.checkpointing.interval"] == "1s"


def test_every_key_of_the_shared_file_has_its_reason() -> None:
    lines = (REPO_ROOT / "flink-conf" / "config.yaml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    unexplained = [
        lines[n] for n in keys if not lines[n - 1].startswith("#") and not _same_group(lines[n - 1], lines[n])
    ]
    assert not unexplained


def _same_group(above: str, line: str) -> bool:
    """A comment speaks for the keys of one option group below it."""
    return above.split(".")[:1] == line.split(".")[:1]


# --- jobs ----------------------------------------------------------------------------------------------------------


def _command(submission: JobSubmission, tmp_path: Path) -> list[str]:
    site = services.Site(tmp_path, PORTS, Local(tmp_path / "local"), tmp_path / "conf")
    token = tmp_path / "token"
    target = InfluxTarget("http://influx:8086", "org", "bucket", token, tmp_path / "write-token", True)
    return flink_run_command(submission, site, target)


def test_the_suite_gets_the_addresses_of_the_stack_and_the_writing_token(tmp_path: Path) -> None:
    command = _command(
        JobSubmission("suite", (Path("/a.yaml"), Path("/b.yaml")), ("--start", "latest"), "file:/sp"), tmp_path
    )
    text = " ".join(command)
    assert "run --detached --fromSavepoint file:/sp --python" in text
    assert "--settings /a.yaml /b.yaml --bootstrap-servers 127.0.0.1:19092" in text
    assert f"--influx-token-file {tmp_path / 'write-token'}" in text
    assert text.endswith("--start latest")


def test_a_file_of_the_users_own_gets_its_own_arguments_only(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text("")
    command = _command(JobSubmission(script, extra_args=("--x",), flink_args=("-Da=b",)), tmp_path)
    assert command[1:] == ["run", "--detached", "-Da=b", "--python", str(script), "--x"]


def test_an_unknown_job_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed) as refused:
        _command(JobSubmission("swite"), tmp_path)
    assert "suite" in refused.value.remedy


# --- InfluxDB ------------------------------------------------------------------------------------------------------


def test_a_secret_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "token"
    influx.write_secret(path, "first")
    influx.write_secret(path, "second")
    assert path.read_text() == "second\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_server_of_the_users_own_is_used_and_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    settings = {"URL": "https://influx.example:443/", "ORG": "o", "BUCKET": "b", "TOKEN_FILE": str(token)}
    for name, value in settings.items():
        monkeypatch.setenv(f"INFLUXDB_V2_{name}", value)
    stack = Stack(tmp_path / "run", PORTS)
    assert stack.influx == InfluxTarget("https://influx.example:443", "o", "b", token, token, False)
    assert stack.default_services() == ["kafka", "flink-jobmanager", "flink-taskmanager"]


def test_half_a_server_of_the_users_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORG", "BUCKET", "TOKEN_FILE"):
        monkeypatch.delenv(f"INFLUXDB_V2_{name}", raising=False)
    monkeypatch.setenv("INFLUXDB_V2_URL", "http://x")
    with pytest.raises(CheckFailed, match="INFLUXDB_V2_ORG, INFLUXDB_V2_BUCKET, INFLUXDB_V2_TOKEN_FILE is not set"):
        influx.target(tmp_path, PORTS)
