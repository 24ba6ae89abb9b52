"""A figure of matplotlib becomes part of a page: whole, in the page's colours, asking for nothing."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from matplotlib.figure import Figure

from tellapart.report.theme import TRAINING, VALIDATION, inline_svg


def figure(text: str) -> Figure:
    drawn = Figure()
    axes = drawn.subplots()
    axes.plot([1, 2], [3, 4], color=TRAINING, label="training")
    axes.fill_between([1, 2], [3, 4], hatch="/", color=VALIDATION)
    axes.set_title(text)
    axes.legend()
    return drawn


def test_an_inline_svg_is_whole_takes_the_page_colours_and_asks_for_nothing() -> None:
    svg = inline_svg(figure("loss"), 'Loss & "more"')
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'Loss & "more"'
    assert "training" in "".join(root.itertext())
    for unwanted in ("http:", "https:", "<style", "<metadata", "font-family", "DejaVu", TRAINING, VALIDATION):
        assert unwanted not in svg
    assert "var(--training)" in svg


def test_inline_svgs_repeat_exactly_and_share_no_id() -> None:
    first, again = (inline_svg(figure("loss"), "loss") for _ in range(2))
    other = inline_svg(figure("accuracy"), "accuracy")
    ids = [{node.get("id") for node in ElementTree.fromstring(svg).iter() if node.get("id")} for svg in (first, other)]
    assert first == again
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_report_is_written_without_a_drawing_library() -> None:
    code = (
        "import sys\n"
        "from tests.report.conftest import make_report\n"
        "from tellapart.report.report import render\n"
        "early = [m for m in ('matplotlib', 'jinja2', 'PIL', 'keras') if m in sys.modules]\n"
        "render(make_report())\n"
        "print('jinja2' in sys.modules, [m for m in ('matplotlib', 'keras', 'tensorflow') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "True []"
