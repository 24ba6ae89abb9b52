"""Every mistake of a report can be reached, and none is shown twice."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tellapart.report.input import ReportInput
from tellapart.report.report import render
from tellapart.runs.predictions import Predictions
from tests.report.conftest import evaluated, wrong_answers
from tests.report.page import NARROW, Page

ReportOf = Callable[..., ReportInput]


def test_mistakes_without_room_as_images_are_listed_by_their_paths(report_of: ReportOf) -> None:
    named, predictions = ("cats", "dogs"), wrong_answers(520)
    report = report_of(named, 40, evaluation=evaluated(named, predictions), predictions=predictions, batch=None)
    html = render(
        replace(report, read_thumbnail=lambda *_: np.zeros((9, 9, 3), np.uint8), link=lambda p: f"file:///{p}")
    )
    behind = html[html.index('<div popover id="cell-0-1"') : html.index('aria-labelledby="classes"')]
    assert set(re.findall(r'href="file:///(\d+).jpg"', behind)) == {str(i) for i in range(520)}
    assert len(Page(html).all("img")) == 18 + 480


def test_a_doubted_label_that_is_a_shown_mistake_is_marked_there_and_not_repeated(report_of: ReportOf) -> None:
    named = ("cats", "dogs")
    truth = np.array([0] * 40 + [1] * 40)
    sure = np.where(np.arange(80) % 20 == 0, 1 - truth, truth)
    predictions = Predictions(tuple(f"{i}.jpg" for i in range(80)), truth, 0.05 + 0.9 * np.eye(2)[sure])
    html = render(report_of(named, 40, evaluation=evaluated(named, predictions), predictions=predictions))
    assert html.count('class="doubt"') == 4
    text = Page(html).text
    assert "4 images of the test split look as if the label were wrong. All are among the mistakes above" in text
    assert html.count("looks like <strong") == 0


def test_a_cell_of_mistakes_holds_all_of_them_and_one_of_hits_counts_the_rest(report_of: ReportOf) -> None:
    predictions = wrong_answers(30)
    report = report_of(
        ("cats", "dogs"), 40, evaluation=evaluated(("cats", "dogs"), predictions), predictions=predictions, batch=None
    )
    html = render(report)
    behind = html[html.index('<div popover id="cell-0-1"') : html.index('aria-labelledby="classes"')]
    assert f"30 images, 100{NARROW}% of cats. The surest first." in behind
    assert re.findall(r'title="(\d+).jpg"', behind) == [str(i) for i in range(29, -1, -1)]
    assert 'popovertarget="cell-0-1" aria-label="30 images of cats predicted as dogs' in html
    assert 'popovertarget="cell-1-' not in html
    right = Predictions(predictions.paths, np.ones(30, np.int64), predictions.probabilities)
    named = ("cats", "dogs")
    html = render(report_of(named, 40, evaluation=evaluated(named, right), predictions=right, batch=None))
    assert f"30 images, 100{NARROW}% of dogs. Shown: the least sure; 18 more in predictions.csv." in html
