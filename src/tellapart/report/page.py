"""Values -> the HTML of a self-contained page: shared by report, index and comparison.

The two small pages extend page.html.jinja, styled by page.css.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tellapart.evaluation.intervals import Estimate
from tellapart.report.charts import interval_mark
from tellapart.words import between, counted, percent, probability

NARROW = "\N{NARROW NO-BREAK SPACE}"
_SPACED_PERCENT = re.compile(r"(\d) %")


def render_page(template: str, **values: Any) -> str:
    """One HTML file without external references; every value is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from tellapart import __version__

    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(percent=percent, between=between, counted=counted, breakable=_breakable)
    pages.filters["probability"] = probability
    pages.filters["thousands"] = lambda count: f"{count:,}"
    pages.globals["interval"] = interval_mark
    text = pages.get_template(template).render(version=__version__, **values)
    # Where a line of a page ends, a figure and its sign stay together.
    text = _SPACED_PERCENT.sub(f"\\1{NARROW}%", text)
    # A file name that is not UTF-8 is held with lone surrogates, which no file can store.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _breakable(path: str) -> Any:
    """A path that may wrap after its slashes."""
    from markupsafe import Markup

    return Markup("/<wbr>").join(path.split("/"))


def reach(differences: Iterable[Estimate]) -> float:
    """Half the range of the lines of differences: the widest interval fits."""
    return max((max(abs(each.low), abs(each.high)) for each in differences), default=1.0) or 1.0


def floor_tenth(values: list[float]) -> float:
    """The start of an axis of shares: the tenth at or below the lowest, at most 0.9.

    >>> floor_tenth([0.93, 0.78])
    0.7
    """
    return min(0.9, int(10 * min(values, default=0.0)) / 10)
