"""docs/guarantees.md promises nothing that no test shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from sightflow.places import REPO_ROOT

TEXT = (REPO_ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def named_tests(text: str) -> list[tuple[str, str]]:
    """(file below tests/, test) in order of appearance."""
    return [(file, test) for file, test in NAMED.findall(text)]


def rows(text: str) -> Iterator[str]:
    """Yield the rows of all tables, without their heads."""
    lines = text.splitlines()
    for before, line in pairwise(lines):
        if line.startswith("|") and before.startswith("|") and not line.startswith("|---"):
            yield line


def exists(file: str, test: str) -> bool:
    """Whether a file below tests/ defines this test."""
    path = REPO_ROOT / "tests" / file
    if not path.is_file():
        return False
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == test for node in tree.body)


@pytest.mark.parametrize(("file", "test"), sorted(set(named_tests(TEXT))))
def test_every_test_that_is_named_exists(file: str, test: str) -> None:
    assert exists(file, test), f"docs/guarantees.md rests on tests/{file}::{test}, which is not there"


def test_every_guarantee_names_a_test() -> None:
    found = list(rows(TEXT))
    assert len(found) > 30
    # "the same": the test of the row above, or the like; then that row names one.
    assert [row for row in found if not NAMED.search(row)] == []


def test_a_test_that_is_gone_is_found() -> None:
    assert exists("unit/test_guarantees.py", "test_a_test_that_is_gone_is_found")
    assert not exists("unit/test_guarantees.py", "test_that_nobody_wrote")
    assert not exists("unit/test_nothing.py", "test_x")
    assert named_tests("| a | b | `unit/x.py::test_y` |") == [("unit/x.py", "test_y")]
    assert list(rows("| a |\n|---|\n| b |\n\ntext\n")) == ["| b |"]
