"""Images that decode though they are damaged: told, and counted on the built-in photographs."""

from __future__ import annotations

import dataclasses
import io
import random
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data import pixels
from tellapart.data.catalog import read_images
from tellapart.data.pixels import cost, decode
from tellapart.errors import ImageError
from tellapart.task import ImageSpec
from tests.conftest import draw
from tests.data.photograph import PHOTO, SPEC, TABLE, encoded
from tools.damage import LENGTHS, told

PETS = Path(pixels.__file__).parent / "builtin" / "pets"
PHOTOGRAPHS = [path.read_bytes() for path in sorted(PETS.rglob("*.jpg"))]
END = b"\xff\xd9"


def share_told(change: Callable[[bytes], bytes]) -> float:
    """Of the built-in photographs; a refused one is told too."""

    def told(data: bytes) -> bool:
        try:
            return bool(decode(change(data), SPEC).warning)
        except ImageError:
            return True

    return sum(map(told, PHOTOGRAPHS)) / len(PHOTOGRAPHS)


def test_no_whole_image_is_said_to_be_damaged() -> None:
    assert share_told(lambda data: data) == 0
    for data, _ in TABLE.values():
        assert not decode(data, SPEC).warning
        assert not decode(data, None).warning


@pytest.mark.parametrize("spec", [None, SPEC, ImageSpec(300, 300, interpolation="nearest"), ImageSpec(60, 80, 1)])
def test_every_jpeg_that_was_cut_in_half_and_given_an_end_is_told(spec: ImageSpec | None) -> None:
    for data in PHOTOGRAPHS:
        found = decode(data[: len(data) // 2] + END, spec)
        assert "premature end" in found.warning
        assert (found.pixels is None) == (spec is None)


@pytest.mark.parametrize(("size", "share"), [(200, 0.6), (600, 0.8)])
@pytest.mark.parametrize("filling", ["zeros", "noise"])
def test_most_jpegs_with_other_bytes_inside_are_told(size: int, share: float, filling: str) -> None:
    generator = random.Random(0)

    def overwritten(data: bytes) -> bytes:
        start = generator.randrange(len(data) // 2, len(data) - size - 2)
        return data[:start] + (bytes(size) if filling == "zeros" else generator.randbytes(size)) + data[start + size :]

    assert share_told(overwritten) >= share


@pytest.mark.parametrize("length", LENGTHS)
def test_the_page_tells_how_many_damages_are_told(length: int) -> None:
    page = (Path(__file__).parents[2] / "docs" / "security-model.md").read_text("utf-8")
    row = re.search(rf"\| {length:,} \| (\d+)% \| (\d+)% \|", page)
    assert row is not None
    count, noticed, seen = told(PHOTOGRAPHS, length)
    assert 100 * noticed / count == pytest.approx(int(row[1]), abs=4)
    assert 100 * seen / count == pytest.approx(int(row[2]), abs=4)


@pytest.mark.parametrize("name", ["jpeg-progressive", "jpeg-grey", "jpeg-cmyk"])
def test_jpegs_of_every_kind_are_told(name: str) -> None:
    data = TABLE[name][0]
    assert decode(data[: len(data) * 2 // 3] + END, SPEC).warning


def test_a_png_with_a_wrong_check_sum_is_told() -> None:
    data = TABLE["png-rgb"][0]
    end = data.index(b"IEND") - 4
    found = decode(data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:], SPEC)
    assert found.warning == "1 of its 3 chunks has a wrong checksum"
    assert np.array_equal(found.pixels, decode(data, SPEC).pixels)


@pytest.fixture
def with_damage(tmp_path: Path) -> Path:
    """Two classes of twelve discs and stripes, of which one is damaged."""
    for kind in ("disc", "stripes"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(12):
            draw(kind, number).resize((200, 200)).save(tmp_path / "photos" / kind / f"{number}.jpg")
    hurt = tmp_path / "photos" / "disc" / "3.jpg"
    hurt.write_bytes(hurt.read_bytes()[: hurt.stat().st_size * 2 // 3] + END)
    return tmp_path / "photos"


def test_check_tells_damaged_images_and_a_setting_leaves_them_out(with_damage: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second time from memory
        kept = ta.read(with_damage)
        (finding,) = [found for found in kept.findings if found.kind == "damaged"]
        assert (finding.severity, len(finding.paths)) == ("warning", 1)
        assert finding.paths[0].startswith("disc/3.jpg (Corrupt JPEG data")
        assert not kept.broken
        left = ta.read(with_damage, damaged="leave-out")
        (broken,) = left.broken
        assert broken.error.startswith("damaged: Corrupt JPEG data")
        assert not broken.split
        assert "damaged" not in {found.kind for found in left.findings}
    kept.write(tmp_path / "catalog.csv")
    assert read_images(tmp_path / "catalog.csv") == kept.images


def test_a_catalog_of_a_run_that_knew_no_warnings_is_read(with_damage: Path, tmp_path: Path) -> None:
    catalog = ta.read(with_damage)
    catalog.write(tmp_path / "catalog.csv")
    lines = (tmp_path / "catalog.csv").read_text().splitlines()
    (tmp_path / "catalog.csv").write_text("".join(line.rpartition(",")[0] + "\n" for line in lines))
    expected = tuple(dataclasses.replace(image, warning="") for image in catalog.images)
    assert read_images(tmp_path / "catalog.csv") == expected


def lossless(plane: np.ndarray) -> bytes:
    """A grey lossless JPEG (ITU T.81, process 14): each pixel as its difference from the one before it."""
    width = plane.shape[1]
    values = plane.astype(int)
    before = np.concatenate([np.concatenate([[128], values[:-1, 0]])[:, None], values[:, :-1]], axis=1)
    bits = []
    for step in (values - before).ravel().tolist():
        size = abs(step).bit_length()
        bits.append(f"{size:04b}" + (f"{step if step > 0 else step + (1 << size) - 1:0{size}b}" if size else ""))
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    coded = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">HBHHB3B", 11, 8, len(plane), width, 1, 1, 0x11, 0)
    codes = bytes([0, 0, 0, 0, 9, *[0] * 12, *range(9)])  # nine codes of four bits
    return (
        b"\xff\xd8\xff\xc3" + frame + b"\xff\xc4" + struct.pack(">H", 2 + len(codes)) + codes
        + b"\xff\xda" + struct.pack(">HB5B", 8, 1, 1, 0, 1, 0, 0) + coded + END
    )  # fmt: skip


def test_a_lossless_jpeg_is_read_to_the_last_bit() -> None:
    grey = np.asarray(Image.fromarray(PHOTO).convert("L"))
    found = decode(lossless(grey), ImageSpec(*grey.shape, channels=1))
    assert (found.mode, found.warning) == ("L", "")
    assert np.array_equal(found.pixels[..., 0], grey)
    assert decode(lossless(grey), None).width == grey.shape[1]


def test_a_jpeg_of_more_than_8_bits_says_what_to_do() -> None:
    data = bytearray(TABLE["jpeg"][0])
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ImageError, match="unreadable: a JPEG of 12 bits a sample; 8 are read; save it as a PNG"):
        decode(bytes(data), SPEC)


def test_a_tiff_of_premultiplied_grey_is_read() -> None:
    plain = encoded(Image.new("LA", (30, 20), (30, 128)), "TIFF")
    extra = struct.pack("<HHI", 338, 3, 1)  # the tag that says what the second sample is: 2, or 1 for premultiplied
    data = plain.replace(extra + b"\2\0", extra + b"\1\0")
    found = decode(data, ImageSpec(20, 30, channels=1))
    assert found.mode == "La"
    assert abs(int(found.pixels[3, 4, 0]) - (30 + 255 - 128)) <= 1


def test_the_cost_of_the_common_kinds_is_known_from_their_headers_and_of_others_not() -> None:
    area = PHOTO.shape[0] * PHOTO.shape[1]
    for name in ("jpeg", "jpeg-grey", "png-rgb", "png-palette", "bmp", "ppm"):
        data = TABLE[name][0]
        assert cost(data) == area + len(data), name
    progressive = TABLE["jpeg-progressive"][0]
    assert cost(progressive) == progressive.count(b"\xff\xda") * area + len(progressive)
    for name in ("jpeg-cmyk", "png-16", "tiff-16", "gif", "jpeg-2000", "tga"):
        assert cost(TABLE[name][0]) is None, name
    assert cost(TABLE["jpeg"][0][:100]) is None


def test_damage_never_raises_anything_but_image_errors_when_it_is_estimated() -> None:
    generator = np.random.default_rng(3)
    for data, _ in TABLE.values():
        for _ in range(30):
            bad = bytearray(data)
            for place in generator.integers(0, min(len(bad), 200), 4):
                bad[place] = int(generator.integers(256))
            cost(bytes(bad))


def test_wide_values_and_transparency_are_the_same_by_strips_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from tellapart.data import raster

    specs = [ImageSpec(20, 30), ImageSpec(11, 13, 1, "crop"), ImageSpec(20, 20, 3, "squash", "lanczos")]
    whole = {(name, spec): pixels.read(data, spec) for name, (data, _) in TABLE.items() for spec in specs}
    monkeypatch.setattr(raster, "STRIP", 700)
    for (name, spec), expected in whole.items():
        assert np.array_equal(pixels.read(TABLE[name][0], spec), expected), (name, spec)


def test_the_bound_on_bytes_is_a_setting_and_a_large_file_is_known_by_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / name).write_bytes(encoded(Image.fromarray(PHOTO), "PNG"))
    padded = encoded(Image.fromarray(PHOTO), "JPEG") + bytes(2_000_000)
    (tmp_path / "b/2.jpg").write_bytes(padded)
    with (tmp_path / "b/3.png").open("wb") as file:
        file.truncate(2**40)  # a terabyte that takes no room
    found = {image.path: image.error for image in ta.read(tmp_path, max_bytes=1_000_000).images}
    assert found["b/2.jpg"].startswith("too many bytes")
    assert found["b/3.png"].startswith("not an image")
    assert not found["a/1.png"]
    assert DataConfig().max_bytes == 2**30
    assert not decode(io.BytesIO(padded), SPEC).warning


def test_a_png_of_empty_chunks_is_refused_at_once() -> None:
    empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    data = TABLE["png-rgb"][0]
    with pytest.raises(ImageError, match="too many segments"):
        decode(data[:33] + 200_000 * empty + data[33:], SPEC)
