"""pyproject.toml -> constraints/lowest.txt and newest.txt: every package, one version each, made by uv's resolver.

    python -m tools.constraints

from the root of a checkout, about ten seconds. lowest.txt has the oldest versions that pyproject.toml allows, for the
checks that CI does with them; newest.txt today's newest versions of everything the tests use. Both are valid for every
Python and system (by markers), and neither names a registry or a local path. Run it after changing a bound, and
regularly for newest.txt, so that CI tests new releases.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST_PYTHON = "3.11"
BESIDE = ("backports.strenum<1.3",)
"""Constraints for uv in addition to pyproject.toml: of the Pythons that a version supports, uv reads only the lowest,
and pip both. From 1.3 on this package is for Pythons below 3.11."""


@dataclass(frozen=True)
class Constraints:
    """resolution: uv's name for it. extras: of pyproject.toml. said: the first line."""

    name: str
    resolution: str
    extras: tuple[str, ...]
    said: str

    @property
    def path(self) -> Path:
        return ROOT / "constraints" / self.name


FILES = (
    Constraints(
        "lowest.txt",
        "lowest-direct",
        ("train", "serve", "tables", "check", "heif"),
        "The oldest versions that pyproject.toml lets in; what those need in turn is of today.",
    ),
    Constraints("newest.txt", "highest", ("dev",), "The newest versions, when this file was made."),
)


def main() -> None:
    for file in FILES:
        command = ["uv", "pip", "compile", "pyproject.toml", "--quiet", "--universal", "--no-annotate", "--no-header"]
        command += ["--python-version", OLDEST_PYTHON, "--resolution", file.resolution, "--no-emit-index-url"]
        command += [word for extra in file.extras for word in ("--extra", extra)]
        command += ["--constraint", "-"]  # from standard input
        given = "\n".join(BESIDE)
        made = subprocess.run(command, cwd=ROOT, input=given, stdout=subprocess.PIPE, text=True, check=False)
        if made.returncode:
            sys.exit(f"uv found no {file.name}: it says why above.")
        file.path.parent.mkdir(exist_ok=True)
        file.path.write_text(f"# Made by `make constraints`. {file.said}\n{made.stdout}", encoding="utf-8")
        print(f"{file.path.relative_to(ROOT)}: {len(made.stdout.splitlines())} packages")


if __name__ == "__main__":
    main()
