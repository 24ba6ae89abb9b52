"""Images decoded in processes: the same pixels, and bounds that no image gets round."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

import tellapart as ta
from tellapart.data import pixels
from tellapart.data.decode_pool import IsolatedDecoder, _checked
from tellapart.errors import ImageError
from tellapart.task import ImageSpec
from tests.command import PATIENCE
from tests.data.hostile import SLOW_SIDE, large_png, slow_jp2

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such processes there")

SPEC = ImageSpec(48, 64)
PHOTOGRAPHS = sorted((Path(ta.__file__).parent / "data" / "builtin" / "pets").glob("*/*_1?.jpg"))
MEMORY = 150_000_000
FORMATS = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "TGA", "ICO", "AVIF", "HEIF")


@pytest.fixture(scope="module")
def decoder() -> Iterator[IsolatedDecoder]:
    with IsolatedDecoder(seconds=20, memory=MEMORY) as found:
        yield found


def processes(decoder: IsolatedDecoder) -> list[psutil.Process]:
    """Those that decode for it, or wait."""
    return [psutil.Process(each.pid) for each in (*decoder._idle, *decoder._busy)]


def wait_until_it_works(process: psutil.Process) -> None:
    """Until it has taken some processor time since now."""
    begun = process.cpu_times().user
    while process.cpu_times().user < begun + 0.1:
        time.sleep(0.01)


def reason(decoder: IsolatedDecoder, content: bytes, **options: float) -> str:
    with pytest.raises(ImageError) as caught:
        decoder.decode(content, SPEC, **options)  # type: ignore[arg-type]
    return caught.value.reason


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_pixels_as_in_this_process(decoder: IsolatedDecoder, kind: str) -> None:
    file = io.BytesIO()
    try:
        if kind == "HEIF":
            pytest.importorskip("pillow_heif").register_heif_opener()
        image = Image.open(PHOTOGRAPHS[0]).resize((150, 100))
        image.save(file, kind)
        here = pixels.decode(file.getvalue(), SPEC, thumbnail=True)
    except (KeyError, OSError, ImageError) as error:
        pytest.skip(f"this Pillow does not write or read it: {error}")
    there = decoder.decode(file.getvalue(), SPEC, thumbnail=True)
    assert here.pixels is not None
    assert here.thumbnail is not None
    assert np.array_equal(here.pixels, there.pixels)  # type: ignore[arg-type]
    assert np.array_equal(here.thumbnail, there.thumbnail)  # type: ignore[arg-type]
    assert (here.width, here.height, here.mode) == (there.width, there.height, there.mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16"])
def test_every_mode_gives_the_same_pixels_as_in_this_process(decoder: IsolatedDecoder, mode: str) -> None:
    """What Pillow imports for a mode alone cannot be read in the process any more."""
    grey = Image.open(PHOTOGRAPHS[0]).resize((40, 30)).convert("L")
    image = Image.merge("LAB", (grey, grey, grey)) if mode == "LAB" else grey.convert(mode)
    file = io.BytesIO()
    image.save(file, "TIFF")
    here, there = (decode(file.getvalue(), SPEC) for decode in (pixels.decode, decoder.decode))
    assert np.array_equal(here.pixels, there.pixels)  # type: ignore[arg-type]
    assert here.mode == there.mode


def test_photographs_from_many_threads_keep_their_own_pixels(decoder: IsolatedDecoder) -> None:
    content = [path.read_bytes() for path in PHOTOGRAPHS]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda each: decoder.decode(each, SPEC), content * 3))
    for each, expected in zip(found, content * 3, strict=True):
        assert np.array_equal(each.pixels, pixels.read(expected, SPEC))  # type: ignore[arg-type]
    assert decoder.decode(content[0], None).pixels is None


def test_errors_are_those_of_the_one_road(decoder: IsolatedDecoder) -> None:
    photograph = PHOTOGRAPHS[0].read_bytes()
    assert reason(decoder, b"") == "empty"
    assert reason(decoder, b"no image at all") == "not an image"
    assert reason(decoder, photograph[: len(photograph) // 2]) == "truncated"
    assert reason(decoder, photograph, max_pixels=1000) == "too many pixels"


def test_an_image_that_takes_too_long_is_told_and_the_next_is_decoded() -> None:
    with IsolatedDecoder(seconds=0.4, memory=MEMORY * 8, ready=1) as decoder:
        decoder.wait_until_ready()
        (decoding,) = processes(decoder)
        assert reason(decoder, slow_jp2()) == "too slow"
        assert not decoding.is_running(), "it is ended and not waited for"
        assert decoder.decode(PHOTOGRAPHS[0].read_bytes(), SPEC, seconds=20).width


def test_an_image_that_takes_too_much_memory_is_told_and_the_next_is_decoded(decoder: IsolatedDecoder) -> None:
    assert reason(decoder, large_png()) == "too much memory"
    assert decoder.decode(PHOTOGRAPHS[0].read_bytes(), SPEC).width


def test_a_process_that_is_killed_is_replaced_and_its_image_decoded_by_the_next() -> None:
    with IsolatedDecoder(seconds=20, memory=MEMORY * 8, ready=1) as decoder, ThreadPoolExecutor(1) as pool:
        decoder.wait_until_ready()
        (idle,) = processes(decoder)
        idle.kill()
        assert decoder.decode(PHOTOGRAPHS[0].read_bytes(), SPEC).width
        waiting = pool.submit(decoder.decode, slow_jp2(), SPEC)
        (busy,) = processes(decoder)
        wait_until_it_works(busy)
        busy.kill()
        assert waiting.result().width == SLOW_SIDE
        (last,) = processes(decoder)
    assert not last.is_running()


def test_no_process_outlives_a_parent_that_is_killed() -> None:
    program = (
        "import sys; from tellapart.data.decode_pool import IsolatedDecoder; from tellapart.task import ImageSpec\n"
        "from tests.data.hostile import slow_jp2; slow = slow_jp2()\n"
        "decoder = IsolatedDecoder(seconds=60, ready=1); decoder.wait_until_ready(); print('ready', flush=True)\n"
        "decoder.decode_all([slow] * 90, ImageSpec(8, 8), seconds=300); print('decoded', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        (child,) = psutil.Process(parent.pid).children()
        wait_until_it_works(child)
        parent.kill()
        gone, left = psutil.wait_procs([child], timeout=30)  # decoding takes longer
        for process in left:
            process.kill()
        assert gone
        assert "decoded" not in parent.stdout.read()


CONFINED = """
import os, signal, socket, subprocess, sys
from tellapart.data import decode_worker

