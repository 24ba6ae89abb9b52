"""The list of predictions on the page: the newest first, filtered, retried, removed; and a server that is away."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

import tellapart as ta
from tests.serve.page import done, rows

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.serve.conftest import Server

SIZES = [{"width": 390, "height": 700}, {"width": 1440, "height": 900}]


def names(page: Page) -> list[str]:
    return [row["name"] for row in rows(page)]


@pytest.mark.parametrize("size", SIZES)
def test_new_images_come_first_into_view_with_the_focus_and_name_the_run_that_answered(
    size: dict[str, int], visit: Callable[..., Page], photographs: list[Path], tmp_path: Path
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    scan = tmp_path / "scan.tiff"
    Image.open(photographs[0]).convert("RGB").save(scan)
    page = visit(viewport=size, color_scheme="dark" if size["width"] < 400 else "light")
    page.set_input_files("#files", [*photographs[:2], scan])
    done(page, 3)
    page.get_by_label("Run").select_option("three")
    page.set_input_files("#files", photographs[2:3])
    done(page, 4)
    assert names(page) == [photographs[2].name, photographs[0].name, photographs[1].name, "scan.tiff"]
    assert [card.inner_text() for card in page.locator(".by").all()] == ["by three", "by two", "by two", "by two"]
    first = page.locator("#list > li").first
    assert first.evaluate("card => card === document.activeElement && card.getBoundingClientRect().top < innerHeight")
    assert page.get_by_text("TIFF: this browser shows no preview").is_visible()
    assert axe.Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]


def test_a_server_that_was_away_gets_the_images_that_waited(
    visit: Callable[..., Page], photographs: list[Path]
) -> None:
    page = visit()
    page.get_by_text("Tells apart").wait_for()
    page.route("**/*", lambda route: route.abort())
    page.set_input_files("#files", photographs[:2])
    alert = page.get_by_role("alert").filter(has_text="The server does not answer: it may have been stopped.")
    alert.wait_for()
    assert "2 images wait" in alert.inner_text() or "1 image waits" in alert.inner_text()
    page.unroute("**/*")
    done(page, 2)
    assert not alert.is_visible()


def test_a_file_that_is_gone_is_told_apart_from_a_server_that_is_away(
    visit: Callable[..., Page], photographs: list[Path], tmp_path: Path
) -> None:
    gone = Path(shutil.copy(photographs[0], tmp_path / "gone.jpg"))
    page = visit()
    held: list[Any] = []
    page.route("**/v1/runs", lambda route: held.append(route))
    page.reload()
    page.set_input_files("#files", [gone])
    gone.unlink()
    for route in held:
        route.continue_()
    done(page, 1)
    assert "it cannot be read. It is a folder, or it was moved" in rows(page)[0]["label"]


def test_the_list_is_counted_filtered_retried_and_shortened(
    visit: Callable[..., Page], photographs: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"bad")
    page = visit()
    refusals = [500]

    def answer(route: Any) -> None:
        if refusals and "one" in (route.request.headers.get("content-type") or "one"):
            route.fulfill(status=refusals.pop(), json={"error": "the server failed"})
        else:
            route.continue_()

    page.route("**/v1/predict*", answer)
    page.set_input_files("#files", [bad, *photographs[:3]])
    done(page, 4)
    filters = page.get_by_role("group", name="Show")
    counts = [int(text.split()[0]) for text in filters.get_by_role("button").all_inner_texts()]
    assert counts[0] == sum(counts[1:]) == 4
    filters.get_by_role("button", name="failed").click()
    shown = page.locator("#list > li:visible")
    assert 1 <= shown.count() <= 2
    assert filters.get_by_role("button", name="failed").get_attribute("aria-pressed") == "true"
    for card in shown.filter(has_text="the server failed").all():
        card.get_by_role("button", name="again").click()
    filters.get_by_role("button", name=re.compile("1 failed")).wait_for()
    page.get_by_role("button", name="Remove bad.jpg").click()
    done(page, 3)
    assert sorted(names(page)) == sorted(path.name for path in photographs[:3])
    assert not page.locator("#list > li[hidden]").count(), "a filter without images is off"


def test_the_images_of_a_folder_are_found_at_any_depth_and_the_rest_is_counted(
    visit: Callable[..., Page], photographs: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "holiday"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(photographs[0], folder / "a.jpg")
    shutil.copy(photographs[1], folder / "deeper" / "b.jpg")
    (folder / "notes.txt").write_text("no image")
    page = visit()
    page.get_by_text("Tells apart").wait_for()
    page.set_input_files("#folder", folder)
    done(page, 2)
    assert sorted(names(page)) == ["holiday/a.jpg", "holiday/deeper/b.jpg"]
    assert "1 file that is no image was left out." in page.get_by_role("alert").inner_text()
    dropped = page.evaluate(
        """async () => {
            const { dropped, nameOf } = await import("/page/files.js");
            const file = (path) => ({isFile: true, fullPath: path, file: (good) => good(new File([""], path))});
            const folder = (name, inside) => ({isDirectory: true, name, createReader: () => {
                const parts = [inside.slice(0, 1), inside.slice(1), []];
                return {readEntries: (good) => good(parts.shift())};
            }});
            const top = folder("d", [file("/d/1.png"), folder("e", [file("/d/e/2.HEIC"), file("/d/e/3.txt")])]);
            const items = [top, file("/alone.xyz")].map((entry) => ({webkitGetAsEntry: () => entry}));
            const found = await dropped({items, files: []});
            return {...found, images: found.images.map(nameOf)};
        }"""
    )
    assert dropped == {"images": ["alone.xyz", "d/1.png", "d/e/2.HEIC"], "skipped": 1, "left": 0}


def test_the_examples_for_curl_send_the_token_where_one_is_asked_for(
    visit: Callable[..., Page], serve: Callable[..., Server], run: ta.Run, tmp_path: Path
) -> None:
    plain = visit(path="/docs")
    plain.get_by_text("curl --data-binary").wait_for()
    (tmp_path / "token").write_text("0123456789abcdef")
    page = visit(serve(run.path, "--token-file", tmp_path / "token").url, "/docs")
    page.get_by_text('curl -H "Authorization: Bearer $TOKEN" --data-binary').wait_for()
    assert page.inner_text("#examples").count("Bearer $TOKEN") == 2
