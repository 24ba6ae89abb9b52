"""A package with entry points, as installed by pip: its modules, and the metadata beside them."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "plugin"


def install(
    folder: Path, entry_points: Mapping[str, Mapping[str, str]], *, name: str = "strange", version: str = "1.0"
) -> None:
    """The metadata of a package with these entry points, by the kind of their table."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line
        for group, points in entry_points.items()
        for line in (f"[tellapart.{group}]", *(f"{key} = {place}" for key, place in points.items()), "")
    ]
    info.joinpath("entry_points.txt").write_text("\n".join(lines))


def install_example(folder: Path) -> Path:
    """examples/plugin, by what its pyproject.toml says."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {group.removeprefix("tellapart."): points for group, points in project["entry-points"].items()}
    shutil.copytree(EXAMPLE / "src", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    install(folder, groups, name=project["name"], version=project["version"])
    return folder
