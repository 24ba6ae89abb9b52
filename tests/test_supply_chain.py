"""What is installed with tellapart: bounds that were tried, constraints that fit them, a bill of the wheel's needs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tellapart import __version__
from tests.conftest import SHARED
from tools.constraints import FILES, OLDEST_PYTHON, ROOT, Constraints
from tools.extras import NOT_HERE, PROOFS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOWEST, NEWEST = FILES
PYTHONS = ("3.11", "3.12", "3.13")


def direct(file: Constraints) -> list[Requirement]:
    """What pyproject.toml itself asks for, of what the file is made for; tellapart's own extras resolved."""
    left, found, seen = [*PROJECT["dependencies"]], [], set()
    extras = list(file.extras)
    while extras:
        extra = extras.pop()
        if extra not in seen:
            seen.add(extra)
            left += PROJECT["optional-dependencies"][extra]
            for line in PROJECT["optional-dependencies"][extra]:
                need = Requirement(line)
                extras += need.extras if need.name == "tellapart" else ()
    for line in left:
        need = Requirement(line)
        if need.name != "tellapart":
            found.append(need)
    return found


def pinned(file: Constraints, python: str) -> dict[str, Version]:
    """The one version of each package for a Python on Linux."""
    where = {"python_version": python, "python_full_version": f"{python}.5", "sys_platform": "linux"}
    found: dict[str, Version] = {}
    for line in file.path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate(where):
                (pin,) = need.specifier
                assert pin.operator == "=="
                assert canonicalize_name(need.name) not in found
                found[canonicalize_name(need.name)] = Version(pin.version)
    return found


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_constraints_hold_a_version_of_each_package_that_pyproject_lets_in(file: Constraints, python: str) -> None:
    """Else `make constraints` was forgotten."""
    versions = pinned(file, python)
    for need in direct(file):
        name = canonicalize_name(need.name)
        assert name in versions, f"{name} is not in {file.name}: make constraints"
        assert versions[name] in need.specifier, f"{name} {versions[name]} is not {need.specifier}: make constraints"


def test_the_lower_bounds_are_the_versions_that_are_tried() -> None:
    versions = pinned(LOWEST, OLDEST_PYTHON)
    for need in direct(LOWEST):
        (bound,) = (each for each in need.specifier if each.operator == ">=")
        assert versions[canonicalize_name(need.name)] == Version(bound.version), f"{need}: what is tried is another"


def test_every_package_that_is_asked_for_has_a_lower_bound() -> None:
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    without = [line for line in lines if not line.startswith("tellapart[") and ">=" not in line]
    assert without == []


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("jinja2", "3.1.5"), ("keras", "3.13.1"), ("onnx", "1.20.1"), ("opencv-python-headless", "4.11.0.86"),
        ("pillow", "12.3.0"), ("pillow-heif", "1.2.1"), ("python-multipart", "0.0.30"), ("starlette", "1.2.1"),
    ],
)  # fmt: skip
def test_no_version_with_a_hole_that_is_known_is_let_in(name: str, version: str) -> None:
    """The last versions with one, as far as the comments of pyproject.toml name them."""
    needs = [need for need in direct(NEWEST) if canonicalize_name(need.name) == name]
    assert needs
    assert not any(Version(version) in need.specifier for need in needs)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_constraints_name_no_registry_and_no_path(file: Constraints) -> None:
    text = file.path.read_text("utf-8")
    assert re.findall(r"://|^-|^ *--|/[a-z]+/| @ ", text, re.MULTILINE) == []


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("cyclonedx_py")
    out = tmp_path_factory.mktemp("bill") / "bill.json"
    made = subprocess.run(
        [sys.executable, "-m", "tools.sbom", "--out", str(out)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    found: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return found


@pytest.mark.soak
def test_the_bill_names_what_every_installation_has_and_what_extras_bring(bill: dict[str, Any]) -> None:
    assert bill["metadata"]["component"]["version"] == __version__
    scope = {canonicalize_name(row["name"]): row["scope"] for row in bill["components"]}
    for line in PROJECT["dependencies"]:
        assert scope[canonicalize_name(Requirement(line).name)] == "required"
    assert scope["markupsafe"] == "required"  # which Jinja2 needs
    assert {scope[name] for name in ("keras", "tensorflow", "starlette", "python-multipart")} == {"optional"}
    assert not scope.keys() & {"pytest", "mypy", "ruff", "mkdocs-material", "babel", "defusedxml", "tellapart"}
    assert bill["metadata"]["component"]["name"] == "tellapart"
    for row in bill["components"]:
        assert row["purl"].startswith("pkg:pypi/")
        assert row["version"]


@pytest.mark.soak
def test_the_bill_names_no_path_and_no_machine(bill: dict[str, Any]) -> None:
    text = json.dumps(bill)
    assert [place for place in (str(ROOT), sys.prefix, str(Path.home()), "file:", str(SHARED)) if place in text] == []


@pytest.mark.soak
def test_a_bill_that_is_no_cyclonedx_is_told(bill: dict[str, Any]) -> None:
    from tools.sbom import problems

    assert problems(json.dumps(bill)) == ""
    assert problems(json.dumps({**bill, "components": [{"name": "x"}]}))


def test_the_base_of_the_image_is_one_that_a_digest_can_pin() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+-slim(@sha256:[0-9a-f]{64})?", base)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE}"] * 2
    assert "--build-arg BASE=" in text
    assert {f"!{name}" for name in re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE)} <= set(
        (ROOT / ".dockerignore").read_text("utf-8").split()
    )


