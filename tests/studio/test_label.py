"""Labelling as a person does it, with keys, a pointer and a finger, on photographs without labels."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tellapart.data.corrections import read_corrections
from tellapart.training.unlabelled import image_paths
from tests.studio.conftest import BUILTIN, Studio, started

if TYPE_CHECKING:
    from playwright.sync_api import Page

httpx = pytest.importorskip("httpx")

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "label.md"
Visit = Callable[..., "Page"]
DESK = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark"}
BREEDS = {"Bengal": "cat", "american_bulldog": "dog"}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Path -> class, of photographs whose names say nothing. They lie in the folder `unlabelled` of `place`."""
    folder = tmp_path_factory.mktemp("label") / "unlabelled"
    folder.mkdir()
    found = {}
    for breed, label in BREEDS.items():
        for number, path in enumerate(sorted((BUILTIN / breed).glob("*.jpg"))[:40]):
            name = f"{folder}/{2 * number + (label == 'dog')}.jpg"
            shutil.copy(path, name)
            found[name] = label
    return found


@pytest.fixture(scope="module")
def folder(truth: dict[str, str]) -> Path:
    return Path(next(iter(truth))).parent


@pytest.fixture(scope="module")
def label_studio(folder: Path, shared_cache: Path) -> Iterator[Studio]:  # noqa: ARG001 - features are kept there
    file = folder.parent / "labels.csv"
    studio = started([str(folder), "--labels", str(file), "--classes", "cat"], file)
    yield studio
    studio.kill()


@pytest.fixture
def studio(label_studio: Studio) -> Studio:
    """With nothing labelled; `visit` opens its page."""
    label_studio.undo_all()
    return label_studio


def labels_of(studio: Studio, folder: Path) -> dict[str, str]:
    """What `train` reads."""
    return {f"{folder}/{row.path}": row.label for row in read_corrections(studio.file) if row.action == "relabel"}


def label_by_program(studio: Studio, folder: Path, truth: dict[str, str], count: int) -> None:
    """The first images, in the order in which the studio has them, those of each class at once."""
    version = studio.get("/v1/state")["version"]
    for label in BREEDS.values():
        paths = image_paths(folder)[1][:count]
        images = [place for place, path in enumerate(paths) if truth[f"{folder}/{path}"] == label]
        answer = studio.post("/v1/labels", version=version, images=images, label=label)
        version = answer.json()["version"]


def at(page: Page, count: int) -> None:
    """Wait until so many labels are there."""
    page.wait_for_function("(n) => document.getElementById('progress').textContent.startsWith(n)", arg=f"{count} ")


def test_a_key_labels_is_learned_from_and_undone_to_the_beginning(
    visit: Visit, studio: Studio, folder: Path, truth: dict[str, str]
) -> None:
    page = visit("/", **DESK)
    given: dict[str, str] = {}
    for count in range(1, 13):
        page.wait_for_function(
            "(n) => document.getElementById('progress').textContent.startsWith(n)", arg=f"{count - 1} "
        )
        name = f"{folder}/{page.inner_text('#images .name')}"
        classes = [one.get_attribute("data-label") for one in page.locator("#likely button").all()]
        if truth[name] in classes:
            page.keyboard.press(str(classes.index(truth[name]) + 1))
        else:  # named on the way
            page.keyboard.press("n")
            page.keyboard.type(truth[name])
            page.keyboard.press("Enter")
        given[name] = truth[name]
    page.get_by_text("12 labels, ").wait_for()
    assert labels_of(studio, folder) == given
    shares = page.locator("#likely .figure").all_inner_texts()
    assert len(shares) == 2
    assert all(text.endswith("%") for text in shares)
    assert page.locator("#neighbours img").count() == 5
    skipped = page.inner_text("#images .name")
    page.keyboard.press("s")
    page.get_by_text("12 labels, 1 skipped").wait_for()
    assert labels_of(studio, folder) == given
    page.keyboard.press("u")
    page.get_by_text("12 labels, 68 images without").wait_for()
    assert page.inner_text("#images .name") == skipped
    for count in range(11, -1, -1):
        page.keyboard.press("u")
        at(page, count)
    assert page.locator("#undo").is_disabled()


def test_a_finger_accepts_what_is_obvious_and_crosses_out_one(
    visit: Visit, studio: Studio, folder: Path, truth: dict[str, str]
) -> None:
    label_by_program(studio, folder, truth, 24)
    page = visit("/", **PHONE)
    page.locator("#to-grid").tap()
    shown = page.locator("#grid button")
    shown.first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    offered = studio.get("/v1/state")["obvious"]
    right = [truth[f"{folder}/{one['path']}"] == offered["label"] for one in offered["images"]]
    assert sum(right) >= 0.9 * len(right)
    shown.nth(1).tap()
    page.get_by_text("1 crossed out").wait_for()
    page.locator("#accept").tap()
    page.get_by_text(f"{24 + len(right) - 1} labels, ").wait_for()
    crossed = offered["images"][1]["path"]
    assert page.inner_text("#images .name") == crossed
    labels = labels_of(studio, folder)
    assert all((f"{folder}/{one['path']}" in labels) == (one["path"] != crossed) for one in offered["images"])
    assert studio.get("/v1/state")["made"] == 3  # the grid is one decision


