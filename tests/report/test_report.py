"""The report: one whole, well-formed, safe HTML file that asks for nothing and says what the run is worth."""

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tellapart.config import Config
from tellapart.data.findings import Finding
from tellapart.errors import ImageError
from tellapart.evaluation.evaluate import evaluate
from tellapart.evaluation.evidence import Evidence
from tellapart.evaluation.judge import judge
from tellapart.report.input import ReportInput
from tellapart.report.page import policy_source
from tellapart.report.report import render
from tellapart.runs.predictions import Predictions
from tellapart.task import Task
from tests.report.conftest import evaluated, make_predictions, read_made_up, wrong_answers
from tests.report.page import NARROW, Page

ReportOf = Callable[..., ReportInput]


def test_the_verdict_stands_first_with_its_interval_and_the_points_it_rests_on(report_of: ReportOf) -> None:
    report = report_of()
    accuracy, page = report.evaluation.accuracy, Page(render(report))
    right = round(300 * accuracy.value)
    assert (
        f"Of 300 test images it had never seen, {right} were classified correctly: {100 * accuracy.value:.1f}{NARROW}% "
        f"(95{NARROW}% interval {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f})."
    ) in page.text
    for words in (
        "It overfits from epoch 5 on",
        "Measured on 300 images of the test split, held out from training and model selection.",
        f"Always predicting Abyssinian would be right for 33.3{NARROW}%.",
        "Two images are the same.",
    ):
        assert words in page.text, words
    assert page.text.index("Of 300 test images") < page.text.index("Balanced accuracy")


def test_every_section_has_its_heading_its_link_and_its_content(report_of: ReportOf) -> None:
    page = Page(render(report_of()))
    headings = {attributes["id"] for attributes in page.all("h2")}
    assert headings == {
        "figures", "images", "training", "confusion", "classes", "mistakes", "suspects", "certainty", "repeat",
    }  # fmt: skip
    assert {f"#{name}" for name in headings} <= {str(a["href"]) for a in page.all("a")}
    assert len(page.all("h1")) == 1
    for words in (
        "Balanced accuracy",
        "Read as labels in file names such as Bengal_1.jpg.",
        "Two images are the same. Kept together.",
        "12 epochs in 1 min 54 s, 412 images a second. Kept: epoch 4 of 12; all epochs done.",
        "tellapart train pets --model efficientnet-lite0 --set train.epochs=12",
        "8 cores, no GPU",
        "64 of 64",
        "head (3,)",
        'name = "efficientnet-lite0"',
    ):
        assert words in page.text, words


def test_digests_and_seed_are_given(report_of: ReportOf) -> None:
    report = report_of(config=Config.from_dict({"seed": 4711}))
    text = Page(render(report)).text
    assert report.catalog.digest in text
    assert report.config.digest in text
    assert "Seed 4711" in text


def test_the_page_asks_for_nothing(report_of: ReportOf) -> None:
    html = render(report_of())
    page = Page(html)
    addresses = [
        a[name] for _, a in page.tags for name in ("src", "href", "srcset", "action", "data", "poster") if a.get(name)
    ]
    assert addresses
    assert all(str(address).startswith(("#", "data:image/")) for address in set(addresses) - {"../index.html"})
    assert "url(" not in html
    assert not re.search(r"https?:|@import|@font-face", html)
    assert page.all("script") == [{}]
    assert not page.all("link")
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")
    (script,) = re.findall(r"<script>(.*)</script>", html, re.DOTALL)
    assert str(policy).endswith(f"; script-src '{policy_source(script)}'"), "and no other script runs"


