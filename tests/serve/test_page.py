"""The page as a person uses it, in headless Chromium with real files, and what it may not do."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tests.serve.page import done, heading, rows, transfer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.serve.conftest import Server


def test_chosen_files_are_named_with_bars_and_a_broken_one_says_why(
    visit: Callable[..., Page], run: ta.Run, photographs: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken <b>.jpg"
    broken.write_bytes(photographs[0].read_bytes()[:500])
    page = visit()
    page.get_by_text("Tells apart disc and stripes.").wait_for()
    page.set_input_files("#files", [*photographs[:3], broken])
    done(page, 4)
    expected = run.predict(photographs[:3])
    found = rows(page)
    assert found[:3] == [{"name": p.name, "label": heading(e)} for p, e in zip(photographs, expected, strict=False)]
    assert found[3]["name"] == "broken <b>.jpg"
    assert "truncated" in found[3]["label"]
    first = page.locator("#list > li").first
    words = {"sure": "sure", "unsure": "not sure", "unlike": f"nearest: {expected[0].label}", "": ""}
    assert first.locator(".verdict").inner_text() == words[expected[0].verdict]
    assert first.locator(".bars li").count() == 2
    share = first.locator(".bars .figure").first.inner_text()
    assert share == "> 99.9 %" or float(share.removesuffix(" %")) == pytest.approx(
        100 * expected[0].probability, abs=0.06
    )


def test_no_class_heads_the_card_of_an_image_that_is_unlike(
    visit: Callable[..., Page], run: ta.Run, tmp_path: Path
) -> None:
    unlike = next(
        path
        for path in (noise(tmp_path / f"{seed}.png", seed) for seed in range(200))
        if run.predict(path)[0].verdict == "unlike"
    )
    page = visit()
    page.get_by_text("Tells apart").wait_for()
    page.set_input_files("#files", [unlike])
    done(page, 1)
    (expected,) = run.predict(unlike)
    card = page.locator("#list > li").first
    assert card.locator(".label").inner_text() == "Unlike anything it was taught"
    assert card.locator(".verdict").inner_text() == f"nearest: {expected.label}"


def noise(path: Path, seed: int) -> Path:
    generator = np.random.default_rng(seed)
    side = int(generator.integers(1, 40))
    pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(path)
    return path


def test_the_button_opens_the_browsers_own_choice(visit: Callable[..., Page], photographs: list[Path]) -> None:
    page = visit()
    page.get_by_text("Tells apart").wait_for()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose images").click()
    assert chooser.value.is_multiple()
    chooser.value.set_files(photographs[:2])
    done(page, 2)


def test_dropped_and_pasted_images_are_predicted(visit: Callable[..., Page], photographs: list[Path]) -> None:
    page = visit()
    page.dispatch_event("#give", "drop", {"dataTransfer": transfer(page, photographs[:2])})
    done(page, 2)
    page.evaluate(
        "(data) => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))",
        transfer(page, photographs[2:3]),
    )
    done(page, 3)
    assert [row["name"] for row in rows(page)] == [photographs[n].name for n in (2, 0, 1)], "the newest first"


def test_heat_comes_on_hover_on_focus_and_on_press(visit: Callable[..., Page], photographs: list[Path]) -> None:
    page = visit()
    page.set_input_files("#files", photographs[:3])
    done(page, 3)
    for number in range(3):
        row = page.locator("#list > li").nth(number)
        button, heat = row.locator(".image"), row.locator(".heat")
        assert heat.get_attribute("data-painted") is None
        assert (button.get_attribute("aria-label") or "").startswith("What speaks for ")
        if number == 0:
            button.hover()
        elif number == 1:
            button.focus()
            page.keyboard.press("Enter")
        else:
            button.click()
        row.locator(".heat[data-painted]").wait_for(state="attached")
        assert (heat.bounding_box() or {"width": 0})["width"] > 50
        # Some places shine and others do not: a file of one colour would be much smaller.
        assert heat.evaluate("(c) => c.toDataURL().length") > 1000
        assert button.get_attribute("aria-pressed") == ("false" if number == 0 else "true")
    assert page.locator("[data-painted]").count() == 3


def test_an_image_of_the_camera_is_predicted_and_the_camera_let_go(visit: Callable[..., Page]) -> None:
    page = visit()
    page.get_by_role("button", name="Use the camera").click()
    page.locator("#camera-dialog[open]").wait_for()
    page.locator("#video").evaluate("(v) => v.videoWidth || new Promise((r) => v.addEventListener('loadeddata', r))")
    page.get_by_role("button", name="Take an image").click()
    done(page, 1)
    assert re.match(r"camera \d{4}-\d\d-\d\d", rows(page)[0]["name"])
    assert rows(page)[0]["label"] in ("disc", "stripes", "Unlike anything it was taught")
    assert page.locator("#video").evaluate("(v) => v.srcObject") is None


def test_the_list_is_downloaded_as_csv_with_the_same_figures(
    visit: Callable[..., Page], run: ta.Run, photographs: list[Path], tmp_path: Path
) -> None:
    odd = tmp_path / '=1+1,"x".jpg'
    odd.write_bytes(photographs[1].read_bytes())
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"bad")
    page = visit()
    page.set_input_files("#files", [photographs[0], odd, bad])
    done(page, 3)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download csv").click()
    assert download.value.suggested_filename == "predictions.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    first, second, third = csv.DictReader(io.StringIO(text))
    (expected,) = run.predict(photographs[0])
    assert first["name"] == photographs[0].name
    assert first["label"] == expected.label
    assert float(first["probability"]) == pytest.approx(expected.probability, abs=2e-4)
    assert first["verdict"] == expected.verdict
    assert float(first["disc"]) + float(first["stripes"]) == pytest.approx(1, abs=1e-5)
    assert second["name"] == """'=1+1,"x".jpg""", "a spreadsheet must not take a name for a formula"
    assert third["error"].startswith("not an image")
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#list > li").count() == 0
    assert not page.locator("#results").is_visible()


