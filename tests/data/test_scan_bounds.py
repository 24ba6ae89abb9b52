"""Images that take too long or too much are findings of a scan, which goes on; honest ones start no process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data import decode_pool
from tellapart.data.scan import sample, scan
from tellapart.data.sources import read_source
from tests.data.hostile import slow_jp2

PHOTOGRAPHS = Path(ta.__file__).parent / "data" / "builtin" / "pets"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of photographs."""
    for name in ("Abyssinian", "Bengal"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for path in sorted((PHOTOGRAPHS / name).glob("*.jpg"))[:4]:
            shutil.copy(path, tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture(autouse=True)
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("bounds", "reason"), [({"max_seconds": 0.3}, "too slow"), ({"max_memory": 20_000_000}, "too much memory")]
)
def test_an_image_beyond_a_bound_is_a_row_with_its_error_and_the_others_are_read(
    folder: Path, bounds: dict[str, float], reason: str
) -> None:
    (folder / "Bengal" / "slow.jp2").write_bytes(slow_jp2())
    config = DataConfig(**bounds)  # type: ignore[arg-type]
    source = read_source(folder, config)
    found = {image.path: image.error for image in scan(source, config)}
    assert found.pop("Bengal/slow.jp2").startswith(reason)
    assert set(found.values()) == {""}
    assert len(sample(source, config)) == len(found)
    # It is asked again, as the bound may be another the next time.
    assert not [image for image in scan(source, DataConfig()) if image.error]


def test_photographs_start_no_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(decode_pool, "_Process")
    config = DataConfig()
    assert not [image for image in scan(read_source(folder, config), config) if image.error]
