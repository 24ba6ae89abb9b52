"""Collections, addresses and Kaggle -> images that can be read; on a server of this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import struct
import sys
import tarfile
import types
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data.public_datasets import COLLECTIONS, Collection
from tellapart.data.sources import read_source
from tellapart.data.sources.idx import FASHION
from tellapart.errors import FetchError, MissingExtraError
from tellapart.recipes import recipe_names
from tests.cli.test_cli import call
from tests.conftest import draw
from tests.server import Files, serving


@pytest.fixture
def files() -> Iterator[Files]:
    with serving(Files()) as served:
        yield served


def zipped(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for number, name in enumerate(names):
            image = io.BytesIO()
            draw("disc", number, 16).save(image, "PNG")
            archive.writestr(name, image.getvalue())
    return made.getvalue()


def served(row: Collection, files: Files, contents: dict[str, bytes], patch: pytest.MonkeyPatch) -> Collection:
    """The row, its files and checksums replaced by those that the server has."""
    parts = []
    for part in row.parts:
        content = contents[part.file]
        files.content[f"/{part.file}"] = content
        digest = hashlib.sha256(content).hexdigest()
        parts.append(replace(part, url=f"{files.address}/{part.file}", size=len(content), sha256=digest))
    made = replace(row, parts=tuple(parts))
    patch.setitem(COLLECTIONS, row.name, made)
    return made


def idx(count: int) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    contents = {}
    for part in ("train", "t10k"):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        contents[f"{part}-images-idx3-ubyte.gz"] = struct.pack(">HBBIII", 0, 8, 3, *pixels.shape) + pixels.tobytes()
        labels = np.arange(count, dtype=np.uint8) % 10
        contents[f"{part}-labels-idx1-ubyte.gz"] = struct.pack(">HBBI", 0, 8, 1, count) + labels.tobytes()
    return {name: gzip.compress(content) for name, content in contents.items()}


def tarred() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name in ("daisy/1.png", "daisy/2.png", "roses/1.png", "roses/2.png"):
            image = io.BytesIO()
            draw("disc", 1, 16).save(image, "PNG")
            member = tarfile.TarInfo(f"flower_photos/{name}")
            member.size = len(image.getvalue())
            archive.addfile(member, io.BytesIO(image.getvalue()))
    return made.getvalue()


LAYOUTS = {
    "cats-dogs": {
        "kagglecatsanddogs_5340.zip": zipped(
            "PetImages/Cat/0.png", "PetImages/Cat/1.png", "PetImages/Dog/0.png", "PetImages/Dog/1.png"
        )
    },
    "fashion-mnist": idx(20),
    "flowers": {"flower_photos.tgz": tarred()},
    "horses-humans": {
        "horse-or-human.zip": zipped("horses/a.png", "horses/b.png", "humans/a.png", "humans/b.png"),
        "validation-horse-or-human.zip": zipped("horses/c.png", "humans/c.png"),
    },
    "rock-paper-scissors": {
        "rps.zip": zipped(*(f"rps/{name}/{n}.png" for name in ("rock", "paper", "scissors") for n in (1, 2))),
        "rps-test-set.zip": zipped(*(f"rps-test-set/{name}/3.png" for name in ("rock", "paper", "scissors"))),
    },
}


CLASSES = {
    "cats-dogs": {"Cat", "Dog"},
    "fashion-mnist": set(FASHION),
    "flowers": {"daisy", "roses"},
    "horses-humans": {"horses", "humans"},
    "rock-paper-scissors": {"rock", "paper", "scissors"},
}
PLAIN = [row.name for row in COLLECTIONS.values() if row.parts]


@pytest.mark.parametrize("name", PLAIN)
def test_every_collection_of_plain_files_is_read_as_it_is_fetched(
    name: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = served(COLLECTIONS[name], files, LAYOUTS[name], monkeypatch)
    path = ta.fetch(name)
    source = read_source(path, DataConfig())
    assert {item.label for item in source.rows} == CLASSES[name]
    splits = {item.split for item in source.rows}
    assert splits == ({"train", "test"} if len(row.parts) > 1 else {""})
    asked = len(files.asked)
    assert ta.fetch(name) == path
    assert len(files.asked) == asked == len(row.parts), "what is there is not fetched again"


@pytest.mark.parametrize("name", sorted(COLLECTIONS))
def test_a_row_says_what_one_must_know(name: str) -> None:
    row = COLLECTIONS[name]
    assert row.licence
    assert row.summary
    assert bool(row.parts) != bool(row.kaggle)
    assert row.recipe in ("", *recipe_names())
    for part in row.parts:
        assert part.url.startswith("https://")
        assert part.size > 0
        assert len(part.sha256) == 64


def test_a_collection_appears_whole_or_not_at_all_and_keeps_what_came(
    files: Files, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    row = served(COLLECTIONS["rock-paper-scissors"], files, LAYOUTS["rock-paper-scissors"], monkeypatch)
    second = files.content.pop("/rps-test-set.zip")
    with pytest.raises(FetchError) as raised:
        ta.fetch(row.name)
    target = own_cache / "fetched" / row.name
    for word in ("404", "Without network access", str(target), row.parts[0].url, "unpacked to test/"):
        assert word in str(raised.value)
    assert not target.exists()
    files.content["/rps-test-set.zip"] = second
    files.asked.clear()
    assert ta.fetch(row.name) == target
    assert [path for path, _ in files.asked] == ["/rps-test-set.zip"]
    assert sorted(path.name for path in target.iterdir()) == ["test", "train"]
    assert [path.name for path in target.parent.iterdir()] == [row.name]


def test_a_file_that_was_changed_on_its_way_is_refused(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    row = served(COLLECTIONS["cats-dogs"], files, LAYOUTS["cats-dogs"], monkeypatch)
    content = files.content[f"/{row.parts[0].file}"]
    files.content[f"/{row.parts[0].file}"] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(FetchError, match="its sha256 is"):
        ta.fetch(row.name)


def test_an_address_is_fetched_once_and_read(files: Files, tmp_path: Path) -> None:
    files.content["/a/photos.zip"] = content = zipped("cat.0.png", "cat.1.png", "dog.0.png", "dog.1.png")
    url = f"{files.address}/a/photos.zip"
    path = ta.fetch(url)
    assert path.name == "photos.zip"
    assert {row.label for row in read_source(path, DataConfig()).rows} == {"cat", "dog"}
    assert ta.fetch(url) == path
    assert len(files.asked) == 1
    files.content["/b/photos.zip"] = content
    assert ta.fetch(f"{files.address}/b/photos.zip") != path, "two addresses may end in one name"
    digest = hashlib.sha256(content).hexdigest()
    mine = tmp_path / "mine.zip"
    assert ta.fetch(url, sha256=digest, out=mine) == mine
    assert ta.fetch(url, sha256=digest, out=mine) == mine
    assert ta.fetch(url, out=tmp_path) == tmp_path / "photos.zip"
    for sha256 in (None, "0" * 64):
        with pytest.raises(FetchError, match=r"mine\.zip exists already"):
            ta.fetch(url, sha256=sha256, out=mine)
    assert mine.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fashion-mnits",), r"no collection 'fashion-mnits'. Did you mean 'fashion-mnist'"),
        (("fashion-mnist", "--sha256", "0" * 64), "applies to the file at a URL"),
        (("http://127.0.0.1:9/a.zip", "--sha256", "12"), "'12' is not a SHA-256"),
        (("http://127.0.0.1:9/",), "does not give a file name"),
        (("http://127.0.0.1:9/a.zip",), r"refused\. Without network access, download it elsewhere"),
        (("kaggle:a/b/c",), "expected kaggle:OWNER/DATASET"),
        (("kaggle:a/b", "--out", "x"), "set KAGGLEHUB_CACHE"),
        (("hf://a/b", "--out", "x"), "set HF_HOME"),
        (("tfds:a", "--out", "x"), "set TFDS_DATA_DIR"),
    ],
)
def test_a_wrong_request_says_what_to_do(arguments: tuple[str, ...], message: str) -> None:
    done = call("fetch", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.search(message, done.stderr), done.stderr


def test_the_command_names_the_path_and_what_to_do_next(files: Files) -> None:
    files.content["/photos.zip"] = zipped("cat.0.png", "cat.1.png", "dog.0.png", "dog.1.png")
    done = call("fetch", f"{files.address}/photos.zip")
    assert done.returncode == 0, done.stderr
    path = done.stdout.split()[1]
    assert Path(path).is_file()
    assert f"tellapart train {path}" in done.stdout
    assert "fetching photos.zip, MB" in done.stderr
    answer = json.loads(call("fetch", f"{files.address}/photos.zip", "--format", "json").stdout)
    assert answer == {"name": f"{files.address}/photos.zip", "path": path}


def test_the_collections_are_listed() -> None:
    shown = call("fetch")
    assert shown.returncode == 0
    rows = json.loads(call("fetch", "--format", "json").stdout)
    assert [row["name"] for row in rows] == list(COLLECTIONS)
    for name in COLLECTIONS:
        assert name in shown.stdout


def kaggle(patch: pytest.MonkeyPatch, folder: Path, asked: list[str], error: Exception | None = None) -> None:
    """The client's two functions: its server wants an account, which a test has not."""

    def get(handle: str) -> str:
        print("downloading ...")
        asked.append(handle)
        if error:
            raise error
        return str(folder)

    patch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=get, competition_download=get))  # type: ignore[arg-type]


