"""The camera's page, with Chromium's fake camera: a green field with a clock and a turning disc."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.errors import ConfigError, ImageError
from tellapart.studio.camera import TAKES, CameraSession
from tellapart.studio.frames import Frames
from tests.studio.conftest import Studio, answering

if TYPE_CHECKING:
    from playwright.sync_api import Page

httpx = pytest.importorskip("httpx")

Visit = Callable[..., "Page"]
DESK = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}


@pytest.fixture(scope="module")
def camera_studio(shapes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """In a folder where frames were trained on before: the run says what it sees."""
    folder = tmp_path_factory.mktemp("camera")
    shutil.copytree(shapes_run, folder / "runs" / "frames")
    studio = answering(["frames", "--camera", "--classes", "up,down"], folder / "frames", folder=folder)
    yield studio
    studio.kill()


@pytest.fixture
def studio(camera_studio: Studio) -> Studio:
    """Without a frame; `visit` opens its page."""
    shutil.rmtree(camera_studio.file, ignore_errors=True)
    return camera_studio


def frames(studio: Studio) -> dict[str, list[str]]:
    """The files of each class."""
    return {place.name: sorted(file.name for file in place.iterdir()) for place in sorted(studio.file.iterdir())}


def seen(page: Page) -> None:
    page.wait_for_function("() => document.getElementById('video').videoWidth > 0")


def test_frames_are_collected_while_a_key_or_a_button_is_held_and_a_take_has_its_number(
    visit: Visit, studio: Studio
) -> None:
    page = visit("/", **DESK)
    seen(page)
    page.keyboard.down("1")
    page.get_by_text(re.compile("^[3-9] frames of up")).wait_for()
    page.keyboard.up("1")
    page.locator("#name").fill("side")
    page.keyboard.press("Enter")
    for _ in range(2):
        page.locator("#likely button").last.hover()
        page.mouse.down()
        page.get_by_text(re.compile("^[2-9] frames of side")).wait_for()
        page.mouse.up()
        page.wait_for_timeout(300)
    count = len(frames(studio)["side"])
    page.wait_for_timeout(500)
    found = frames(studio)
    assert len(found["side"]) <= count + 1  # the one that was under way
    assert len({name.split("-")[1] for name in found["up"]}) == 1
    assert len({name.split("-")[1] for name in found["side"]}) == 2
    image = Image.open(studio.file / "up" / found["up"][0])
    assert image.format == "JPEG"
    assert np.asarray(image.convert("RGB")).mean(axis=(0, 1)).argmax() == 1  # Chromium's camera is green


def test_label_and_verdict_follow_the_video_and_a_frame_is_kept(visit: Visit, studio: Studio) -> None:
    page = visit("/", **DESK)
    seen(page)
    page.locator("#bars li").first.wait_for()
    looks = page.evaluate(
        "async () => { let looks = 0; new MutationObserver(() => looks++).observe(document.getElementById('bars'), "
        "{ childList: true }); await new Promise((done) => setTimeout(done, 2000)); return looks; }"
    )
    assert looks >= 4  # twice a second
    label = page.inner_text("#said").split(",")[0]
    page.get_by_role("button", name="Right: keep this frame").click()
    page.get_by_text("Kept as ").wait_for()
    page.locator("#truth").select_option("down")
    page.get_by_role("button", name="Keep this frame", exact=True).click()
    page.get_by_text("Kept as down").wait_for()
    assert {name: len(files) for name, files in frames(studio).items()} == {"down": 1, label: 1}


def test_frames_of_this_session_are_removed_from_the_page_and_come_back_by_undo(visit: Visit, studio: Studio) -> None:
    before = studio.file / "up" / "take-1-000000.jpg"
    before.parent.mkdir(parents=True)
    before.write_bytes(jpeg(0))
    page = visit("/", **PHONE)
    for number in range(3):
        content = jpeg(number)
        assert (
            httpx.post(f"{studio.url}/v1/frames?label=up&take=7", content=content, headers=studio.headers).status_code
            == 200
        )
    page.reload()
    found = frames(studio)["up"]
    take = page.locator(".take").first
    take.get_by_role("button", name="Remove frame 2 of up").click()
    page.get_by_text("1 frame removed.").wait_for()
    take.get_by_role("button", name="Remove all of these").click()
    page.get_by_text("2 frames removed.").wait_for()
    assert frames(studio)["up"] == [before.name], "only what this session wrote"
    page.keyboard.press("u")
    page.get_by_text("2 frames there again.").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("1 frame there again.").wait_for()
    assert frames(studio)["up"] == found
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("options", [DESK, PHONE], ids=["desk-light", "phone-dark"])
def test_a_screen_reader_finds_no_fault_in_the_camera(visit: Visit, options: dict[str, Any]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = visit("/", bypass_csp=True, **options)
    page.locator("#bars li").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]
    found = axe.Axe().run(page)
    assert not found.response["violations"], found.generate_report()


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 48), 10 + number).save(file, "JPEG")
    return file.getvalue()


def test_a_frame_is_a_new_file_below_the_folder_or_none(tmp_path: Path) -> None:
    session = CameraSession(tmp_path / "frames")
    for label in ("../up", "a/b", "a\\b", ".hidden", "c:", "", "u\np", "up."):
        with pytest.raises(ConfigError):
            session.keep(label, "1", jpeg(0))
    for take in ("", "x", "1/2", "-1", "1" * 16):
        with pytest.raises(ConfigError):
            session.keep("up", take, jpeg(0))
    for content in (b"", b"no image", jpeg(0)[:200], b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(ImageError):
            session.keep("up", "1", content)
    assert not (tmp_path / "frames").exists()
    given = [jpeg(number) for number in range(3)]
    kept = [session.keep("up", "1", content) for content in given]
    assert [path.read_bytes() for path in kept] == given
    assert len(set(kept)) == 3


def test_a_file_that_changed_since_is_not_removed_and_undo_replaces_none(tmp_path: Path) -> None:
    session = CameraSession(tmp_path / "frames")
    given = [jpeg(number) for number in range(3)]
    paths = [session.keep("up", "1", content) for content in given]
    written = session.written
    paths[0].write_bytes(b"of somebody else")
    with pytest.raises(ConfigError, match="was changed since"):
        written.remove([1, 0])
    assert paths[1].exists(), "nothing is removed where one cannot be"
    with pytest.raises(ConfigError, match="no such frame"):
        written.remove([99])
    written.remove([1])
    paths[1].write_bytes(b"of somebody else")
    written.restore()
    assert paths[1].read_bytes() == b"of somebody else"
    assert given[1] in [path.read_bytes() for path in (tmp_path / "frames" / "up").iterdir()]
    few = Frames(limit=len(given[2]) - 1)
    few.write(tmp_path / "few", "1", given[2], 0)
    with pytest.raises(ConfigError, match="Remove fewer at once"):
        few.remove([0])


def test_the_frames_of_a_take_are_in_one_split(tmp_path: Path) -> None:
    session = CameraSession(tmp_path / "frames")
    for label in ("up", "down"):
        for take in ("1", "22", "333", "4"):
            for number in range(5):
                session.keep(label, take, jpeg(number))
    found = ta.read(tmp_path / "frames", group_by=TAKES, progress=ta.SILENT)
    splits: dict[str, set[str]] = {}
    for image in found.images:
        splits.setdefault(image.path.rpartition("-")[0], set()).add(image.split)
    assert len(splits) == 8
    assert {image.split for image in found.images} == {"train", "validation", "test"}
    assert all(len(each) == 1 for each in splits.values())


def test_strangers_collect_no_frames(studio: Studio) -> None:
    ours = studio.headers
    theirs = {**ours, "origin": "https://evil.example"}
    answer = httpx.post(studio.url + "/v1/frames?label=up&take=1", content=jpeg(0), headers=theirs)
    assert answer.status_code == 403
    assert (
        httpx.post(studio.url + "/v1/frames?label=up&take=1", content=b"x" * 1_000_001, headers=ours).status_code == 413
    )
    assert httpx.post(studio.url + "/v1/look", content=b"no image", headers=ours).status_code == 400
    assert not studio.file.exists()
