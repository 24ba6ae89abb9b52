"""The page of a comparison and the index of runs: whole, escaped, sortable, asking for nothing from anywhere."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.evaluation.intervals import Estimate
from tellapart.experiments.tune import TuneFolder
from tellapart.report.charts import place
from tellapart.report.curves import Curve, curves_svg
from tellapart.report.page import floor_tenth, policy_source, script_of
from tellapart.runs.run import RunFolder, create_run
from tellapart.svg import SERIES
from tests.report.browser import CHROMIUM, Browser
from tests.values import history_row, plan

ROWS = [history_row(e, val_accuracy=0.5 + e / 20, val_loss=1 / e, seconds=1.5) for e in range(1, 6)]


def make_run(path: Path, catalog: ta.Catalog, wrong: int) -> RunFolder:
    """A finished run that names the first `wrong` test images as the next class."""
    run = create_run(path, plan(), catalog)
    classes = catalog.task.classes
    with run.predictions_file.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "probability"])
        for index, p in enumerate(catalog.split("test").images):
            label = classes[(catalog.task.index(p.label) + 1) % len(classes)] if index < wrong else p.label
            writer.writerow([p.path, label, 0.9])
    run.write_history(ROWS)
    n = len(catalog.split("test"))
    accuracy = Estimate(1 - wrong / n, 0.4, 1.0).to_dict()
    run.write_metrics({"test": {"n": n, "accuracy": accuracy}})
    run.update(status="done", best_epoch=3, stopped="all epochs done", stop_reason="epochs-done")
    return run


@pytest.fixture
def catalog(shapes: Path) -> ta.Catalog:
    return ta.read(shapes)


def assert_stands_alone(page: str) -> None:
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page)
    assert all(address.startswith(("data:", "#")) or "://" not in address for address in addresses)
    assert "default-src 'none'" in page


def test_the_page_of_a_comparison_shows_verdict_curves_and_real_images(catalog: ta.Catalog, tmp_path: Path) -> None:
    odd = "<b>$x$ & y"
    a, b = make_run(tmp_path / odd, catalog, 5), make_run(tmp_path / "b", catalog, 1)
    found = ta.compare(a.path, b.path)
    page, figure = ta.write_comparison(found, tmp_path / "out")
    text = page.read_text()
    assert_stands_alone(text)
    assert "<b>$x$" not in text
    assert "&lt;b&gt;$x$ &amp; y" in text
    assert text.count('src="data:image/') == len(found.differing) == 4
    assert "Validation accuracy" in text
    assert "points more" in text
    root = ElementTree.parse(figure).getroot()
    assert odd in "".join(root.itertext())
    assert float(str(root.get("width"))) > 900


def test_an_image_that_is_gone_is_said_to_be_and_the_page_is_whole(catalog: ta.Catalog, tmp_path: Path) -> None:
    gone = replace(catalog, root=tmp_path / "nowhere")
    a, b = make_run(tmp_path / "a", gone, 3), make_run(tmp_path / "b", gone, 1)
    page, _ = ta.write_comparison(ta.compare(a.path, b.path), tmp_path / "out")
    assert page.read_text().count("The image cannot be read any more") == 2


def test_the_page_of_many_runs_lists_wrong_answers_and_how_many_are_right(catalog: ta.Catalog, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"run-{i}", catalog, i) for i in range(5)]
    page, _ = ta.write_comparison(ta.compare(*(run.path for run in runs)), tmp_path / "out")
    text = page.read_text()
    assert "points below the best" in text
    assert "right: 4 of 5" in text
    assert text.count('class="wrong"') == text.count('<span class="muted">run-') == 1 + 2 + 3 + 4


def drawn(curves: list[Curve]) -> ElementTree.Element:
    return ElementTree.fromstring(curves_svg(curves, "curves"))


def texts(curves: list[Curve], kind: str) -> list[str]:
    return [node.text or "" for node in drawn(curves).iter("text") if node.get("class") == kind]


def test_no_accuracy_beyond_100_percent_stands_on_the_axis() -> None:
    flat = [replace(row, val_accuracy=0.98) for row in ROWS]
    for history in (flat, [replace(flat[0], val_accuracy=1.0), *flat[1:]]):
        shares = [float(text.removesuffix(" %")) for text in texts([Curve("flat", history, 3)], "tick") if "%" in text]
        assert len(set(shares)) == len(shares) > 1
        assert max(shares) <= 100


def test_curves_of_every_run_are_drawn_with_the_epoch_kept() -> None:
    curves = [Curve(f"run {i}", ROWS, 3) for i in range(9)] + [Curve("_empty $x$ <b>", [], None)]
    left, right = drawn(curves).iter("g")
    line, dot = next(left.iter("polyline")), next(left.iter("circle"))
    points = str(line.get("points")).split()
    assert len(points) == len(ROWS)
    kept = [float(each) for each in points[2].split(",")]
    assert kept == [float(str(dot.get("cx"))), float(str(dot.get("cy")))]
    looks = {(node.get("stroke"), node.get("stroke-dasharray")) for node in right.iter("polyline")}
    assert len(looks) == 9, "no two runs look the same"
    assert texts(curves, "legend") == [curve.name for curve in curves], "a run without a history too"


def test_a_run_that_went_astray_does_not_hide_the_others() -> None:
    astray = [history_row(1, val_accuracy=0.5, val_loss=900.0)]
    assert "1000" not in texts([Curve("a", ROWS, 3)], "tick")
    assert {"0.1", "1", "10", "100", "1000"} <= set(texts([Curve("a", ROWS, 3), Curve("b", astray, 1)], "tick"))


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", SERIES)
def test_each_colour_is_seen_on_the_light_and_the_dark_page(colour: str) -> None:
    assert 1.05 / (luminance(colour) + 0.05) >= 3
    assert (luminance(colour) + 0.05) / (luminance("#181c20") + 0.05) >= 3


def test_a_place_on_a_line_stays_on_it_and_lines_start_below_the_lowest() -> None:
    assert [place(v, 0.5, 1) for v in (0.2, 0.5, 0.6, 1.3)] == [0, 0, 20, 100]
    assert [floor_tenth(v) for v in ([0.99], [0.73, 0.9], [])] == [0.9, 0.7, 0]


def index_of(folder: Path, catalog: ta.Catalog) -> Path:
    for name, wrong, created in (("slow #1", 4, "2026-01-03"), ("b", 1, "2026-01-01"), ("<i>", 6, "2026-01-02")):
        run = make_run(folder / name, catalog, wrong)
        run.update(created=f"{created}T10:00:00+00:00")
        run.report_file.write_text("a report")
    create_run(folder / "half", plan(), catalog)
    return ta.write_index(folder)


def test_the_index_links_every_report_and_shows_unfinished_runs_without_a_link(
    catalog: ta.Catalog, tmp_path: Path
) -> None:
    page = index_of(tmp_path / "runs", catalog)
    text = page.read_text()
    assert_stands_alone(text)
    links = re.findall(r'<a href="([^"]+)">', text)
    assert links == ["slow%20%231/report.html", "%3Ci%3E/report.html", "b/report.html"], "newest first, half has none"
    assert "<i>" not in text
    assert "4 runs; 1 not finished" in text
    assert "none yet" in text


def test_a_finished_run_without_a_report_gets_one(
    catalog: ta.Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "runs" / "a", catalog, 1)
    written = []

    def write(path: Path, **_: object) -> None:
        written.append(path)
        run.report_file.write_text("a report")

    monkeypatch.setattr("tellapart.api.runs.write_report", write)
    assert "a/report.html" in ta.write_index(tmp_path / "runs").read_text()
    ta.write_index(tmp_path / "runs")
    assert written == [run.path], "and keeps it"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium to click with")
def test_a_click_on_a_heading_sorts_the_index(catalog: ta.Catalog, tmp_path: Path) -> None:
    page = index_of(tmp_path / "runs", catalog)
    clicks = """
    const names = () => [...document.querySelectorAll("tbody th")].map(cell => cell.textContent);
    const buttons = document.querySelectorAll("thead button"), seen = [];
    for (const place of [1, 1, 0, 7]) { buttons[place].click(); seen.push(names()); }
    document.title = JSON.stringify([seen, document.querySelector("[aria-sort]").cellIndex]);
    """
    ours, theirs = f"'{policy_source(script_of(('sort.js', 'index.js')))}'", f"'{policy_source(clicks)}'"
    html = page.read_text()
    assert html.count(ours) == 1
    # Another script, which the page does not name, would make this title of its own.
    other = "<script>document.title = 'harm';</script>"
    added = html.replace("</body>", f"<script>{clicks}</script>{other}</body>")
    page.write_text(added.replace(ours, f"{ours} {theirs}"))
    shown = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", shown.stdout)
    assert title is not None
    seen, column = json.loads(title[1].replace("&lt;", "<").replace("&gt;", ">"))
    best_first = ["b", "slow #1", "<i>", "half"]
    assert seen[:2] == [best_first, best_first[::-1]]
    assert set(seen[2]) == set(best_first)
    assert seen[3][-1] in ("half", "b")
    assert column == 7


def test_the_index_lists_ladders_and_searches_and_reports_lead_back_to_it(catalog: ta.Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    run = make_run(folder / "a", catalog, 1)
    run.report_file.write_text('<a href="../index.html" hidden>All runs</a>')
    record = {
        "data": "/photos/pets",
        "budget_seconds": 600,
        "spent_seconds": 61,
        "command": "tellapart ladder",
        "seed": 0,
    }
    TuneFolder(folder / "tune-1", {**record, "start": plan().config.to_dict(), "trials": 3}).create()
    (folder / "tune-1" / "tune.html").write_text("a page")
    (folder / "broken").mkdir()
    (folder / "broken" / "ladder.json").write_text("{}")
    text = ta.write_index(folder).read_text()
    assert '<a href="tune-1/tune.html">tune-1</a>' in text
    assert "<td>1 min 1 s</td>" in re.sub(' data-sort="[^"]*"', "", text)
    assert ">pets</td>" in text
    assert "broken" not in text
    assert run.report_file.read_text() == '<a href="../index.html">All runs</a>'


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium brings it")
def test_two_ticked_runs_give_the_command_that_compares_them_at_any_width(catalog: ta.Catalog, tmp_path: Path) -> None:
    page = index_of(tmp_path / "runs", catalog)
    compared, _ = ta.write_comparison(ta.compare(tmp_path / "runs" / "b", tmp_path / "runs" / "<i>"), tmp_path / "out")
    with Browser() as browser:
        for width in (390, 1440):
            for each in (page, compared):
                browser.open(each, width)
                assert browser.value("document.documentElement.scrollWidth") == width
                assert browser.accessibility_violations() == []
                assert browser.value("[...document.querySelectorAll('.card')].every(card => card.tabIndex === 0)")
        browser.open(page, 1440)
        browser.click("#runs tbody tr:nth-child(2) input")
        assert "Tick another" in browser.value("document.querySelector('.chosen').textContent")
        browser.click("#runs tbody tr:nth-child(3) input")
        command = browser.value("document.querySelector('.chosen code').textContent")
        names = [str(tmp_path / "runs" / name) for name in ("slow #1", "<i>")]
        assert command == f"tellapart compare {shlex.join(names)} --out comparison"
        assert browser.complaints == []