@pytest.mark.parametrize("count", [3, 23])
def test_names_are_shown_as_text_and_never_run(count: int, report_of: ReportOf) -> None:
    hostile = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "<b>&amp;</b>")
    classes = (*hostile, *(f"class {i}" for i in range(count - 3)))
    report = report_of(classes, 90, title="<script>title</script>", notes=["<script>note</script>"])
    mistaken = evaluate(
        Task(classes),
        Predictions(("<script>path", '" onload="x'), np.array([0, 1]), np.eye(count)[[1, 0]]),
        split="<i>test",
    )
    for shown in (report, report_of(classes, 90, evaluation=mistaken, environment={"<u>": "<u>"}, command="<u>a && b")):
        html = render(shown)
        page = Page(html)
        assert len(page.all("script")) == 1
        assert not {"b", "u", "i"} & {tag for tag, a in page.tags if "style" not in a}
        assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
        assert hostile[0] in page.text
        assert all(str(image["src"]).startswith("data:") for image in page.all("img"))


@pytest.mark.parametrize(("classes", "n"), [(2, 40), (7, 70), (20, 60), (21, 84)])
def test_any_number_of_classes_gives_a_whole_page_without_doubled_ids(
    classes: int, n: int, report_of: ReportOf
) -> None:
    names = tuple(f"{'a very long name of a class ' * 2}{i}" for i in range(classes))
    predictions = make_predictions(names, n, surety=2)
    html = render(report_of(names, n, evaluation=evaluated(names, predictions), predictions=predictions))
    page = Page(html)
    ids = [str(attributes["id"]) for _, attributes in page.tags if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    assert ('class="confusion' in html) == (classes <= 20)
    assert ("Confusion matrix of" in html) == (classes > 20)
    opened = {str(button["popovertarget"]) for button in page.all("button")}
    assert opened
    assert opened == {str(a["id"]) for a in page.all("div") if "popover" in a}
    assert all(
        attributes.get("tabindex") == "0"
        for _, attributes in page.tags
        if "scroll" in str(attributes.get("class")).split()
    )
    assert {a["for"] if "for" in a else a["href"] for a in page.all("a")} <= {
        "../index.html",
        *(f"#{name}" for name in ids),
    }


def test_the_confusion_table_holds_counts_shares_and_shades(report_of: ReportOf) -> None:
    truth = np.array([0] * 10 + [1] * 4)
    given = np.eye(2)[[0] * 9 + [1] + [1] * 4]
    found = evaluate(
        Task(("cats", "dogs")), Predictions(tuple([f"{i}" for i in range(14)]), truth, given), split="test"
    )
    html = render(report_of(("cats", "dogs"), 40, evaluation=found))
    assert f'<div class="cell hit strong" style="--shade:0.9">9<span>90.0{NARROW}%</span></div>' in html
    assert f'<div class="cell mistake" style="--shade:0.316">1<span>10.0{NARROW}%</span></div>' in html
    assert '<div class="cell none" style="--shade:0.0">0</div>' in html
    assert "Area under the ROC curve" in html


def test_mistakes_are_shown_surest_first_and_at_most_18_small(report_of: ReportOf) -> None:
    found = evaluated(("cats", "dogs"), wrong_answers(60))
    asked: list[str] = []

    def read(path: str, side: int) -> np.ndarray:
        asked.append(path)
        return np.zeros((side, side * 3 // 4, 3), np.uint8)

    page = Page(render(report_of(("cats", "dogs"), 40, evaluation=found, read_thumbnail=read, batch=None)))
    assert sorted(asked) == sorted(f"{i}.jpg" for i in range(59, 41, -1))
    assert "60 of 60 images are misclassified; the 18 most confident are shown" in page.text
    assert page.text.index("59.jpg") < page.text.index("58.jpg") < page.text.index("42.jpg")
    images = page.all("img")
    assert len(images) == 18
    assert images[0]["alt"] == "An image of cats predicted as dogs"
    image = Image.open(io.BytesIO(base64.b64decode(str(images[0]["src"]).split(",")[1])))
    assert (image.format, image.size) == ("JPEG", (192, 256))


def test_heat_for_the_wrong_name_stands_beside_each_mistake(report_of: ReportOf) -> None:
    found = evaluated(("cats", "dogs"), wrong_answers(3))
    asked: list[tuple[str, str]] = []

    def heat(paths: Sequence[str], labels: Sequence[str]) -> list[np.ndarray | None]:
        asked.extend(zip(paths, labels, strict=True))
        return [np.full((300, 200, 3), 9, np.uint8), None]

    def read(path: str, side: int) -> np.ndarray:
        if path == "1.jpg":
            raise ImageError("truncated")
        return np.zeros((side, side, 3), np.uint8)

    page = Page(render(report_of(("cats", "dogs"), 40, evaluation=found, heat=heat, read_thumbnail=read, batch=None)))
    assert asked == [("2.jpg", "dogs"), ("0.jpg", "dogs")]
    shown = [image["alt"] for image in page.all("img")]
    named = "An image of cats predicted as dogs"
    assert shown == [named, "The heat map of dogs", named]
    assert "bright regions supported the wrong class" in page.text


def test_the_header_names_run_images_and_date_and_leads_back_to_the_index(report_of: ReportOf) -> None:
    facts = {"name": "pets-3", "source": "photos", "created": "2026-11-27T10:11:12+00:00"}
    html = render(report_of(index_there=True, **facts))
    head = html[html.index("<header") : html.index("</header>")]
    for words in ("<bdi>pets-3</bdi>", "<bdi>photos</bdi>", "<bdi>2026-11-27 10:11 UTC</bdi>"):
        assert words in head
    assert '<a href="../index.html">All runs</a>' in head
    assert '<a href="../index.html" hidden>' in render(report_of(**facts))


def test_without_predictions_nothing_opens_and_all_else_stands(report_of: ReportOf) -> None:
    page = Page(render(report_of(evaluation=report_of().evaluation)))
    assert not page.all("button")
    assert "Likely label errors" not in page.text
    assert "Accuracy against coverage" not in page.text
    assert "Reliability" in page.text


def test_an_image_that_is_gone_is_told_in_its_place(report_of: ReportOf) -> None:
    found = evaluate(Task(("a", "b")), Predictions(("gone", "half"), np.array([0, 1]), np.eye(2)[[1, 0]]), split="test")

    def read(path: str, _: int) -> Any:
        raise FileNotFoundError(2, "No such file or directory") if path == "gone" else ImageError("truncated")

    text = Page(render(report_of(("a", "b"), 40, evaluation=found, read_thumbnail=read))).text
    assert "The image cannot be read any more: No such file or directory." in text
    assert "The image cannot be read any more: truncated." in text


def test_grey_thumbnails_and_batches_are_shown(report_of: ReportOf) -> None:
    batch = (np.full((3, 28, 28, 1), 130, np.uint8), ["a", "b", "c"])
    page = Page(render(report_of(batch=batch, read_thumbnail=lambda *_: np.full((28, 28, 1), 99, np.uint8))))
    pixels = set()
    for shown in page.all("img"):
        image = Image.open(io.BytesIO(base64.b64decode(str(shown["src"]).split(",")[1])))
        # Without loss, and shown as squares: so few pixels are all that there is.
        assert (image.format, image.mode, image.size, shown["class"]) == ("PNG", "L", (28, 28), "small")
        pixels.add(image.getpixel((3, 3)))
    assert pixels == {99, 130}


def test_a_flawless_split_says_that_it_proves_little(report_of: ReportOf) -> None:
    found = evaluate(Task(("cats", "dogs")), Predictions(("a", "b"), np.array([0, 1]), np.eye(2)), split="test")
    text = Page(render(report_of(("cats", "dogs"), 40, evaluation=found))).text
    assert "None among 2 images." in text
    assert f"Of 2 test images it had never seen, 2 were classified correctly: 100{NARROW}%" in text
    assert "interval 34.2 to 100" in text
    assert "The weakest class" not in text
    assert "Do not use it yet: no better than guessing and few test images." in text


def test_one_image_one_epoch_no_findings_and_nothing_optional_still_make_a_report(report_of: ReportOf) -> None:
    report = report_of()
    found = evaluate(report.catalog.task, Predictions(("a",), np.array([1]), np.eye(3)[[1]]), split="validation")
    bare = report_of(
        evaluation=found,
        history=report.history[:1],
        best_epoch=1,
        findings=[],
        environment={},
        onnx_check={},
        network="",
        batch=None,
    )
    text = Page(render(bare)).text
    assert "1 image of the validation split" in text
    assert "held out from training" not in text
    assert "1 epoch in 10 s" in text
    assert "Only one epoch was trained" in text
    assert "Nothing odd was found" in text
    assert "not defined" in text
    assert "no image of Abyssinian, american_bulldog" in text


def test_a_file_name_that_is_not_utf8_can_be_written(report_of: ReportOf) -> None:
    found = evaluate(
        Task(("a", "b")),
        Predictions(("caf\udce9.jpg", "猫.jpg"), np.array([0, 1]), np.eye(2)[[1, 1]]),
        split="test",
    )
    html = render(report_of(("a", "b"), 40, evaluation=found))
    assert "caf\\udce9.jpg" in html.encode("utf-8").decode()


def test_broken_images_are_counted(report_of: ReportOf) -> None:
    catalog = report_of().catalog
    spoilt = replace(catalog, images=(replace(catalog.images[0], error="truncated", split=""), *catalog.images[1:]))
    assert "1 of 1,500 could not be read" in Page(render(report_of(catalog=spoilt))).text


@pytest.mark.parametrize("classes", [20, 100])
def test_ten_thousand_images_half_of_them_named_wrong_stay_under_5_mb(classes: int, report_of: ReportOf) -> None:
    n, generator = 10_000, np.random.default_rng(0)
    names = tuple(f"a class with a name of some length {i}" for i in range(classes))
    truth = generator.integers(0, classes, n)
    said = np.where(generator.random(n) < 0.5, truth, generator.integers(0, classes, n))
    odds = np.exp(generator.normal(size=(n, classes)) + 8 * np.eye(classes)[said])
    paths = tuple(f"pets/a_long_folder_name/{i}.jpg" for i in range(n))
    predictions = Predictions(paths, truth, odds / odds.sum(axis=1, keepdims=True))
    found = evaluated(names, predictions)
    assert len(found.mistakes) > 4_500
    report = report_of(
        names,
        100,
        evaluation=found,
        predictions=predictions,
        network="layer\n" * 50_000,
        heat=lambda paths, _: [read_made_up(path, 224) for path in paths],
        findings=[Finding("odd", "warning", paths, "All of these are odd.")],
    )
    html = render(report)
    assert 2_000_000 < len(html.encode()) < 5_000_000
    assert len(Page(html).all("img")) > 100


def test_the_page_serves_phones_dark_rooms_paper_and_keyboards(report_of: ReportOf) -> None:
    html = render(report_of())
    page = Page(html)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert page.all("html")[0]["lang"] == "en"
    assert all(attributes["scope"] for attributes in page.all("th"))
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all({"aria-label", "aria-hidden"} & set(attributes) for attributes in page.all("svg"))


def test_the_same_run_gives_the_same_page(report_of: ReportOf) -> None:
    assert render(report_of()) == render(report_of())


def test_leaks_put_the_accuracy_without_them_beside_the_full_one(report_of: ReportOf) -> None:
    clean = evaluated(("a", "b"), wrong_answers(12))
    text = Page(render(report_of(clean=clean))).text
    assert "Of the other images, 12, it classifies 0" in text
    assert "Accuracy without leaks" in text


def test_an_interrupted_run_says_first_how_to_go_on(report_of: ReportOf) -> None:
    report = report_of()
    stopped = judge(Evidence(report.evaluation, interrupted="interrupted in epoch 3"))
    text = Page(render(report_of(verdict=stopped))).text
    assert "Do not use it yet: training was interrupted." in text
    assert text.index("Interrupted in epoch 3. Resume with: tellapart train") < text.index("Better than guessing")


def test_the_first_screen_says_what_it_answers_alone_where_it_is_weak_and_what_next(report_of: ReportOf) -> None:
    report = report_of()
    text = Page(render(report)).text
    for line in report.verdict.lines:
        assert line.replace(" %", f"{NARROW}%") in text[: text.index("Measured on 300 images")]
