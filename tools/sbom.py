"""The packages of this environment -> dist/tellapart-VERSION.cdx.json: the wheel's dependencies, as CycloneDX.

    python -m tools.sbom [--out FILE]

`make wheel` runs it. cyclonedx-bom inspects the environment, with licences and dependencies; packages that the wheel
does not need (tests, the site) are left out. Scope `required` is for every installation, `optional` for extras. The
file is validated against the schema, and contains no local path and no machine name.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tellapart import __version__

ROOT = Path(__file__).resolve().parents[1]
NOT_OF_USERS = {"dev", "docs"}
"""Extras for developers of the project."""


def made() -> dict[str, Any]:
    """The bill of materials. Raises SystemExit if a required package is not installed."""
    command = ["environment", "--pyproject", "pyproject.toml", "--output-reproducible", "--spec-version", "1.6"]
    command += ["--output-format", "JSON", "--output-file", "-", sys.executable]
    said = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", *command], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    bill: dict[str, Any] = json.loads(said.stdout)
    bill["metadata"]["component"]["version"] = __version__  # which pyproject.toml only refers to
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    base = [Requirement(line) for line in project["dependencies"]]
    extras = [
        Requirement(line)
        for name, lines in project["optional-dependencies"].items()
        if name not in NOT_OF_USERS
        for line in lines
    ]
    required, optional = needed(base), needed(extras)
    here = {canonicalize_name(component["name"]): component["bom-ref"] for component in bill["components"]}
    missing = [need.name for need in base if canonicalize_name(need.name) not in here]
    if missing:
        sys.exit(f"This environment lacks {', '.join(missing)}; install tellapart first.")
    graph = {name: below & here.keys() for name, below in {**optional, **required}.items() if name in here}
    bill["components"] = [
        {**component, "scope": "required" if canonicalize_name(component["name"]) in required else "optional"}
        for component in bill["components"]
        if canonicalize_name(component["name"]) in graph
    ]
    asked = {canonicalize_name(need.name) for need in (*base, *extras)} & graph.keys()
    bill["dependencies"] = [
        {"ref": ref, "dependsOn": sorted(here[name] for name in below)}
        for ref, below in [
            (bill["metadata"]["component"]["bom-ref"], asked),
            *((here[name], below) for name, below in sorted(graph.items())),
        ]
    ]
    return bill


def needed(begin: Iterable[Requirement]) -> dict[str, set[str]]:
    """Every package that these require, on this system and with the requested extras -> its own requirements.

    cyclonedx-bom's own graph treats every extra of every package as required.
    """
    found: dict[str, set[str]] = {}
    seen = set()
    left = [(need, "") for need in begin]
    while left:
        need, above = left.pop()
        if need.marker is not None and not need.marker.evaluate():
            continue
        name = canonicalize_name(need.name)
        if above:
            found[above].add(name)
        found.setdefault(name, set())
        for extra in {"", *need.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            left += [(below, name) for below in _of(name, extra)]
    return found


def _of(name: str, extra: str) -> list[Requirement]:
    """The requirements of an installed package with an extra; none if it is not installed."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    needs = map(Requirement, lines)
    kept = [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    for need in kept:
        need.marker = None  # it applies, and names an extra that is only known here
    return kept


def problems(text: str) -> str:
    """The errors of a bill according to the schema; empty if it is valid."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return "" if found is None else str(found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write what the wheel needs, as CycloneDX.")
    parser.add_argument("--out", type=Path, help="default: dist/tellapart-VERSION.cdx.json")
    given = parser.parse_args()
    bill = made()
    text = json.dumps(bill, indent=2, sort_keys=True) + "\n"
    if wrong := problems(text):
        sys.exit(f"The bill is not CycloneDX: {wrong}")
    out = given.out or ROOT / "dist" / f"tellapart-{__version__}.cdx.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(text, encoding="utf-8")
    required = sum(component["scope"] == "required" for component in bill["components"])
    print(f"{out}: {required} packages that every installation has, {len(bill['components']) - required} of extras")


if __name__ == "__main__":
    main()
