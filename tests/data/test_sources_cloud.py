"""Images at gs:// and az:// addresses -> Catalog, from emulators of this machine.

Needs gcsfs and gcp-storage-emulator, or adlfs and azurite (npm) on the path or named by AZURITE.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.errors import FetchError
from tests.data.shards import FORMS, in_folders, photographs
from tests.data.test_sources_shards import contents

fsspec = pytest.importorskip("fsspec")

pytestmark = [pytest.mark.soak, pytest.mark.filterwarnings("ignore::ResourceWarning:aiohttp")]
# The account of every Azurite, which its documentation names.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def free_port() -> int:
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # It asks by gRPC, which the emulator does not speak, for the kind of each bucket.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    pytest.importorskip("gcsfs")
    pytest.importorskip("gcp_storage_emulator")
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", port := free_port(), in_memory=True, default_bucket="photos")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    yield "gs://photos"
    server.stop()


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("adlfs")
    azurite = os.environ.get("AZURITE") or shutil.which("azurite-blob")
    if azurite is None:
        pytest.skip("azurite-blob is not on the path: npm install azurite")
    port, log = free_port(), tmp_path / "azurite.log"
    words = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(tmp_path / "azurite"), "--silent"]
    with log.open("wb") as file:
        server = subprocess.Popen([azurite, *words, "--skipApiVersionCheck"], stdout=file, stderr=file)
    address = f"http://127.0.0.1:{port}/{ACCOUNT}"
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={address};",
    )
    for _ in range(100):
        with closing(socket.socket()) as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    fsspec.filesystem("az").mkdir("photos")
    yield "az://photos"
    server.terminate()
    server.wait()


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_a_bucket_is_the_catalog_of_its_files_whether_folders_or_shards(
    scheme: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address, photos = request.getfixturevalue(scheme), photographs()
    system = fsspec.filesystem(scheme)
    folder = in_folders(tmp_path, photos)
    FORMS["parquet"](shards := tmp_path / "shards", photos)
    for name, place in (("pets", folder), ("shards", shards)):
        for path in place.rglob("*"):
            if path.is_file():
                system.put_file(str(path), f"photos/{name}/{path.relative_to(place).as_posix()}")
    expected = contents(ta.read(folder))
    assert contents(ta.read(f"{address}/pets")) == expected
    assert contents(ta.read(f"{address}/shards/data/*.parquet")) == expected
    changed = next(path for path in folder.rglob("*.jpg"))
    system.rm_file(f"photos/pets/{changed.relative_to(folder).as_posix()}")
    assert len(ta.read(f"{address}/pets")) == len(photos) - 1
    with pytest.raises(FetchError, match=r"holds no images, tables or shards|does not exist"):
        ta.read(f"{address}/dogs")
