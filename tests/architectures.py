"""Which of the architectures each push tries, and which the night alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

QUICK = ("dense", "cnn", "resnet-small", "efficientnet-lite0", "mobilenet-v2")
AT_NIGHT = (
    "efficientnet-lite1", "efficientnet-lite2", "efficientnet-v2-s", "densenet-121", "inception-resnet-v2",
    "nasnet-mobile",
)  # fmt: skip
"""Siblings of one that is tried, and those of most layers: together they take as long as all others."""


def rows(named: Iterable[tuple[str, ...]]) -> list[Any]:
    """Parameters of a test, of which the first names an architecture."""
    return [pytest.param(*each, marks=_marks(each[0])) for each in named]


def _marks(name: str) -> pytest.MarkDecorator | tuple[()]:
    return pytest.mark.soak if name in AT_NIGHT else () if name in QUICK else pytest.mark.slow
