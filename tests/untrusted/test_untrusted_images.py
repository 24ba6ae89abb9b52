"""Images that are more, or other, than an image."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data import pixels
from tellapart.data.jpeg import read_header
from tellapart.errors import ImageError
from tellapart.task import ImageSpec
from tests.conftest import draw
from tests.data.hostile import iptc

SPEC = ImageSpec(32, 32)


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    draw("disc", 0).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(kind: bytes, content: bytes, count: int = 1) -> bytes:
    """A PNG with more chunks behind its header."""
    whole = encoded("PNG")
    return whole[:33] + count * chunk(kind, content) + whole[33:]


BOMB = zlib.compress(bytes(300_000_000), 9)
CARRIERS = {
    "text": with_chunk(b"zTXt", b"key\0\0" + BOMB),
    "international text": with_chunk(b"iTXt", b"key\0\1\0\0\0" + BOMB),
    "colour profile": with_chunk(b"iCCP", b"profile\0\0" + BOMB),
    "much text": with_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(1_000_000), 9), 300),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_what_a_png_carries_beside_its_pixels_takes_no_memory(
    name: str, tmp_path: Path, megabytes: Callable[[str], tuple[int, str]]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(CARRIERS[name])
    taken, said = megabytes(f"print(pixels.decode({str(path)!r}, None).mode)")
    assert said == "RGB" or said.startswith("unreadable: ")
    assert taken < 100


MOST = 2**31 - 1


def tag(number: int, kind: int, value: int) -> bytes:
    """One of a TIFF's or of EXIF."""
    return struct.pack("<HHII", number, kind, 1, value)


TIFF = b"II*\0\x08\0\0\0"
FRAME = struct.pack("<BHHHHBB", 44, 0, 0, 65535, 65535, 0, 8)
HEADERS = {
    "png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", MOST, MOST, 8, 2, 0, 0, 0)),
    "bmp": struct.pack("<2sIHHI", b"BM", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, MOST, MOST, 1, 24, *[0] * 6),
    "gif": struct.pack("<6sHHBBB", b"GIF89a", 65535, 65535, 0, 0, 0) + FRAME,
    "ppm": b"P6 2147483647 2147483647 255\n",
    "jpeg": bytes.fromhex("ffd8ffc0001108ffffffff03011100021100031100ffd9"),
    "psd": struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 300_000, 300_000, 8, 3) + bytes(12),
    "tiff": TIFF + struct.pack("<H", 2) + tag(256, 4, 2**31) + tag(257, 4, 2**31) + bytes(4),
    "dds": struct.pack("<4sIIII", b"DDS ", 124, 0x1007, MOST, MOST) + bytes(108),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_promises_billions_of_pixels_is_refused_before_memory_is_taken(
    name: str, tmp_path: Path, megabytes: Callable[[str], tuple[int, str]]
) -> None:
    path = tmp_path / f"a.{name}"
    path.write_bytes(HEADERS[name])
    taken, said = megabytes(f"pixels.decode({str(path)!r}, None)")
    assert said.split(":")[0] in ImageError.REASONS
    assert taken < 100


def test_an_image_that_is_a_zip_or_a_page_as_well_is_an_image_alone(marker: Path) -> None:
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as file:
        file.writestr("../../harm was done", "")
    page = f"<script>fetch('file://{marker}')</script><?php mkdir('{marker}'); ?>".encode()
    plain = pixels.read(encoded("PNG"), SPEC)
    for data in (encoded("PNG") + bundle.getvalue(), with_chunk(b"tEXt", b"Comment\0" + page)):
        np.testing.assert_array_equal(pixels.read(data, SPEC), plain)
    assert pixels.read(encoded("JPEG", comment=page), SPEC).shape == SPEC.shape


