"""The command line: every command explains itself, and problems come out as a sentence with a remedy."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sightflow import cli


@pytest.mark.parametrize("name", [name for name in sorted(cli.COMMANDS) if name not in ("demo", "report")])
def test_every_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_its_module(name: str) -> None:
    assert importlib.util.find_spec(cli.COMMANDS[name].module) is not None


def test_without_a_command_the_usage_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([])
    assert left.value.code == 2
    assert "usage: sightflow <command>" in capsys.readouterr().err


def test_status_of_nothing_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--run-dir", str(tmp_path)]) == 3
    assert "sightflow up" in capsys.readouterr().out


def test_a_problem_is_a_sentence_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["submit", "--run-dir", str(tmp_path)]) == 1
    text = capsys.readouterr().err
    assert f"sightflow submit: no stack runs in {tmp_path}" in text
    assert "What to do: start one: sightflow up" in text
    assert "Traceback" not in text


def test_down_without_a_stack_is_fine(tmp_path: Path) -> None:
    assert cli.main(["down", "--run-dir", str(tmp_path)]) == 0


def test_a_bad_port_in_the_environment_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sightflow.cli", "status", "--run-dir", str(tmp_path)],
        env={**os.environ, "SIGHTFLOW_RTSP_PORT": "rtsp"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "SIGHTFLOW_RTSP_PORT must be a port from 1 to 65535" in done.stderr


def test_submit_hands_words_after_the_dashes_to_the_job() -> None:
    from sightflow.commands.submit import _split

    assert _split(["suite", "--", "--start", "latest"]) == (["suite"], ["--start", "latest"])
    assert _split(["suite"]) == (["suite"], [])
