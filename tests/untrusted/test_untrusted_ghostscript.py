"""Images by name that hold a PostScript program: no command lets Ghostscript run it, as a trap of that name tells.

Some lie where a person's images lie; some are images of a stranger's run, with the digests that its catalog says.
"""

from __future__ import annotations

import base64
import csv
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.cli.main import COMMANDS
from tellapart.data.cache import content_digest
from tests.command import PATIENCE
from tests.data.hostile import iptc
from tests.untrusted.conftest import SETTINGS

pytest.importorskip("keras")

PROGRAM = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
EVIL = iptc(PROGRAM, 10, 10)
SMALL = [word for each in SETTINGS for word in ("--set", each)]
# RUN: of ours. THEIRS: a stranger's. IMAGES: among which are some. EVIL: one of them.
COMMAND_LINES = {
    "check": ["check", "IMAGES"],
    "check deep": ["check", "IMAGES", "--deep"],
    "train": ["train", "IMAGES", "--out", "run", *SMALL],
    "resume": ["train", "--resume", "THEIRS"],
    "predict": ["predict", "RUN", "EVIL", "IMAGES"],
    "evaluate": ["evaluate", "RUN", "IMAGES"],
    "evaluate theirs": ["evaluate", "THEIRS"],
    "features": ["features", "IMAGES", "--out", "features.npz"],
    "explain": ["explain", "RUN", "EVIL"],
    "report": ["report", "THEIRS"],
    "compare": ["compare", "RUN", "THEIRS"],
    "export": ["export", "THEIRS", "--format", "onnx"],
    "optimize": ["optimize", "THEIRS"],
    "ladder": ["ladder", "IMAGES", "--rung", "dense", "--budget", "1m", "--out", "ladder"],
    "tune": ["tune", "IMAGES", "--trials", "1", "--budget", "1m", "--out", "tune", *SMALL],
}
NO_IMAGES = {"demo", "layouts", "runs", "models", "recipes", "fetch", "push", "pull"}
"""Commands that read no image which somebody sent."""
SLOW = ("check deep", "resume", "ladder", "tune")


def put_among(folder: Path) -> Path:
    """The program among the images, under their suffixes; one of the places."""
    for name in ("disc/evil.png", "stripes/evil.tif", "disc/evil.jpg"):
        (folder / name).write_bytes(EVIL)
    (folder / "stripes/evil.tiff").write_bytes(PROGRAM)
    return folder / "disc/evil.jpg"


@pytest.fixture
def theirs(plain_run: ta.Run, two_shapes: Path, tmp_path: Path) -> Path:
    """A run in which images of each split are the program, with the digest that its catalog says."""
    run = ta.open_run(shutil.copytree(plain_run.path, tmp_path / "theirs"))
    root = Path(shutil.copytree(two_shapes, tmp_path / "their images"))
    with run.catalog_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for split in ("train", "validation", "test"):
        for number, row in enumerate([row for row in rows if row["split"] == split][:3]):
            content = EVIL + split.encode() + bytes([number])
            (root / row["path"]).write_bytes(content)
            row["digest"] = content_digest(content)
    with run.catalog_file.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    metrics = run.metrics
    evil = [row["path"] for row in rows if row["split"] == "test"][:3]
    metrics["test"]["mistakes"] = [
        {"path": path, "truth": "disc", "predicted": "stripes", "probability": 0.9} for path in evil
    ]
    run.write_metrics(metrics)
    run.update(data=str(root))
    return run.path


@pytest.fixture
def trap(tmp_path: Path, marker: Path) -> Iterator[dict[str, str]]:
    """An environment whose programs of that name make the marker, which nothing may have made in the end."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (folder / name).write_text(f"#!/bin/sh\nmkdir -p '{marker}'\n")
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["gs"], env=environment, check=True)
    assert marker.exists(), "the trap does not work"
    marker.rmdir()
    yield environment
    assert not marker.exists()


def test_every_command_is_tried() -> None:
    assert {words[0] for words in COMMAND_LINES.values()} | {"serve", "studio"} | NO_IMAGES == set(COMMANDS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in COMMAND_LINES]
)
def test_no_command_hands_an_image_to_ghostscript(
    name: str,
    plain_run: ta.Run,
    theirs: Path,
    two_shapes: Path,
    tmp_path: Path,
    trap: dict[str, str],
    tellapart: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    if name == "tune":
        pytest.importorskip("optuna")
    if name == "resume":
        ta.open_run(theirs).update(status="interrupted")
    images = Path(shutil.copytree(two_shapes, tmp_path / "images"))
    places = {"RUN": plain_run.path, "THEIRS": theirs, "IMAGES": images, "EVIL": put_among(images)}
    found = tellapart(*(places.get(word, word) for word in COMMAND_LINES[name]), env=trap, cwd=tmp_path)
    assert found.returncode in (0, 1, 2), found.stderr
    assert "Traceback" not in found.stderr
    if name == "predict":
        assert "not an image" in found.stdout


def test_no_server_hands_an_image_to_ghostscript(plain_run: ta.Run, trap: dict[str, str]) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("uvicorn")
    from tests.serve.conftest import start

    encoded = {"images": [{"name": "a.jpg", "data": base64.b64encode(EVIL).decode()}]}
    server = start(plain_run.path, environment=trap)
    try:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            for query in ("", "?explain=1"):
                place = f"/v1/predict{query}"
                for content in (EVIL, PROGRAM):
                    answers = (
                        client.post(place, content=content, headers={"content-type": "image/jpeg"}),
                        client.post(place, files=[("images", ("a.jpg", content))]),
                        client.post(place, json=encoded),
                    )
                    assert {answer.status_code for answer in answers} == {422}
                    said = [answer.json()["predictions"][0]["error"] for answer in answers]
                    assert all(error.startswith("not an image") for error in said)
    finally:
        server.process.kill()
        server.process.communicate()


def test_the_studio_hands_no_image_of_a_strangers_run_to_ghostscript(
    theirs: Path, tmp_path: Path, trap: dict[str, str]
) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("cleanlab")
    from tests.studio.conftest import start

    studio = start(theirs, tmp_path / "decisions.csv", trap)
    try:
        rows = studio.get("/v1/images?count=500")["rows"]
        asked = [f"{studio.url}/pixels/{row['id']}/1024/{row['digest']}" for row in rows]
        found = [httpx.get(address, timeout=PATIENCE, headers=studio.headers).status_code for address in asked]
        assert found.count(404) == 9
        assert set(found) == {200, 404}
    finally:
        studio.kill()
