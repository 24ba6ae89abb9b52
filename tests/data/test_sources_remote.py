"""Images at S3 and web addresses -> Catalog, from servers of this machine: in parallel, once, continued, bounded."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import tellapart as ta
from tellapart.data.sources import remote
from tellapart.errors import FetchError, MissingExtraError, SourceError
from tellapart.inference.inputs import find_images
from tests.data.shards import FORMS, Photo, in_folders, photographs
from tests.data.test_sources_shards import contents

pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return photographs()


class Web(SimpleHTTPRequestHandler):
    """Files of a folder, with ranges. asked: (path, range) of each. refuses_from: byte from which it refuses."""

    asked: ClassVar[list[tuple[str, str]]] = []
    refuses_from = 0

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = self.headers.get("Range", "")
        if path.is_dir():
            super().do_GET()
            return
        Web.asked.append((self.path, asked))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        if asked:
            start, end = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            if Web.refuses_from and start >= Web.refuses_from:
                self.send_error(503)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            content = content[start : end + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", str(path.stat().st_mtime_ns))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of a server, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setattr(Web, "asked", [])
    monkeypatch.setattr(Web, "refuses_from", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Web, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """boto3's client of an S3 server of this machine, which the environment names."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    yield client
    server.stop()


def test_a_folder_of_a_bucket_is_the_catalog_of_its_files_and_is_transferred_once(
    bucket: object, photos: list[Photo], own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = in_folders(tmp_path, photos)
    for path in folder.rglob("*.jpg"):
        bucket.upload_file(str(path), "photos", f"pets/{path.relative_to(folder).as_posix()}")  # type: ignore[attr-defined]
    bucket.put_object(Bucket="photos", Key="pets/train/film.mp4", Body=b"not needed")  # type: ignore[attr-defined]
    catalog = ta.read("s3://photos/pets")
    assert contents(catalog) == contents(ta.read(folder))
    assert catalog.root.parent == own_cache / "remote"
    assert not list(catalog.root.rglob("*.mp4"))
    transferred = []
    monkeypatch.setattr(
        remote, "_fetch", lambda _, file, fetch=remote._fetch: transferred.append(file.path) or fetch(_, file)
    )
    assert contents(ta.read("s3://photos/pets/")) == contents(catalog)
    assert not transferred
    changed = f"pets/{catalog.images[0].path}"
    bucket.put_object(Bucket="photos", Key=changed, Body=photos[-1].content)  # type: ignore[attr-defined]
    ta.read("s3://photos/pets")
    assert transferred == [f"photos/{changed}"]
    bucket.delete_object(Bucket="photos", Key=changed)  # type: ignore[attr-defined]
    assert len(ta.read("s3://photos/pets")) == len(catalog) - 1
    with pytest.raises(FetchError, match="photos/dogs holds no images, tables or shards"):
        ta.read("s3://photos/dogs")


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_scheme_without_its_package_says_which_to_install(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    absent = ("gcsfs", "adlfs")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else find(name, *rest))
    with pytest.raises(MissingExtraError, match=rf"{scheme}:// .*pip install 'tellapart\[{scheme}\]'"):
        ta.read(f"{scheme}://photos/pets")


@pytest.mark.usefixtures("own_cache")
def test_shards_of_a_web_server_are_read_by_pattern_and_a_folder_by_its_page(
    web: tuple[str, Path], photos: list[Photo], tmp_path: Path
) -> None:
    address, folder = web
    (folder / "shards").mkdir()
    FORMS["parquet"](folder / "shards", photos)
    (tmp_path / "folders").mkdir()
    in_folders(folder / "pets", photos)
    expected = contents(ta.read(folder / "pets"))
    names = f"{address}/shards/data/{{train-00000-of-00002,train-00001-of-00002,test-00000-of-00001}}.parquet"
    assert contents(ta.read(names)) == expected
    assert contents(ta.read(f"{address}/pets/")) == expected
    fewer = ta.read(f"{address}/shards/data/train-{{00000-of-00002,00001-of-00002}}.parquet")
    assert len(fewer) == sum(photo.split == "train" for photo in photos)
    shard = f"{address}/shards/data/test-00000-of-00001.parquet"
    for named in (shard, f"{shard}?token=1"):
        found = {held.read() for _, held in find_images([named])}  # type: ignore[union-attr]
        assert found == {photo.content for photo in photos if photo.split == "test"}


def test_an_interrupted_transfer_continues_where_it_stopped(
    web: tuple[str, Path], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = web
    shard = folder / "train-00000-of-00001.parquet"
    shard.write_bytes(bytes(range(256)) * 2000)
    monkeypatch.setattr(remote, "_WHOLE", 1000)
    monkeypatch.setattr(remote, "_CHUNK", 100_000)
    monkeypatch.setattr(Web, "refuses_from", 200_000)
    with pytest.raises(FetchError, match=r"503.*\n.*Run the command again to continue"):
        remote.local_copy(f"{address}/{shard.name}")
    assert not list(own_cache.rglob(shard.name))
    monkeypatch.setattr(Web, "refuses_from", 0)
    Web.asked.clear()
    copy = remote.local_copy(f"{address}/{shard.name}")
    assert copy.read_bytes() == shard.read_bytes()
    starts = [asked.removeprefix("bytes=").partition("-")[0] for _, asked in Web.asked if asked]
    assert starts[0] == "200000"
    assert sorted(path.name for path in copy.parent.iterdir()) == [f".{shard.name}.version", shard.name]


def test_a_name_that_leads_outside_is_refused(own_cache: Path) -> None:
    with pytest.raises(SourceError, match="would be written outside the folder"):
        remote._file(own_cache, "bucket/pets", "bucket/pets/../../../.ssh/config", {"size": 1})
