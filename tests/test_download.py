"""Downloads from a real server that breaks, refuses, redirects and changes its mind."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tellapart import download as module
from tellapart.download import download
from tellapart.errors import FetchError
from tellapart.progress import Progress
from tests.server import Files, serving

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)


@pytest.fixture
def files() -> Iterator[Files]:
    with serving(Files({"/photos.zip": CONTENT})) as served:
        yield served


def left(cache: Path) -> list[str]:
    return [path.name for path in (cache / "downloads").iterdir()]


def test_a_file_comes_whole_and_leaves_nothing_beside_it(files: Files, tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "new" / "photos.zip"
    download(f"{files.address}/photos.zip", path, checksum=SHA256.upper(), size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == ["photos.zip"]
    assert left(own_cache) == []


def test_a_broken_connection_is_taken_up_where_it_broke(files: Files, tmp_path: Path) -> None:
    files.breaks = [300_000, 400_000]
    download(f"{files.address}/photos.zip", tmp_path / "photos.zip", checksum=SHA256)
    assert (tmp_path / "photos.zip").read_bytes() == CONTENT
    assert [asked for _, asked in files.asked] == ["", "bytes=300000-", "bytes=700000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(files: Files, tmp_path: Path, own_cache: Path) -> None:
    files.breaks = [500_000, 0, 0, 0, 0]
    path = tmp_path / "photos.zip"
    with pytest.raises(FetchError, match=r"connection closed after 500,000 of 1,024,000 bytes.*is kept; run again"):
        download(f"{files.address}/photos.zip", path)
    assert not path.exists()
    assert len(left(own_cache)) == 2
    files.asked.clear()
    download(f"{files.address}/photos.zip", path)
    assert path.read_bytes() == CONTENT
    assert files.asked == [("/photos.zip", "bytes=500000-")]
    assert left(own_cache) == []


@pytest.mark.parametrize("etag", [True, False], ids=["its version says so", "without a version"])
def test_a_rest_of_another_file_is_not_joined(files: Files, tmp_path: Path, etag: bool) -> None:
    files.etag = etag
    files.breaks = [500_000, 0, 0, 0, 0]
    with pytest.raises(FetchError, match="connection closed"):
        download(f"{files.address}/photos.zip", tmp_path / "photos.zip")
    files.content["/photos.zip"] = other = CONTENT[::-1]
    download(f"{files.address}/photos.zip", tmp_path / "photos.zip")
    assert (tmp_path / "photos.zip").read_bytes() == other


def test_a_server_that_sends_no_parts_sends_all_of_it_again(files: Files, tmp_path: Path) -> None:
    files.ranges, files.breaks = False, [300_000]
    download(f"{files.address}/photos.zip", tmp_path / "photos.zip", checksum=SHA256)
    assert (tmp_path / "photos.zip").read_bytes() == CONTENT
    assert len(files.asked) == 2


def test_a_file_of_unannounced_length_is_taken_to_its_end(files: Files, tmp_path: Path) -> None:
    files.announces_length = False
    seen = []

    class Seen(Progress):
        def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
            seen.append((stage, done, total))

    download(f"{files.address}/photos.zip", tmp_path / "photos.zip", progress=Seen())
    assert (tmp_path / "photos.zip").read_bytes() == CONTENT
    assert all(done < total for _, done, total in seen[:-1])
    assert seen[-1] == ("fetching photos.zip, MB", 1, 1)


def test_a_redirect_is_followed_and_a_server_that_is_busy_is_asked_again(files: Files, tmp_path: Path) -> None:
    files.redirects = {"/old": "/photos.zip"}
    files.refusals = [503, 429]
    download(f"{files.address}/old", tmp_path / "photos.zip", checksum=SHA256)
    assert (tmp_path / "photos.zip").read_bytes() == CONTENT


def test_what_is_complete_is_not_asked_for_again(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photos.zip"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_put", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
        with pytest.raises(FetchError, match="the disk is full"):
            download(f"{files.address}/photos.zip", path)
    download(f"{files.address}/photos.zip", path)
    assert path.read_bytes() == CONTENT
    assert len(files.asked) == 1


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"checksum": "0" * 64}, f"its sha256 is {SHA256}, not {'0' * 64}"),
        ({"checksum": "0" * 32}, "its md5 is"),
        ({"size": 5}, "1,024,000 bytes, not 5"),
    ],
)
def test_another_file_than_the_known_one_is_not_kept(
    files: Files, tmp_path: Path, own_cache: Path, known: dict[str, str], message: str
) -> None:
    path = tmp_path / "photos.zip"
    path.write_bytes(b"as it was")
    with pytest.raises(FetchError, match=rf"another file than expected: .*{message}.*Nothing was kept"):
        download(f"{files.address}/photos.zip", path, **known)  # type: ignore[arg-type]
    assert path.read_bytes() == b"as it was"
    assert left(own_cache) == []
    files.announces_length = False
    with pytest.raises(FetchError, match="another file than expected"):
        download(f"{files.address}/photos.zip", path, **known)  # type: ignore[arg-type]
    assert left(own_cache) == []


def test_a_file_of_another_size_is_refused_before_its_bytes_come(files: Files, tmp_path: Path) -> None:
    class Refusing(Progress):
        def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
            pytest.fail("bytes were taken")

    with pytest.raises(FetchError, match="1,024,000 bytes, not 5"):
        download(f"{files.address}/photos.zip", tmp_path / "photos.zip", size=5, progress=Refusing())


def test_a_missing_file_is_told_at_once(files: Files, tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(FetchError, match=r"/none\.zip could not be downloaded: HTTP Error 404: Not Found\.$"):
        download(f"{files.address}/none.zip", tmp_path / "none.zip")
    assert len(files.asked) == 1
    assert left(own_cache) == []


def test_a_login_page_is_no_file(files: Files, tmp_path: Path, own_cache: Path) -> None:
    files.content_type = "text/html; charset=utf-8"
    with pytest.raises(FetchError, match="returned a web page, not a file"):
        download(f"{files.address}/photos.zip", tmp_path / "photos.zip")
    assert left(own_cache) == []


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:9/a\.zip could not be downloaded: .*refused\.$"):
        download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a.zip", "photos.zip"])
def test_only_web_servers_are_asked(url: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not a web address"):
        download(url, tmp_path / "a.zip")


def test_two_processes_do_not_write_one_file(files: Files, tmp_path: Path, own_cache: Path) -> None:
    url = f"{files.address}/photos.zip"
    part = own_cache / "downloads" / f"{hashlib.blake2b(url.encode(), digest_size=16).hexdigest()}.part"
    part.parent.mkdir(parents=True)
    with part.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FetchError, match="Another process is downloading"):
            download(url, tmp_path / "photos.zip")
    download(url, tmp_path / "photos.zip")
    assert (tmp_path / "photos.zip").read_bytes() == CONTENT
