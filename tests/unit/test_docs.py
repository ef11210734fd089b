"""What the documents name is there: linked files, commands, options, modules, targets of make."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from sightflow.cli import COMMANDS
from sightflow.places import REPO_ROOT

PAGES = sorted(
    path
    for folder in (
        ".",
        "docs",
        "docs/adr",
        "operators/*",
        "edge_agent",
        "k8s",
        "bench",
        "dashboards",
        "models/*",
        "simulator",
    )
    for path in REPO_ROOT.glob(f"{folder}/*.md")
)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
COMMAND = re.compile(r"(?:^|[\s`/])sightflow ([a-z]+)(?=[\s`]|$)([^\n`#│|]*)")
NO_COMMAND = {"build"}
"""`sightflow build 1a2b…` is a line of a log."""
MODULE = re.compile(r"python3? -m ([\w.]+)")
TARGET = re.compile(r"(?:^|[\s`])make ([a-z]+)\b")


def name_of(page: Path) -> str:
    """Path from the root of the repository."""
    return page.relative_to(REPO_ROOT).as_posix()


def code_of(page: Path) -> str:
    """All that stands in code on a page: sentences may say anything."""
    return "\n".join(CODE.findall(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def headings_of(page: Path) -> set[str]:
    """The names by which a link leads to the headings of a page."""
    text = CODE.sub(lambda code: "" if code[0].startswith("```") else code[0], page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_into_a_page_lead_to_a_heading(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    inner = [(path, to) for path, to in links if "://" not in path and (not path or path.endswith(".md"))]
    assert [(path, to) for path, to in inner if to not in headings_of(page.parent / path if path else page)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(page: Path) -> None:
    unknown = []
    for command, rest in COMMAND.findall(code_of(page)):
        if command in NO_COMMAND:
            continue
        if command not in COMMANDS:
            unknown.append(f"sightflow {command}")
            continue
        source = _source_of(COMMANDS[command].module)
        own, _, _ = rest.partition(" -- ")
        unknown += [f"sightflow {command} {o}" for o in re.findall(r"--[a-z][a-z-]+", own) if f'"{o}"' not in source]
    assert unknown == []


def _source_of(module: str) -> str:
    """A command's module and those beside it that hold its arguments."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    found = Path(spec.origin)
    beside = found.parent / "arguments.py"
    return "\n".join(path.read_text(encoding="utf-8") for path in (found, beside) if path.exists())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules_that_are_to_be_run_exist(page: Path) -> None:
    named = set(MODULE.findall(code_of(page)))
    ours = {m for m in named if (REPO_ROOT / m.split(".")[0]).is_dir()}
    assert {m for m in ours if importlib.util.find_spec(m) is None} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_targets_of_make_exist(page: Path) -> None:
    makefile = (REPO_ROOT / "Makefile").read_text(encoding="utf-8")
    assert {t for t in TARGET.findall(code_of(page)) if f"\n{t}:" not in makefile} == set()


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len((REPO_ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_a_wrong_page_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[a](gone.md) `sightflow upp`\n```\nsightflow up --onlyy kafka\nmake demoo\n```\n")
    with pytest.raises(AssertionError, match=r"gone\.md"):
        test_links_lead_somewhere(page)
    with pytest.raises(AssertionError, match="sightflow upp"):
        test_commands_and_their_options_exist(page)
    page.write_text("`sightflow up --onlyy kafka` [a](gone.md)\n```\nmake demoo\n```\n")
    with pytest.raises(AssertionError, match="sightflow up --onlyy"):
        test_commands_and_their_options_exist(page)
    with pytest.raises(AssertionError, match="demoo"):
        test_targets_of_make_exist(page)