def test_an_audit_that_can_ask_nobody_says_so_and_one_that_finds_a_hole_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tools import audit

    monkeypatch.setattr(audit, "asked", lambda *_: [])
    assert audit.main() == 0
    assert capsys.readouterr().err.count("no service could be asked") == len(FILES)
    hole = {"id": "CVE-0000-1", "fix_versions": ["2"]}
    said = {
        "pypi": [],
        "osv": [{"name": "a", "version": "1", "vulns": [hole]}, {"name": "b", "version": "1", "vulns": []}],
    }
    monkeypatch.setattr(audit, "asked", lambda _, service: said[service])
    assert audit.main() == 1
    told = capsys.readouterr()
    assert "newest.txt: a 1: CVE-0000-1, mended in 2" in told.out
    assert "2 packages asked for, 1 holes known" in told.err


BROUGHT = {"IPython": "of the notebook that shows a value", "markupsafe": "Jinja2's own strings"}
"""Imported, and no need of ours."""
BEHIND = {
    "importlib-resources": "etils of tensorflow-datasets, which does not name it",
}
"""A need of ours that no line names."""


def imported() -> tuple[set[str], set[str]]:
    """Packages that lines of src import, and words in its strings, by which others are imported or asked for."""
    imports, words = set(), set()
    for file in (ROOT / "src" / "tellapart").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imports |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imports.add(node.module.split(".")[0])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value.split(".")[0])
    return imports - sys.stdlib_module_names - {"tellapart"}, words


def needs() -> set[str]:
    """What users are asked to install, but for docs and development."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for name in extras.keys() - NOT_HERE.keys() for line in extras[name])]
    return {canonicalize_name(Requirement(line).name) for line in lines} - {"tellapart"}


def test_what_is_imported_is_asked_for_and_what_is_asked_for_is_named() -> None:
    imports, words = imported()
    packages = {
        module: {canonicalize_name(name) for name in names} for module, names in packages_distributions().items()
    }
    missing = {
        module for module in imports - BROUGHT.keys() if not needs() & packages.get(module, {canonicalize_name(module)})
    }
    assert missing == set()
    modules = {name: {name.replace("-", "_")} for name in needs()}
    for module, names in packages.items():
        for name in names & needs():
            modules[name].add(module)
    assert {name for name, known in modules.items() if not known & (imports | words)} == BEHIND.keys()


def test_each_extra_is_tried_alone_or_has_a_reason() -> None:
    """By `python -m tools.extras`, which takes minutes an extra."""
    assert sorted([*PROOFS, *NOT_HERE]) == sorted(PROJECT["optional-dependencies"])
