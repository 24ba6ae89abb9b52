"""When two runs are equal: for all tests that interrupt and resume one, and for tools/soak.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import tellapart as ta


def without_clock(run: ta.Run) -> list[dict[str, Any]]:
    """History without values that depend on the clock."""
    return [replace(row, seconds=0.0, images_per_second=0.0).to_dict() for row in run.history]


def assert_same_run(one: ta.Run, other: ta.Run) -> None:
    """Same history, bit-equal weights."""
    assert without_clock(one) == without_clock(other)
    for ours, theirs in zip(one.model().get_weights(), other.model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
