"""Names of classes and files that are scripts, formulas or commands to a terminal, in all that shows them."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart.api.study import ladder
from tellapart.data.catalog import read_images
from tellapart.errors import ConfigError
from tellapart.files import terminal_safe
from tests.command import COMMAND
from tests.conftest import draw
from tests.report.browser import CHROMIUM, Browser
from tests.untrusted.conftest import FORMULA, HOSTILE, SCRIPT, SETTINGS, TERMINAL

pytest.importorskip("keras")

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def pages(hostile_run: ta.Run, hostile_images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every page that is written, of hostile classes, images, runs and titles."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("a <b>$x", SCRIPT.replace("/", "")):
        shutil.copytree(hostile_run.path, folder / name)
    runs = sorted(path for path in folder.iterdir() if path.is_dir())
    config = runs[0] / "config.toml"
    plain = re.sub("(?m)^(title|published).*\n", "", config.read_text())
    config.write_text(f"title = {json.dumps(SCRIPT)}\npublished = {json.dumps(SCRIPT)}\n{plain}")
    ta.write_report(runs[0])
    compared, _ = ta.write_comparison(ta.compare(*runs), folder / "compared")
    found = ladder(
        hostile_images, rungs=("dense", "conv"), out=folder / "ladder", settings=["train.epochs=1", *SETTINGS[-3:-1]]
    )
    return [runs[0] / "report.html", compared, ta.write_index(folder), found.ladder.page_file]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium brings it")
def test_no_name_runs_or_asks_for_anything_in_any_page_that_is_written(pages: list[Path]) -> None:
    with Browser() as browser:
        for page in pages:
            browser.open(page, 1200)
            assert browser.value("document.title") != "harm", page
            assert browser.value("[...document.images].filter(image => image.src.endsWith('/x')).length") == 0
            assert len(browser.requests) == 1, page
            assert not browser.complaints, page


def test_names_in_a_page_are_text_and_no_template(pages: list[Path]) -> None:
    report = pages[0].read_text()
    assert "<script>document.title" not in report
    assert "&lt;script&gt;document.title" in report
    assert "{{7*7}}" in report
    assert "<img src=x" not in report


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium brings it")
def test_no_name_runs_in_the_page_of_the_server(hostile_run: ta.Run, hostile_images: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    from tests.serve.conftest import start

    image = tmp_path / f"{SCRIPT.replace('/', '')}.png"
    shutil.copy(next(hostile_images.rglob("*.png")), image)
    server = start(hostile_run.path)
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page()
            page.set_default_timeout(60_000)
            said: list[str] = []
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("console", lambda message: said.append(message.text))
            page.goto(server.url)
            page.get_by_text("Tells apart").wait_for()
            page.set_input_files("#files", [image])
            page.get_by_text("1 done", exact=True).wait_for()
            assert page.locator("#list .name").inner_text() == image.name
            assert page.title() != "harm"
            assert page.locator("#list img[src='x'], #list script").count() == 0
            assert not said
            browser.close()
    finally:
        server.process.kill()
        server.process.communicate()


def test_figures_of_an_explanation_are_drawn_with_any_name(
    hostile_run: ta.Run, hostile_images: Path, tmp_path: Path
) -> None:
    for name in HOSTILE:
        image = next((hostile_images / name).glob("*.png"))
        found = hostile_run.explain(image, label=name, out=tmp_path / "explained")
        assert found.label == name
        *figures, page = found.files
        assert "<script" not in page.read_text(encoding="utf-8")
        assert {ElementTree.parse(path).getroot().tag for path in figures} == {"{http://www.w3.org/2000/svg}svg"}


def test_an_image_named_as_a_folder_is_explained_inside_the_run(hostile_run: ta.Run, tmp_path: Path) -> None:
    run = ta.open_run(shutil.copytree(hostile_run.path, tmp_path / "run"))
    image = tmp_path / "..png"
    draw("disc", 0).save(image, "PNG")
    (tmp_path / "folder").mkdir()
    for name in (image, tmp_path / "folder" / ".." / "..png"):
        for path in run.explain(name).files:
            assert path.resolve().is_relative_to((run.path / "explain").resolve())


# Tables


def cells(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [cell for row in csv.reader(file) for cell in row]


def is_formula(cell: str) -> bool:
    return cell[:1] in tuple("=+-@\t\r") and not re.fullmatch(r"[+-]?\d+(\.\d+)?(e-?\d+)?", cell)


def test_no_table_of_a_run_holds_a_cell_that_a_spreadsheet_computes(hostile_run: ta.Run) -> None:
    found = [cell for path in hostile_run.path.rglob("*.csv") for cell in cells(path)]
    assert f"'{FORMULA}" in found
    assert not [cell for cell in found if is_formula(cell)]


def test_names_come_back_from_the_tables_as_they_are(hostile_run: ta.Run, tmp_path: Path) -> None:
    assert set(hostile_run.task.classes) == set(HOSTILE) == {p.label for p in hostile_run.catalog.images}
    assert hostile_run.evaluate().n == sum(p.split == "test" for p in hostile_run.catalog.images)
    odd = ("=1", "'=1", "''=1", "-1", "'-1", "+1,5", "@a", "\t=", "a=b", "'", "", "'tis", "−1", "=", "-")
    catalog = hostile_run.catalog
    for number, name in enumerate(odd):
        row = catalog.images[number % len(catalog.images)]
        ta.Catalog(catalog.root, catalog.task, (type(row)(name, name, "", name, row.digest),)).write(tmp_path / "c.csv")
        (read,) = read_images(tmp_path / "c.csv")
        assert (read.path, read.label, read.group) == (name, name, name)


def test_predictions_as_csv_hold_no_formula_and_as_json_lines_the_exact_names(
    hostile_run: ta.Run, tellapart: Command, tmp_path: Path
) -> None:
    names = ["=cmd.png", "+1.png", "-x.png", "@a.png", "a,b.png", '"q".png', "line\nbreak.png", "\x1b[2J.png"]
    for number, name in enumerate(names):
        draw("disc", number).save(tmp_path / name, "PNG")
    (tmp_path / "=broken.png").write_text("no image")
    names.append("=broken.png")
    given = ["predict", hostile_run.path, *names[:2], "--", *names[2:]]
    found = tellapart(*given[:1], "--format", "csv", *given[1:], cwd=tmp_path)
    assert found.returncode == 1, found.stderr
    rows = list(csv.reader(io.StringIO(found.stdout, newline="")))
    assert not [cell for row in rows for cell in row if is_formula(cell)]
    assert [row[0] for row in rows[1:]] == ["'=cmd.png", "'+1.png", "'-x.png", "'@a.png", *names[4:8], "'=broken.png"]
    assert f"'{FORMULA}" in rows[0]
    lines = tellapart(*given[:1], "--format", "jsonl", *given[1:], cwd=tmp_path).stdout.split("\n")[:-1]
    assert [json.loads(line)["path"] for line in lines] == names
    assert set(json.loads(lines[0])["probabilities"]) == set(HOSTILE)
    assert not any(CONTROLS.search(line) for line in lines)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_of_such_names_is_gone_on_with(
    suffix: str, hostile_run: ta.Run, tellapart: Command, tmp_path: Path
) -> None:
    names = ["=cmd.png", "'=cmd.png", "-1.png", "line\nbreak.png"]
    for number, name in enumerate(names):
        draw("disc", number).save(tmp_path / name, "PNG")
    out = f"said.{suffix}"
    for count in (1, 2, 4, 4):
        found = tellapart("predict", hostile_run.path, "--resume", out, "--", *names[:count], cwd=tmp_path)
        assert found.returncode == 0, found.stderr
    text = (tmp_path / out).read_text()
    assert text.count("cmd.png") == 2
    assert text.count("break.png") == 1


# The terminal


def test_what_is_printed_for_people_cannot_steer_their_terminal(
    hostile_run: ta.Run,
    hostile_images: Path,
    tellapart: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # no name is cut
    runs = Path(shutil.copytree(hostile_run.path, tmp_path / "runs" / TERMINAL)).parent
    images = Path(shutil.copytree(hostile_images, tmp_path / TERMINAL))
    (images / TERMINAL / f"broken {TERMINAL}.png").write_text("no image")
    for said, arguments in (
        (0, ["predict", runs / TERMINAL, "--top", 4, images]),
        (0, ["runs", runs]),
        (0, ["evaluate", runs / TERMINAL]),
        (0, ["compare", runs / TERMINAL, hostile_run.path]),
        (0, ["check", images]),
        (0, ["report", runs / TERMINAL]),
        (0, ["explain", hostile_run.path, next(images.rglob("*0.png")), "--out", tmp_path / "x"]),
        (0, ["train", images, "--out", tmp_path / f"out {TERMINAL}", *(w for s in SETTINGS for w in ("--set", s))]),
        (2, ["predict", tmp_path / TERMINAL / "nothing", "a.png"]),
        (2, ["train", f"{tmp_path}/none {TERMINAL}"]),
        (2, ["explain", hostile_run.path, next(images.rglob("*0.png")), "--class", f"{TERMINAL} none"]),
    ):
        found = tellapart(*arguments)
        assert found.returncode == said or (said == 0 and found.returncode == 1), found.stderr
        assert not CONTROLS.search(found.stdout + found.stderr), arguments
        assert "\\x1b[2J" in found.stdout + found.stderr or arguments[0] == "report", arguments


def test_csv_on_a_terminal_cannot_steer_it_either(hostile_run: ta.Run, tmp_path: Path) -> None:
    draw("disc", 0).save(tmp_path / "\x1b[2J.png", "PNG")
    ours, theirs = pty.openpty()
    words = [*COMMAND, "predict", str(hostile_run.path), "\x1b[2J.png", "--format", "csv"]
    subprocess.run(words, stdout=theirs, stderr=subprocess.DEVNULL, cwd=tmp_path, check=True)
    os.close(theirs)
    said = b""
    while True:
        try:
            said += os.read(ours, 1 << 16)
        except OSError:  # the other end is closed and all is read
            break
    os.close(ours)
    assert b"\\x1b[2J.png" in said
    assert b"\x1b" not in said


def test_letters_of_all_scripts_are_shown_as_they_are() -> None:
    for text in ("Größe 猫 собака 🐈", "a\nb\tc", "e\u0301", "شجرة"):
        assert terminal_safe(text) == text


def test_an_unknown_class_in_a_message_is_harmless(hostile_run: ta.Run, hostile_images: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        hostile_run.explain(next(hostile_images.rglob("*.png")), label="x")
    assert not CONTROLS.search(terminal_safe(str(caught.value)))


def test_a_class_name_makes_no_file_or_folder(hostile_run: ta.Run) -> None:
    names: list[Any] = [path.name for path in hostile_run.path.rglob("*")]
    assert not [name for name in names if "script" in name or "cmd" in name or "\x1b" in name]
