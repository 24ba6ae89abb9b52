"""The report in a real browser: no request, no complaint, opened by mouse and keyboard, fit for any width."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tellapart.data.findings import Finding
from tellapart.report.input import ReportInput
from tellapart.report.report import render
from tests.report.browser import CHROMIUM, Browser
from tests.report.conftest import PETS, evaluated, make_predictions, read_made_up

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium brings it")

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a'b\"c/" + "very" * 30)
OPEN = "[...document.querySelectorAll(':popover-open')].map(element => element.id)"
FOCUS = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"

FAINT = """(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const over = (top, under) => under.map((part, i) => (top[3] ?? 1) * top[i] + (1 - (top[3] ?? 1)) * part);
  const linear = part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const contrast = element => {
    let behind = [255, 255, 255];
    const chain = [];
    for (let node = element; node; node = node.parentElement) chain.unshift(getComputedStyle(node).backgroundColor);
    for (const colour of chain) behind = over(numbers(colour), behind);
    const pair = [light(over(numbers(getComputedStyle(element).color), behind)), light(behind)];
    return (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
  };
  const wanted = 'p, li, th, td, dt, dd, a, h1, h2, h3, button, strong, .cell, .cell span, .muted, .path, summary';
  return [...document.querySelectorAll(wanted)]
    .filter(element => element.checkVisibility() && element.textContent.trim() && contrast(element) < 4.5)
    .map(element => contrast(element).toFixed(2) + ' ' + element.className + ': ' + element.textContent.slice(0, 30));
})()"""
"""The elements whose text has a contrast under 4.5 to what is behind it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A page of each kind, written once."""
    folder = tmp_path_factory.mktemp("pages")

    def written(kind: str) -> Path:
        path = folder / f"{kind}.html"
        if not path.exists():
            path.write_text(render(_report(kind)), encoding="utf-8")
        return path

    return written


def _report(kind: str) -> ReportInput:
    from tests.report.conftest import make_report

    classes = {
        "pets": PETS,
        "two": ("cats", "dogs"),
        "hostile": HOSTILE,
        "ten": tuple(f"kind of clothing {i}" for i in range(10)),
        "hundred": tuple(f"{'a very long name of a class ' * 2}{i}" for i in range(100)),
    }[kind]
    n = 400
    predictions = make_predictions(classes, n, surety=1.5)
    path = "folder with 'quotes\" and <b>/" + "long_name_without_a_break" * 6 + ".jpg"
    return make_report(
        classes,
        n,
        evaluation=evaluated(classes, predictions),
        predictions=predictions,
        heat=lambda paths, _: [read_made_up(path, 184) for path in paths],
        findings=[Finding("odd", "error", (path,) * 60, f"60 images are odd, {path} the first.", "Kept.")],
        title=" and ".join(classes)[:300],
        command=f"tellapart train {path}",
    )


@pytest.mark.parametrize("width", [390, pytest.param(1440, marks=pytest.mark.soak)])
def test_axe_finds_nothing_against_the_page(width: int, browser: Browser, pages: Callable[[str], Path]) -> None:
    """axe-core's rules of WCAG 2.2 and good practice; its colour rule is above, in light and dark."""
    for kind in ("ten", "hundred"):
        browser.open(pages(kind), width)
        assert browser.accessibility_violations() == [], kind


def test_an_image_is_enlarged_with_its_whole_path_by_pointer_and_by_key(
    browser: Browser, pages: Callable[[str], Path]
) -> None:
    browser.open(pages("pets"), 1400)
    wide = "document.querySelector('#mistakes').closest('section').querySelector('.images img').clientWidth"
    before = browser.value(wide)
    zoom = "section[aria-labelledby=mistakes] .zoom"
    browser.click(zoom)
    assert browser.value(wide) > 2 * before
    browser.press("Space")
    assert browser.value(wide) == before
    browser.click("button.cell.mistake")
    folder = "[...document.querySelectorAll(':popover-open .folder')].filter(e => e.checkVisibility()).length"
    assert browser.value(folder) == 0
    browser.value("document.querySelector(':popover-open .zoom').click()")
    assert browser.value(folder) == 1


def test_classes_are_sorted_by_their_headings_and_begin_with_the_worst(
    browser: Browser, pages: Callable[[str], Path]
) -> None:
    browser.open(pages("ten"), 1400)
    recalls = "[...document.querySelectorAll('.of-classes tbody tr')].map(row => +row.cells[2].dataset.sort)"
    found = browser.value(recalls)
    assert found == sorted(found)
    browser.click(".of-classes thead th:nth-child(3) button")
    assert browser.value(recalls) == sorted(found, reverse=True)
    assert browser.value("document.querySelector('.of-classes [aria-sort]').getAttribute('aria-sort')") == "descending"


def test_a_drawn_matrix_tells_its_counts_and_opens_its_cells(browser: Browser, pages: Callable[[str], Path]) -> None:
    browser.open(pages("hundred"), 1400)
    places = browser.value("[...document.querySelectorAll('.told')].map(e => e.dataset.cell)")
    cell = next(place for place in places if len(set(place.split("-"))) == 2)
    browser.click(f".told[data-cell='{cell}']")
    assert (
        browser.value("document.querySelector('.readout').textContent").split(" of ")[0].endswith(("image", "images"))
    )
    assert browser.value(OPEN) == [f"cell-{cell}"]


