"""Values -> the HTML of a self-contained page: shared by report, index and comparison.

The small pages extend page.html.jinja, styled by page.css. Each page is whole without its script, which the policy of
the page names by its digest: no other one runs.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tellapart.evaluation.intervals import Estimate
from tellapart.report.charts import Chart, ChartTable, interval_mark
from tellapart.words import between, counted, percent, probability

NARROW = "\N{NARROW NO-BREAK SPACE}"
_SPACED_PERCENT = re.compile(r"(\d) %")


@dataclass(frozen=True)
class ShownChart:
    """A chart on a page: its <svg>, and what it shows as tables."""

    svg: Any
    tables: tuple[ChartTable, ...]


def shown_chart(chart: Chart, description: str = "") -> ShownChart:
    from markupsafe import Markup

    return ShownChart(Markup(chart.svg(description or chart.title)), (chart.table(),))  # charts escape what they draw


def script_of(names: Sequence[str]) -> str:
    """The script of a page, from files of this folder."""
    return "".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in names)


def policy_source(script: str) -> str:
    """The source of the one allowed script in a page's content security policy.

    >>> policy_source("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}"


def render_page(template: str, scripts: Sequence[str] = (), **values: Any) -> str:
    """One HTML file without external references; every value is escaped. scripts: files of this folder."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

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
    script = script_of(scripts)
    pages.globals["script"] = Markup(script)
    pages.globals["script_source"] = Markup(f"; script-src '{policy_source(script)}'" if script else "")
    text = pages.get_template(template).render(version=__version__, **values)
    # Where a line of a page ends, a figure and its sign stay together.
    text = _SPACED_PERCENT.sub(f"\\1{NARROW}%", text)
    # A file name that is not UTF-8 is held with lone surrogates, which no file can store.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _breakable(path: str) -> Any:
    """A path that may wrap after its slashes."""
    from markupsafe import Markup

    return Markup("/<wbr>").join(path.split("/"))


def link_to(folder: Path, file: Path) -> str:
    """From a page in the folder to a file in or below it; "" if there is none."""
    return quote(os.fsencode(file.relative_to(folder).as_posix())) if file.exists() else ""


def reach(differences: Iterable[Estimate]) -> float:
    """Half the range of the lines of differences: the widest interval fits."""
    return max((max(abs(each.low), abs(each.high)) for each in differences), default=1.0) or 1.0


def floor_tenth(values: list[float]) -> float:
    """The start of an axis of shares: the tenth at or below the lowest, at most 0.9.

    >>> floor_tenth([0.93, 0.78])
    0.7
    """
    return min(0.9, int(10 * min(values, default=0.0)) / 10)
