"""The table of formats: each row reads what it says, and nothing else is tried."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tellapart.data.image_formats import FORMATS, PREFIX, SUFFIXES, format_of
from tellapart.data.pixels import decode
from tellapart.data.sources.listing import kind_of
from tests.data.photograph import HEIGHT, PHOTO, SPEC, TABLE, WIDTH, encoded

NAMES = [row.name for row in FORMATS]


def saved(name: str) -> bytes:
    if name == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if name == "ICO":
        return encoded(Image.fromarray(PHOTO), "ICO", sizes=[(WIDTH, HEIGHT)])
    return encoded(Image.fromarray(PHOTO), name)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_of_the_table_is_known_by_its_first_bytes_and_read(name: str) -> None:
    data = saved(name)
    form = format_of(data[:PREFIX])
    assert form is not None
    assert form.name == name
    found = decode(data, SPEC)
    assert (found.width, found.height, found.warning) == (WIDTH, HEIGHT, "")
    assert found.pixels is not None
    assert np.abs(found.pixels.astype(int) - decode(PHOTO, SPEC).pixels).mean() < 3


@pytest.mark.parametrize("name", NAMES)
def test_folders_are_searched_for_every_suffix_of_the_table(name: str) -> None:
    (row,) = [row for row in FORMATS if row.name == name]
    assert row.suffixes
    assert all(kind_of(f"a.{suffix.upper()}") == "image" for suffix in row.suffixes)
    assert set(row.suffixes) <= SUFFIXES


@pytest.mark.parametrize("kind", ["PCX", "SGI", "DDS", "ICNS", "MSP", "XBM", "SPIDER", "PDF"])
def test_what_pillow_writes_beside_the_table_is_no_image(kind: str) -> None:
    image = Image.fromarray(PHOTO)
    modes = {"MSP": "1", "XBM": "1", "SPIDER": "F"}
    assert format_of(encoded(image.convert(modes.get(kind, "RGB")), kind)[:PREFIX]) is None


def test_a_multi_image_file_is_its_first_jpeg() -> None:
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))], quality=95)
    found = decode(file.getvalue(), SPEC)
    assert (found.width, found.height, found.warning) == (WIDTH, HEIGHT, "")


def test_reading_loads_no_reader_of_pillow_that_is_not_in_the_table() -> None:
    program = (
        "import sys\n"
        "from tellapart.data.image_formats import FORMATS\n"
        "from tellapart.data.pixels import decode\n"
        "from tests.data.photograph import TABLE\n"
        "for module in [name for name in sys.modules if name.endswith('ImagePlugin')]: del sys.modules[module]\n"
        "for name in sys.argv[1:]: decode(TABLE[name][0], None)\n"
        "loaded = {n for n in sys.modules if n.startswith('PIL.') and n.endswith('ImagePlugin')}\n"
        "print(*sorted(loaded - {row.opener.partition(':')[0] for row in FORMATS}))\n"
    )
    names = [name for name in TABLE if not name.startswith("tiff")]
    found = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert not found.stdout.strip()
