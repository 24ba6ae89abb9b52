"""Where the examples of the public docstrings run: a folder with photos/ and a finished run, runs/pets."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data.sources import read_source

WITH_IMAGES = (
    "api/",
    "data/catalog",
    "inference/predict",
    "evaluation/evaluate",
    "explain/explanation",
    "errors",
    "training/labelling",
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("examples")
    source = read_source("builtin:pets", DataConfig())
    for row in source.rows[::4]:
        target = place / "photos" / row.label / Path(row.path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.root / row.path, target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLAPART_CACHE", str(place / "cache"))
        ta.train(place / "photos", out=place / "runs" / "pets")
    return place


@pytest.fixture(autouse=True)
def in_a_folder_with_images(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(f"tellapart/{place}" in request.path.as_posix() for place in WITH_IMAGES):
        folder: Path = request.getfixturevalue("folder")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("TELLAPART_CACHE", str(folder / "cache"))


@pytest.fixture(autouse=True)
def short_name(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace |= {"ta": ta, "np": np}
