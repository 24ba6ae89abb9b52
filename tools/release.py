"""A tag and a clean checkout -> dist/: wheel, sdist, bill of materials, notes. Publishes nothing.

    python -m tools.release v0.2.0

`make release TAG=v0.2.0` runs it, for people before they tag and for the workflow after. It refuses a tag that is not
the version of src/tellapart/__init__.py (its only location), and a version without a section in CHANGELOG.md.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys

from tellapart import __version__
from tools.constraints import ROOT


def notes(changelog: str, version: str) -> str:
    """The section of one version. Raises ValueError if it is missing or empty.

    >>> notes("## [0.2.0] - 2027-01-31\\n\\n- More.\\n\\n## [0.1.0] - 2026-01-01\\n", "0.2.0")
    '- More.\\n'
    """
    found = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## \[|\Z)", changelog, re.M | re.S)
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md has nothing under '## [{version}] - YEAR-MONTH-DAY'")
    return found[1].strip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Build what a release consists of.")
    parser.add_argument("tag", help=f"v{__version__}, the version in src/tellapart/__init__.py")
    tag = parser.parse_args().tag
    if tag != f"v{__version__}":
        sys.exit(f"The tag is {tag}, the version in src/tellapart/__init__.py {__version__}: one of the two is wrong.")
    try:
        said = notes((ROOT / "CHANGELOG.md").read_text("utf-8"), __version__)
    except ValueError as error:
        sys.exit(f"{error}: rename the section [Unreleased] and begin a new one above it.")
    place = ROOT / "dist"
    shutil.rmtree(place, ignore_errors=True)
    for words in (["build", "--outdir", "dist"], ["tools.sbom"]):
        subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True)
    packages = [str(file) for file in sorted(place.glob("tellapart-*")) if file.suffix in (".whl", ".gz")]
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *packages], cwd=ROOT, check=True)
    (place / "notes.md").write_text(said, "utf-8")
    print(f"dist/ holds {tag}: {', '.join(sorted(file.name for file in place.iterdir()))}")


if __name__ == "__main__":
    main()