def test_another_run_is_chosen_on_the_page(
    visit: Callable[..., Page], other_run: ta.Run, photographs: list[Path]
) -> None:
    page = visit()
    page.get_by_label("Run").select_option("three")
    page.get_by_text("Tells apart disc, square and stripes.").wait_for()
    page.set_input_files("#files", photographs[:1])
    done(page, 1)
    assert rows(page)[0]["label"] == heading(other_run.predict(photographs[0])[0])
    assert page.locator(".bars li").count() == 3


def test_a_busy_server_is_asked_again(visit: Callable[..., Page], photographs: list[Path]) -> None:
    page = visit()
    refusals = [503]

    def answer(route: Any) -> None:
        if refusals:
            route.fulfill(status=refusals.pop(), headers={"retry-after": "1"}, json={"error": "busy"})
        else:
            route.continue_()

    page.route("**/v1/predict*", answer)
    page.set_input_files("#files", photographs[:1])
    done(page, 1)
    assert rows(page)[0]["label"] in ("disc", "stripes", "Unlike anything it was taught")


def test_a_token_is_asked_for_and_a_wrong_one_is_said(
    visit: Callable[..., Page], serve: Callable[..., Server], run: ta.Run, photographs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    page = visit(serve(run.path, "--token-file", tmp_path / "token").url)
    field = page.get_by_label("This server asks for a token")
    field.fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("This token is not right.").wait_for()
    field.fill("0123456789abcdef")
    page.keyboard.press("Enter")
    page.get_by_text("Tells apart disc and stripes.").wait_for()
    page.set_input_files("#files", photographs[:1])
    done(page, 1)
    assert rows(page)[0]["label"] in ("disc", "stripes", "Unlike anything it was taught")
    assert page.evaluate("Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0


def test_it_fits_a_phone_and_a_finger(visit: Callable[..., Page], photographs: list[Path]) -> None:
    page = visit(viewport={"width": 320, "height": 640}, is_mobile=True, has_touch=True)
    page.set_input_files("#files", photographs[:2])
    done(page, 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    small = [
        button.inner_text()
        for button in page.get_by_role("button").all()
        if button.is_visible() and (button.bounding_box() or {"height": 0})["height"] < 44
    ]
    assert not small
    page.locator(".image").first.tap()
    page.locator(".heat[data-painted]").first.wait_for(state="attached")
    page.goto(page.url + "docs")
    page.get_by_role("heading", name="POST /v1/predict").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_a_keyboard_reaches_everything_in_order_and_a_screen_reader_hears_it(
    visit: Callable[..., Page], photographs: list[Path]
) -> None:
    page = visit()
    page.set_input_files("#files", photographs[:1])
    done(page, 1)
    page.locator("body").click(position={"x": 1, "y": 1})
    reached = []
    for _ in range(10):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(({ariaLabel, innerText}) => (ariaLabel || innerText).split(' ')[0])(document.activeElement)"
            )
        )
    first = ["two\nthree", "API", "Choose", "Choose", "Use", "Download", "Clear"]
    assert reached == [*first, reached[7], "What", "Remove"]
    assert re.fullmatch("1", reached[7]), "the filter of the only verdict"
    heard = page.locator("body").aria_snapshot()
    for words in ("status: 1 done", 'heading "Predictions"', 'combobox "Run"', 'button "What speaks for', "list"):
        assert words in heard
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("button:not([aria-label])", has_text=re.compile(r"^\s*$")).count() == 0


def test_words_can_be_read_on_light_and_on_dark(visit: Callable[..., Page]) -> None:
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        names = ["ground", "raised", "text", "quiet", "accent", "on-accent", "bar", "good", "doubt", "bad"]
        value = "(name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()"
        colours = {name: page.evaluate(value, name) for name in names}
        on_grounds = [
            (word, ground) for word in ("text", "quiet", "good", "doubt", "bad") for ground in ("ground", "raised")
        ]
        for word, ground in (*on_grounds, ("text", "bar"), ("on-accent", "accent"), ("accent", "ground")):
            assert contrast(colours[word], colours[ground]) >= 4.5, (scheme, word, ground)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of two colours #rrggbb."""

    def light(colour: str) -> float:
        parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
        red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    brighter, darker = sorted((light(one), light(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_nothing_but_the_pages_own_files_may_run(browser: Browser, server: Server) -> None:
    page = browser.new_context().new_page()
    page.goto(server.url)
    page.evaluate(
        """() => {
            window.broken = [];
            document.addEventListener("securitypolicyviolation", (e) => window.broken.push(e.effectiveDirective));
            const made = "<img src=x onerror='window.ran = 1'><p style='color: red'>x</p>";
            document.body.insertAdjacentHTML("beforeend", made);
            document.body.append(Object.assign(document.createElement("script"), {textContent: "window.ran = 1"}));
            new Image().src = "http://127.0.0.1:9/outside.png";
            fetch("http://127.0.0.1:9/outside").catch(() => {});
            const frame = document.createElement("iframe");
            frame.src = "http://127.0.0.1:9/";
            document.body.append(frame);
        }"""
    )
    page.wait_for_timeout(500)
    assert page.evaluate("window.ran") is None
    broken = set(page.evaluate("window.broken"))
    assert broken >= {"img-src", "connect-src", "frame-src", "script-src-elem", "style-src-attr"}
    page.context.close()


def test_the_files_of_the_page_name_no_other_place() -> None:
    folder = files("tellapart.serve") / "page"
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE), file.name


def test_the_page_of_the_api_shows_every_call(visit: Callable[..., Page], client: Any) -> None:
    page = visit(path="/docs")
    page.get_by_role("heading", name="GET /metrics").wait_for()
    for path in client.get("/openapi.json").json()["paths"]:
        assert page.locator("h2", has_text=path).count() == 1
    text = page.inner_text("main")
    for words in ('"images"', "<base64>", "multipart/form-data", "Retry-After", "Calibrated probability", "curl"):
        assert words in text
