"""A proportion is shown in the same words wherever it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tellapart
from tellapart.words import percent, probability

ROOT = Path(tellapart.__file__).parent


@given(st.floats(0, 1), st.integers(0, 3))
@example(0.99997, 1)
@example(0.0002, 1)
@example(0.996, 0)
def test_rounding_never_says_all_or_none(share: float, digits: int) -> None:
    said = percent(share, digits)
    assert (said == "100 %") == (share == 1)
    assert (said == "0 %") == (share == 0)
    figure = float(re.sub("[<>% ]", "", said))
    assert abs(figure - 100 * share) <= 10**-digits


@given(st.floats(0, 1))
def test_no_answer_is_shown_as_certain_or_impossible(value: float) -> None:
    assert probability(value) not in ("100 %", "0 %")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_makes_a_percentage_of_their_own(path: Path) -> None:
    """`100 * x` in an f-string before a percent sign, or the format `%` itself."""
    text = path.read_text(encoding="utf-8")
    made = re.findall(r"\{100 \* [^{}]*:[^{}]*\}(?:\\N\{[^{}]*\})? ?%|\{[^{}]*:\.?\d*%\}", text)
    assert not made or path.name == "words.py", made
