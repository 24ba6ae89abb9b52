"""Dataset, DatasetDict and hf:// -> Catalog, without a network beyond this machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.data.sources import hugging_face
from tellapart.errors import FetchError, SourceError
from tellapart.inference.python_inputs import images_of
from tests.data.shards import CLASSES, Photo, as_dataset, in_parquet, photographs
from tests.data.test_sources_shards import contents

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return photographs()


def test_a_dataset_dict_is_the_catalog_of_its_files_and_is_written_once(
    photos: list[Photo], own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = as_dataset(photos)
    catalog = ta.read(given)
    assert contents(catalog) == contents(ta.read(in_parquet(tmp_path, photos)))
    assert catalog.root.parent == own_cache / "datasets"
    monkeypatch.setattr(hugging_face, "_write", None)
    assert contents(ta.read(given)) == contents(catalog)


def test_a_dataset_whose_images_are_files_is_read_with_its_classes_and_its_rows_alone(tmp_path: Path) -> None:
    for label in CLASSES:
        (tmp_path / label).mkdir()
    for number, photo in enumerate(photographs()):
        (tmp_path / photo.label / f"{number}.jpg").write_bytes(photo.content)
    given = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), split="train", cache_dir=str(tmp_path / "hf"))
    assert len(ta.read(given)) == 24
    chosen = given.shuffle(seed=1).select(range(15))
    catalog = ta.read(chosen)
    assert len(catalog) == 15
    assert catalog.task.classes == CLASSES
    assert not catalog.broken
    paths = [Path(held) for _, held in images_of(chosen)]  # type: ignore[arg-type]
    assert len(paths) == 15
    assert all(path.is_file() for path in paths)


def test_a_dataset_that_streams_or_has_no_images_is_refused_with_what_to_do(photos: list[Photo]) -> None:
    with pytest.raises(SourceError, match="Load it without streaming=True"):
        ta.read(as_dataset(photos)["train"].to_iterable_dataset())
    with pytest.raises(SourceError, match=r"none has the feature Image.*cast_column"):
        ta.read(datasets.Dataset.from_dict({"path": ["a.jpg"], "label": ["cat"]}))


@pytest.fixture(scope="module")
def hub(photos: list[Photo], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that answers as the hub does for one data set, someone/pets."""
    folder = in_parquet(tmp_path_factory.mktemp("hub"), photos)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}
    commit = "0" * 40

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/datasets/someone/pets"):
                tree = [
                    {"type": "file", "path": name, "size": len(held), "oid": hashlib.sha1(held).hexdigest()}
                    for name, held in files.items()
                ]
                told = {"id": "someone/pets", "sha": commit, "siblings": [{"rfilename": name} for name in files]}
                content = json.dumps(tree if "/tree/" in path else told).encode()
            else:
                content = files.get(path.removeprefix(f"/datasets/someone/pets/resolve/{commit}/"), b"")
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json" if path.startswith("/api") else "application/x")
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.end_headers()
            self.wfile.write(content if body else b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


_PROGRAM = """
import sys, tellapart as ta
try:
    catalog = ta.read(sys.argv[1])
    print(catalog.task.classes, len(catalog), {image.split for image in catalog.images} >= {"train", "test"})
except ta.TellapartError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.usefixtures("own_cache")
def test_a_data_set_of_the_hub_is_read_by_its_name_and_again_without_the_network(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", hub)

    def read(name: str) -> str:
        return subprocess.run([sys.executable, "-c", _PROGRAM, name], capture_output=True, text=True).stdout

    assert read("hf://someone/pets") == f"{CLASSES} 24 True\n"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert read("hf://datasets/someone/pets") == f"{CLASSES} 24 True\n"
    other = read("hf://someone/others")
    assert other.startswith("FetchError hf://someone/others could not be downloaded")
    assert "hf download someone/others --repo-type dataset" in other


def test_a_name_of_the_hub_may_have_a_revision_and_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    asked: list[object] = []

    def download(repo: str, *, repo_type: str, revision: str | None, allow_patterns: list[str] | None) -> str:
        asked.append((repo, repo_type, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    (tmp_path / "data").mkdir()
    hugging_face.snapshot("hf://a/b")
    hugging_face.snapshot("hf://datasets/a/b@v1.0/data/")
    hugging_face.snapshot("hf://a/b@refs/convert/parquet")
    assert asked == [
        ("a/b", "dataset", None, None),
        ("a/b", "dataset", "v1.0", ["data", "data/**"]),
        ("a/b", "dataset", "refs/convert/parquet", None),
    ]
    with pytest.raises(FetchError, match="a/b holds nothing at 'date'"):
        hugging_face.snapshot("hf://a/b/date")


def test_a_name_that_is_none_of_the_hub_is_told() -> None:
    with pytest.raises(FetchError, match=r"expected hf://USER/NAME"):
        ta.read("hf://pets")