pipe = os.pipe()
held = decode_worker._confine(200_000_000)
def tried(what, *arguments):
    try:
        what(*arguments)
    except (OSError, MemoryError):
        return "refused"
    return "done"
found = [
    tried(open, "/etc/passwd"), tried(open, "written", "w"), tried(socket.socket), tried(os.listdir, "/"),
    tried(os.fork), tried(os.execv, "/bin/true", ["true"]), tried(os.kill, int(sys.argv[1]), signal.SIGTERM),
    tried(bytearray, 300_000_000), tried(os.unlink, "kept"), tried(bytearray, 100_000_000),
]
os.write(1, f"{held} {found}".encode())
"""


def libseccomp() -> bool:
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not libseccomp(), reason="libseccomp is not installed")
def test_a_decoder_that_was_taken_over_opens_sends_starts_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with subprocess.Popen(["sleep", "60"]) as other:
        command = [sys.executable, "-c", CONFINED, str(other.pid)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert other.poll() is None
        other.kill()
    assert done.stdout == f"True {['refused'] * 9 + ['done']}"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_process_is_told_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "a secret")
    with IsolatedDecoder(ready=1) as decoder:
        decoder.wait_until_ready()
        (child,) = processes(decoder)
        assert "a secret" not in Path(f"/proc/{child.pid}/environ").read_text(encoding="utf-8")


def test_signals_for_the_whole_group_leave_the_processes_to_the_parent() -> None:
    with IsolatedDecoder(ready=1) as decoder:
        decoder.wait_until_ready()
        (child,) = processes(decoder)
        assert os.getpgid(child.pid) != os.getpgrp()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            child.send_signal(number)
        assert decoder.decode(PHOTOGRAPHS[0].read_bytes(), SPEC).width
        assert processes(decoder) == [child]


@pytest.mark.parametrize(
    "lie", [[], {"width": "1"}, {"reason": "none of ours", "detail": ""}, {"reason": 1}, {"other": 1}]
)
def test_what_no_honest_process_says_is_not_believed(lie: object) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)):
        _checked(lie)