def test_arabic_names_are_cut_at_their_end_and_tables_of_charts_are_whole(
    browser: Browser, pages: Callable[[str], Path]
) -> None:
    browser.open(pages("pets"), 380)
    assert browser.value("[...document.querySelectorAll('.name')].every(e => e.dir === 'auto')")
    browser.value("document.querySelectorAll('details.data').forEach(each => { each.open = true })")
    assert browser.value("document.documentElement.scrollWidth") == 380
    rows = "document.querySelectorAll('details.data tbody tr').length"
    assert browser.value(rows) > 2 * 12


def test_long_tables_do_not_lie_on_what_follows_on_paper(browser: Browser, pages: Callable[[str], Path]) -> None:
    browser.open(pages("hundred"), 760, media="print")
    clipped = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollHeight > e.clientHeight + 1).length"
    assert browser.value(clipped) == 0


KINDS = ("pets", "two", "hostile", "ten", "hundred")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [380, 1400])
def test_no_complaint_no_request_and_nothing_wider_than_the_window(
    kind: str, width: int, browser: Browser, pages: Callable[[str], Path]
) -> None:
    browser.open(pages(kind), width)
    assert browser.value("document.readyState") == "complete"
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.complaints == []
    assert browser.requests == [pages(kind).as_uri()]
    # Every image that is shown is whole.
    assert browser.value("[...document.images].filter(i => i.complete && !i.naturalWidth).length") == 0


@pytest.mark.parametrize("kind", ["pets", "hostile", "ten"])
def test_a_click_on_a_cell_opens_the_images_behind_it(
    kind: str, browser: Browser, pages: Callable[[str], Path]
) -> None:
    browser.open(pages(kind), 1400)
    browser.click("button.cell.mistake")
    cell = browser.value("document.querySelector('button.cell.mistake').getAttribute('popovertarget')")
    assert browser.value(OPEN) == [cell]
    assert browser.value(f"document.querySelectorAll('#{cell} img').length") > 0
    assert browser.value(
        f"[...document.querySelectorAll('#{cell} img')].every(i => i.getBoundingClientRect().width > 40)"
    )
    browser.click(f"#{cell} .shut")
    assert browser.value(OPEN) == []
    assert browser.complaints == []


def test_a_cell_opens_and_closes_by_keyboard_alone(browser: Browser, pages: Callable[[str], Path]) -> None:
    browser.open(pages("pets"), 1400)
    for _ in range(80):
        browser.press("Tab")
        if browser.value("document.activeElement.matches('button.cell')"):
            break
    named = browser.value(FOCUS)
    assert "Abyssinian predicted as Abyssinian" in named
    browser.press("Enter")
    assert browser.value(OPEN) == ["cell-0-0"]
    assert browser.value(FOCUS) == "Close"
    browser.press("Escape")
    assert browser.value(OPEN) == []
    assert browser.value(FOCUS) == named


def test_many_classes_open_their_worst_pairs(browser: Browser, pages: Callable[[str], Path]) -> None:
    browser.open(pages("hundred"), 1400)
    browser.click("button.opens")
    assert len(browser.value(OPEN)) == 1


def test_an_open_cell_fits_a_phone(browser: Browser, pages: Callable[[str], Path]) -> None:
    browser.open(pages("hostile"), 380, 640)
    browser.click("button.cell.mistake")
    box = browser.value(
        "(() => { const b = document.querySelector(':popover-open').getBoundingClientRect(); "
        "return [b.left, b.top, b.right, b.bottom] })()"
    )
    assert 0 <= box[0] < box[2] <= 380
    assert 0 <= box[1] < box[3] <= 640
    assert browser.value("(e => e.scrollWidth <= e.clientWidth)(document.querySelector(':popover-open'))")


def test_dark_rooms_get_light_text_on_a_dark_page(browser: Browser, pages: Callable[[str], Path]) -> None:
    def light(element: str, name: str) -> float:
        colour = browser.value(f"getComputedStyle(document.querySelector('{element}')).{name}")
        return float(np.mean([int(part) for part in colour[4:-1].split(",")[:3]]))

    for scheme, dark in (("dark", True), ("light", False)):
        browser.open(pages("pets"), 1400, features=[{"name": "prefers-color-scheme", "value": scheme}])
        assert (light("body", "backgroundColor") < light("body", "color")) == dark
        assert (light(".chart .title", "fill") > 128) == dark


def test_every_text_stands_out_from_what_is_behind_it(browser: Browser, pages: Callable[[str], Path]) -> None:
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3), in light and dark, in the cells of the matrix too."""
    for kind in ("pets", "ten"):
        for scheme in ("light", "dark"):
            browser.open(pages(kind), 1400, features=[{"name": "prefers-color-scheme", "value": scheme}])
            assert browser.value(FAINT) == [], (kind, scheme)


@pytest.mark.parametrize("kind", KINDS)
def test_on_paper_what_cells_hold_is_there_and_the_buttons_are_not(
    kind: str, browser: Browser, pages: Callable[[str], Path]
) -> None:
    browser.open(pages(kind), 760, media="print")
    shown = "[...document.querySelectorAll('{}')].filter(e => e.checkVisibility()).length"
    assert browser.value(shown.format(".behind img")) == browser.value(
        "document.querySelectorAll('.behind img').length"
    )
    assert browser.value(shown.format(".shut, nav")) == 0
    assert browser.value("document.documentElement.scrollWidth") <= 760
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