def test_of_a_competition_the_archive_of_training_images_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.zip").write_bytes(zipped("train/cat.0.png", "train/cat.1.png", "train/dog.0.png"))
    (tmp_path / "test1.zip").write_bytes(zipped("test1/1.png"))
    (tmp_path / "sampleSubmission.csv").write_text("id,label\n1,0\n")
    asked: list[str] = []
    kaggle(monkeypatch, tmp_path, asked)
    assert ta.fetch("dogs-vs-cats") == tmp_path / "train.zip"
    assert {row.label for row in read_source(tmp_path / "train.zip", DataConfig()).rows} == {"cat", "dog"}
    (tmp_path / "photos").mkdir()
    assert ta.fetch("kaggle:somebody/photos") == tmp_path
    assert asked == ["dogs-vs-cats", "somebody/photos"]
    assert capsys.readouterr().out == "", "standard output is for the answer"


def test_kaggle_without_a_login_or_its_client_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle(monkeypatch, tmp_path, [], RuntimeError("User is not authenticated"))
    with pytest.raises(FetchError, match=r"(?s)not authenticated.*kaggle\.json.*competitions/dogs-vs-cats.*browser"):
        ta.fetch("dogs-vs-cats")
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError, match=r"tellapart\[fetch\]"):
        ta.fetch("dogs-vs-cats")


def test_the_real_client_has_the_functions_that_are_called() -> None:
    kagglehub = pytest.importorskip("kagglehub")
    assert callable(kagglehub.dataset_download)
    assert callable(kagglehub.competition_download)
