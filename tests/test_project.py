"""What people who work on the project start: the make targets, the workflows that call them, a release."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import tellapart
from tools import release
from tools.constraints import ROOT
from tools.coverage_by_room import by_room
from tools.release import notes

yaml = pytest.importorskip("yaml")

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def made(text: str) -> set[str]:
    """The make targets that a script calls; words with an = are variables."""
    bare = re.sub(r'"[^"]*"', '""', text)
    calls = re.findall(r"^\s*(?:\S+=\S+ )?make ((?:[\w-]+(?:=\S+)? ?)+)", bare, re.MULTILINE)
    return {word for call in calls for word in call.split() if "=" not in word}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_make_targets_that_there_are(workflow: Path) -> None:
    called = {target for step in steps(workflow) for target in made(step.get("run", ""))}
    assert called
    assert called <= set(TARGETS)


def test_the_workflows_check_what_ci_checks() -> None:
    ours = made((ROOT / ".ci/run").read_text("utf-8")) | {"test"}
    theirs = {target for step in steps(ROOT / ".github/workflows/checks.yml") for target in made(step.get("run", ""))}
    assert {"lint", "types", "fuzz", "try-wheel", "try-lowest", "audit"} <= ours
    assert ours <= theirs


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_do_no_more_than_it_says(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text("utf-8"))["permissions"] == {"contents": "read"}
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_the_pythons_of_the_workflow_are_those_of_pyproject() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    jobs = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text("utf-8"))["jobs"]
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", text)
    assert jobs["tests"]["strategy"]["matrix"]["python"] == named


def test_the_version_stands_in_one_place() -> None:
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text("utf-8")
    for name in ("pyproject.toml", "README.md", "Dockerfile", "mkdocs.yml"):
        assert tellapart.__version__ not in (ROOT / name).read_text("utf-8").replace("\n", " ").split()


def test_the_notes_of_a_release_are_its_section_of_the_changelog() -> None:
    changelog = (
        "# Changelog\n\n## [Unreleased]\n\n- Later.\n\n"
        "## [0.2.0] - 2027-01-31\n\n### Added\n\n- More.\n\n## [0.1.0] - 2026-01-01\n\n- All.\n"
    )
    assert notes(changelog, "0.2.0") == "### Added\n\n- More.\n"
    assert notes(changelog, "0.1.0") == "- All.\n"
    with pytest.raises(ValueError, match=r"nothing under '## \[0\.3\.0\]"):
        notes(changelog, "0.3.0")
    with pytest.raises(ValueError, match="nothing under"):
        notes("## [0.3.0] - 2027-02-01\n\n## [0.2.0] - 2027-01-31\n\n- More.\n", "0.3.0")


@pytest.mark.parametrize(
    ("tag", "said"),
    [("v99.0.0", "one of the two is wrong"), (f"v{tellapart.__version__}", r"rename the section \[Unreleased\]")],
)
def test_a_release_that_is_not_ready_is_refused_before_anything_is_built(
    tag: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n- More.\n", "utf-8")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["release", tag])
    with pytest.raises(SystemExit, match=said):
        release.main()
    assert not (tmp_path / "dist").exists()


def test_coverage_is_summed_by_room_the_worst_first() -> None:
    files = {
        "src/tellapart/data/scan.py": (9, 10),
        "src/tellapart/data/sources/table.py": (9, 10),
        f"src{os.sep}tellapart{os.sep}task.py": (1, 2),
    }
    report = {
        "files": {
            name: {"summary": {"covered_lines": reached, "num_statements": lines}}
            for name, (reached, lines) in files.items()
        }
    }
    assert list(by_room(report).items()) == [("tellapart", (1, 2)), ("data", (18, 20))]