@pytest.mark.parametrize("suffix", ["jpg", "eps", "ps", "png"])
def test_a_program_for_ghostscript_is_no_image_whatever_its_suffix(suffix: str, tmp_path: Path, marker: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text(
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({marker}) (w) file closefile\nshowpage\n%%EOF\n"
    )
    with pytest.raises(ImageError, match="not an image"):
        pixels.read(path, SPEC)


@pytest.mark.parametrize("kind", ["SVG", "PDF", "text"])
def test_what_could_name_other_files_is_no_image(kind: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    content = {
        "SVG": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{tmp_path}/secret"/></svg>',
        "PDF": "%PDF-1.7\n1 0 obj <</Type /Catalog /OpenAction <</S /Launch /F (calc)>> >> endobj",
        "text": f"push graphic-context\nimage over 0,0 0,0 'label:@{tmp_path}/secret'\n",
    }[kind]
    with pytest.raises(ImageError, match="not an image"):
        pixels.read(content.encode(), SPEC)


def test_an_animation_of_many_frames_costs_one(tmp_path: Path, megabytes: Callable[[str], tuple[int, str]]) -> None:
    frames = [Image.fromarray(np.full((1000, 1000), n % 250, np.uint8)) for n in range(150)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    taken, said = megabytes(f"print(pixels.decode({str(tmp_path / 'a.gif')!r}, None).width)")
    assert said == "1000"
    assert taken < 60


def test_exif_that_points_at_itself_or_out_of_the_file_is_passed_over() -> None:
    loop = b"Exif\0\0" + TIFF + struct.pack("<H", 1) + tag(0x8769, 4, 8) + struct.pack("<I", 8)
    far = b"Exif\0\0" + TIFF + struct.pack("<H", 1) + tag(0x0112, 3, MOST)
    for exif in (loop, far):
        assert pixels.read(encoded("JPEG", exif=exif), SPEC).shape == SPEC.shape


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_folder_with_a_pipe_or_a_device_for_an_image_is_not_waited_for(tmp_path: Path) -> None:
    from tellapart.data.scan import scan
    from tellapart.data.sources import LabelledPath, Source

    os.mkfifo(tmp_path / "pipe.png")
    draw("disc", 0).save(tmp_path / "a.png")
    rows = tuple(LabelledPath(path, "disc") for path in ("pipe.png", "/dev/zero", "a.png"))
    found = scan(Source(tmp_path, rows, "named by a catalog"), DataConfig())
    assert [image.error.partition(",")[0] for image in found] == [
        "unreadable: it is a pipe",
        "unreadable: it is a device",
        "",
    ]


def test_an_image_in_an_image_does_not_go_round_the_bound_on_pixels(
    tmp_path: Path, megabytes: Callable[[str], tuple[int, str]]
) -> None:
    inner = io.BytesIO()
    Image.new("L", (20_000, 8000)).save(inner, "PNG")
    content = inner.getvalue()
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 1, len(content), 22) + content
    for data in (icon, iptc(content, 16, 16)):
        (tmp_path / "a.ico").write_bytes(data)
        taken, said = megabytes(f"print(pixels.decode({str(tmp_path / 'a.ico')!r}, None, 1_000_000))")
        assert said.startswith(("too many pixels: 20000x8000", "not an image"))
        assert taken < 100


def test_a_jpeg_of_endless_scans_or_segments_is_refused_within_a_second() -> None:
    whole = encoded("JPEG", progressive=True, quality=90)
    last = whole.rindex(b"\xff\xda")
    scans = whole[:-2] + 300_000 * whole[last : last + 16] + whole[-2:]
    segments = whole[:2] + 7_000_000 * b"\xff\xe5\0\2" + whole[2:]
    for data, reason in ((scans, "too many scans: a JPEG of 300,"), (segments, "too many segments")):
        started = time.perf_counter()
        with pytest.raises(ImageError, match=reason):
            pixels.decode(data, SPEC)
        assert time.perf_counter() - started < 1


def test_a_jpeg_of_hundreds_of_exif_blocks_is_read_within_a_second() -> None:
    """By the server too, which looks at the header in its own process."""
    whole = encoded("JPEG")
    block = b"\xff\xe1" + struct.pack(">H", 65535) + b"Exif\0\0" + TIFF + bytes(65535 - 2 - 6 - len(TIFF))
    data = whole[:2] + 450 * block + whole[2:]
    started = time.perf_counter()
    assert pixels.cost(data) is not None
    np.testing.assert_array_equal(pixels.read(data, SPEC), pixels.read(whole, SPEC))
    assert time.perf_counter() - started < 1
    assert len(read_header(data).exif) < 2_000_000  # joining them all copies gigabytes


SIDE = 7000
WIDE = {
    "float.tif": ("F", 0.5, {"compression": "tiff_adobe_deflate"}),
    "integer.tif": ("I", 70_000, {"compression": "tiff_adobe_deflate"}),
    "cover.png": ("RGBA", (10, 20, 30, 128), {"compress_level": 1}),
    "palette.png": ("P", 3, {"transparency": 3, "compress_level": 1}),
    "cmyk.tif": ("CMYK", (1, 2, 3, 4), {"compression": "tiff_adobe_deflate"}),
}


@pytest.mark.parametrize("name", WIDE)
def test_wide_images_take_little_more_memory_than_their_values(
    name: str, tmp_path: Path, megabytes: Callable[[str], tuple[int, str]]
) -> None:
    mode, value, options = WIDE[name]
    Image.new(mode, (SIDE, SIDE), value).save(tmp_path / name, **options)
    taken, said = megabytes(
        f"print(pixels.decode({str(tmp_path / name)!r}, pixels.ImageSpec(64, 64), thumbnail=True).width)"
    )
    assert said == str(SIDE)
    stored = SIDE * SIDE * (1 if mode == "P" else 4) / 2**20
    assert taken < 1.3 * stored + 60


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_or_a_device_that_is_named_is_refused_at_once(
    plain_run: ta.Run, tmp_path: Path, tellapart: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for path, words in ((pipe, "it is a pipe, not a file"), (Path("/dev/zero"), "it is a device, not a file")):
        with pytest.raises(ImageError, match=words):
            pixels.read(path, SPEC)
    found = tellapart("predict", plain_run.path, pipe, "/dev/zero", "--format", "csv")
    assert found.returncode == 1
    assert found.stdout.count("not a file") == 2


def test_a_damaged_image_is_predicted_with_a_warning(
    plain_run: ta.Run, tmp_path: Path, tellapart: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    buffer = io.BytesIO()
    draw("disc", 0).resize((300, 300)).save(buffer, "JPEG")
    data = buffer.getvalue()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) * 2 // 3] + data[-2:])
    for output in ("jsonl", "csv", "table"):
        shown = tellapart("predict", plain_run.path, tmp_path / "a.jpg", "--format", output)
        assert shown.returncode == 0
        assert "Corrupt JPEG data: premature end" in shown.stdout
