"""Charts: what they draw, that it lies inside its axes, and that names stay names."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest

from tellapart.report.charts import HEIGHT, MOST_ROWS, WIDTH, Axis, Chart, chart_drawing, grid, log_axis, nice_axis
from tellapart.report.learning import learning_chart
from tellapart.runs.history import HistoryRow
from tellapart.words import percent
from tests.values import history_row


def history(epochs: int) -> list[HistoryRow]:
    return [
        history_row(e, loss=1 / e, accuracy=1 - 0.4 / e, val_loss=0.5 + 0.1 / e, val_accuracy=0.8 - 0.2 / e)
        for e in range(1, epochs + 1)
    ]


def fits(count: int) -> list[HistoryRow]:
    return [replace(row, phase="head", regularization=10 ** (3 - i)) for i, row in enumerate(history(count))]


def drawn(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg("a chart"))


def texts(chart: Chart) -> list[str]:
    return [node.text or "" for node in drawn(chart).iter("text")]


def lines(chart: Chart, kind: str) -> list[list[tuple[float, float]]]:
    chosen = [node for node in drawn(chart).iter("polyline") if node.get("class") == f"line {kind}"]
    return [
        [(float(x), float(y)) for x, y in (point.split(",") for point in str(node.get("points")).split())]
        for node in chosen
    ]


def test_both_lines_and_the_kept_epoch_are_drawn_where_they_belong() -> None:
    chart = learning_chart(history(8), "loss", 3)
    (training,), (validation,) = lines(chart, "training"), lines(chart, "validation")
    assert len(training) == len(validation) == 8
    assert training == sorted(training)
    # Loss from 0 at the foot: the heights are in proportion.
    foot = next(float(str(node.get("y"))) - 4 for node in drawn(chart).iter("text") if node.text == "0")
    assert (foot - training[1][1]) / (foot - training[0][1]) == pytest.approx(1 / 2, abs=0.01)
    dot = next(node for node in drawn(chart).iter("circle") if node.find("title") is not None)
    assert (float(str(dot.get("cx"))), float(str(dot.get("cy")))) == validation[2]
    assert dot.find("title").text == "epoch 3, the one kept: 0.533 on the validation split"  # type: ignore[union-attr]
    assert {"training", "validation", "kept: 0.533", "epoch", "Loss"} <= set(texts(chart))


@pytest.mark.parametrize("epochs", [1, 2, 30, 200])
@pytest.mark.parametrize("quantity", ["accuracy", "loss"])
def test_a_history_of_any_length_lies_inside_its_axes(epochs: int, quantity: Any) -> None:
    chart = learning_chart(history(epochs), quantity, 1)
    assert chart.y.low <= chart.y.high
    for part in (*lines(chart, "training"), *lines(chart, "validation")):
        assert all(50 < x < WIDTH - 20 and 48 < y < HEIGHT - 44 for x, y in part)
    marks = [text for text in texts(chart) if text.isdigit()]
    assert len(marks) <= 18
    assert len(list(drawn(chart).iter("circle"))) == (4 if epochs == 1 else 2)


def test_fits_of_a_head_are_shown_along_the_strength_of_regularisation() -> None:
    chart = learning_chart(fits(5), "accuracy", 2)
    assert "regularisation path, from strong to weak" in texts(chart)
    assert [text for text in texts(chart) if text[:2] == "10" and "%" not in text] == [
        "10³",
        "10²",
        "10¹",
        "10⁰",
        "10⁻¹",
    ]
    assert "epoch" not in texts(chart)
    assert not list(drawn(chart).iter("polyline")), "no time passes from one fit to the next"
    assert len([dot for dot in drawn(chart).iter("circle") if dot.get("r") == "3.5"]) == 10


def test_a_chart_is_also_a_table_of_what_it_shows() -> None:
    table = learning_chart(fits(3), "accuracy", 2).table()
    assert table.head == ("regularisation path, from strong to weak", "training", "validation")
    assert table.rows[1] == ("100", "80 %", "70 %")
    assert table.points == ("fit 2, the one kept: 70.0 % on the validation split",)
    long = learning_chart(history(400), "loss", 2).table()
    assert len(long.rows) == MOST_ROWS
    assert (long.rows[0][0], long.rows[-1][0]) == ("1", "400")
    assert nice_axis(0, 1, percent).told(0.999999) == "> 99.9 %", "never all by rounding"


def test_fine_tuning_is_a_second_line_behind_a_mark() -> None:
    rows = fits(4) + [replace(row, epoch=row.epoch + 4, phase="fine-tune") for row in history(3)]
    chart = learning_chart(rows, "loss", 6)
    assert [len(part) for part in lines(chart, "validation")] == [3]
    assert "fine-tuning" in texts(chart)
    assert "to 4: fits of the head on the frozen backbone; then epochs of fine-tuning" in texts(chart)
    assert texts(chart).count("training") == 1


def test_a_loss_that_is_no_number_is_left_out() -> None:
    rows = history(4)
    rows[2] = replace(rows[2], loss=math.nan, val_loss=math.inf)
    chart = learning_chart(rows, "loss", 1)
    assert [len(part) for part in lines(chart, "training")] == [3]
    assert "nan" not in chart.svg("loss")


@pytest.mark.parametrize(("low", "high"), [(0, 1e-9), (0.983, 1), (0, 5.58), (-3, 12000), (0.7, 0.7), (1, 1), (0, 0)])
def test_axes_hold_their_values_between_a_few_round_ticks(low: float, high: float) -> None:
    axis = nice_axis(low, high, str)
    assert axis.low <= low + 1e-12
    assert high - 1e-12 <= axis.high
    assert 2 <= len(axis.ticks) <= 7
    assert axis.low < axis.high


def test_what_is_written_into_a_chart_stays_text() -> None:
    chart = learning_chart(history(3), "loss", 2)
    chart.rule(2, "<script>alert(1)</script>")
    svg = chart.svg('"><script>')
    assert "<script" not in svg
    assert ElementTree.fromstring(svg).get("aria-label") == '"><script>'


def test_a_chart_as_a_file_stands_alone() -> None:
    text = chart_drawing("Loss", learning_chart(history(3), "loss", 2).svg("a > b")).svg
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    style = next(root.iter("{http://www.w3.org/2000/svg}style")).text or ""
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= set(re.findall(r"--(\w+):", style))


def test_no_axis_is_of_one_value_alone() -> None:
    for value in (0.0, 0.98, 1.0, 900.0):
        axis = nice_axis(value, value, lambda number: f"{number:g}")
        shown = [text for _, text in axis.ticks]
        assert axis.low <= value <= axis.high
        assert len(shown) == len(set(shown)) >= 2
        assert axis.high <= max(1, value), "no accuracy beyond 100 %"


def test_a_logarithmic_axis_has_equal_steps_for_powers_of_ten() -> None:
    axis = log_axis(0.2, 900)
    places = [axis.place(value, 0, 100) for value, _ in axis.ticks]
    assert places == pytest.approx([0, 25, 50, 75, 100])
    assert len(log_axis(1e-9, 1e9).ticks) <= 7
    assert axis.place(0, 0, 100) == 0, "drawn at the foot"


def test_charts_of_a_grid_stand_beside_and_below_each_other_over_one_legend() -> None:
    axis = Axis(0, 1, [(0, "0"), (1, "1")])
    charts = [Chart(f"chart {number}", axis, axis, width=200, height=100) for number in range(3)]
    for number in range(18):
        charts[0].line([(0, 0), (1, 1)], number)
    names = [(number, f"{'a long name ' * 6}{number}") for number in range(18)]
    root = ElementTree.fromstring(grid(charts, "three", columns=2, legend=names))
    assert [node.get("transform") for node in root.iter("g")] == [
        "translate(0 0)", "translate(240 0)", "translate(0 110)",
    ]  # fmt: skip
    shown = [node for node in root.iter("text") if node.get("class") == "legend"]
    places = [(float(str(node.get("x"))), float(str(node.get("y")))) for node in shown]
    assert len(set(places)) == len(names)
    assert all(30 < len(node.text or "") <= 40 for node in shown), "cut, and told apart by their ends"
    assert len({node.text for node in shown}) == len(names)
    drawn = [node for node in root.iter("polyline") if node.get("class") == "line"]
    assert len({(node.get("stroke"), node.get("stroke-dasharray")) for node in drawn}) == len(names)


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
