"""The studio as a person uses it, with keys, a pointer and a finger, on real photographs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tellapart.data.corrections import read_corrections
from tellapart.data.map import has_umap
from tellapart.studio.browse import NOWHERE, ON_MAP
from tests.command import call
from tests.studio.conftest import SWAPPED, Studio, start

if TYPE_CHECKING:
    from playwright.sync_api import Page

httpx = pytest.importorskip("httpx")

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "studio.md"
Visit = Callable[..., "Page"]
DESK = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}


def progress(page: Page, text: str) -> None:
    page.wait_for_function("(text) => document.getElementById('progress').textContent === text", arg=text)


def corrected(studio: Studio) -> dict[str, str]:
    """What the file says of each image."""
    return {row.path: row.label or row.action for row in read_corrections(studio.file)}


def reviewed(visit: Visit, path: str, **options: Any) -> Page:
    page = visit(path, **options)
    page.locator("#one:not([hidden]) img, #grid img").first.wait_for()
    return page


def test_each_doubt_is_settled_by_a_key_written_at_once_and_undone_to_the_beginning(
    visit: Visit, studio: Studio
) -> None:
    page = reviewed(visit, "/", **DESK)
    total = studio.get("/v1/state")["doubts"]
    decided: dict[str, str] = {}
    for done in range(total):
        page.wait_for_function("(n) => document.getElementById('progress-bar').value >= n", arg=done)
        if page.locator("#nothing").is_visible():
            break
        kind, name = page.inner_text("#kind"), page.locator("#images .name").last.inner_text()
        before = page.inner_text("#progress")
        if kind == "Labels that look wrong":
            decided[name] = page.locator("#likely .label-name").first.inner_text().split()[-1]
            page.keyboard.press("1")
        elif kind == "Copies under two labels":
            page.keyboard.press("1")
        else:
            decided[name] = "drop" if kind == "Blank images" else "keep"
            page.keyboard.press("d" if kind == "Blank images" else "k")
        page.wait_for_function("(old) => document.getElementById('progress').textContent !== old", arg=before)
        assert decided.items() <= corrected(studio).items()
    assert decided["cat/blank.png"] == "drop"
    assert {decided[name] for name in SWAPPED} == {"dog"}
    progress(page, f"{total} of {total}")
    while not page.locator("#undo").is_disabled():
        before = page.inner_text("#progress")
        page.keyboard.press("u")
        page.wait_for_function("(old) => document.getElementById('progress').textContent !== old", arg=before)
    progress(page, f"0 of {total}")
    assert not read_corrections(studio.file)


def test_a_finger_on_a_telephone_marks_a_copy_and_drops_it(visit: Visit, studio: Studio) -> None:
    page = reviewed(visit, "/?kind=contradicting", **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shown = [button for button in page.get_by_role("button").all() if button.is_visible()]
    assert not [one.inner_text() for one in shown if (one.bounding_box() or {"height": 0})["height"] < 43.9]
    names = page.locator("#images .name").all_inner_texts()
    marks = page.locator(".mark")
    assert [mark.get_attribute("aria-pressed") for mark in marks.all()] == ["false", "true"]
    marks.nth(0).tap()
    marks.nth(1).tap()
    page.get_by_role("button", name="Drop").tap()
    progress(page, "1 of 1")
    assert corrected(studio) == {names[0]: "drop"}
    page.get_by_role("button", name="Undo").tap()
    progress(page, "0 of 1")


def test_filters_lose_nothing_that_was_decided_and_stand_in_the_address(visit: Visit, studio: Studio) -> None:
    page = reviewed(visit, "/?kind=suspect", **DESK)
    count = page.evaluate("document.getElementById('progress-bar').max")
    page.keyboard.press("k")
    progress(page, f"1 of {count}")
    page.get_by_role("button", name="Blank images").click()
    progress(page, "0 of 1")
    assert page.url.endswith("?kind=blank")
    page.locator("#label").select_option("dog")
    page.get_by_text("Nothing is in doubt of this kind and class.").wait_for()
    page.goto(studio.url + "/?kind=suspect")
    progress(page, f"1 of {count}")
    assert list(corrected(studio).values()) == ["keep"]


def test_a_page_that_was_open_before_the_search_ended_shows_what_it_found(visit: Visit, studio: Studio) -> None:
    early = {"stage": "features", "done": 1, "total": 2, "over": False, "problem": ""}
    asked = {"state": 0, "doubt": 0}

    def state(route: Any) -> None:
        asked["state"] += 1
        told = route.fetch().json()
        route.fulfill(json=told | ({"looking": early} if asked["state"] < 3 else {}))

    def doubt(route: Any) -> None:
        asked["doubt"] += 1
        told = route.fetch().json()
        route.fulfill(json=told | ({"neighbours": []} if asked["doubt"] == 1 else {}))

    page = visit("/page/icon.svg", **DESK)
    page.route("**/v1/state", state)
    page.route("**/v1/doubts/*", doubt)
    page.goto(studio.url + "/?kind=suspect")
    page.get_by_text("Looking for doubts (features: 1 of 2)").wait_for()
    page.locator("#near:not([hidden]) img").first.wait_for()
    assert page.locator("#looking").is_hidden()


def test_many_are_settled_at_once_and_undone_together(visit: Visit, studio: Studio) -> None:
    page = reviewed(visit, "/?kind=suspect", **DESK)
    page.keyboard.press("m")
    items = page.locator("#grid button")
    items.first.wait_for()
    count = items.count()
    items.first.click()
    items.nth(count - 1).click(modifiers=["Shift"])
    page.get_by_text(f"{count} selected").wait_for()
    page.get_by_role("button", name="Take proposals").click()
    progress(page, f"{count} of {count}")
    assert set(SWAPPED) <= set(corrected(studio))
    page.locator("#undo-many").click()
    progress(page, f"0 of {count}")
    assert not corrected(studio)


def test_a_second_tab_is_told_and_overwrites_nothing(visit: Visit, studio: Studio) -> None:
    one, other = (reviewed(visit, "/?kind=blank", **DESK) for _ in range(2))
    one.keyboard.press("d")
    progress(one, "1 of 1")
    other.evaluate("window.stop()")
    other.keyboard.press("k")
    other.get_by_text("Something was decided elsewhere meanwhile").wait_for()
    progress(other, "1 of 1")
    assert corrected(studio) == {"cat/blank.png": "drop"}
    other.keyboard.press("k")  # now in the knowledge of it
    other.get_by_text("Settled: kept.").wait_for()
    assert studio.get("/v1/state")["made"] == 2


def test_images_are_filtered_sorted_enlarged_and_taken_along(visit: Visit, studio: Studio) -> None:
    page = visit("/browse?split=test&sort=-loss", **DESK)
    page.locator("#window img").first.wait_for()
    known = studio.get("/v1/images?split=test&sort=-loss")
    page.get_by_text(f"{known['total']} of ", exact=False).first.wait_for()
    page.locator("#window button").first.click()
    page.locator("#card[open]").wait_for()
    assert page.inner_text("#card-title") == known["rows"][0]["path"]
    assert page.locator("#card .bars li").count() == 2
    assert page.locator("#card .strip li").count() == 5
    name = page.inner_text("#card-title")
    page.locator("#card-label").select_option("dog")
    page.get_by_role("button", name="Relabel").click()
    page.get_by_text("in " + str(studio.file)).wait_for()
    assert set(corrected(studio)) == {name}
    page.locator("#card").get_by_role("button", name="Undo").click()
    page.get_by_text("0 corrections in").wait_for()
    assert not corrected(studio)
    page.keyboard.press("Escape")
    page.locator("#matrix summary").click()
    cell = page.locator("#confusion button").first
    number = int(cell.inner_text())
    cell.click()
    page.get_by_text(f"{number} of ", exact=False).first.wait_for()
    assert "truth=" in page.url
    assert "answer=" in page.url
    with page.expect_download() as download:
        page.get_by_role("link", name="Download csv").click()
    with open(download.value.path(), encoding="utf-8-sig", newline="") as file:  # noqa: PTH123
        rows = list(csv.DictReader(io.StringIO(file.read())))
    assert len(rows) == number
    assert {row["split"] for row in rows} == {"test"}
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    page.get_by_role("searchbox", name="Name").fill("wrong-")
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_role("searchbox", name="Name").fill("WRONG-")
    page.get_by_text("2 of ", exact=False).first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440


def test_what_is_drawn_around_on_the_map_fills_the_list_and_a_press_enlarges(visit: Visit, studio: Studio) -> None:
    page = visit("/browse", **DESK)
    page.locator("#map:not([hidden]) summary").click()
    page.locator("#map-legend li").first.wait_for()
    page.get_by_text(f"Axes: {'UMAP' if has_umap() else 'principal components'}").wait_for()
    page.locator("#map-canvas").scroll_into_view_if_needed()
    box = page.locator("#map-canvas").bounding_box()
    assert box

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + box["width"] * x, box["y"] + box["height"] * y

    page.mouse.move(*at(0.5, 0.01))
    page.mouse.down()
    for corner in ((0.99, 0.01), (0.99, 0.99), (0.5, 0.99)):
        page.mouse.move(*at(*corner), steps=3)
    page.mouse.up()
    page.wait_for_function("() => location.search.includes('lasso=')")
    total = studio.get("/v1/state")["images"]
    listed = studio.get("/v1/images" + page.evaluate("location.search"))
    places = np.frombuffer(httpx.get(studio.url + "/v1/map", headers=studio.headers).content, ON_MAP)
    right = set(np.flatnonzero((places["x"] > 0.51 * 65534) & (places["x"] < NOWHERE)).tolist())
    found = {row["id"] for row in listed["rows"]}
    assert right <= found
    assert len(found) < total
    page.get_by_text(f"{len(found)} of ", exact=False).first.wait_for()
    # The dot of an image: the map fills the middle 96 % of the canvas.
    first = min(found)
    x, y = (float(places[side][first]) / 65534 for side in "xy")
    page.mouse.click(*at(0.5 + 0.96 * (x - 0.5), 0.5 + 0.96 * (y - 0.5)))
    page.locator("#card[open]").wait_for()
    page.get_by_role("button", name="What speaks for").click()
    page.wait_for_function("() => document.querySelector('#card img[src^=\"/heat/\"]')?.naturalWidth > 0")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Whole map").click()
    page.get_by_text(f"{total} images").first.wait_for()


@pytest.mark.parametrize("options", [DESK, PHONE], ids=["desk-light", "phone-dark"])
def test_a_screen_reader_finds_no_fault(visit: Visit, options: dict[str, Any]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    for path in ("/?kind=contradicting", "/?many", "/browse"):
        page = visit(path, bypass_csp=True, **options)
        page.locator("#one:not([hidden]) img, #grid img, #window img").first.wait_for()
        if path == "/browse":
            page.locator("#map:not([hidden]) summary").click()
            page.locator("#map-legend li").first.wait_for()
        found = axe.Axe().run(page)
        assert not found.response["violations"], found.generate_report()


def test_a_killed_studio_loses_nothing_that_was_decided(run: Path, tmp_path: Path) -> None:
    first = start(run, tmp_path / "decisions.csv")
    keys = [one["key"] for one in first.get("/v1/queue?kind=suspect")["doubts"]]
    version = first.get("/v1/state")["version"]
    for key in keys:
        version = first.post("/v1/decisions", version=version, doubts=[key], action="drop").json()["version"]
    first.kill()
    assert len(read_corrections(first.file)) == len(keys)
    with first.file.open("ab") as file:
        file.write(b"cat/half.jpg,dro")  # a row that the machine had no time to finish
    second = start(run, first.file)
    state = second.get("/v1/state")
    assert state["settled"] >= len(keys)
    assert state["corrections"]["drop"] == len(keys)
    undone = second.post("/v1/undo", version=state["version"]).json()["undone"]
    assert undone == [keys[-1]]
    second.kill()


def test_training_again_is_compared_on_the_same_test_images(visit: Visit, studio: Studio) -> None:
    page = reviewed(visit, "/?kind=blank", **DESK)
    page.keyboard.press("d")
    page.get_by_role("button", name="Train again with 1 correction").click()
    page.locator("#result:not([hidden])").wait_for()
    told = studio.get("/v1/state")["training"]
    assert told["state"] == "done", told["lines"]
    tests = studio.get("/v1/images?split=test")["total"]
    blank = studio.get("/v1/images?text=blank")["rows"][0]["split"] == "test"
    assert told["result"]["images"] == tests - blank
    assert "Accuracy on the same" in page.inner_text("#result")


def test_the_commands_and_the_program_of_the_page_about_it_run(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = HOW_TO.read_text(encoding="utf-8")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pets").symlink_to(run)
    (tmp_path / "photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^tellapart (.*)$", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["studio", "check"]
    assert commands[0] == "studio runs/pets"  # which all tests here are about
    done = call(*commands[1].split(), cwd=tmp_path)
    assert "page    doubts.html" in done.stdout, done.stderr
    still = (tmp_path / "doubts.html").read_text(encoding="utf-8")
    assert all(words in still for words in (*SWAPPED, "Labels that look wrong", "data:image/jpeg"))
    assert not re.search(r'(src|href)="(?!data:)', still)
    program = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    exec(compile(program, str(HOW_TO), "exec"), {})  # noqa: S102 - the page's own
    assert "Doubts about photos" in (tmp_path / "doubts.html").read_text(encoding="utf-8")