def test_the_accuracy_is_that_of_the_images_drawn_at_random(
    visit: Visit, studio: Studio, folder: Path, truth: dict[str, str]
) -> None:
    label_by_program(studio, folder, truth, 60)
    page = visit("/", **DESK)
    page.get_by_text("By cross-validation on the 12 images").wait_for()
    page.get_by_text("More labels").wait_for()
    told = page.inner_text("#accuracy")
    assert told.startswith("Estimated accuracy ")
    assert "(" in told


def test_a_second_tab_is_told_and_labels_nothing(visit: Visit, studio: Studio, folder: Path) -> None:
    one, other = (visit("/", **DESK) for _ in range(2))
    for page in (one, other):
        page.locator("#one:not([hidden]) img").first.wait_for()
    other.evaluate("window.setTimeout = () => 0")
    one.keyboard.press("1")
    one.get_by_text("1 label, ").wait_for()
    before = labels_of(studio, folder)
    other.keyboard.press("1")
    other.get_by_text("Something was decided elsewhere meanwhile").wait_for()
    other.get_by_text("1 label, ").wait_for()
    assert labels_of(studio, folder) == before


@pytest.mark.parametrize("options", [DESK, PHONE], ids=["desk-light", "phone-dark"])
def test_a_screen_reader_finds_no_fault_in_labelling(
    visit: Visit, studio: Studio, folder: Path, truth: dict[str, str], options: dict[str, Any]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    label_by_program(studio, folder, truth, 24)
    page = visit("/", bypass_csp=True, **options)
    page.locator("#neighbours img").first.wait_for()
    found = axe.Axe().run(page)
    assert not found.response["violations"], found.generate_report()
    page.keyboard.press("g")
    page.locator("#grid img").first.wait_for()
    found = axe.Axe().run(page)
    assert not found.response["violations"], found.generate_report()


def test_a_killed_studio_keeps_every_label(folder: Path, truth: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    first = started([str(folder), "--labels", str(file)], file)
    label_by_program(first, folder, truth, 6)
    first.kill()
    with file.open("ab") as half:
        half.write(b"7.jpg,rela")
    second = started([str(folder), "--labels", str(file)], file)
    state = second.get("/v1/state")
    second.kill()
    assert state["labelled"] == 6
    assert {one["name"] for one in state["classes"]} <= set(BREEDS.values())
    assert len(read_corrections(file)) == 6


def test_the_program_of_the_page_about_it_runs(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared_cache: Path,  # noqa: ARG001 - features
) -> None:
    (tmp_path / "photos").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    program = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)[0]
    exec(compile(program, str(HOW_TO), "exec"), {})  # noqa: S102 - the page's own
    assert (tmp_path / "photos.labels.csv").exists()


def test_a_page_of_a_stranger_labels_nothing(studio: Studio) -> None:
    version = studio.get("/v1/state")["version"]
    body = {"version": version, "images": [0], "label": "cat"}
    theirs = {"origin": "https://evil.example"}
    assert httpx.post(studio.url + "/v1/labels", json=body, headers=studio.headers | theirs).status_code == 403
    assert httpx.get(studio.url + "/v1/state", headers=studio.headers | {"host": "evil.example"}).status_code == 403
    assert studio.get("/v1/state")["made"] == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"version": 0, "images": [0], "label": " "}, 400),
        ({"version": 0, "images": [0], "label": "a\nb"}, 400),
        ({"version": 0, "images": [0], "label": "x" * 101}, 400),
        ({"version": 0, "images": ["0"], "label": "cat"}, 400),
        ({"version": 0, "images": [99999], "label": "cat"}, 404),
        ({"version": 0, "images": [0], "label": "cat", "how": "=1+1"}, 400),
        ({"version": 99, "images": [0], "label": "cat"}, 409),
        ({"images": [0], "label": "cat"}, 400),
    ],
)
def test_what_makes_no_sense_labels_nothing(label_studio: Studio, body: dict[str, Any], status: int) -> None:
    label_studio.undo_all()
    version = label_studio.get("/v1/state")["version"]
    if "version" in body:
        body = body | {"version": version + body["version"]}
    answer = label_studio.post("/v1/labels", **body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert label_studio.get("/v1/state")["made"] == 0
